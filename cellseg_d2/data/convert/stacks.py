"""Multi-page TIFFs: label stacks and image stacks of T or Z, one frame a page."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import tifffile

from ...errors import DatasetError
from ..image_io import CorruptImageError, read_raw

__all__ = ["Stack", "frame_size", "open_stack", "page_name"]

# Axes along which a stack may run: time, depth, and what tifffile calls a series of pages without a name
_AXES = "TZIQ"


@dataclass(frozen=True)
class Stack:
    """The pages of a stack: N x H x W or N x H x W x 3 ``pages``, and ``axis``, ``"z"`` for depth, else ``"t"``."""

    pages: np.ndarray
    axis: str


def open_stack(path: Path) -> Stack | None:
    """The stack in a TIFF; None for other files, for a single frame, and for pages that do not run along one axis.

    Raises:
        DatasetError: channels instead of frames, or a damaged file.
    """
    if path.suffix.lower() not in (".tif", ".tiff"):
        return None
    status = path.stat()
    return _read_stack(path, status.st_mtime_ns, status.st_size)


def page_name(path: Path, page: int) -> str:
    """The file name of a page: ``film.tif`` -> ``film_t004.tif``."""
    stack = open_stack(path)
    assert stack is not None
    digits = max(3, len(str(len(stack.pages) - 1)))
    return f"{path.stem}_{stack.axis}{page:0{digits}d}.tif"


def frame_size(path: Path) -> tuple[int, int]:
    """Height and width of an image of one frame.

    Raises:
        DatasetError: several frames or a damaged file.
    """
    try:
        height, width = read_raw(path).shape[:2]
    except CorruptImageError as error:
        raise DatasetError(str(error)) from error
    return height, width


@lru_cache(maxsize=2)  # a stack and its labels: their pages are asked for one by one
def _read_stack(path: Path, modified: int, size: int) -> Stack | None:
    """See open_stack; ``modified`` and ``size`` tell a file from an older one of its name."""
    try:
        with tifffile.TiffFile(path) as tif:
            series = tif.series[0]
            kept = [axis for axis, size in zip(series.axes, series.shape) if size > 1 or axis in "YXS"]
            axes = "".join(kept)
            if len(tif.series) > 1 or axes[1:] not in ("YX", "YXS") or axes[0] not in _AXES + "C":
                return None
            if axes[0] == "C":
                raise DatasetError(
                    f"{path}: a TIFF of {series.shape[series.axes.index('C')]} channels, not of frames; save the one "
                    f"channel that the annotations belong to"
                )
            shape = [size for axis, size in zip(series.axes, series.shape) if size > 1 or axis in "YXS"]
            pages = series.asarray(maxworkers=1).reshape(shape)
            if series.pages[0].photometric == tifffile.PHOTOMETRIC.MINISWHITE and pages.dtype.kind == "u":
                pages = np.iinfo(pages.dtype).max - pages
    except (DatasetError, OSError):
        raise
    except Exception as error:  # the decoder raises anything from struct.error to KeyError on damaged files
        raise DatasetError(f"{path}: not a readable TIFF ({error}, {type(error).__name__})") from error
    pages = pages[..., :3] if pages.ndim == 4 and pages.shape[-1] > 3 else pages
    return Stack(pages.astype(pages.dtype.newbyteorder("="), copy=False), "z" if axes[0] == "Z" else "t")
