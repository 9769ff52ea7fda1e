"""Label images there and back: single frames, stacks, tiles, overlaps."""

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as mask_util
from scipy import ndimage

from cellseg_d2.data.label_files import read_labels
from cellseg_d2.inference.writers import label_image, labels, write_labels


def encode(mask):
    rle = mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(rle["size"]), "counts": rle["counts"].decode()}


def depth_of(mask):
    return ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(1, 20), st.integers(1, 20), st.sampled_from(["score", "interior"]), st.integers(0, 2**32 - 1))
def test_pixels_of_several_cells(height, width, overlap, seed):
    rng = np.random.default_rng(seed)
    masks = ndimage.binary_opening(rng.random((4, height, width)) < 0.85, np.ones((1, 2, 2)))
    scores = rng.permutation([0.9, 0.5, 0.5, 0.1])
    cells = [{"segmentation": encode(mask), "score": score} for mask, score in zip(masks, scores)]
    painted = label_image(cells, height, width, overlap)
    rank = np.argsort(np.argsort(-scores, kind="stable"))
    worth = -np.broadcast_to(rank[:, None, None], masks.shape).astype(float)
    if overlap == "interior":
        worth = worth / 1e3 + np.round([depth_of(mask) for mask in masks], 4)
    expected = np.where(masks.any(axis=0), np.where(masks, worth, -np.inf).argmax(axis=0) + 1, 0)
    assert painted.dtype == np.uint16 and (painted == expected).all()


def test_a_single_frame(tmp_path, make_result, masks):
    result = make_result(masks, pixel_size=0.65)
    assert write_labels(tmp_path / "sub" / "film.tif", [result]) == 0
    written = read_labels(tmp_path / "sub" / "film.tif")
    assert (written == label_image(result.cells, 40, 60)).all()
    alone = masks.sum(axis=0) == 1
    assert all((written[mask & alone] == k).all() for k, mask in enumerate(masks, start=1))
    with tifffile.TiffFile(tmp_path / "sub" / "film.tif") as tif:
        assert tif.is_ome and tif.series[0].axes == "YX" and tif.pages[0].compression == 8
        assert 'PhysicalSizeX="0.65"' in tif.ome_metadata and 'PhysicalSizeYUnit="µm"' in tif.ome_metadata
        numerator, denominator = tif.pages[0].tags["XResolution"].value
        assert numerator / denominator == pytest.approx(1e4 / 0.65)


def test_covered_cells_are_counted(tmp_path, make_result, masks):
    both = [masks[0] | masks[1], masks[0], masks[3], np.zeros_like(masks[0])]
    assert write_labels(tmp_path / "a.tif", [make_result(both)]) == 2
    assert np.unique(tifffile.imread(tmp_path / "a.tif")).tolist() == [0, 1, 3]


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize(("keys", "axes"), [("t", "TYX"), ("z", "ZYX"), ("tz", "TZYX")])
def test_stacks(tmp_path, make_result, masks, monkeypatch, keys, axes, large):
    monkeypatch.setattr(labels, "LARGE", 100 if large else 10**9)
    monkeypatch.setattr(labels, "TILE", 16)
    places = [(0, 0), (1, 2), (2, 1)]
    frames = [
        make_result(masks[k:], tracks=[70_000 - j for j in range(7 - k)], place=dict(zip(keys, place)), interval=30.0)
        for k, place in enumerate(places)
    ]
    write_labels(tmp_path / "film.tif", frames[::-1])
    with tifffile.TiffFile(tmp_path / "film.tif") as tif:
        assert tif.series[0].axes == axes and tif.pages[0].is_tiled == large
        assert ('TimeIncrement="30.0"' in tif.ome_metadata) == ("T" in axes)
        stack = tif.asarray()
    assert stack.dtype == np.uint32 and stack.shape == ((3, 3) if len(keys) == 2 else (3,)) + (40, 60)
    for frame, place in zip(frames, places):
        assert (stack[place[: len(keys)]] == label_image(frame.cells, 40, 60)).all()
    if len(keys) == 2:
        assert not stack[0, 1].any()  # no such frame


def test_tiles_are_the_whole(tmp_path, make_result, monkeypatch):
    rng = np.random.default_rng(1)
    masks = ndimage.binary_dilation(rng.random((30, 70, 90)) < 0.002, np.ones((1, 3, 3)), iterations=4)
    result = make_result(masks)
    for overlap in ("score", "interior"):
        assert write_labels(tmp_path / "a.tif", [result], overlap=overlap) == 0
        monkeypatch.setattr(labels, "LARGE", 0), monkeypatch.setattr(labels, "TILE", 32)
        assert write_labels(tmp_path / "b.tif", [result], "YX", overlap) == 0
        monkeypatch.undo()
        assert (tifffile.imread(tmp_path / "a.tif") == tifffile.imread(tmp_path / "b.tif")).all()


def test_no_cells(tmp_path, make_result):
    assert write_labels(tmp_path / "a.tif", [make_result(np.zeros((0, 5, 7)))]) == 0
    assert tifffile.imread(tmp_path / "a.tif").tolist() == np.zeros((5, 7), int).tolist()


def test_what_is_no_stack(tmp_path, make_result, masks):
    one, other = make_result(masks, place={"t": 0}), make_result(masks[:, 1:], place={"t": 1})
    for frames, axes, message in (
        ([one, other], None, "several sizes"), ([one, one], None, "2 frames in 1 places"), ([], "YX", "one frame"),
        ([one], "ZYX", "axes 'ZYX'"), ([make_result(masks, place={"q": 0})], None, "not along t or z"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            write_labels(tmp_path / "a.tif", frames, axes)
    with pytest.raises(ValueError, match="interior"):
        label_image([], 4, 4, "size")
    with pytest.raises(ValueError, match="a mask of"):
        label_image(one.cells, 41, 60)
    assert not list(tmp_path.iterdir())


def test_a_failure_leaves_the_older_file(tmp_path, make_result, masks, monkeypatch):
    write_labels(tmp_path / "a.tif", [make_result(masks)])
    before = (tmp_path / "a.tif").read_bytes()
    monkeypatch.setattr(labels, "_paint", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_labels(tmp_path / "a.tif", [make_result(masks)])
    assert (tmp_path / "a.tif").read_bytes() == before and len(list(tmp_path.iterdir())) == 1
