"""COCO ground truth and COCO results from JSON files to tables: typed, fast, with errors that name the entry."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np

from ..errors import DatasetError
from ..files import parse_json, read_bytes
from .pairing import pair_images
from .segmentations import RunLengths
from .tables import ImageTable, ObjectTable, image_table, object_table

__all__ = ["GroundTruth", "read_ground_truth", "read_results", "results_table"]

Id = int | str | float  # pandas writes 1.0 for 1
Category = Annotated[int, msgspec.Meta(ge=-(2**53), le=2**53)]
_NEEDS = {
    "annotations": "an annotation needs id, image_id, category_id, and a segmentation or bbox",
    "results": "a result needs image_id, category_id, score, and a segmentation or bbox",
}


class _Annotation(msgspec.Struct, gc=False):
    id: Id
    image_id: Id
    category_id: Category
    bbox: tuple[float, float, float, float] | None = None
    area: float | None = None
    iscrowd: int | bool | None = 0
    segmentation: msgspec.Raw = b""


class _Result(msgspec.Struct, gc=False):
    image_id: Id
    category_id: Category
    score: float
    mask_score: float | None = None
    bbox: tuple[float, float, float, float] | None = None
    segmentation: RunLengths | list[list[float]] | None = None


class _Truth(msgspec.Struct):
    images: list[dict[str, Any]] | dict[str, dict[str, Any]]
    annotations: list[_Annotation] | dict[str, _Annotation]
    categories: list[dict[str, Any]]


class _Results(msgspec.Struct):
    annotations: list[_Result]
    images: list[dict[str, Any]] | None = None


@dataclass(frozen=True)
class GroundTruth:
    """What results are scored against; ``categories`` are the ids that the file defines."""

    source: str
    images: ImageTable
    objects: ObjectTable
    categories: frozenset[int]


def read_ground_truth(path: str | Path) -> GroundTruth:
    """Read a COCO instance file (JSON, gzipped or not).

    ``annotations`` may be a list, or a dict of annotations as in some LIVECell files. Crowds are ignored as in
    pycocotools. An annotation without a usable outline stays: it is a cell that no mask can match.

    Raises:
        DatasetError: the file is damaged, no COCO data set, or has an entry that cannot be used; says which.
    """
    content = _decode(path, _Truth, "annotations")
    images = content.images if isinstance(content.images, list) else list(content.images.values())
    table = image_table(images, str(path))
    rows = content.annotations if isinstance(content.annotations, list) else list(content.annotations.values())
    ids = [row.id for row in rows]
    if len(set(ids)) < len(ids):
        doubled = Counter(ids).most_common(1)[0][0]
        raise DatasetError(f"{path}: annotation id {doubled!r} is used more than once; give every annotation its own")

    def where(n: int) -> str:
        return f"{path}: annotation {rows[n].id!r}"

    objects = object_table(
        table,
        where,
        image_ids=[row.image_id for row in rows],
        categories=[row.category_id for row in rows],
        boxes=[row.bbox for row in rows],
        segmentations=[row.segmentation for row in rows],
        areas=[row.area for row in rows],
        crowd=[bool(row.iscrowd) for row in rows],
    )
    categories = frozenset(c["id"] for c in content.categories if isinstance(c.get("id"), int))
    return GroundTruth(str(path), table, _noted(objects, str(path)), categories)


def _noted(objects: ObjectTable, source: str) -> ObjectTable:
    """The annotations with their source, and a note of those that no range of areas holds."""
    huge, notes = int((objects.areas > 1e10).sum()), objects.notes
    if huge:
        notes += (f"{huge} annotations have an area above 1e10 pixels and count nowhere, as in pycocotools",)
    return replace(objects, notes=notes, source=source)


def read_results(path: str | Path, truth: GroundTruth) -> ObjectTable:
    """Read a COCO result list (JSON, gzipped or not), or a data set whose ``annotations`` have scores.

    Rules: a data set with ``images``, as ``tools/predict.py`` writes it, has ids of its own, so that images are paired
    by file name (:func:`.pairing.pair_images`), and results on images that the ground truth lacks are left out; ids of
    results are ignored; a category that the ground truth lacks counts all the same, as the protocol is class-agnostic,
    and is noted; scores outside 0..1 rank as they are, and are noted.

    Raises:
        DatasetError: the file is damaged, or has an entry that cannot be used; says which.
    """
    content = _decode(path, list[_Result] | _Results, "results")
    if isinstance(content, list):
        return results_table(content, truth, str(path))
    if content.images is None:
        return results_table(content.annotations, truth, str(path))
    return _paired(content.annotations, content.images, truth, str(path))


def _paired(rows: list[_Result], images: list[dict[str, Any]], truth: GroundTruth, source: str) -> ObjectTable:
    """The table of a data set's results, on images with ids of their own."""
    paired, note = pair_images(images, truth.images.ids, truth.images.file_names, source)
    if images and not paired:
        raise DatasetError(
            f"{source}: none of its {len(images)} images is in {truth.source} by file name (first: "
            f"{images[0].get('file_name')!r}, there: {next(iter(truth.images.file_names), None)!r})"
        )
    known = {image.get("id") for image in images}
    strange = next((n for n, row in enumerate(rows) if row.image_id not in known), None)
    if strange is not None:
        raise DatasetError(f"{source}: annotations[{strange}]: there is no image with id {rows[strange].image_id!r}")
    kept = [row for row in rows if row.image_id in paired]
    for row in kept:
        row.image_id = paired[row.image_id]
    table = results_table(kept, truth, source)
    notes = table.notes + ((note,) if note else ())
    if len(paired) < len(images):
        notes += (
            f"{len(images) - len(paired)} images of {source} with {len(rows) - len(kept)} results are not in "
            f"{truth.source} and count nowhere",
        )
    if len(paired) < len(truth.images):
        notes += (f"{source} has no results of {len(truth.images) - len(paired)} images of {truth.source}",)
    return replace(table, notes=notes)


def results_table(rows: Sequence[Any], truth: GroundTruth, source: str) -> ObjectTable:
    """The table of results, each with the attributes (or, as a mapping, the keys) of a COCO result."""
    if rows and isinstance(rows[0], Mapping):
        rows = [_Result(**{key: row[key] for key in _Result.__struct_fields__ if key in row}) for row in rows]

    def where(n: int) -> str:
        return f"{source}: results[{n}] (image {rows[n].image_id!r})"

    table = object_table(
        truth.images,
        where,
        image_ids=[row.image_id for row in rows],
        categories=[row.category_id for row in rows],
        boxes=[row.bbox for row in rows],
        segmentations=[row.segmentation for row in rows],
        scores=[row.score for row in rows],
        mask_scores=[row.mask_score for row in rows],
    )
    notes = list(table.notes)
    if not rows and not truth.objects.crowd.all():
        notes.append(f"{source} has no results: AP, recall and F1 are 0")
    strange = np.flatnonzero(~np.isin(table.category, list(truth.categories)))
    if len(strange) and truth.categories:
        notes.append(
            f"{len(strange)} results have a category that {truth.source} lacks (first: {where(strange[0])} has "
            f"{rows[strange[0]].category_id}); they count, as the protocol does not look at categories"
        )
    extremes = np.minimum(table.scores, table.confidence), np.maximum(table.scores, table.confidence)
    outside = np.flatnonzero((extremes[0] < 0) | (extremes[1] > 1))
    if len(outside):
        notes.append(
            f"{len(outside)} scores lie outside 0..1 (first: {where(outside[0])} has {_outside(rows[outside[0]]):g}); "
            "they rank as they are, but a score threshold means something else for them"
        )
    return replace(table, notes=tuple(notes), source=source)


def _outside(row: _Result) -> float:
    """The score of a result that lies outside 0..1."""
    return row.score if not 0 <= row.score <= 1 else row.mask_score


def _decode(path: str | Path, kind: Any, table: str) -> Any:
    """The typed content of a JSON file."""
    raw = read_bytes(path)
    try:
        return msgspec.json.decode(raw.removeprefix(b"\xef\xbb\xbf"), type=kind)
    except msgspec.ValidationError as error:
        reason, _, place = str(error).partition(" - at `$")
        place = place.rstrip("`").lstrip(".")
        if not place:
            what = "a COCO data set" if table == "annotations" else "a list of COCO results"
            raise DatasetError(f"{path}: this is not {what}: {reason}") from None
        raise DatasetError(f"{path}: {table if place[0] == '[' else ''}{place}: {reason}; {_NEEDS[table]}") from None
    except RecursionError:
        raise DatasetError(f"{path}: lists in lists without end; this is no COCO file") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        _explain(path, parse_json(path, raw), table)
        raise DatasetError(f"{path}: not valid JSON: {error}") from None


def _explain(path: str | Path, content: Any, table: str) -> None:
    """Python reads NaN and Infinity, which JSON does not know: say which entry has them."""
    tables = content if isinstance(content, dict) else {table: content}
    for name, rows in tables.items():
        rows = rows.values() if isinstance(rows, dict) else rows if isinstance(rows, list) else ()
        for n, row in enumerate(rows):
            for key, value in row.items() if isinstance(row, dict) else ():
                if not _all_finite(value):
                    where = f"{name}[{n}] (image {row.get('image_id', row.get('id'))!r})"
                    shown = value if isinstance(value, float) or len(str(value)) < 60 else "numbers"
                    raise DatasetError(
                        f"{path}: {where} has {key} {shown}: NaN or infinite; the output was not finite there"
                    )


def _all_finite(value: Any) -> bool:
    """No number in nested lists and objects is NaN or infinite."""
    if isinstance(value, dict | list):
        return all(map(_all_finite, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, float) or math.isfinite(value)
