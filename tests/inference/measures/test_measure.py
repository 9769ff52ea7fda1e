"""Measurements of cells agree with scikit-image, for masks of any form, in stacks and in large frames."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as mask_util
from scipy.spatial.distance import cdist
from skimage.measure import regionprops

from cellseg_d2.inference.measures.cells import measure_cells, measure_columns
from cellseg_d2.inference.measures.crops import decode_crop, decode_crops, touching_pairs
from cellseg_d2.inference.records import Frame, FrameCells
from cellseg_d2.run_lengths import decode_counts


def encode(mask: np.ndarray) -> dict:
    rle = mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(rle["size"]), "counts": rle["counts"].decode()}


def result_of(masks, pixels, classes=("cell",), more=(), **frame) -> FrameCells:
    cells = [
        {"category_id": k % len(classes), "score": 1 - k / 10, "bbox": [0, 0, 1, 1], "segmentation": encode(mask)}
        for k, mask in enumerate(masks)
    ]
    for cell, keys in zip(cells, more):
        cell.update(keys)
    return FrameCells(Frame(Path("in/film.tif"), "film", pixels, **frame), cells, classes)


class OnDisk:
    """Pixels that are only read where they are sliced."""

    def __init__(self, pixels):
        self.pixels, self.shape, self.dtype, self.read = pixels, pixels.shape, pixels.dtype, []

    def __getitem__(self, key):
        self.read.append(self.pixels[key].size)
        return self.pixels[key]


def ours_and_theirs(mask, pixels):
    row = measure_cells(result_of([mask], pixels)).iloc[0]
    return row, regionprops(mask.astype(np.uint8), intensity_image=pixels)[0]


def check_shape(row, theirs):
    y, x = theirs.centroid
    pairs = [
        (row.x, x), (row.y, y), (row.area, theirs.area), (row.perimeter, theirs.perimeter),
        (row.solidity, theirs.solidity), (row.mean_intensity, theirs.intensity_mean),
        (row.min_intensity, theirs.intensity_min), (row.max_intensity, theirs.intensity_max),
        (row.sd_intensity, theirs.intensity_std),
    ]  # fmt: skip
    np.testing.assert_allclose(*zip(*pairs), rtol=1e-9, atol=1e-9)
    # The root of a number that is nearly 0 is not: theirs comes from rounded moments
    squares = [(row.major_axis, theirs.axis_major_length), (row.minor_axis, theirs.axis_minor_length)]
    squares.append((row.eccentricity, theirs.eccentricity))
    np.testing.assert_allclose(*(np.square(column) for column in zip(*squares)), rtol=1e-9, atol=1e-9)
    if row.eccentricity > 1e-3:  # else there is no longer axis
        assert abs(np.exp(2j * row.orientation) - np.exp(2j * theirs.orientation)) < 1e-9


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.integers(1, 25), st.integers(1, 25), st.sampled_from([0.02, 0.3, 0.8, 1]), st.integers(0, 2**32 - 1))
def test_any_mask_measures_as_in_skimage(height, width, share, seed):
    rng = np.random.default_rng(seed)
    mask = rng.random((height, width)) < share
    mask.flat[seed % mask.size] = True
    check_shape(*ours_and_theirs(mask, rng.integers(0, 65_535, mask.shape, np.uint16)))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.floats(0.5, 60), st.floats(0.5, 60), st.floats(0, 3.2), st.floats(-20, 80), st.floats(-20, 80))
def test_ellipses_measure_as_in_skimage(long, short, turn, x0, y0):
    y, x = np.mgrid[:70, :60].astype(float)
    x, y = x - x0, y - y0
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    mask = (along / long) ** 2 + (across / short) ** 2 <= 1
    if mask.any():
        check_shape(*ours_and_theirs(mask, np.hypot(x, y)))


def test_one_pixel_and_lines():
    for shape in ((1, 1), (1, 9), (9, 1)):
        mask = np.zeros((12, 12), bool)
        mask[2 : 2 + shape[0], 2 : 2 + shape[1]] = True
        row = measure_cells(result_of([mask], np.zeros((12, 12)))).iloc[0]
        assert row.minor_axis == 0 and row.solidity == 1 and row.area == shape[0] * shape[1]
    diagonal = measure_cells(result_of([np.eye(12, dtype=bool)], np.zeros((12, 12)))).iloc[0]
    assert diagonal.minor_axis == 0 and diagonal.eccentricity == 1 and diagonal.at_border


@pytest.fixture
def masks() -> list[np.ndarray]:
    """Two that overlap, one that touches across one free pixel, one further away, one at the border."""
    masks = np.zeros((5, 40, 60), bool)
    masks[0, 5:15, 5:15], masks[1, 10:20, 10:20], masks[2, 12:18, 21:25] = True, True, True
    masks[3, 12:18, 27:30], masks[4, 30:, 50:55] = True, True
    return list(masks)


def test_columns_of_a_frame(masks):
    pixels = np.arange(2400, dtype=np.uint16).reshape(40, 60)
    more = [{"mask_score": 0.5, "track_id": 7}, *({"track_id": k} for k in (3, 4, 5, 9))]
    table = measure_cells(result_of(masks, pixels, ("cell", "dead"), more, place={"t": 3, "z": 1}, pixel_size=0.5))
    assert list(table.columns)[:8] == ["image", "file", "t", "z", "id", "track_id", "category", "score"]
    assert table.image.tolist() == ["film"] * 5 and set(table.file) == {str(Path("in/film.tif"))}
    assert table.t.tolist() == [3] * 5 and table.id.tolist() == [1, 2, 3, 4, 5]
    assert table.track_id.tolist() == [7, 3, 4, 5, 9] and table.category.tolist() == ["cell", "dead"] * 2 + ["cell"]
    assert table.mask_score[0] == 0.5 and table.mask_score[1:].isna().all()
    assert table.at_border.tolist() == [False] * 4 + [True]
    assert table.neighbours.tolist() == [1, 2, 1, 0, 0]  # columns 24 and 27 are 3 pixels apart
    assert table.area.tolist() == [100, 100, 24, 18, 50]  # each on its own mask
    centres = table[["x", "y"]].to_numpy()
    np.testing.assert_allclose(table.nearest_distance, np.sort(cdist(centres, centres), axis=1)[:, 1], rtol=1e-12)
    assert table.area_um2.tolist() == [25, 25, 6, 4.5, 12.5]
    np.testing.assert_allclose(table.perimeter_um, table.perimeter / 2)


def test_channels_have_their_names(masks):
    pixels = np.random.default_rng(0).random((40, 60, 2))
    table = measure_cells(result_of(masks, pixels, channels=("DAPI 405", "")))
    assert {"mean_intensity_DAPI_405", "sd_intensity_2", "max_intensity_2"} <= set(table.columns)
    np.testing.assert_allclose(table["mean_intensity_DAPI_405"], [pixels[m, 0].mean() for m in masks])
    np.testing.assert_allclose(table["sd_intensity_2"], [pixels[m, 1].std() for m in masks])


def test_no_cells_and_cells_without_pixels(masks):
    pixels, empty = np.zeros((40, 60), np.uint8), np.zeros((40, 60), bool)
    full = measure_cells(result_of([*masks, empty], pixels, pixel_size=2.0))
    none = measure_cells(result_of([], pixels, pixel_size=2.0))
    assert len(none) == 0 and list(none.columns) == list(full.columns) and (none.dtypes == full.dtypes).all()
    assert {name: str(kind) for name, kind in none.dtypes.items()} == measure_columns([result_of([], pixels,
            pixel_size=2.0).frame])  # fmt: skip
    assert full.area[5] == 0 and full.loc[5, ["x", "solidity", "mean_intensity", "nearest_distance"]].isna().all()
    assert not full.at_border[5] and full.neighbours[5] == 0
    assert np.isnan(measure_cells(result_of(masks[:1], pixels)).nearest_distance[0])


def test_frames_on_disk_are_read_as_little_as_needed(masks, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 999, (40, 60), np.uint16)
    known, disk = measure_cells(result_of(masks, pixels)), OnDisk(pixels)
    pd.testing.assert_frame_equal(measure_cells(result_of(masks, disk)), known)
    assert disk.read == [2400]
    monkeypatch.setattr("cellseg_d2.inference.measures.cells.WHOLE", 100)
    disk = OnDisk(pixels)
    pd.testing.assert_frame_equal(measure_cells(result_of(masks, disk)), known)
    assert disk.read == [100, 100, 24, 18, 50]


def test_columns_of_several_frames():
    frames = [
        Frame(Path("a"), "a", np.zeros((2, 2)), {"z": 0}, pixel_size=1.0),
        Frame(Path("b"), "b", np.zeros((2, 2, 2)), {"t": 1}, ("x", "y")),
    ]
    columns = measure_columns(frames, tracked=True)
    assert [name for name in columns if len(name) == 1] == ["t", "z", "x", "y"]
    assert {"mean_intensity", "mean_intensity_x", "mean_intensity_y", "area_um2", "track_id"} <= set(columns)


def test_mask_of_another_size_is_refused(masks):
    with pytest.raises(ValueError, match="film"):
        measure_cells(result_of(masks, np.zeros((40, 61))))


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from([0.1, 0.5, 1]), st.integers(0, 2**32 - 1))
def test_crops_and_neighbours(height, width, share, seed):
    rng = np.random.default_rng(seed)
    masks = rng.random((5, height, width)) < share * rng.random((5, 1, 1)) * (rng.random((5, height, width)) < 0.5)
    crops = [decode_crop(encode(mask)) for mask in masks]
    for mask, crop in zip(masks, crops):
        back, (x0, y0, x1, y1) = np.zeros_like(mask), crop.box
        back[y0:y1, x0:x1] = crop.mask
        assert (back == mask).all() and (not mask.any() or crop.mask[0].any() and crop.mask[:, -1].any())
    points = [np.argwhere(mask) for mask in masks]
    near = [
        (a, b)
        for a in range(5)
        for b in range(a + 1, 5)
        if len(points[a]) and len(points[b]) and cdist(points[a], points[b]).min() <= 2
    ]
    assert sorted(map(tuple, touching_pairs(crops, 2).tolist())) == near


def test_runs_of_no_pixels_and_over_columns():
    counts = [2, 1, 0, 2, 0, 6, 1, 0, 2, 3, 3]
    rle = mask_util.frPyObjects({"size": [4, 5], "counts": counts}, 4, 5)
    crops = decode_crops([rle, {"size": [4, 5], "counts": rle["counts"].decode()}, encode(np.zeros((4, 5)))])
    flat = np.repeat(np.arange(len(counts)) % 2, counts).reshape(5, 4).T == 1
    for crop in crops[:2]:
        assert crop.box == (0, 0, 5, 4) and (crop.mask == flat).all()
    assert crops[2].mask.shape == (0, 0) and decode_crops([]) == []


def test_masks_behind_two_thousand_million_pixels():
    height, (x, y) = 50_000, (49_000, 48_000)
    begins = [(x + column) * height + y for column in range(3)]
    edges = [0, *(edge for begin in begins for edge in (begin, begin + 4)), height**2]
    rle = mask_util.frPyObjects({"size": [height, height], "counts": np.diff(edges).tolist()}, height, height)
    crop = decode_crop(rle)
    assert crop.box == (x, y, x + 3, y + 4) and crop.mask.all()


def test_runs_behind_two_thousand_million_pixels_are_taken_whole():
    begin = 49_000 * 50_000 + 48_000
    counts = mask_util.frPyObjects({"size": [50_000] * 2, "counts": [begin, 5, 50_000**2 - begin - 5]}, 50_000, 50_000)
    runs = decode_counts([counts["counts"]] * 2, np.array([50_000**2] * 2))[0].take(np.array([1]))
    assert (runs.begin.tolist(), runs.end.tolist()) == ([begin], [begin + 5])
    assert runs.boxes(np.array([50_000])).tolist() == [[49_000, 48_000, 1, 5]]
