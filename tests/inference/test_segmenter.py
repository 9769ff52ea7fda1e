"""From images to cells by one call: whole, in tiles, in batches, of several channels, adapted."""

from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from scipy import ndimage

from cellseg_d2.crops import encode_crop
from cellseg_d2.data.image_io import CorruptImageError
from cellseg_d2.data.synthesis.phantom import PhantomSpec, simulate
from cellseg_d2.engine.errors import UserError
from cellseg_d2.inference.detectors import Found
from cellseg_d2.inference.reading.image_options import ImageOptions
from cellseg_d2.inference.records import Frame
from cellseg_d2.inference.segmenter import CellSegmenter


class Blobs:
    """Detector without a network: what is brighter than half of the image's largest value; sees scaled images."""

    classes, scale, cell_size, whole, side, cap = ("cell",), 1.0, 24.0, 200 * 200, 128, None
    has_probability = True

    def __init__(self):
        self.seen, self.sharing = [], []

    def fit(self, sample):
        threshold = sample.max() / 2
        return lambda region: (region > threshold).astype(np.uint8)

    @contextmanager
    def shared(self, tiles, read, scale):
        self.sharing = [read(tile).shape for tile in tiles]
        yield
        self.sharing = []

    def __call__(self, regions, scale):
        assert len(self.sharing) != 1 and (not self.sharing or regions[0].shape in self.sharing)
        self.seen.append((len(regions), regions[0].shape, scale))
        return [self._one(region) for region in regions]

    def _one(self, mask):
        height, width = mask.shape[:2]
        labels, count = ndimage.label(mask if mask.ndim == 2 else mask[..., 1])
        cells = []
        for number, box in enumerate(ndimage.find_objects(labels), start=1):
            crop = labels[box] == number
            y, x = box[0].start, box[1].start
            rle = encode_crop(crop, [x, y], height, width)
            bbox = [float(v) for v in (x, y, crop.shape[1], crop.shape[0])]
            cells.append({"category_id": 0, "bbox": bbox, "score": min(1.0, crop.sum() / 1000), "segmentation": rle})
        cells.sort(key=lambda cell: -cell["score"])
        return Found(cells, mask.astype(np.float32) if mask.ndim == 2 else None, capped=count == self.cap)


def field(height=420, width=500, seed=0):
    """Bright discs that do not touch, on a grid with jitter; and their number."""
    rng = np.random.default_rng(seed)
    image = np.full((height, width), 10, dtype=np.uint16)
    centres = [(x, y) for y in range(20, height - 15, 35) for x in range(20, width - 15, 35)]
    for x, y in centres:
        dx, dy = rng.integers(-3, 4, 2)
        cv2.circle(image, (int(x + dx), int(y + dy)), int(rng.integers(6, 12)), 1000, -1)
    return image, len(centres)


def same_cells(one, other):
    """Both label images have the same cells, whatever their numbers."""
    pairs = np.unique(np.stack([one.ravel(), other.ravel()]), axis=1)
    return pairs.shape[1] == len(np.unique(one)) == len(np.unique(other))


def test_tiles_find_what_the_whole_image_has():
    image, count = field()
    detector = Blobs()
    told = []
    tiled = CellSegmenter(detector, tell=lambda frame, done, total: told.append((done, total)))(image)
    assert told == [(done, len(detector.seen)) for done in range(1, len(detector.seen) + 1)]
    assert len(detector.seen) > 4 and all(shape[0] <= 256 for _, shape, _ in detector.seen)
    whole = CellSegmenter(Blobs(), ImageOptions(tile="off"))(image)
    assert len(tiled) == len(whole) == count
    assert same_cells(tiled.labels(), whole.labels())
    assert np.array_equal(tiled.probability, whole.probability)
    assert [cell["score"] for cell in tiled.cells] == sorted((cell["score"] for cell in tiled.cells), reverse=True)
    assert set(tiled.seconds) == {"read", "network", "merge"}


@pytest.mark.parametrize("batch", [1, 2, 3, 100])
def test_batches_change_nothing_and_keep_the_order(batch):
    images = [field(150, 150 + 10 * (k % 2), seed=k)[0] for k in range(5)]
    detector = Blobs()
    results = CellSegmenter(detector, ImageOptions(batch=batch))(images)
    assert [result.frame.size for result in results] == [image.shape for image in images]
    assert max(size for size, _, _ in detector.seen) == 1  # neighbours have other sizes
    same = CellSegmenter(detector := Blobs(), ImageOptions(batch=batch))([images[0]] * 5)
    assert [size for size, _, _ in detector.seen] == [min(batch, 5 - k) for k in range(0, 5, batch)]
    assert all(each.cells == results[0].cells for each in same)


def test_tiles_share_statistics_with_no_other_frame():
    small, (large, count) = field(150, 150)[0], field()
    results = CellSegmenter(detector := Blobs(), ImageOptions(batch=4))([small, large, small])
    assert [len(result) for result in results] == [len(results[0]), count, len(results[0])]
    assert [size for size, _, _ in detector.seen] == [1, 4, 2, 1]


def test_frames_are_taken_as_they_are_needed():
    taken = []

    def frames():
        for number in range(4):
            taken.append(number)
            yield Frame(Path("x"), str(number), field(150, 150)[0])

    results = CellSegmenter(Blobs()).segment(frames())
    next(results)
    assert taken == [0]


def test_grey_values_are_fitted_to_the_whole_image():
    image, count = field()
    image[:200] = image[:200] // 4 + 8  # dim cells in the upper half, dark to the whole image
    found = CellSegmenter(Blobs())(image)
    assert 0 < len(found) < count and min(cell["bbox"][1] for cell in found.cells) > 190


def test_channels(tmp_path):
    image, count = field(150, 150)
    stack = np.stack([np.zeros_like(image), image], axis=0)
    tifffile.imwrite(tmp_path / "two.ome.tif", stack, metadata={"axes": "CYX", "Channel": {"Name": ["DAPI", "GFP"]}})
    for channel in ("GFP", "gfp", 1, "1"):
        assert len(CellSegmenter(Blobs(), ImageOptions(channel=channel))(tmp_path / "two.ome.tif")) == count
        array = stack.transpose(1, 2, 0)
        assert channel not in (1, "1") or len(CellSegmenter(Blobs(), ImageOptions(channel=channel))(array)) == count
    for channel, words in ((None, "--channel: 0 DAPI, 1 GFP"), ("Cy5", "0 DAPI, 1 GFP"), (2, "0 DAPI")):
        with pytest.raises(CorruptImageError, match=words):
            CellSegmenter(Blobs(), ImageOptions(channel=channel))(tmp_path / "two.ome.tif")
    assert len(CellSegmenter(Blobs())(np.stack([image] * 3, axis=2))) == count  # RGB


def test_stacks_give_a_result_for_each_frame(tmp_path):
    film = np.stack([field(150, 150, seed=k)[0] for k in range(3)])
    tifffile.imwrite(tmp_path / "film.tif", film, imagej=True, metadata={"axes": "TYX", "finterval": 60.0})
    results = CellSegmenter(Blobs(), ImageOptions(pixel_size=0.5))(tmp_path / "film.tif")
    assert [result.frame.name for result in results] == ["film_t000", "film_t001", "film_t002"]
    assert {(result.frame.pixel_size, result.frame.interval) for result in results} == {(0.5, 60.0)}
    assert "area_um2" in results[0].table() and results[0].table()["t"].tolist() == [0] * len(results[0])


def test_pixels_of_a_print_are_not_adapted():
    image = np.zeros((40, 50), np.uint8)
    with pytest.raises(CorruptImageError, match="resize pixels of 352.8 um by 284"):
        CellSegmenter(Blobs(), ImageOptions(adapt=True, pixel_size=352.8))(image)


@pytest.mark.parametrize("shape", [(40, 50, 4), (3, 40, 50), (40, 50, 2)])
def test_arrays_of_several_channels_need_a_choice(shape):
    with pytest.raises(ValueError, match=f"{shape[2]} channels: .* channel=.* RGBA.* stack as a list"):
        CellSegmenter(Blobs())(np.zeros(shape, np.uint8))
    with pytest.raises(ValueError, match="image 1 of the list: an array of"):
        CellSegmenter(None)([np.zeros((40, 50), np.uint8), np.zeros(shape, np.uint8)])
    CellSegmenter(Blobs(), ImageOptions(channel=1))(np.zeros(shape, np.uint8))


def test_adaptation_scales_to_livecells_microscope():
    image, _ = field(200, 200)
    detector = Blobs()
    CellSegmenter(detector, ImageOptions(adapt=True, pixel_size=0.62, tile="off"))(image)
    assert detector.seen == [(1, (200, 200), 0.5)]
    CellSegmenter(detector := Blobs(), ImageOptions(adapt=True))(image)
    assert detector.seen == [(1, (200, 200), 1.0)]


def test_a_limit_that_was_reached_is_said():
    image, count = field(150, 150)
    detector = Blobs()
    detector.cap = count
    (note,) = CellSegmenter(detector)(image).notes
    assert f"it has {count} cells" in note and "--max-cells" in note
    detector.cap = count + 1
    assert CellSegmenter(detector)(image).notes == ()


def test_results_in_the_forms_that_people_use(tmp_path):
    simulated = simulate(PhantomSpec(height=120, width=100, cells=(3, 5)), seed=0).image
    image, count = field(150, 150)
    result = CellSegmenter(Blobs())(image)
    coco = result.to_coco()
    assert [a["area"] for a in coco["annotations"]] == result.table()["area"].tolist() == result.areas()
    assert coco["categories"] == [{"id": 1, "name": "cell"}] and len(coco["annotations"]) == count
    drawn = np.zeros(image.shape, dtype=np.uint8)
    for outlines in result.polygons():
        (outline,) = outlines  # along pixel edges: shoelace gives the area
        x, y = outline.astype(float).T
        drawn[0, 0] += abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2 > 0
    assert drawn[0, 0] == count
    for name in ("cells.tif", "cells.zip", "cells.geojson", "cells.png", "cells.csv"):
        assert result.save(tmp_path / name).stat().st_size > 0
    assert np.array_equal(tifffile.imread(tmp_path / "cells.tif"), result.labels())
    with pytest.raises(ValueError, match="saved as"):
        result.save(tmp_path / "cells.doc")
    assert result.plot().images and len(CellSegmenter(Blobs())(simulated)) >= 0


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (37, 1)])
def test_tiny_images(shape):
    result = CellSegmenter(Blobs())(np.zeros(shape, dtype=np.uint8))
    assert len(result) == 0 and result.labels().shape == shape and len(result.table()) == 0


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((2, 2, 2, 2)), "(H, W)"),
        (np.array([["a"]]), "numeric"),
        (np.array([[np.nan, 1.0]]), "1 values of the image are not finite"),
        (np.zeros((0, 4)), "no pixels"),
        (np.zeros((4, 4, 5)), "5 channels"),
    ],
)
def test_what_is_no_image_is_an_error(image, words):
    with pytest.raises(ValueError) as raised:
        CellSegmenter(Blobs())(image)
    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"tile": "large"}, "--tile large"), ({"tile": 12}, "--tile 12"), ({"batch": 0}, "--batch 0"),
     ({"pixel_size": -1.0}, "--pixel-size -1.0"), ({"interval": float("nan")}, "--interval nan")],
)  # fmt: skip
def test_wrong_options(options, words):
    with pytest.raises(UserError, match=words):
        ImageOptions(**options)
    with pytest.raises(UserError, match="--overlap 600"):
        CellSegmenter(Blobs(), ImageOptions(overlap=600))(field()[0])
