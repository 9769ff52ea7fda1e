"""Zarr and OME-Zarr for prediction."""

import numpy as np
import pytest

from cellseg_d2.data.image_io import CorruptImageError
from cellseg_d2.inference.reading import reader
from cellseg_d2.inference.reading.reader import open_image

RNG = np.random.default_rng(0)
STACK = RNG.integers(0, 60000, (4, 2, 3, 30, 40), dtype=np.uint16)  # T C Z Y X


def _units(unit: str) -> list[dict]:
    names = {"t": ("time", "minute"), "c": ("channel", None), "z": ("space", unit)}
    names |= {"y": ("space", unit), "x": ("space", unit)}
    return [{"name": name, "type": kind} | ({"unit": one} if one else {}) for name, (kind, one) in names.items()]


def _ome_zarr(path, zarr_format, axes, **more) -> None:
    zarr = pytest.importorskip("zarr")
    group = zarr.create_group(path, zarr_format=zarr_format)
    for level, image in enumerate((STACK, STACK[..., ::2, ::2])):
        group.create_array(str(level), data=image, chunks=(1, 1, 1, 16, 16))
    scales = [[10, 1, 2, 0.325 * 2**level, 0.325 * 2**level] for level in range(2)]
    changes = [[{"type": "scale", "scale": scale}] for scale in scales]
    datasets = [{"path": str(level), "coordinateTransformations": change} for level, change in enumerate(changes)]
    image = {"datasets": datasets, "axes": axes} | more
    about = {"multiscales": [image], "omero": {"channels": [{"label": "phase"}, {"label": "GFP"}]}}
    group.attrs.update({"ome": about} if zarr_format == 3 else about)


def _check(file, channel=None) -> None:
    """The frames of a file are those of STACK."""
    assert len(file) == 12
    for frame in file.frames("x"):
        expected = STACK[frame.place["t"], :, frame.place["z"]]
        expected = np.moveaxis(expected, 0, 2) if channel is None else expected[channel]
        assert frame.pixels.dtype == np.uint16 and (frame.pixels == expected).all()
        assert frame.name == f"x_t{frame.place['t']:03}_z{frame.place['z']:02}"


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_ome_zarr(tmp_path, zarr_format):
    _ome_zarr(tmp_path / "x.zarr", zarr_format, _units("micrometer"))
    file = open_image(tmp_path / "x.zarr")
    assert (file.axes, file.shape) == ("TCZYX", STACK.shape)
    assert file.pixel_size == pytest.approx(0.325) and file.interval == 600
    assert file.channels == ("phase", "GFP")
    _check(file)
    _check(open_image(tmp_path / "x.zarr", channel="GFP"), 1)


def test_ome_zarr_in_nanometres_with_a_scale_for_all_levels(tmp_path):
    more = {"coordinateTransformations": [{"type": "scale", "scale": [0.5, 1, 1, 2000, 2000]}]}
    _ome_zarr(tmp_path / "x.zarr", 2, _units("nanometer"), **more)
    file = open_image(tmp_path / "x.zarr")
    assert file.pixel_size == pytest.approx(0.65) and file.interval == 300


def test_old_ome_zarr_with_names_only(tmp_path):
    _ome_zarr(tmp_path / "x.zarr", 2, list("tczyx"))
    file = open_image(tmp_path / "x.zarr")
    assert file.axes == "TCZYX" and file.pixel_size is None and file.interval is None
    _check(file)


@pytest.mark.parametrize("dimension_names", [None, ("t", "c", "z", "y", "x"), ("time", "c", "z", "y", "x")])
def test_plain_zarr(tmp_path, dimension_names):
    zarr = pytest.importorskip("zarr")
    zarr.create_array(tmp_path / "x.zarr", data=STACK, dimension_names=dimension_names)
    if dimension_names and dimension_names[0] == "t":
        _check(open_image(tmp_path / "x.zarr"))
    else:
        with pytest.raises(CorruptImageError, match="--axes TCZYX"):
            open_image(tmp_path / "x.zarr")
    _check(open_image(tmp_path / "x.zarr", axes="TCZYX"))


def test_large_zarr_stays_on_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(reader, "LARGE_IMAGE", 100)
    _ome_zarr(tmp_path / "x.zarr", 3, _units("micrometer"))
    frames = list(open_image(tmp_path / "x.zarr").frames())
    assert frames[4].pixels.shape == (30, 40, 2)
    assert (frames[4].pixels[5:21, 30:] == np.moveaxis(STACK[1, :, 1, 5:21, 30:], 0, 2)).all()


def test_a_damaged_chunk_names_its_frame(tmp_path):
    _ome_zarr(tmp_path / "x.zarr", 3, _units("micrometer"))
    (chunk,) = tmp_path.glob("x.zarr/0/c/2/0/1/0/0")
    chunk.write_bytes(chunk.read_bytes()[:20])
    with pytest.raises(CorruptImageError, match="frame t=2 z=1: "):
        list(open_image(tmp_path / "x.zarr").frames())


def test_a_group_of_images_says_what_to_give(tmp_path):
    zarr = pytest.importorskip("zarr")
    zarr.create_group(tmp_path / "x.zarr").create_group("A")
    with pytest.raises(CorruptImageError, match=r"the folder of one image in it \(A\)"):
        open_image(tmp_path / "x.zarr")
    zarr.create_group(tmp_path / "empty.zarr")
    with pytest.raises(CorruptImageError, match=r"\(nothing\)"):
        open_image(tmp_path / "empty.zarr")
