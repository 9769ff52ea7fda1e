"""The cell bank: all cells of a data set, cut out, and the backgrounds they stood on, in one indexed file.

The file is mapped, so that millions of cells cost the memory of those that are used, once for all processes. It is
[magic][patches and backgrounds][tables][JSON: sizes and images][8 bytes: where the tables begin].
"""

import json
import os
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...errors import DatasetError, MissingDataError
from .background import Background
from .cutout import Cutout

__all__ = ["BankImage", "BankWriter", "CellBank", "Origin"]

_MAGIC = b"cellseg_d2 cell bank 3\n".ljust(32, b"\0")
# offset: bytes; image: place in the bank's images; source: id of the annotation; category: contiguous class id; top,
# left, height, width: the patch in its image; scale: one step of its grey values; group: its number in the bank;
# towards, share: the annotation towards whose shape that of the cell was taken, and how far (0: it is its own); the
# rest as in Cutout
CELL = np.dtype(
    [("offset", "<i8"), ("source", "<i8"), ("towards", "<i8"), ("share", "<f4"), ("image", "<i4"), ("category", "<i4")]
    + [("top", "<i4"), ("left", "<i4")]
    + [("height", "<i4"), ("width", "<i4"), ("area", "<i4"), ("gap", "<f4"), ("contact", "<f4"), ("crowding", "<f4")]
    + [("group", "<i4"), ("outer_gap", "<f4"), ("outer_contact", "<f4"), ("overlapped", "<f4"), ("solidity", "<f4")]
    + [("contrast", "<f4"), ("noise", "<f4"), ("edge_noise", "<f4"), ("scale", "<f4"), ("at_border", "u1")]
    + [("usable", "u1")]
)
_MEASURED = (
    "top", "left", "area", "gap", "contact", "group", "outer_gap", "outer_contact", "crowding", "overlapped",
    "solidity", "contrast", "noise", "edge_noise", "at_border",
)  # fmt: skip
_STEPS = 32_000  # of the largest grey value of a cell
# Robust standard deviations of log area and of contrast within a cell type; dividing cells are bright, but still cells
OUTLIER_AREA, OUTLIER_CONTRAST = 5.0, 12.0
MOST_OVERLAPPED = 0.1  # share of a cell that others may claim


@dataclass(frozen=True)
class BankImage:
    """A source image.

    Attributes:
        file_name, image_id: as in the JSON.
        cell_type: lower case; empty where nobody says it.
        hours: since the first image; None where the name does not say it.
        height, width: in pixels.
        dtype: of the grey values.
        cells: number of annotated cells; ``confluence``: share of the image that they cover.
        level, noise: median and standard deviation of the background, 0 where none is to be seen.
        contrast: median contrast of the cells; ``area``: median pixels.
        free: share of the image that is background.
        background: byte at which the background is stored, -1 for none.
    """

    file_name: str
    image_id: int | str
    cell_type: str
    hours: float | None
    height: int
    width: int
    dtype: str
    cells: int
    confluence: float
    level: float
    noise: float
    contrast: float
    area: float
    free: float
    background: int = -1


class Origin(NamedTuple):
    """Which annotation (``source``, its id) of which class (``category``, contiguous) a cell was cut from; the rest as
    in the table of cells."""

    source: int
    category: int
    towards: int = 0
    share: float = 0.0


class CellBank:
    """A bank on disk, opened for reading; picklable, each process maps the file anew.

    Attributes:
        path: the file.
        cells: (N,) of :data:`CELL`, mapped.
        images: the source images.
        planes: all bytes as int16 and as int8, for compiled loops.
        categories: those of the JSON, sorted by id.
        info: what the bank was made of: ``json`` (SHA-256) and how many cells were left out for which reason.

    Raises:
        MissingDataError: no such file.
        DatasetError: not a bank, or cut off.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise MissingDataError(f"{path}: there is no such cell bank; make it with dataset.py bank")
        with open(path, "rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(0)
            magic = file.read(len(_MAGIC))
            if magic != _MAGIC or end < len(_MAGIC) + 16:
                raise DatasetError(f"{path}: this is not a cell bank, or not one of this version; make it again")
            file.seek(end - 16)
            tables, text = struct.unpack("<2q", file.read(16))
            try:
                file.seek(text)
                header = json.loads(file.read(end - 16 - text))
                self._bytes = np.memmap(path, np.uint8, "r")
                self.cells = np.frombuffer(self._bytes[:text], CELL, header["cells"], tables)
                self.images = [BankImage(**entry) for entry in header["images"]]
                self.categories: list[dict[str, Any]] = header["categories"]
                self.info: dict[str, Any] = header["info"]
                ends = self.cells["offset"] + 3 * self.cells["height"].astype(np.int64) * self.cells["width"]
                if (self.cells["offset"] < len(_MAGIC)).any() or (ends > tables).any():
                    raise ValueError("cells lie outside of the file")
            except (OSError, ValueError, TypeError, KeyError):
                raise DatasetError(f"{path}: this cell bank breaks off or is damaged; make it again") from None
        whole = self._bytes[: len(self._bytes) // 2 * 2]
        self.planes = whole.view(np.int16), whole.view(np.int8)

    def __getstate__(self) -> str:
        return str(self.path)

    def __setstate__(self, path: str) -> None:
        self.__init__(path)

    def patch(self, place: int) -> tuple[np.ndarray, np.ndarray]:
        """``delta`` (float32) and ``distance`` (int8, quarters of a pixel) of a cell, h x w; see :class:`.Cutout`."""
        cell = self.cells[place]
        shape = int(cell["height"]), int(cell["width"])
        size, offset = shape[0] * shape[1], int(cell["offset"])
        steps = np.frombuffer(self._bytes, np.int16, size, offset).reshape(shape)
        return cell["scale"] * steps, np.frombuffer(self._bytes, np.int8, size, offset + 2 * size).reshape(shape)

    def background(self, place: int) -> tuple[np.ndarray, np.ndarray]:
        """``smooth`` and ``residual`` of an image, H x W float32; see :class:`.Background`."""
        image = self.images[place]
        shape, size = (image.height, image.width), image.height * image.width
        smooth, residual = np.frombuffer(self._bytes, np.float32, 2 * size, image.background).reshape(2, *shape)
        return smooth, residual

    @property
    def cell_types(self) -> list[str]:
        """The cell types that have a usable cell, sorted."""
        found = np.unique(self.cells["image"][self.cells["usable"] == 1])
        return sorted({self.images[place].cell_type for place in found.tolist()})


class BankWriter:
    """Writes a bank image by image into a temporary file, which takes the bank's name when it is complete.

    Use it as a context; what raises in it leaves nothing behind.
    """

    def __init__(self, path: str | Path, categories: Sequence[dict], info: dict[str, Any]) -> None:
        self.path, self.categories, self.info = Path(path), list(categories), info
        self.images: list[BankImage] = []
        self._cells: list[np.ndarray] = []
        self._groups = 0

    def __enter__(self) -> "BankWriter":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._part = self.path.with_name(f".{self.path.name}.part")
        self._file = open(self._part, "wb")
        self._file.write(_MAGIC)
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        complete = False
        try:
            if kind is None:
                self._finish()
                complete = True
        finally:
            try:
                self._file.close()
            finally:
                if complete:
                    os.replace(self._part, self.path)
                else:
                    self._part.unlink(missing_ok=True)

    def add(
        self, image: BankImage, background: Background | None, cutouts: Sequence[Cutout], who: Sequence[Origin]
    ) -> None:
        """Add an image and its cells; ``who`` says where each comes from."""
        if background is not None:
            planes = np.stack([background.smooth, background.residual]).astype(np.float32)
            image = BankImage(**{**asdict(image), "background": self._file.tell()})
            self._file.write(planes.tobytes())
        rows = np.zeros(len(cutouts), CELL)
        for row, cutout, origin in zip(rows, cutouts, who, strict=True):
            for name in _MEASURED:
                row[name] = getattr(cutout, name)
            row["height"], row["width"] = cutout.delta.shape
            row["offset"] = self._file.tell()
            for name, value in origin._asdict().items():
                row[name] = value
            row["scale"] = max(float(np.abs(cutout.delta).max()), 1e-6) / _STEPS
            steps = np.rint(cutout.delta / row["scale"]).astype(np.int16)
            self._file.write(steps.tobytes() + cutout.distance.tobytes())
            self._file.write(b"\0" * (-self._file.tell() % 8))
        rows["image"] = len(self.images)
        rows["group"] += self._groups
        self._groups = int(rows["group"].max(initial=self._groups - 1)) + 1
        self.images.append(image)
        self._cells.append(rows)

    def close_tables(self) -> dict[str, int]:
        """Decide which cells are usable, once all are there; how many are not, for which (first) reason."""
        self._table = np.concatenate([np.zeros(0, CELL), *self._cells])
        types = np.array([image.cell_type for image in self.images] or [""])[self._table["image"]]
        self.info["left_out"] = _mark_usable(self._table, types)
        return self.info["left_out"]

    @property
    def usable(self) -> int:
        """Number of usable cells, after :meth:`close_tables`."""
        return int(self._table["usable"].sum())

    def _finish(self) -> None:
        """Write the tables."""
        tables = self._file.tell()
        self._file.write(self._table.tobytes())
        text = self._file.tell()
        header = {
            "cells": len(self._table), "images": [asdict(image) for image in self.images],
            "categories": self.categories, "info": self.info,
        }  # fmt: skip
        self._file.write(json.dumps(header).encode())
        self._file.write(struct.pack("<2q", tables, text))
        self._file.flush()
        os.fsync(self._file.fileno())


def _mark_usable(cells: np.ndarray, types: np.ndarray) -> dict[str, int]:
    """Set ``usable`` in place; how many cells are left out for which (first) reason."""
    odd = np.zeros(len(cells), bool)
    for cell_type in np.unique(types):
        own = types == cell_type
        for values, most in ((np.log(cells["area"][own]), OUTLIER_AREA), (cells["contrast"][own], OUTLIER_CONTRAST)):
            spread = 1.4826 * np.median(np.abs(values - np.median(values)))
            odd[own] |= np.abs(values - np.median(values)) > most * max(spread, 1e-3)
    reasons = {
        "at the border of the image": cells["at_border"] == 1,
        "overlapped by others": cells["overlapped"] > MOST_OVERLAPPED,
        "outliers in size or contrast": odd,
    }
    usable, counts = np.ones(len(cells), bool), {}
    for reason, found in reasons.items():
        counts[reason] = int((usable & found).sum())
        usable &= ~found
    cells["usable"] = usable
    return counts
