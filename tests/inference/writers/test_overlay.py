"""Overlays: what is drawn where, in which colour, of images of every type and size."""

import numpy as np
import pytest
from PIL import Image

from cellseg_d2.inference.writers import write_overlay
from cellseg_d2.inference.writers.overlay import overlay, view


def coloured(picture: np.ndarray) -> np.ndarray:
    return picture.max(axis=2) != picture.min(axis=2)


def test_outlines_lie_on_the_border_pixels(tmp_path, make_result, masks):
    write_overlay(tmp_path / "out" / "a.png", make_result(masks))
    picture = np.asarray(Image.open(tmp_path / "out" / "a.png"))
    assert picture.shape == (40, 60, 3) and picture.dtype == np.uint8
    drawn = coloured(picture)
    assert not (drawn & ~masks.any(axis=0)).any()
    assert all(drawn[5, 5:15]) and drawn[39, 0] and drawn[0, 59] and not drawn[7, 7]
    assert drawn[27, 8:12].all() and drawn[29, 9] and not drawn[25 + 8, 10]  # around the hole, and the island
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png"]


def test_colours_of_tracks_and_classes(make_result, masks):
    one = overlay(make_result(masks[2:4], tracks=[5, 8]))
    other = overlay(make_result(masks[[3, 2]], tracks=[8, 5]))
    assert (one == other).all() and (one[0, 59] != one[39, 0]).any()
    plain, classes = overlay(make_result(masks[2:4])), overlay(make_result(masks[2:4], ("a", "b")))
    assert (plain[0, 59] == plain[39, 0]).all() and (classes[0, 59] != classes[39, 0]).any()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32, bool])
def test_images_of_any_type_are_stretched(make_result, dtype):
    pixels = np.zeros((20, 30), dtype)
    pixels[5:10] = 1
    picture = view(make_result(np.zeros((0, 20, 30)), pixels=pixels).frame)
    assert picture[7, 7].tolist() == [255] * 3 and picture[0, 0].tolist() == [0] * 3


def test_channels_and_damaged_values(make_result):
    rng = np.random.default_rng(0)
    for count, dtype in ((1, np.uint16), (2, np.uint16), (3, np.uint16), (5, np.float32)):
        pixels = (rng.random((20, 30, count)) * 1000).astype(dtype)
        shown = view(make_result(np.zeros((0, 20, 30)), pixels=pixels).frame)
        assert (shown[..., 2].max() == 0) == (count == 2) and shown[..., 1].max() == 255
    rgb = rng.integers(0, 100, (20, 30, 3), np.uint8)
    assert (view(make_result(np.zeros((0, 20, 30)), pixels=rgb).frame) == rgb).all()
    broken = np.ones((20, 30), np.float32)
    broken[0, 0], broken[5, 5] = np.nan, np.inf
    assert view(make_result(np.zeros((0, 20, 30)), pixels=broken).frame)[7, 7, 0] == 255


@pytest.mark.parametrize("strip", [1, 256])
def test_large_frames_are_shrunk(make_result, masks, monkeypatch, strip):
    monkeypatch.setattr("cellseg_d2.inference.writers.overlay._STRIP", strip)
    pixels = np.arange(2400).reshape(40, 60)
    picture = overlay(make_result(masks[:1], pixels=pixels), largest_side=25)
    assert picture.shape == (14, 20, 3)
    drawn = np.argwhere(coloured(picture))
    assert drawn.min() == 1 and drawn.max() == 4
    whole = view(make_result(masks, pixels=pixels).frame, 25)
    assert (np.diff(whole[:, 0, 0].astype(int)) > 0).all()


def test_probability_has_its_colours(make_result, masks):
    probability = np.zeros((40, 60), np.float32)
    probability[:, 30:] = 1
    picture = overlay(make_result(masks, probability=probability, pixels=np.full((40, 60), 9)))
    assert picture[20, 2, 2] > picture[20, 2, 0] and picture[20, 58, 0] > picture[20, 58, 2]
    assert picture[39, 0].tolist() == [255] * 3


def test_no_cells(tmp_path, make_result):
    write_overlay(tmp_path / "a.png", make_result(np.zeros((0, 3, 4))))
    assert not coloured(np.asarray(Image.open(tmp_path / "a.png"))).any()
