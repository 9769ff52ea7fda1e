"""Files that are written once: what is there already is never replaced by something else."""

from collections.abc import Callable, Iterable
from io import BytesIO
from pathlib import Path, PurePosixPath

import numpy as np
import tifffile

from ...errors import DatasetError
from ...files import atomic_write
from .records import Picture

__all__ = ["place_of", "tiff_bytes", "write_each", "write_once"]


def write_once(path: Path, content: bytes) -> Path:
    """Write a file, atomically; one that is there with the same content stays, so that a broken-off run goes on.

    Raises:
        DatasetError: there is such a file with another content.
    """
    if path.exists():
        if path.is_file() and path.read_bytes() == content:
            return path
        raise DatasetError(f"{path} is there already, with another content; remove it or give another --output")
    return atomic_write(path, lambda stream: stream.write(content))


def write_each(pictures: Iterable[Picture], folder: Path, suffix: str, encode: Callable[[Picture, Path], bytes]) -> int:
    """Write one file an image, in the sub-folders of the images; ``encode`` gets its place. Returns how many."""
    count = 0
    for picture in pictures:
        path = folder / place_of(picture.file_name, suffix)
        write_once(path, encode(picture, path))
        count += 1
    return count


def place_of(file_name: str, suffix: str) -> PurePosixPath:
    """The relative path of an image's file: ``val/a.png`` -> ``val/a.tif``, ``../b/c.png`` -> ``b/c.tif``."""
    parts = PurePosixPath(file_name.replace("\\", "/")).parts
    inside = [part for part in parts if part not in ("..", "/") and not part.endswith(":")]
    return PurePosixPath(*inside).with_suffix(suffix)


def tiff_bytes(image: np.ndarray) -> bytes:
    """A TIFF of one frame, H x W or H x W x 3 (RGB), zlib-compressed; the same bytes each time."""
    content = BytesIO()
    photometric = "rgb" if image.ndim == 3 else "minisblack"
    tifffile.imwrite(content, image, compression="zlib", photometric=photometric, metadata=None)
    return content.getvalue()
