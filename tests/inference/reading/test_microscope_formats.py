"""Microscopes' own formats for prediction, read through bioio."""

import importlib
import struct
import sys
from datetime import timedelta
from types import SimpleNamespace

import numpy as np
import pytest

from cellseg_d2.data.image_io import CorruptImageError
from cellseg_d2.errors import DatasetError
from cellseg_d2.inference.reading import microscope_formats
from cellseg_d2.inference.reading.reader import open_image

from .test_other_formats import STACK, _check


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


@pytest.mark.parametrize("suffix", list(microscope_formats.BIOIO_READERS))
def test_damaged_microscope_files(tmp_path, suffix):
    pytest.importorskip(microscope_formats.BIOIO_READERS[suffix])
    (tmp_path / f"x{suffix}").write_bytes(b"no such file" * 100)
    with pytest.raises(CorruptImageError, match=f"x{suffix}: "):
        open_image(tmp_path / f"x{suffix}")
    with pytest.raises(FileNotFoundError):
        open_image(tmp_path / f"none{suffix}")


@pytest.mark.parametrize("suffix", list(microscope_formats.BIOIO_READERS))
def test_a_missing_package_is_named(tmp_path, monkeypatch, suffix):
    monkeypatch.setitem(sys.modules, microscope_formats.BIOIO_READERS[suffix], None)
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
        self.dask_data = STACK + np.uint16(scene)


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
