"""Cells of overlapping tiles merged to the cells of the image, known by construction."""

import numpy as np
import pycocotools.mask as mask_util
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial import cKDTree

from cellseg_d2.crops import encode_crop
from cellseg_d2.inference.tiles.merging import merge_tiles
from cellseg_d2.inference.tiles.tiling import Tile, plan_tiles

# A cell of the truth: y0, x0 and its mask (h, w) of bool, tight


def cell_of(mask):
    """The one cell of a mask (H, W)."""
    (part,) = ndimage.find_objects(mask.astype(np.uint8))
    return part[0].start, part[1].start, mask[part]


def cells_of(labels):
    """The cells of a label image."""
    parts = enumerate(ndimage.find_objects(labels), 1)
    return [(part[0].start, part[1].start, labels[part] == n) for n, part in parts if part is not None]


def result(cell, height, width, score=0.5, category=0, **more):
    """A COCO result."""
    y0, x0, mask = cell
    rle = encode_crop(mask, [x0, y0], height, width)
    box = [x0, y0, mask.shape[1], mask.shape[0]]
    return {"category_id": category, "bbox": box, "score": score, "segmentation": rle, **more}


def view(cell, tile, change=None):
    """The cell as a tile sees it, or None; ``change`` is what the model does to the padded mask."""
    y0, x0, mask = cell
    if y0 + mask.shape[0] + 2 < tile.y0 or y0 - 2 > tile.y1 or x0 + mask.shape[1] + 2 < tile.x0 or x0 - 2 > tile.x1:
        return None
    if change is not None:
        y0, x0, mask = y0 - 2, x0 - 2, change(np.pad(mask, 2))
    top, left = max(y0, tile.y0), max(x0, tile.x0)
    part = mask[top - y0 : max(tile.y1 - y0, 0), left - x0 : max(tile.x1 - x0, 0)]
    if not part.any():
        return None
    dy, dx, part = cell_of(part)
    return top + dy - tile.y0, left + dx - tile.x0, part


def views(truth, tiles, categories=None):
    """What a perfect model finds in each tile: clipped at the tile's edges, random scores."""
    generator = np.random.default_rng(0)
    found = []
    for tile in tiles:
        seen = [(n, view(cell, tile)) for n, cell in enumerate(truth)]
        numbers = categories or [0] * len(truth)
        cells = [result(part, *tile.size, generator.random(), numbers[n]) for n, part in seen if part is not None]
        found.append(cells)
    return found


def counts(results):
    """What tells masks apart, sorted."""
    return sorted(row["segmentation"]["counts"] for row in results)


def assert_once(truth, tiles, height, width):
    """Merging a perfect model's cells gives the truth."""
    merged = merge_tiles(tiles, views(truth, tiles), height, width)
    assert counts(merged) == counts([result(cell, height, width) for cell in truth])
    for row in merged:
        assert row["bbox"] == mask_util.toBbox(row["segmentation"]).tolist()
    scores = [row["score"] for row in merged]
    assert scores == sorted(scores, reverse=True)
    return merged


def confluent(height, width, pitch, seed=0):
    """Label image of cells that touch: what is nearest to each point of a shaken grid, and not too far."""
    generator = np.random.default_rng(seed)
    grid = np.stack(np.mgrid[0 : height // pitch, 0 : width // pitch], axis=-1).reshape(-1, 2) + 0.5
    points = pitch * (grid + generator.uniform(-0.35, 0.35, grid.shape))
    distance, nearest = cKDTree(points).query(np.stack(np.mgrid[:height, :width], axis=-1).reshape(-1, 2))
    return np.where(distance < 0.62 * pitch, nearest + 1, 0).reshape(height, width)


@pytest.fixture(scope="module")
def dense():
    """Truth of thousands of cells on 700 x 900 pixels, and tiles that overlap by two cells."""
    return cells_of(confluent(700, 900, 16)), plan_tiles(700, 900, 200, 48), 700, 900


def ellipse(height, width, y, x, a, b, angle):
    """Mask (H, W) of an ellipse."""
    dy, dx = np.mgrid[:height, :width] - np.array([y, x])[:, None, None]
    along, across = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
    return (along / a) ** 2 + (across / b) ** 2 <= 1


# A perfect model


def test_thousands_of_touching_cells_each_once(dense):
    truth, tiles, height, width = dense
    assert len(truth) > 2000 and len(tiles) == 30
    assert_once(truth, tiles, height, width)


def test_cells_larger_than_the_overlap_are_joined(dense):
    truth = cells_of(confluent(600, 640, 90, seed=1))
    assert_once(truth, plan_tiles(600, 640, 128, 24), 600, 640)


def test_a_cell_at_the_corner_of_four_tiles():
    for radius in (3, 15, 40):  # smaller than the overlap, about as large, larger
        mask = ellipse(300, 300, 150, 150, radius, 0.8 * radius, 0.5)
        assert_once([cell_of(mask)], plan_tiles(300, 300, 166, 32), 300, 300)


@pytest.mark.parametrize("angle", [0.0, 0.6, np.pi / 2, 2.5])
def test_long_thin_cells_cross_many_tiles(angle):
    mask = ellipse(500, 500, 250, 250, 230, 3, angle)
    tiles = plan_tiles(500, 500, 96, 32)
    merged = assert_once([cell_of(mask)], tiles, 500, 500)
    found = views([cell_of(mask)], tiles)
    scores = [row["score"] for cells in found for row in cells]
    areas = [mask_util.area(row["segmentation"]) for cells in found for row in cells]
    assert len(scores) >= 7
    assert merged[0]["score"] == pytest.approx(np.average(scores, weights=areas))


def test_cells_that_touch_at_each_place_of_a_seam():
    tiles = plan_tiles(60, 200, 120, 40)  # both see columns 80 to 120
    for border in range(60, 140):
        labels = np.zeros((60, 200), int)
        labels[20:40, border - 18 : border] = 1
        labels[22:44, border : border + 15] = 2
        assert_once(cells_of(labels), tiles, 60, 200)


@st.composite
def scenes(draw):
    """Ellipses that do not overlap, and tiles."""
    height, width = draw(st.integers(40, 220)), draw(st.integers(40, 220))
    tile = draw(st.integers(24, 160))
    overlap = draw(st.integers(2, tile - 1 if tile < 40 else tile - 12))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels, largest = np.zeros((height, width), int), draw(st.sampled_from([4, 12, 60]))
    for n in range(1, draw(st.integers(0, 40)) + 1):
        a, b = generator.uniform(1.5, largest, 2)
        place = generator.uniform(0, height), generator.uniform(0, width)
        mask = ellipse(height, width, *place, a, max(b, a / 4), generator.uniform(0, np.pi))
        if mask.any() and not labels[mask].any():
            labels[mask] = n
    return labels, tile, overlap


@settings(max_examples=50, deadline=None)
@given(scenes())
def test_any_scene_in_any_tiles(scene):
    labels, tile, overlap = scene
    assert_once(cells_of(labels), plan_tiles(*labels.shape, tile, overlap), *labels.shape)


# A model that errs


def shaken(generator):
    """The mask a pixel larger, smaller or aside."""
    steps = ndimage.binary_dilation, ndimage.binary_erosion, lambda mask: np.roll(mask, 1, generator.integers(2))
    return steps[generator.integers(3)]


def imperfect(truth, tiles, miss, miss_cut):
    """What a model finds that shakes masks and misses some cells, more of those at a tile's edge."""
    generator = np.random.default_rng(1)
    found = []
    for tile in tiles:
        cells = []
        for n, cell in enumerate(truth):
            part = view(cell, tile, shaken(generator))
            at_edge = view(cell, tile) is not None and view(cell, tile)[2].sum() < cell[2].sum()
            if part is not None and generator.random() >= (miss_cut if at_edge else miss):
                cells.append(result(part, *tile.size, generator.random(), truth=n))
        found.append(cells)
    return found


def test_shaken_masks_and_misses_at_edges(dense):
    truth, tiles, height, width = dense
    merged = merge_tiles(tiles, imperfect(truth, tiles, miss=0, miss_cut=0.5), height, width)
    assert sorted(row["truth"] for row in merged) == list(range(len(truth)))
    for row in merged:
        mask = result(truth[row["truth"]], height, width)["segmentation"]
        assert mask_util.iou([row["segmentation"]], [mask], [0])[0, 0] > 0.4


def test_errors_near_seams_are_as_frequent_as_elsewhere(dense):
    truth, tiles, height, width = dense
    merged = merge_tiles(tiles, imperfect(truth, tiles, miss=0.2, miss_cut=0.4), height, width)
    numbers = [row["truth"] for row in merged]
    assert len(numbers) == len(set(numbers))
    lost = ~np.isin(np.arange(len(truth)), numbers)
    middles = np.array([(y0 + mask.shape[0] / 2, x0 + mask.shape[1] / 2) for y0, x0, mask in truth])
    near = np.zeros(len(truth), bool)
    for tile in tiles:
        rows, columns = {tile.y0, tile.y1} - {0, height}, {tile.x0, tile.x1} - {0, width}
        for axis, edges in enumerate((rows, columns)):
            near |= np.any([near, *(abs(middles[:, axis] - edge) < 16 for edge in edges)], axis=0)
    assert near.sum() > 500 and (~near).sum() > 500
    error = np.sqrt(0.2 * 0.8 * (1 / near.sum() + 1 / (~near).sum()))
    assert abs(lost[near].mean() - lost[~near].mean()) < 3 * error


def test_a_thin_cell_whose_width_is_seen_differently_is_joined():
    tiles = plan_tiles(60, 200, 120, 40)
    found = []
    for tile, rows in zip(tiles, (slice(30, 33), slice(28, 35))):
        mask = np.zeros((60, 200), bool)
        mask[rows, 20:190] = True
        found.append([result(view(cell_of(mask), tile), *tile.size)])
    (row,) = merge_tiles(tiles, found, 60, 200)
    assert row["bbox"] == [20, 28, 170, 7]


def test_a_cell_called_whole_that_a_neighbour_sees_go_on_is_joined():
    tiles = plan_tiles(60, 200, 120, 40)
    whole = np.zeros((60, 200), bool)
    whole[25:35, 70:160] = True
    short = whole.copy()
    short[:, 110:] = False  # ends 10 pixels before the left tile's edge
    found = [[result(view(cell_of(mask), tile), *tile.size)] for mask, tile in zip((short, whole), tiles)]
    (row,) = merge_tiles(tiles, found, 60, 200)
    assert np.array_equal(mask_util.decode(row["segmentation"]), whole)


# Two tiles, side by side: columns 0 to 100 and 60 to 160


LEFT, RIGHT = plan_tiles(100, 160, 100, 40)


def box(x0, x1, y0=30, y1=50):
    """A rectangle as a mask (H, W)."""
    mask = np.zeros((100, 160), bool)
    mask[y0:y1, x0:x1] = True
    return cell_of(mask)


def merge(left, right, **more):
    """The two tiles' cells merged; each (cell of the image, score, further entries)."""
    sides = [[result(view(cell, t), *t.size, **kw) for cell, kw in some] for some, t in ((left, LEFT), (right, RIGHT))]
    return merge_tiles([LEFT, RIGHT], sides, 100, 160)


def spans(merged):
    """First and last column of each."""
    return sorted((row["bbox"][0], row["bbox"][0] + row["bbox"][2]) for row in merged)


def test_the_tile_that_sees_a_cell_farther_inside_is_believed_whatever_the_score():
    merged = merge([(box(64, 80), {"score": 0.99})], [(box(64, 82), {"score": 0.1})])
    assert spans(merged) == [(64, 80)]
    merged = merge([(box(80, 97), {"score": 0.99})], [(box(80, 96), {"score": 0.1, "mask_score": 0.3})])
    assert spans(merged) == [(80, 96)] and merged[0]["score"] == 0.1 and merged[0]["mask_score"] == 0.3


def test_scores_of_joined_pieces_are_weighted_by_area():
    left, right = {"score": 0.9, "mask_score": 0.6}, {"score": 0.6, "mask_score": 0.3}
    (row,) = merge([(box(20, 140), left)], [(box(20, 140), right)])  # pieces as large as each other
    assert row["bbox"] == [20, 30, 120, 20]
    assert (row["score"], row["mask_score"]) == pytest.approx((0.75, 0.45))
    (row,) = merge([(box(50, 140), left)], [(box(50, 140), right)])  # 50 and 80 columns
    assert row["score"] == pytest.approx((50 * 0.9 + 80 * 0.6) / 130)


def test_what_only_the_tile_farther_out_found_goes():
    assert spans(merge([(box(80, 95), {})], [])) == []
    assert spans(merge([], [(box(80, 95), {})])) == [(80, 95)]
    assert spans(merge([(box(50, 95), {})], [])) == [(50, 95)]  # the right tile does not see all of it
    assert spans(merge([(box(97, 100), {}), (box(20, 40), {})], [])) == [(20, 40)]


def test_overlapping_cells_of_one_tile_stay_both():
    large, small = box(62, 92, 20, 60), box(70, 82, 30, 40)
    assert len(merge([(large, {}), (small, {})], [(large, {}), (small, {})])) == 2
    assert len(merge([(large, {}), (small, {})], [(large, {})])) == 2  # the left tile sees both from farther inside
    assert spans(merge([(large, {})], [(large, {}), (small, {})])) == [(62, 92)]
    left = [(box(50, 90), {}), (box(52, 70, 35, 45), {})]
    assert spans(merge(left, left)) == [(50, 90), (52, 70)]


def test_one_tile_calls_two_cells_one():
    # The right tile sees it from farther inside, as one; then the left tile, as two; and the other way round
    assert spans(merge([(box(84, 91), {}), (box(91, 98), {})], [(box(84, 98), {})])) == [(84, 98)]
    assert spans(merge([(box(62, 69), {}), (box(69, 76), {})], [(box(62, 76), {})])) == [(62, 69), (69, 76)]


def test_cells_of_one_tile_are_never_glued_by_another():
    merged = merge([(box(30, 100, 30, 40), {}), (box(30, 100, 40, 50), {})], [(box(60, 140, 30, 50), {})])
    assert all(row["bbox"][3] == 10 or row["bbox"][0] >= 30 for row in merged)
    masks = [mask_util.decode(row["segmentation"]) for row in merged]
    assert not any(mask[35, 30] and mask[45, 30] for mask in masks)


def test_classes_are_not_merged():
    both = [(box(20, 140), {"category": 0}), (box(20, 140, 60, 80), {"category": 1})]
    merged = merge(both, both)
    assert sorted(row["category_id"] for row in merged) == [0, 1] and spans(merged) == [(20, 140)] * 2
    merged = merge([(box(20, 140), {"category": 0})], [(box(20, 140), {"category": 1})])
    assert spans(merged) == [(20, 100), (60, 140)]


def test_mixed_classes_of_a_dense_image(dense):
    truth, tiles, height, width = dense
    categories = [n % 3 for n in range(len(truth))]
    merged = merge_tiles(tiles, views(truth, tiles, categories), height, width)
    wanted = [result(cell, height, width, category=n) for cell, n in zip(truth, categories)]
    found = [[(row["category_id"], row["segmentation"]["counts"]) for row in rows] for rows in (merged, wanted)]
    assert sorted(found[0]) == sorted(found[1])


# What is given


def test_nothing_found():
    assert merge_tiles([LEFT, RIGHT], [[], []], 100, 160) == []
    assert merge_tiles([], [], 100, 160) == []


def test_one_tile_keeps_its_cells():
    (tile,) = plan_tiles(50, 60, 512, 64)
    cell = cell_of(ellipse(50, 60, 0, 59, 12, 8, 0))  # at the image's corner
    rows = [result(cell, 50, 60, 0.3, image_id="a", track_id=7), result((5, 5, np.ones((2, 2), bool)), 50, 60, 0.4)]
    assert merge_tiles([tile], [rows], 50, 60) == rows[::-1]


def test_cells_without_pixels_are_left_out():
    empty = result(box(10, 20), 100, 100) | {"segmentation": encode_crop(np.zeros((2, 2), bool), [0, 0], 100, 100)}
    assert merge_tiles([LEFT, RIGHT], [[empty], [empty]], 100, 160) == []


def test_the_last_pixel_of_a_large_image():
    tile = Tile(60_000, 60_000, 60_100, 60_100, (60_000, 60_000, 60_100, 60_100))
    mask = np.zeros((100, 100), bool)
    mask[90:, 95:] = True
    (row,) = merge_tiles([tile], [[result(cell_of(mask), 100, 100)]], 60_100, 60_100)
    wanted = encode_crop(np.ones((10, 5), bool), [60_095, 60_090], 60_100, 60_100)
    assert row["segmentation"] == wanted and row["bbox"] == [60_095, 60_090, 5, 10]


def test_what_does_not_fit():
    cell = result(box(10, 20), 100, 160)
    with pytest.raises(ValueError, match="of 1 tiles, but there are 2"):
        merge_tiles([LEFT, RIGHT], [[]], 100, 160)
    with pytest.raises(ValueError, match="of another size"):
        merge_tiles([LEFT, RIGHT], [[cell], []], 100, 160)
    broken = cell | {"segmentation": {"size": [100, 100], "counts": cell["segmentation"]["counts"][:-1]}}
    with pytest.raises(ValueError, match="damaged"):
        merge_tiles([LEFT, RIGHT], [[broken], []], 100, 160)
