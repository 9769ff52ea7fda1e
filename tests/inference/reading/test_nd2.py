"""ND2 files, written here as the microscopes' software writes them: chunks of metadata and of pictures, then a map."""

import struct
import zlib

import numpy as np
import pytest

from cellseg_d2.data.image_io import CorruptImageError
from cellseg_d2.inference.reading import reader
from cellseg_d2.inference.reading.reader import open_image

from .test_other_formats import STACK, _check

pytest.importorskip("bioio_nd2")

BLOCK = 4096
NUMBERS = {bool: (b"\x01", "<?"), int: (b"\x03", "<I"), float: (b"\x06", "<d")}


def _item(name, value) -> bytes:
    """A named value: its type, the length of its name, both; a dict or list ends with the places of what is in it."""
    title = f"{name}\0".encode("utf-16-le") if name else b""
    title = bytes([len(title) // 2]) + title
    if isinstance(value, str):
        return b"\x08" + title + f"{value}\0".encode("utf-16-le")
    if not isinstance(value, dict | list):
        kind, layout = NUMBERS[type(value)]
        return kind + title + struct.pack(layout, value)
    inside, places, start = b"", [], 13 + len(title)
    for key, one in value.items() if isinstance(value, dict) else [("", one) for one in value]:
        places.append((key, start + len(inside)))
        inside += _item(key, one)
    head = b"\x0b" + title + struct.pack("<IQ", len(value), start + len(inside))
    return head + inside + b"".join(struct.pack("<Q", place) for _, place in sorted(places))


def _chunk(name, data, room=None) -> bytes:
    """Whole blocks of a header, a name and data; the name has room so that the data end with a block."""
    room = len(name) + -(16 + len(name) + len(data)) % BLOCK if room is None else room
    chunk = struct.pack("<IIQ", 0x0ABECEDA, room, len(data)) + name.ljust(room, b"\0") + data
    return chunk + bytes(-len(chunk) % BLOCK)


def _experiment(loops) -> dict:
    """Loops of an experiment, each inside the one before it."""
    (kind, about), *inner = loops
    below = {"ppNextLevelEx": [_experiment(inner)]} if inner else {}
    return {"eType": kind, "uLoopPars": about, "uiNextLevelCount": len(below)} | below


def _metadata(frames, names, period, pixel_size, packed) -> dict:
    """Chunks about (T, P, Z, Y, X, C) frames."""
    times, _, depths, height, width, channels = frames.shape
    film = {"uiCount": times, "dStart": 0.0, "dPeriod": period, "dDuration": period * times, "dAvgPeriodDiff": 0.0}
    stage = {"uiCount": len(names), "Points": [{"dPosX": 900.0 * at, "dPosName": p} for at, p in enumerate(names)]}
    depth = {"uiCount": depths, "dZLow": -2.0, "dZHome": 0.0, "dZHigh": 2.0, "dZStep": 2.0, "iType": 2}
    text = f"Dimensions: T({times}) x " + f"XY({len(names)}) x " * bool(names) + f"Z({depths})\r\n"
    planes = {
        f"a{at}": {"uiCompCount": 1, "uiSampleIndex": at, "pFluorescentProbe": {"m_sName": ""}, "sDescription": name}
        for at, name in enumerate(("phase", "GFP"))
    }
    picture = {"dTimeMSec": 0.0, "dTimeAbsolute": 2459000.5, "dXPos": 0.0, "dYPos": 0.0, "dZPos": 0.0}
    picture |= {"sPicturePlanes": {"uiCount": channels, "uiCompCount": channels, "sPlaneNew": planes}}
    picture |= {"dCalibration": pixel_size or -1.0, "dAspect": 1.0, "bCalibrated": pixel_size is not None}
    sizes = {"uiWidth": width, "uiWidthBytes": 2 * width * channels, "uiHeight": height, "uiComp": channels}
    sizes |= {"uiBpcInMemory": 16, "uiBpcSignificant": 16, "uiSequenceCount": frames[..., 0, 0, 0].size}
    sizes |= {"eCompression": 0 if packed else 2, "dCompressionParam": 0.0, "ePixelType": 1}
    return {
        "ImageMetadataLV!": _item("SLxExperiment", _experiment([(1, film), *[(2, stage)] * bool(names), (4, depth)])),
        "ImageMetadataSeqLV|0!": _item("SLxPictureMetadata", picture),
        "ImageTextInfoLV!": _item("SLxImageTextInfo", {"TextInfoItem_5": text}),
        "ImageAttributesLV!": _item("SLxImageAttributes", sizes),
    }


def _nd2(path, stacks=(STACK,), names=(), period=600e3, taken=600e3, pixel_size=0.65, packed=False) -> None:
    """An ND2 file of a stack for each named position; frames were to come each ``period`` ms and did each ``taken``."""
    frames = np.moveaxis(np.stack(stacks, 1), 2, -1)
    flat = frames.reshape(-1, *frames.shape[3:])
    clock = 50.0 + taken * (np.arange(len(flat)) * len(frames) // len(flat))
    chunks = _metadata(frames, names, period, pixel_size, packed) | {"CustomData|AcqTimesCache!": clock.tobytes()}
    for at, frame in enumerate(flat):
        chunks[f"ImageDataSeq|{at}!"] = clock[at].tobytes() + (zlib.compress(frame) if packed else frame.tobytes())
    file, places = _chunk(b"ND2 FILE SIGNATURE CHUNK NAME01!", b"Ver3.0".ljust(64, b"\0"), 32), b""
    for name, data in chunks.items():
        places += name.encode() + struct.pack("<QQ", len(file), len(data))
        file += _chunk(name.encode(), data, BLOCK - 24 if name.startswith("ImageDataSeq") else None)
    end = b"ND2 CHUNK MAP SIGNATURE 0000001!" + struct.pack("<Q", len(file))
    room = bytes(-(48 + len(places) + 2 * len(end)) % BLOCK)
    path.write_bytes(file + _chunk(b"ND2 FILEMAP SIGNATURE NAME 0001!", places + end + room + end, 32))


@pytest.mark.parametrize("packed", [False, True])
def test_nd2(tmp_path, packed):
    _nd2(tmp_path / "x.nd2", packed=packed)
    file = open_image(tmp_path / "x.nd2")
    assert (file.axes, file.shape) == ("TZCYX", (4, 3, 2, 30, 40)) and file.channels == ("phase", "GFP")
    assert file.pixel_size == pytest.approx(0.65) and file.interval == pytest.approx(600)
    _check(file)
    _check(open_image(tmp_path / "x.nd2", channel="GFP"), 1)


@pytest.mark.parametrize("names", [("left", "right"), ("", ""), ("cells", "cells")])
def test_positions(tmp_path, monkeypatch, names):
    monkeypatch.setattr("nd2.ND2File.ome_metadata", None)  # of all frames, for each position
    stacks = (STACK, STACK + np.uint16(1))
    _nd2(tmp_path / "x.nd2", stacks, names)
    file = open_image(tmp_path / "x.nd2", channel="GFP")
    assert (file.axes, len(file), file.interval) == ("PTZCYX", 24, pytest.approx(600))
    for frame in file.frames():
        assert (frame.pixels == stacks[frame.place["p"]][frame.place["t"], 1, frame.place["z"]]).all()


@pytest.mark.parametrize("period", [0.0, 1.0])
def test_the_interval_is_the_measured_one_and_no_calibration_no_pixel_size(tmp_path, period):
    _nd2(tmp_path / "x.nd2", period=period, taken=5e3, pixel_size=None)
    file = open_image(tmp_path / "x.nd2")
    assert file.interval == pytest.approx(5, rel=1e-4) and file.pixel_size is None


def test_frames_are_read_one_by_one(tmp_path, monkeypatch):
    nd2 = pytest.importorskip("nd2")
    read, seen = nd2.ND2File.read_frame, []
    monkeypatch.setattr(nd2.ND2File, "read_frame", lambda self, at: seen.append(at) or read(self, at))
    _nd2(tmp_path / "x.nd2")
    frames = open_image(tmp_path / "x.nd2").frames()
    assert not seen and next(frames).place == {"t": 0, "z": 0} and seen == [0]
    monkeypatch.setattr(reader, "LARGE_IMAGE", 100)
    large = next(frames).pixels
    assert seen == [0] and (large[5:21, 30:] == np.moveaxis(STACK[0, :, 1, 5:21, 30:], 0, 2)).all() and seen == [0, 1]


@pytest.mark.parametrize("part", [0.001, 0.5, 0.9999])
def test_cut_off(tmp_path, part):
    _nd2(tmp_path / "x.nd2")
    whole = (tmp_path / "x.nd2").read_bytes()
    (tmp_path / "x.nd2").write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(CorruptImageError, match="x.nd2: cut off: "):
        open_image(tmp_path / "x.nd2")


def test_a_damaged_frame_is_named(tmp_path):
    _nd2(tmp_path / "x.nd2", packed=True)
    content = (tmp_path / "x.nd2").read_bytes()
    at = content.index(b"ImageDataSeq|7!") - 16 + BLOCK
    (tmp_path / "x.nd2").write_bytes(content[:at] + bytes(20) + content[at + 20 :])
    with pytest.raises(CorruptImageError, match="x.nd2: frame t=2 z=1: "):
        list(open_image(tmp_path / "x.nd2").frames())
