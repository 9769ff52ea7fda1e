"""Large COCO files by an index of their annotations instead of a million dicts: read once, opened at once afterwards.

The polygons stay in the JSON, which the file system keeps in memory for all processes together; an annotation is read
from there when its image is used.
"""

import codecs
import json
import logging
import mmap
import os
import time
import weakref
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import msgspec
import numpy as np

from ...errors import DatasetError
from ..coco_loops import COLUMNS, UNSURE
from ..coco_scan import scan_coco
from . import index_file
from .coco_json import (
    Categories,
    CocoFile,
    check_tables,
    clean_annotation,
    image_record,
    read_coco,
    require_known,
    require_unique,
)
from .index_file import ROW, CachedIndex, Stamp

__all__ = ["AnnotationIndex", "IndexedCoco", "open_coco"]

logger = logging.getLogger(__name__)

SMALL = 16 << 20  # bytes; such a file is read whole in about a second, so that it needs no cache beside it
_CHUNK = 1 << 20
_opened: dict[Path, tuple[Stamp, "IndexedCoco"]] = {}


class AnnotationIndex:
    """Where the annotations of each image stand in a JSON; pickled, it opens and maps its files again.

    Args:
        path: the JSON.
        stamp: of the JSON when the table was made or checked.
        cached: its table.
        images: number of images.
    """

    def __init__(self, path: Path, stamp: Stamp, cached: CachedIndex, images: int) -> None:
        self.path, self.stamp, self.rows, self._file = path, stamp, cached.rows, cached.file
        self._first = np.searchsorted(self.rows["image"], np.arange(images + 1))
        self._open()

    def __getstate__(self) -> dict:
        state = {key: value for key, value in self.__dict__.items() if key != "_descriptor"}
        return state if self._file is None else {**state, "rows": len(self.rows)}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._open()
        if self._file is not None:
            self.rows = index_file.map_rows(self._file, state["rows"])

    def of_image(self, place: int) -> np.ndarray:
        """The rows of one image, in the order of the file."""
        return self.rows[self._first[place] : self._first[place + 1]]

    def annotations(self, rows: np.ndarray) -> list[dict]:
        """The annotations of these rows as they stand in the JSON.

        Raises:
            DatasetError: the JSON was changed since it was opened, or is damaged there.
        """
        self._require_unchanged()
        texts = [self.read(start, start + length) for start, length in rows[["start", "length"]].tolist()]
        try:
            return msgspec.json.decode(b"[" + b",".join(texts) + b"]")
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise DatasetError(
                f"{self.path}: not a valid JSON file, it is damaged between bytes {rows['start'].min()} and "
                f"{(rows['start'] + rows['length']).max()} ({error}); copy or export it again"
            ) from None

    def read(self, begin: int, end: int) -> bytes:
        """Bytes of the JSON."""
        text = os.pread(self._descriptor, end - begin, begin)
        if len(text) != end - begin:
            raise DatasetError(f"{self.path} has become shorter since it was opened; start again")
        return text

    def _open(self) -> None:
        """Open the JSON, which stays the same one for this process even where another one takes its name."""
        self._descriptor = os.open(self.path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._descriptor)
        self._require_unchanged()

    def _require_unchanged(self) -> None:
        """Else annotations would be read at places that are no longer theirs."""
        now = Stamp.of(self._descriptor)
        if (now.size, now.modified) != (self.stamp.size, self.stamp.modified):
            raise DatasetError(f"{self.path} was changed since it was first opened; start again")


@dataclass(frozen=True)
class IndexedCoco(Categories):
    """A checked COCO file whose annotations stay where they are; ``categories`` are sorted by id."""

    path: Path
    images: list[dict]
    index: AnnotationIndex
    categories: list[dict]


def open_coco(path: str | Path) -> CocoFile | IndexedCoco:
    """A COCO instance JSON: small ones read whole, large ones by their index, which this process keeps.

    A gzipped file, and one that the index does not cover (ids that are text or fractions, coordinates that are NaN),
    is read whole, too, whatever its size.

    Raises:
        MissingDataError, DatasetError: see :func:`.coco_json.read_coco`.
    """
    path = Path(path)
    if not path.is_file() or path.stat().st_size < SMALL:
        return read_coco(path)
    key = Path(os.path.abspath(path))
    stamp, coco = _opened.get(key, (None, None))
    if stamp != Stamp.of(path):
        coco = _indexed(path)
        if coco is None:
            logger.info("%s is gzipped or has entries out of the ordinary: read whole, which takes longer", path)
            return read_coco(path)
        _opened[key] = (coco.index.stamp, coco)
    return coco


def _indexed(path: Path) -> IndexedCoco | None:
    """The file by its index, from the cache or made now; None where it has to be read whole."""
    with open(path, "rb") as stream:
        stamp, read_at = Stamp.of(stream.fileno()), time.time_ns()
        cached = index_file.read_index(path, stream)
        if cached is None:
            with ThreadPoolExecutor(1) as beside:  # neither of the two holds Python's lock for long
                summed = beside.submit(index_file.checksum, stream)
                found = _build(path, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
            value, is_ascii = summed.result()
            if found is None or not (is_ascii or _is_text(stream)):
                return None
            if Stamp.of(stream.fileno()) != stamp:
                raise DatasetError(f"{path} was changed while it was being read; wait until it is complete")
            cached = index_file.write_index(path, stamp, read_at, value, *found)
        tables = _tables(path, lambda begin, end: os.pread(stream.fileno(), end - begin, begin), cached.places)
    if tables is None:
        return None
    images, categories = tables
    return IndexedCoco(path, images, AnnotationIndex(path, stamp, cached, len(images)), categories)


def _tables(
    path: Path, read: Callable[[int, int], bytes], places: dict[str, tuple[int, int]]
) -> tuple[list[dict], list[dict]] | None:
    """Images and categories, checked, the latter sorted by id; None where their ids are not integers."""
    try:
        tables = [msgspec.json.decode(read(*places[key])) for key in ("images", "categories")]
    except (KeyError, msgspec.DecodeError, UnicodeDecodeError):
        return None
    images, categories = (list(table.values()) if isinstance(table, dict) else table for table in tables)
    if not isinstance(images, list) or not isinstance(categories, list):
        return None
    check_tables(path, images, categories)
    if not all(type(entry["id"]) is int and abs(entry["id"]) < 2**62 for entry in (*images, *categories)):
        return None
    return images, sorted(categories, key=lambda category: category["id"])


def _build(path: Path, mapped: mmap.mmap) -> tuple[np.ndarray, dict[str, tuple[int, int]]] | None:
    """The table of a JSON's annotations, checked, and the places of its other tables; None where it is to be read
    whole, which gives the reason where it cannot be used."""

    def let_go(place: int) -> None:  # or the whole file counts as this process's memory
        mapped.madvise(mmap.MADV_DONTNEED, 0, place // mmap.PAGESIZE * mmap.PAGESIZE)

    found = scan_coco(np.frombuffer(mapped, np.uint8), let_go)
    tables = found and _tables(path, lambda begin, end: mapped[begin:end], found[1])
    if tables is None:
        return None
    scanned, (images, categories) = found[0], tables
    ids = scanned[:, COLUMNS.index("id")].copy()
    if not (ids[1:] > ids[:-1]).all():  # mostly they ascend, which spares the sort
        ids.sort()
    if (ids[1:] == ids[:-1]).any():
        require_unique(path, "annotations", scanned[:, COLUMNS.index("id")].tolist())
    rows = np.empty(len(scanned), ROW)
    rows["image"] = _places_of(path, scanned, "image_id", images)
    rows["category"] = _places_of(path, scanned, "category_id", categories)
    lengths, dropped = scanned[:, 4] - scanned[:, 3], scanned[:, 7]
    if max(lengths.max(initial=0) >> 31, dropped.max(initial=0) >> 16):
        return None
    rows["start"], rows["length"], rows["dropped"] = scanned[:, 3], lengths, dropped
    rows["iscrowd"], rows["outline"] = scanned[:, 5], scanned[:, 6]
    if not _look_at_unsure(path, mapped, images, rows):
        return None
    places = {key: found[1][key] for key in ("images", "categories")}
    in_order = (np.diff(rows["image"]) >= 0).all()
    return rows if in_order else rows[np.argsort(rows["image"], kind="stable")], places


def _places_of(path: Path, scanned: np.ndarray, key: str, table: list[dict]) -> np.ndarray:
    """(N,) place in a table of the entry that each annotation names by its id."""
    wanted = scanned[:, COLUMNS.index(key)]
    begins = np.flatnonzero(np.diff(wanted, prepend=wanted[:1] - 1))  # files name one image many times in a row
    values = wanted[begins]
    ids = np.array([entry["id"] for entry in table], dtype=np.int64)
    order = np.argsort(ids)
    ranks = np.searchsorted(ids, values, sorter=order)
    known = ranks < len(ids)
    known[known] = ids[order[ranks[known]]] == values[known]
    lengths = np.diff(begins, append=len(wanted))
    if not known.all():
        known = known.repeat(lengths)
        wrong = [
            {"id": annotation, key: value}
            for annotation, value in zip(scanned[~known, 0].tolist(), wanted[~known].tolist())
        ]
        require_known(path, wrong, key, set())
    return order[ranks].repeat(lengths)


def _look_at_unsure(path: Path, mapped: mmap.mmap, images: list[dict], rows: np.ndarray) -> bool:
    """Settle, in place, which annotations that the scan left open have a valid outline; False: damaged JSON."""
    for place in np.flatnonzero(rows["outline"] == UNSURE):
        start, length, image = (int(rows[name][place]) for name in ("start", "length", "image"))
        try:
            source = json.loads(mapped[start : start + length])
        except ValueError:
            return False
        left_out: Counter = Counter()
        record = image_record(path, images[image], images[image]["file_name"])
        rows["outline"][place] = clean_annotation(path, source, record, left_out) is not None
        rows["dropped"][place] = left_out["polygons"]
    return True


def _is_text(stream: IO[bytes]) -> bool:
    """The file is UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    stream.seek(0)
    try:
        while chunk := stream.read(_CHUNK):
            decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True
