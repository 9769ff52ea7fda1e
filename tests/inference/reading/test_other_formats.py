"""Zarr, OME-Zarr and microscopes' own formats for prediction."""

import importlib
import struct
import sys
from datetime import timedelta
from types import SimpleNamespace

import numpy as np
import pytest

from cellseg_d2.data.image_io import CorruptImageError
from cellseg_d2.errors import DatasetError
from cellseg_d2.inference.reading import other_formats, reader
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


def _czi(path) -> None:
    czi = pytest.importorskip("pylibCZIrw.czi")
    pytest.importorskip("bioio_czi")
    with czi.create_czi(str(path)) as writer:
        for place in np.ndindex(STACK.shape[:3]):
            writer.write(data=STACK[place][:, :, None], plane=dict(zip("TCZ", place)))
        names = {0: "phase", 1: "GFP"}
        writer.write_metadata(document_name="x", channel_names=names, scale_x=0.65e-6, scale_y=0.65e-6)


def test_czi(tmp_path):
    _czi(tmp_path / "x.czi")
    file = open_image(tmp_path / "x.czi")
    assert file.axes == "TCZYX" and file.channels == ("phase", "GFP")
    assert file.pixel_size == pytest.approx(0.65) and file.interval is None
    _check(file)
    _check(open_image(tmp_path / "x.czi", channel=1), 1)


def _lif(path) -> None:
    """A Leica file of STACK: a header in XML, then the planes by time, depth and channel."""
    times, channels, depths, height, width = STACK.shape
    row, plane = 2 * width, 2 * width * height
    about = "".join(
        f'<ChannelDescription Resolution="16" LUTName="{name}" IsLUTInverted="0" BytesInc="{plane * c}" DataType="0" '
        'ChannelTag="0" Min="0" Max="65535" Unit="" NameOfMeasuredQuantity="" BitInc="0"/>'
        for c, name in enumerate(("phase", "GFP"))
    )
    axes = [(width, 0.65e-6, 2, "m"), (height, 0.65e-6, row, "m"), (depths, 2e-6, plane * channels, "m")]
    axes.append((times, 600, plane * channels * depths, "s"))
    sides = "".join(
        f'<DimensionDescription DimID="{k}" NumberOfElements="{count}" Origin="0" Length="{(count - 1) * step}" '
        f'Unit="{unit}" BitInc="0" BytesInc="{bytes_}"/>'
        for k, (count, step, bytes_, unit) in enumerate(axes, 1)
    )
    xml = (
        '<LMSDataContainerHeader Version="2"><Element Name="x.lif"><Memory Size="0" MemoryBlockID="M0"/><Children>'
        f'<Element Name="film"><Data><Image TextDescription=""><ImageDescription><Channels>{about}</Channels>'
        f"<Dimensions>{sides}</Dimensions></ImageDescription></Image></Data>"
        f'<Memory Size="{STACK.nbytes}" MemoryBlockID="M1"/></Element></Children></Element></LMSDataContainerHeader>'
    )
    text, name = xml.encode("utf-16-le"), "M1".encode("utf-16-le")
    head = struct.pack("<IIBI", 0x70, 5 + len(text), 0x2A, len(xml)) + text
    block = struct.pack("<IIBQBI", 0x70, 14 + len(name), 0x2A, STACK.nbytes, 0x2A, len(name) // 2) + name
    path.write_bytes(head + block + STACK.transpose(0, 2, 1, 3, 4).tobytes())


def test_lif(tmp_path):
    pytest.importorskip("bioio_lif")
    _lif(tmp_path / "x.lif")
    file = open_image(tmp_path / "x.lif")
    assert file.axes == "TCZYX" and file.channels == ("phase", "GFP")
    assert file.pixel_size == pytest.approx(0.65) and file.interval == pytest.approx(600)
    _check(file)
    _check(open_image(tmp_path / "x.lif", channel="GFP"), 1)


@pytest.mark.parametrize("suffix", list(other_formats.BIOIO_READERS))
def test_damaged_microscope_files(tmp_path, suffix):
    pytest.importorskip(other_formats.BIOIO_READERS[suffix])
    (tmp_path / f"x{suffix}").write_bytes(b"no such file" * 100)
    with pytest.raises(CorruptImageError, match=f"x{suffix}: "):
        open_image(tmp_path / f"x{suffix}")
    with pytest.raises(FileNotFoundError):
        open_image(tmp_path / f"none{suffix}")


@pytest.mark.parametrize("suffix", list(other_formats.BIOIO_READERS))
def test_a_missing_package_is_named(tmp_path, monkeypatch, suffix):
    monkeypatch.setitem(sys.modules, other_formats.BIOIO_READERS[suffix], None)
    (tmp_path / f"x{suffix}").write_bytes(b"x")
    with pytest.raises(DatasetError, match=r"x\.\w+: .*bioio_\w+; .*pip install 'cellseg_d2\[formats\]'"):
        open_image(tmp_path / f"x{suffix}")


class _Reader:
    """What bioio's readers have in common, of one scene or of two, in place of files that only microscopes write."""

    scenes, dims = ("one",), SimpleNamespace(order="TCZYX")
    channel_names, physical_pixel_sizes, time_interval = ["phase", "GFP"], SimpleNamespace(X=0.2), None

    def __init__(self, path):
        self.dask_data = STACK

    def set_scene(self, scene):
        self.dask_data = STACK + np.uint16(self.scenes.index(scene))


def _stand_in(monkeypatch, path, **attributes) -> None:
    stand_in = SimpleNamespace(Reader=type("Reader", (_Reader,), attributes))
    monkeypatch.setattr(importlib, "import_module", lambda name: {"bioio_nd2": stand_in}[name])
    path.write_bytes(b"nd2")


@pytest.mark.parametrize(("interval", "expected"), [(timedelta(minutes=5), 300), (2.5, 2.5), (None, None), (0, None)])
def test_what_bioio_says_of_a_film(tmp_path, monkeypatch, interval, expected):
    _stand_in(monkeypatch, tmp_path / "x.nd2", time_interval=interval)
    file = open_image(tmp_path / "x.nd2")
    assert file.pixel_size == 0.2 and file.interval == expected and file.channels == ("phase", "GFP")
    _check(file)


def test_scenes_are_positions(tmp_path, monkeypatch):
    _stand_in(monkeypatch, tmp_path / "x.nd2", scenes=("one", "two"))
    file = open_image(tmp_path / "x.nd2", channel="GFP")
    assert file.axes == "PTCZYX" and len(file) == 24
    for frame in file.frames():
        assert (frame.pixels == STACK[frame.place["t"], 1, frame.place["z"]] + frame.place["p"]).all()
