"""The parts of a run as one COCO file and one table of all cells, and the record of how they were made."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ...files import sha256, write_json
from ..measures.cells import measure_columns
from ..records import FrameCells
from ..writers import CocoWriter, TableWriter
from .outputs import COCO, CSV, OF_FILE, PARQUET, SUMMARY, OutputOptions, stem_of
from .parts import Job, Part, read_part

__all__ = ["collect", "image_entry", "parts_of", "write_summary"]


def parts_of(jobs: Iterable[Job], output: Path) -> Iterator[Part]:
    """The parts that are there, one at a time."""
    for job in jobs:
        part = read_part(output, job)
        if part is not None:
            yield part


def collect(jobs: Sequence[Job], options: OutputOptions) -> dict[str, str]:
    """Write ``cells.json``, ``cells.csv`` and ``cells.parquet`` of all parts that are there, as far as they are saved.

    There is no table where no image could be used, as its columns are those of the images' channels. One part is in
    memory at a time, so that a run may have any number of images.

    Returns:
        The SHA-256 of each file that was written, by name.
    """
    output, save = options.folder, options.save
    columns: dict[str, str] = {}
    used: list[Job] = []
    classes: tuple[str, ...] = ()
    for part in parts_of(jobs, output):
        used += [] if part.error else [part.job]
        classes = max([classes, *(result.classes for result in part.results)], key=len)
        for result, table in zip(part.results, part.tables, strict=True):
            found = measure_columns([result.frame], "track_id" in table.columns)
            columns |= {name: kind for name, kind in found.items() if name not in columns}
    tables = [output / name if kind in save and used else None for kind, name in (("csv", CSV), ("parquet", PARQUET))]
    for name in () if used else (CSV, PARQUET):
        (output / name).unlink(missing_ok=True)  # of an earlier run
    shared = Counter(job.path.name for job in used)
    with ExitStack() as stack:
        coco = stack.enter_context(CocoWriter(output / COCO, classes or ("cell",))) if "coco" in save else None
        table = stack.enter_context(TableWriter(*tables, columns)) if any(tables) else None
        for part in parts_of(used, output):
            name = part.job.path.name if shared[part.job.path.name] == 1 else part.job.path.as_posix()
            for result, rows in zip(part.results, part.tables, strict=True):
                if coco:
                    coco.add(image_entry(result, part.job, name, options), _labelled(result.cells))
                if table:
                    table.add(rows)
    written = [COCO] * ("coco" in save) + [path.name for path in tables if path]
    return {name: sha256(output / name) for name in written}


def _labelled(cells: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Cells with ``label``, their value in the label image and ``id`` in the tables."""
    return [{"label": number, **cell} for number, cell in enumerate(cells, start=1)]


def image_entry(result: FrameCells, job: Job, file_name: str, options: OutputOptions) -> dict[str, Any]:
    """COCO's entry of a frame; of a stack's frame with a name of its own, ``source`` is the stack."""
    frame = result.frame
    height, width = frame.size
    entry: dict[str, Any] = {"file_name": file_name, "height": height, "width": width}
    if frame.place:
        entry |= {"file_name": f"{frame.name}.tif", "source": file_name, **frame.place}
    if "labels" in options.save:
        folder, suffix, _ = OF_FILE["labels"]
        entry["labels"] = f"{folder}/{stem_of(frame, job.name)}{suffix}"
    calibration = {"pixel_size_um": frame.pixel_size, "interval_s": frame.interval}
    return entry | {key: value for key, value in calibration.items() if value is not None}


def write_summary(
    jobs: Sequence[Job],
    output: Path,
    made_by: str,
    files: Mapping[str, str],
    run: Mapping[str, Any],
    failed: Sequence[Part] = (),
) -> Path:
    """Write ``run.json``: how the run was made, each image, each failure.

    Args:
        made_by: of this run; images of an earlier one with other options, which this one did not come to, are marked.
        files: of :func:`collect`.
        run: what else it says: versions, model, options.
        failed: files that could not be used in this run; results of an earlier one may have stayed.
    """
    images, errors = [], {}
    for part in parts_of(jobs, output):
        file = str(part.job.path.resolve())
        if part.error:
            errors[part.job] = part.error
            continue
        entry = {
            "file": file, "name": part.job.name, "read": part.understood, "frames": len(part.results),
            "cells": part.cells, "seconds": part.seconds.get("all", 0.0), "steps": dict(part.seconds),
        }  # fmt: skip
        notes = list(part.notes)
        entry |= ({"notes": notes} if notes else {}) | ({} if part.made_by == made_by else {"earlier_run": True})
        images.append(entry)
    errors |= {part.job: part.error for part in failed}
    failures = [{"file": str(job.path.resolve()), "name": job.name, "error": why} for job, why in errors.items()]
    content = {**run, "outputs": dict(files), "images": images, "failures": failures}
    return write_json(output / SUMMARY, content, indent=1)
