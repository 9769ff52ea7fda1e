"""What became of one image file, as a file of its own: a run that breaks off loses no other, and goes on from there."""

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ...files import finite_or_none, read_json, write_json
from ..records import Frame, FrameCells

__all__ = ["FOLDER", "Blank", "Job", "Part", "digest", "read_part", "write_part"]

logger = logging.getLogger(__name__)

FOLDER = "parts"
VERSION = 1


@dataclass(frozen=True)
class Job:
    """An image file, and the name of its outputs."""

    path: Path
    name: str

    @property
    def stamp(self) -> list[int]:
        """Size in bytes and time of the last change in nanoseconds, by which another content is told."""
        files = [path for path in self.path.rglob("*") if path.is_file()] if self.path.is_dir() else [self.path]
        found = [path.stat() for path in files]
        return [sum(status.st_size for status in found), max((status.st_mtime_ns for status in found), default=0)]


@dataclass(frozen=True)
class Blank:
    """Pixels that were let go: shape and type only."""

    shape: tuple[int, ...]
    dtype: np.dtype

    def __getitem__(self, region: Any) -> np.ndarray:
        """Raise RuntimeError."""
        raise RuntimeError("the pixels of this frame were let go; open its file again")


@dataclass(frozen=True)
class Part:
    """What became of one file.

    Attributes:
        job: the file.
        made_by: :func:`digest` of model and options.
        understood: what was read, in a line.
        results: the cells of its frames, without pixels.
        tables: the measurements of each frame's cells.
        error: why there are none; "" where there are.
        seconds: spent on each step.
        stamp: of the file when it was read.
    """

    job: Job
    made_by: str
    understood: str = ""
    results: Sequence[FrameCells] = ()
    tables: Sequence[pd.DataFrame] = ()
    error: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)
    stamp: Sequence[int] = ()

    @property
    def cells(self) -> int:
        """Number of cells in all frames."""
        return sum(len(result.cells) for result in self.results)

    @property
    def notes(self) -> Iterator[str]:
        """What a user should know, with the frame."""
        for result in self.results:
            yield from (f"{result.frame.name}: {note}" for note in result.notes)


def digest(value: Any) -> str:
    """Of whatever decides on results, as text: the same for equal values.

    >>> digest({"tile": "auto"}) == digest({"tile": "auto"}), digest({"tile": "auto"}) == digest({"tile": 512})
    (True, False)
    """
    return hashlib.blake2b(repr(value).encode(), digest_size=16).hexdigest()


def write_part(output: Path, part: Part) -> Path:
    """Write a part, atomically."""
    frames = [
        {
            "name": result.frame.name, "size": list(result.frame.pixels.shape), "dtype": str(result.frame.pixels.dtype),
            "place": dict(result.frame.place), "channels": list(result.frame.channels),
            "pixel_size": result.frame.pixel_size, "interval": result.frame.interval,
            "classes": list(result.classes), "notes": list(result.notes), "cells": list(result.cells),
            "types": {name: str(kind) for name, kind in table.dtypes.items()}, "columns": table.to_dict("list"),
        }
        for result, table in zip(part.results, part.tables, strict=True)
    ]  # fmt: skip
    content = {
        "version": VERSION, "file": str(part.job.path.resolve()), "name": part.job.name, "made_by": part.made_by,
        "stamp": list(part.stamp), "understood": part.understood, "error": part.error, "seconds": dict(part.seconds),
        "frames": frames,
    }  # fmt: skip
    return write_json(_place(output, part.job), finite_or_none(content))


def read_part(output: Path, job: Job) -> Part | None:
    """The part of a file; None where there is none, it is damaged (logged), or of another file or version."""
    place = _place(output, job)
    if not place.is_file():
        return None
    try:
        content = read_json(place)
        if content["version"] != VERSION or Path(content["file"]) != job.path.resolve():
            return None
        pairs = [_frame(entry, job.path) for entry in content["frames"]]
        return Part(
            job, content["made_by"], content["understood"], [r for r, _ in pairs], [t for _, t in pairs],
            content["error"], content["seconds"], content["stamp"],
        )  # fmt: skip
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        logger.warning("%s is damaged and counts as not there: %s", place, error)
        return None


def _frame(entry: Mapping[str, Any], path: Path) -> tuple[FrameCells, pd.DataFrame]:
    pixels = Blank(tuple(entry["size"]), np.dtype(entry["dtype"]))
    calibration = entry["pixel_size"], entry["interval"]
    frame = Frame(path, entry["name"], pixels, entry["place"], tuple(entry["channels"]), *calibration)
    table = pd.DataFrame(entry["columns"], columns=list(entry["types"])).astype(entry["types"])
    return FrameCells(frame, entry["cells"], tuple(entry["classes"]), notes=tuple(entry["notes"])), table


def _place(output: Path, job: Job) -> Path:
    return output / FOLDER / f"{job.name}.json"
