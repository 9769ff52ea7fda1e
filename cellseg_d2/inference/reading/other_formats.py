"""Open images that are not TIFF: PNG, JPEG and BMP, Zarr and OME-Zarr."""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
from PIL import Image

from ...data.image_io import read_raw
from ...errors import DatasetError
from .metadata import Source, micrometres, seconds

__all__ = ["open_picture", "open_zarr", "optional"]

_ZARR_FILES = ("zarr.json", ".zarray", ".zgroup")
_LYING = (5, 6, 7, 8)  # EXIF orientations with width and height exchanged


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
