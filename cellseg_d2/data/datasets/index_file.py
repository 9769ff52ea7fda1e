"""The file beside a large COCO JSON that saves reading it again: where each annotation stands, as one mapped table.

A cache belongs to one content of the JSON. It is taken as it is while size, inode and times of the JSON are those it
was made for (a write sets the time of change, which no program can set back), else while the content's checksum is.
"""

import json
import logging
import os
import time
import zlib
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import IO

import numpy as np

from ...files import atomic_write

__all__ = ["ROW", "CachedIndex", "Stamp", "checksum", "map_rows", "read_index", "write_index"]

logger = logging.getLogger(__name__)

# start and length: bytes of the annotation in the JSON; image: place in its table; category: contiguous class id;
# dropped: polygons of fewer than three points; outline: there is a valid one
ROW = np.dtype(
    [("start", "<i8"), ("length", "<i4"), ("image", "<i4"), ("category", "<i4"), ("dropped", "<u2")]
    + [("iscrowd", "u1"), ("outline", "u1")]
)
_SUFFIX = ".cellseg-cache"
_MAGIC = "cellseg_d2 annotation index 1"
_HEADER = 4096  # bytes, so that the table begins with a page
_RACE = 2_000_000_000  # ns; a file may change twice within one tick of a coarse clock
_CHUNK = 1 << 18


@dataclass(frozen=True)
class Stamp:
    """What the file system says of a file; times in nanoseconds."""

    size: int
    inode: int
    modified: int
    changed: int

    @classmethod
    def of(cls, place: Path | int) -> "Stamp":
        """Of a path or an open file."""
        found = os.stat(place)
        return cls(found.st_size, found.st_ino, found.st_mtime_ns, found.st_ctime_ns)

    def settled(self, now: int) -> bool:
        """The file had been left alone for a while at ``now``, so that a later change shows in its times."""
        return now - max(self.modified, self.changed) > _RACE


@dataclass(frozen=True)
class CachedIndex:
    """The content of a cache.

    Attributes:
        rows: (N,) of :data:`ROW`, sorted by image, mapped from ``file`` or in memory.
        places: first byte, and byte after the last, of the JSON's ``images`` and ``categories``.
        file: the cache, or None where none could be written.
    """

    rows: np.ndarray
    places: dict[str, tuple[int, int]]
    file: Path | None = None


def checksum(stream: IO[bytes]) -> tuple[int, bool]:
    """CRC-32 of a file from its beginning, and whether the file is ASCII.

    It takes a quarter of the time of any of hashlib's, and no one attacks a cache.
    """
    value, is_ascii = 0, True
    stream.seek(0)
    while chunk := stream.read(_CHUNK):
        value, is_ascii = zlib.crc32(chunk, value), is_ascii and chunk.isascii()
    return value, is_ascii


def read_index(path: Path, stream: IO[bytes]) -> CachedIndex | None:
    """The cache of a JSON, or None where there is none, it is damaged, or was made for another content.

    Args:
        path: the JSON.
        stream: the JSON, open for reading.
    """
    stamp, value = Stamp.of(stream.fileno()), None
    for place in _places(path):
        try:
            with open(place, "rb") as file:
                header = json.loads(file.read(_HEADER).rstrip(b"\0"))
            rows = _rows(place, header)
            made_for, places = Stamp(**header["stamp"]), {key: tuple(ends) for key, ends in header["places"].items()}
            trusted = made_for == stamp and stamp.settled(header["read_at"])
            expected = header["checksum"]
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            logger.info("%s is damaged or no cache and will be made again (%s)", place, error)
            continue
        if made_for.size != stamp.size:
            continue
        if not trusted:
            read_at = time.time_ns()
            value = checksum(stream)[0] if value is None else value
            if value != expected:
                continue
            _write(place, stamp, read_at, value, rows, places)  # may fail: then the checksum is asked again
        return CachedIndex(rows, places, place)
    return None


def map_rows(place: Path, count: int) -> np.ndarray:
    """The table of a cache file that is known to be sound, mapped: all processes share one copy of it."""
    return np.memmap(place, ROW, "r", _HEADER, (count,)) if count else np.empty(0, ROW)


def write_index(
    path: Path, stamp: Stamp, read_at: int, value: int, rows: np.ndarray, places: dict[str, tuple[int, int]]
) -> CachedIndex:
    """Write the cache beside the JSON, else into the user's cache folder, and map it.

    Args:
        path: the JSON.
        stamp: of the JSON.
        read_at: when reading it began, in nanoseconds.
        value: its checksum.
        rows, places: see :class:`CachedIndex`.
    """
    for place in _places(path):
        if _write(place, stamp, read_at, value, rows, places):
            return CachedIndex(map_rows(place, len(rows)), places, place)
    logger.info("%s: no cache could be written beside it or in %s, so it is read anew each time", path, _user_folder())
    return CachedIndex(rows, places)


def _write(
    place: Path, stamp: Stamp, read_at: int, value: int, rows: np.ndarray, places: dict[str, tuple[int, int]]
) -> bool:
    """Write one cache; False where that is not possible."""
    content = rows.tobytes()
    header = {
        "magic": _MAGIC, "stamp": asdict(stamp), "read_at": read_at, "checksum": value, "places": places,
        "rows": len(rows), "rows_checksum": zlib.crc32(content),
    }  # fmt: skip
    text = json.dumps(header).encode()
    if len(text) > _HEADER:
        return False
    try:
        atomic_write(place, lambda stream: stream.writelines([text.ljust(_HEADER, b"\0"), content]))
    except OSError:
        return False
    return True


def _rows(place: Path, header: dict) -> np.ndarray:
    """The table of a cache file, mapped.

    Raises:
        ValueError: the file is not what its header says.
    """
    if header["magic"] != _MAGIC:
        raise ValueError(f"it is of another version: {header['magic']}")
    if place.stat().st_size != _HEADER + header["rows"] * ROW.itemsize:
        raise ValueError("it breaks off")
    rows = map_rows(place, header["rows"])
    if zlib.crc32(rows) != header["rows_checksum"]:
        raise ValueError("its checksum is wrong")
    return rows


def _places(path: Path) -> list[Path]:
    """Where the cache of a JSON may be: beside it, or in the user's cache folder."""
    path = Path(os.path.abspath(path))
    unique = blake2b(os.fsencode(path), digest_size=8).hexdigest()
    own = _user_folder()
    return [path.with_name(path.name + _SUFFIX), *([own / f"{path.name}.{unique}{_SUFFIX}"] if own else [])]


def _user_folder() -> Path | None:
    """The user's folder for caches of this package; None for a user without a home, as containers have."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "cellseg_d2"
    except RuntimeError:
        return None
