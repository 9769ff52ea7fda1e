"""Probabilities to cells: answers known by construction, and properties of any label map."""

import cv2
import numpy as np
import pycocotools.mask as mask_util
import pytest
from detectron2.config import get_cfg
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from cellseg_d2 import add_cellseg_config
from cellseg_d2.modeling.semantic.cells import CellOptions, label_cells, labels_to_instances, with_masks
from cellseg_d2.modeling.semantic.parting import part_at_waists, part_between


def discs(shape, *cells):
    """Probability 0.9 in discs (x, y, radius), 0.1 elsewhere."""
    image = np.full(shape, 0.1, np.float32)
    for x, y, radius in cells:
        yy, xx = np.ogrid[: shape[0], : shape[1]]
        image[(xx - x) ** 2 + (yy - y) ** 2 <= radius**2] = 0.9
    return image


def picture(*rows):
    """Probability 1 where a row of text has "#", 0 elsewhere."""
    return np.array([[character == "#" for character in row] for row in rows], dtype=np.float32)


def count(probability, edge=None, **options):
    return label_cells(probability, CellOptions(**options), edge).max()


def blobs(seed, shape=(90, 110)):
    """Foreground of random outline."""
    noise = np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)
    return np.clip(0.5 + 3 * cv2.GaussianBlur(noise, (0, 0), 4), 0, 1)


# Components


def test_numbers_follow_each_other_and_the_threshold_counts_as_cell():
    labels = label_cells(np.array([[0.5, 0, 0.7, 0.49, 0.8]], np.float32), CellOptions())
    assert labels.dtype == np.int32
    assert labels.tolist() == [[1, 0, 2, 0, 3]]


def test_a_diagonal_line_of_background_parts_cells():
    assert count(1 - np.eye(6, dtype=np.float32)) == 2


@pytest.mark.parametrize(("area", "filled"), [(0, 0), (3, 0), (4, 4), (100, 4)])
def test_hole(area, filled):
    image = discs((40, 40), (20, 20, 12))
    before = (image > 0.5).sum()
    image[19:21, 19:21] = 0.1
    labels = label_cells(image, CellOptions(hole_area=area))
    assert labels.max() == 1 and (labels > 0).sum() == before - 4 + filled


def test_a_ring_of_cells_stays_open():
    ring = discs((60, 60), *((30 + 18 * np.cos(a), 30 + 18 * np.sin(a), 8) for a in np.arange(8) * np.pi / 4))
    opening = ndimage.label(ring < 0.5)[0]
    assert opening.max() == 2
    inner = (opening == opening[30, 30]).sum()
    assert label_cells(ring, CellOptions(hole_area=int(inner) - 1))[30, 30] == 0
    assert label_cells(ring, CellOptions(hole_area=int(inner)))[30, 30] == 1


def test_what_touches_the_frame_or_opens_by_a_corner_is_no_hole():
    at_frame = picture("#.###", "#.#.#", "#####")
    assert (label_cells(at_frame, CellOptions(hole_area=9)) == 0).tolist()[:2] == [
        [False, True, False, False, False], [False, True, False, False, False],
    ]  # fmt: skip
    by_corner = picture("......", ".####.", ".#.##.", ".###..", "......")
    by_corner[2, 2], by_corner[3, 3] = 0, 0
    by_corner[4, 4] = 0
    assert label_cells(by_corner, CellOptions(hole_area=9))[2, 2] == 0


@pytest.mark.parametrize(("area", "cells"), [(0, 3), (1, 3), (2, 2), (5, 1), (6, 0)])
def test_min_area(area, cells):
    image = picture("#..##.", "......", "#####.")
    labels = label_cells(image, CellOptions(min_area=area))
    assert sorted(np.unique(labels)) == list(range(cells + 1))


# Parting


def test_two_touching_discs_are_parted_at_their_waist():
    image = discs((60, 100), (32, 30, 20), (66, 30, 20))
    assert count(image) == 1
    labels = label_cells(image, CellOptions(split="distance"))
    assert labels.max() == 2 and ((labels > 0) == (image > 0.5)).all()
    assert len(np.unique(labels[:, :48])) == 2 and len(np.unique(labels[:, 51:])) == 2  # background and one cell each


def test_split_depth_is_the_depth_of_the_waist():
    image = np.zeros((60, 120), np.float32)
    cv2.circle(image, (35, 30), 20, 1, -1)
    cv2.circle(image, (85, 30), 20, 1, -1)
    image[18:43, 35:85] = 1  # half width of 12.5 between radii of 20
    assert count(image, split="distance", split_depth=5) == 2
    assert count(image, split="distance", split_depth=10) == 1


@pytest.mark.parametrize("angle", [0, 45, 90, 180, 270])
def test_a_bridge_is_shared_evenly(angle):
    """Level ground between two cells goes to the nearer one, in whatever direction pixels are visited."""
    image = np.zeros((121, 121), np.uint8)
    way = 40 * np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
    ends = [tuple(int(v) for v in np.rint(60 + sign * way)) for sign in (-1, 1)]
    cv2.line(image, *ends, 1, 3)
    for end in ends:
        cv2.circle(image, end, 12, 1, -1)
    areas = np.bincount(label_cells(image.astype(np.float32), CellOptions(split="distance", split_depth=3)).ravel())[1:]
    assert len(areas) == 2 and np.ptp(areas) <= 0.06 * areas.sum()


@pytest.mark.parametrize("image", [discs((50, 50), (25, 25, 20)), np.ones((40, 60), np.float32)])
def test_one_convex_cell_stays_whole(image):
    assert count(image, split="distance", split_depth=1) == 1


@pytest.mark.parametrize("depth", [0.5, 2.0])
def test_parts_refine_components(depth):
    """Each part lies in one component, each component has a part, deeper waists give fewer parts."""
    for seed in range(5):
        labels = label_cells(blobs(seed), CellOptions())
        parts = part_at_waists(labels, depth)
        assert ((parts > 0) == (labels > 0)).all() and set(np.unique(parts)) == set(range(parts.max() + 1))
        owners = {(part, label) for part, label in zip(parts.ravel().tolist(), labels.ravel().tolist())}
        assert len(owners) == parts.max() + 1 and {label for _, label in owners} == set(np.unique(labels).tolist())
        assert part_at_waists(labels, 2 * depth).max() <= parts.max()


def test_skipping_convex_components_changes_nothing(monkeypatch):
    for seed in range(5):
        labels = label_cells(blobs(seed), CellOptions())
        quick = part_at_waists(labels, 3.0)
        with monkeypatch.context() as patch:
            patch.setattr("cellseg_d2.modeling.semantic.parting._dent", lambda own: np.inf)
            assert (part_at_waists(labels, 3.0) == quick).all()


def test_parts_are_the_same_each_time():
    labels = label_cells(blobs(1, (200, 200)), CellOptions())
    first = part_at_waists(labels, 0.5)
    assert all((part_at_waists(labels, 0.5) == first).all() for _ in range(20))


def test_components_of_lines_stay():
    """Nothing of them is as high as the depth."""
    labels = label_cells(picture("####.", ".....", "####."), CellOptions())
    assert (part_at_waists(labels, 5.0) == labels).all()


def test_classes_part_between_interiors():
    """A band of cells with edges of probability 1 between them; the last component has no interior at all."""
    image, edge = np.zeros((30, 70), np.float32), np.zeros((30, 70), np.float32)
    image[5:25, 5:55], edge[5:25, 5:55] = 0.95, 0.05
    for column in (20, 38):
        edge[5:25, column : column + 4], image[5:25, column : column + 4] = 1, 1
    image[5:8, 60:65] = edge[5:8, 60:65] = 0.8
    assert count(image) == 2
    labels = label_cells(image, CellOptions(split="classes"), edge)
    assert labels.max() == 4 and ((labels > 0) == (image > 0.5)).all()
    for column in (20, 38):  # the certain edge is level ground: each cell gets half of it
        assert (labels[5:25, column + 1] == labels[5:25, column - 1]).all()
        assert (labels[5:25, column + 2] == labels[5:25, column + 4]).all()


def test_a_top_with_a_small_part_is_none():
    """Two cells with a speck between them, in the first row; the second row is a component of its own."""
    labels = np.array([[1] * 13, [0] * 13, [2] * 13], np.int32)
    cells = [4, 5, 6, 5, 4, 1, 9, 1, 4, 5, 6, 5, 4]
    heights = np.array([cells, [0] * 13, [0, 1, 2, 3, 4, 5, 4, 3, 2, 1, 0, 0, 0]], float)
    tops = np.isin(heights, (6, 9))
    assert [len(set(row)) for row in part_between(labels, heights, tops).tolist()] == [3, 1, 1]
    without = part_between(labels, heights, tops, 4)
    assert without[0, 2] != without[0, 10] and np.bincount(without[0])[1:].min() >= 4
    assert part_between(labels, heights, tops, 8).max() == 2


@pytest.mark.parametrize("split", ["distance", "classes"])
def test_parts_are_never_smaller_than_min_area(split):
    image = blobs(3)
    edge = image * blobs(4)
    whole = label_cells(image, CellOptions(min_area=40))
    labels = label_cells(image, CellOptions(min_area=40, split=split, split_depth=0.1), edge)
    assert labels.max() > whole.max() and ((labels > 0) == (whole > 0)).all()
    areas = np.bincount(labels.ravel())[1:]
    assert areas.min() >= 40


# Corners and errors


@pytest.mark.parametrize("split", ["none", "distance", "classes"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (7, 1), (33, 20)])
def test_empty_and_full_images(shape, split):
    edge = np.zeros(shape, np.float32)
    options = {"hole_area": 5, "min_area": 1, "split": split}
    for value in (0, 1):
        image = np.full(shape, value, np.float32)
        labels = label_cells(image, CellOptions(**options), edge)
        assert labels.shape == shape and (labels == value).all()
        found = labels_to_instances(labels, image)
        assert len(found) == value
        assert set(found.get_fields()) == {"pred_boxes", "scores", "pred_classes", "pred_rles"}
        assert with_masks(found).pred_masks.shape == (value, *shape)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.array([[0.5, np.nan]]), "NaN in 1 of 2 pixels"),
        (np.array([[-3.0, 8.0]]), r"-3\.\.8.*logits"),
        (np.zeros((2, 3, 4)), "shape"),
        (np.zeros((0, 4)), "shape"),
    ],
)
def test_what_is_no_probability(values, words):
    with pytest.raises(ValueError, match=words):
        label_cells(values, CellOptions())
    with pytest.raises(ValueError, match="edge probability|shape|probability"):
        label_cells(np.zeros((1, 2)), CellOptions(split="classes"), values)


def test_classes_need_edges():
    with pytest.raises(ValueError, match="NUM_CLASSES 3"):
        label_cells(np.zeros((4, 4)), CellOptions(split="classes"))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("threshold", 1.5), ("threshold", float("nan")), ("min_area", -1), ("hole_area", -2), ("split", "magic"),
        ("split_depth", 0), ("split_depth", float("inf")),
    ],
)  # fmt: skip
def test_wrong_options_name_their_key(key, value):
    with pytest.raises(ValueError, match=rf"MODEL\.SEMANTIC\.{key.upper()}: .*{value}"):
        CellOptions(**{key: value})


def test_options_of_a_config():
    cfg = get_cfg()
    add_cellseg_config(cfg)
    assert CellOptions.from_config(cfg) == CellOptions()
    cfg.merge_from_list(["MODEL.SEMANTIC.SPLIT", "distance", "MODEL.SEMANTIC.MIN_AREA", 30])
    assert CellOptions.from_config(cfg) == CellOptions(min_area=30, split="distance")


# Instances


def test_instances_of_two_cells():
    labels = np.array([[-1, 3, 3, 0], [0, 3, 0, 1]], np.int32)
    probability = np.array([[0.9, 0.5, 0.6, 0.1], [0, 0.7, 0, 0.9]], np.float32)
    found = labels_to_instances(labels, probability)
    assert found.image_size == (2, 4)
    assert found.pred_boxes.tensor.tolist() == [[3, 1, 4, 2], [1, 0, 3, 2]]
    assert found.scores.tolist() == pytest.approx([0.9, 0.6])
    assert found.pred_classes.tolist() == [0, 0]
    masks = with_masks(found)
    assert (masks.pred_masks.numpy() == np.stack([labels == 1, labels == 3])).all()
    assert not masks.has("pred_rles") and found.has("pred_rles")


@settings(max_examples=80, deadline=None)
@given(arrays.arrays(np.int32, arrays.array_shapes(min_dims=2, max_dims=2, max_side=40), elements=st.integers(-1, 4)))
def test_labels_to_instances_to_masks_and_back(labels):
    """Any label map, connected or not: boxes, run lengths and masks all give it back."""
    probability = np.random.default_rng(0).random(labels.shape, np.float32)
    found = labels_to_instances(labels, probability)
    assert len(found) == len(np.unique(labels[labels > 0]))
    assert (found.scores.diff() <= 0).all()
    masks = with_masks(found).pred_masks.numpy()
    assert (masks.sum(0) == (labels > 0)).all()
    for mask, rle, box, score in zip(masks, found.pred_rles, found.pred_boxes.tensor.tolist(), found.scores.tolist()):
        (number,) = np.unique(labels[mask])
        assert (mask == (labels == number)).all()
        assert rle == {"size": list(labels.shape), "counts": _encoded(mask)}
        assert (mask_util.decode(rle) == mask).all()
        rows, columns = np.nonzero(mask)
        assert box == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert score == pytest.approx(probability[mask].mean(), abs=1e-6)


def _encoded(mask):
    return mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
