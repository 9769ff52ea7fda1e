"""Open images that are not TIFF: PNG, JPEG and BMP, Zarr and OME-Zarr, and microscopes' own formats through bioio."""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image

from ...data.image_io import read_raw
from ...errors import DatasetError
from .metadata import Source, micrometres, seconds

__all__ = ["BIOIO_READERS", "Positions", "open_bioio", "open_picture", "open_zarr", "optional"]

# The package of bioio that reads each of these formats
BIOIO_READERS = {".nd2": "bioio_nd2", ".czi": "bioio_czi", ".lif": "bioio_lif"}
_ZARR_FILES = ("zarr.json", ".zarray", ".zgroup")
_LYING = (5, 6, 7, 8)  # EXIF orientations with width and height exchanged
# What an ND2 file begins with, and what is at the end of a whole one, 8 bytes before the last
_ND2_BEGIN, _ND2_END = b"\xda\xce\xbe\n", b"ND2 CHUNK MAP SIGNATURE 0000001!"


def optional(package: str, path: Path) -> ModuleType:
    """Import a package that not every installation has.

    Raises:
        DatasetError: it is not installed; names the command that installs it.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise DatasetError(
            f"{path}: reading this file needs the package {error.name}; install it with: "
            f"pip install 'cellseg_d2[formats]'"
        ) from error


@dataclass(frozen=True)
class Positions:
    """Arrays of equal shape, one for each position of the stage, as one array with the positions in front."""

    arrays: Sequence[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of positions, then the shape of each."""
        return (len(self.arrays), *self.arrays[0].shape)

    @property
    def dtype(self) -> np.dtype:
        """Type of all."""
        return self.arrays[0].dtype

    def __getitem__(self, index: tuple) -> Any:
        """Region of one position: a position's number, then the index in its array."""
        return self.arrays[index[0]][index[1:]]

    @classmethod
    def joined(cls, arrays: Sequence[Any], axes: Sequence[str]) -> tuple[Any, str]:
        """One array and its axes: the only one as it is, several with P in front.

        Raises:
            ValueError: none, or arrays of different shapes, types or axes.
        """
        kinds = {(letters, tuple(array.shape), str(array.dtype)) for letters, array in zip(axes, arrays)}
        if len(kinds) > 1:
            shapes = ", ".join(f"{letters} {shape}" for letters, shape, _ in sorted(kinds))
            raise ValueError(f"{len(arrays)} images of different kinds in one file ({shapes}); save them one by one")
        if not kinds:
            raise ValueError("no image in the file")
        return (arrays[0], axes[0]) if len(arrays) == 1 else (cls(arrays), "P" + axes[0])


@dataclass(frozen=True)
class _Picture:
    """A PNG, JPEG or BMP that is decoded when it is indexed: its shape and type are those of its header."""

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype

    def __getitem__(self, index: tuple) -> np.ndarray:
        image = read_raw(self.path)
        if image.shape != self.shape:
            raise ValueError(f"decoded to shape {image.shape}, and its header says {self.shape}")
        return image[index]


def open_picture(path: Path) -> Source:
    """A PNG, JPEG, BMP or what else Pillow reads, of one frame."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            deep = image.mode.startswith("I;16") or image.format == "PNG" and _png_depth(path) == 16
            grey = image.mode.startswith(("I", "F")) or image.mode in ("1", "L", "LA")
            kind = {"I": np.int32, "F": np.float32}.get(image.mode, np.uint16 if deep else np.uint8)
            if image.getexif().get(274) in _LYING and not deep:
                width, height = height, width
    except Image.DecompressionBombError as error:
        raise ValueError(f"{error}; save an image of this size as tiled TIFF or OME-Zarr") from error
    shape, axes = ((height, width), "YX") if grey else ((height, width, 3), "YXS")
    return Source(_Picture(path, shape, np.dtype(kind)), axes)


def _png_depth(path: Path) -> int:
    """Bits of each sample of a PNG."""
    with path.open("rb") as file:
        return file.read(25)[24]


def open_zarr(path: Path) -> Source:
    """A Zarr array, or the full resolution of an OME-Zarr image.

    Raises:
        DatasetError: zarr is not installed.
        ValueError: neither of them; says what to give.
    """
    if not any((path / name).is_file() for name in _ZARR_FILES):
        raise ValueError("a folder that is not a Zarr; give the images in it")
    node = optional("zarr", path).open(path, mode="r")
    attributes = node.attrs.asdict()
    attributes = attributes.get("ome", attributes)
    if hasattr(node, "shape"):
        names = getattr(node.metadata, "dimension_names", None) or attributes.get("_ARRAY_DIMENSIONS")
        return Source(node, _zarr_axes(names, node.ndim))
    if not attributes.get("multiscales"):
        inside = ", ".join(sorted(node.keys())[:5]) or "nothing"
        raise ValueError(f"a Zarr group without an image of its own; give the folder of one image in it ({inside})")
    image = attributes["multiscales"][0]
    level = image["datasets"][0]
    array = node[level["path"]]
    axes = [axis if isinstance(axis, Mapping) else {"name": axis} for axis in image.get("axes") or "tczyx"]
    scale, units = np.ones(array.ndim), {axis["name"]: str(axis.get("unit", "")) for axis in axes}
    for change in [*image.get("coordinateTransformations", ()), *level.get("coordinateTransformations", ())]:
        scale = scale * change["scale"] if change["type"] == "scale" else scale
    scales = dict(zip(units, scale.tolist()))
    names = tuple(str(channel.get("label") or "") for channel in attributes.get("omero", {}).get("channels", ()))
    size, interval = (scales.get("x"), units.get("x", "")), (scales.get("t"), units.get("t", ""))
    return Source(array, _zarr_axes(list(units), array.ndim), names, micrometres(*size), seconds(*interval))


def _zarr_axes(names: Sequence[str | None] | None, number: int) -> str:
    """One letter an axis; Y and X are the last two where there are no names, and the others unknown."""
    if not names or any(name is None or len(name) != 1 for name in names):
        return "YX".rjust(number, "Q")
    return "".join(names).upper()


class _WithoutOme:
    """Makes bioio's reader of ND2 files leave out the metadata of all frames, which it collects for each position."""

    @property
    def ome_metadata(self) -> Any:
        """Not there, in the way in which bioio's readers say so."""
        raise NotImplementedError


def open_bioio(path: Path) -> Source:
    """An ND2, CZI or LIF file.

    Raises:
        DatasetError: bioio's package for the format is not installed.
        ValueError: scenes of different shapes, or an ND2 file that was cut off.
    """
    kind = path.suffix.lower()
    opened = optional(BIOIO_READERS[kind], path).Reader
    if kind == ".nd2":
        _check_whole_nd2(path)
        opened = type("Reader", (_WithoutOme, opened), {})
    names, scenes = opened(path).scenes, []
    for at, name in enumerate(names):
        reader = opened(path)  # each keeps its scene
        reader.set_scene(name if names.count(name) == 1 else at)  # positions may share a name
        scenes.append(reader)
    array, axes = Positions.joined([reader.dask_data for reader in scenes], [reader.dims.order for reader in scenes])
    first = scenes[0]
    names = tuple(str(name) for name in first.channel_names or ())
    known = {".nd2": _nd2_interval, ".lif": _lif_interval}.get(kind)
    interval = known(first) if known else first.time_interval
    interval = interval.total_seconds() if isinstance(interval, timedelta) else interval
    size = first.physical_pixel_sizes.X
    size = None if kind == ".nd2" and size == 1 else size  # what it says of images that are not calibrated
    return Source(array, axes, names, micrometres(size, "um"), seconds(interval, "s"))


def _check_whole_nd2(path: Path) -> None:
    """Raise a ValueError where an ND2 file has lost its end, which tells where its frames are."""
    with path.open("rb") as file:
        if file.read(4) == _ND2_BEGIN:
            file.seek(max(path.stat().st_size - 40, 0))
            if file.read(32) != _ND2_END:
                raise ValueError("cut off: the end of the file, which tells where its frames are, is not there")


def _nd2_interval(reader: Any) -> timedelta | float | None:
    """Median time from frame to frame as it was measured; the period that was asked for is often 0 or 1 ms."""
    times = {}
    for one in getattr(reader, "acquisition_times", None) or ():
        times.setdefault(one.get("T"), one["acquisition_time"])
    return median(b - a for a, b in pairwise(times.values())) if len(times) > 1 else reader.time_interval


def _lif_interval(reader: Any) -> float | None:
    """Seconds from frame to frame of a LIF file, which bioio has as coordinates of its axis T only."""
    times = reader.xarray_dask_data.coords.get("T", ())
    return float(times[1] - times[0]) if len(times) > 1 else None
