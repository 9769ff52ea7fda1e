"""Sequences of Detectron2's dataset dicts: lists of small data sets; large ones make a dict when it is used."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import accumulate
from operator import index

import numpy as np
from detectron2.data import DatasetFromList
from detectron2.data.build import filter_images_with_only_crowd_annotations

from .coco_json import CocoFile, check_outlines, clean_annotation, image_record, to_dataset_dicts
from .columns import AnnotationIndex, IndexedCoco

__all__ = [
    "JoinedRecords",
    "LazyRecords",
    "class_ids",
    "dataset_dicts",
    "has_cells",
    "heads",
    "join",
    "shared",
    "with_cells",
    "without_annotations",
]


class LazyRecords(Sequence):
    """Dataset dicts whose annotations are read from their JSON when an item is asked for.

    Each item is a new dict that equals the one of :func:`.coco_json.to_dataset_dicts`. A worker process shares the
    table of annotations with all others, whether it was forked or started anew.

    Args:
        annotations: the JSON's index.
        heads: the records without annotations.
        places: place of each record's image in the JSON.
    """

    def __init__(self, annotations: AnnotationIndex, heads: list[dict], places: np.ndarray) -> None:
        self.index, self.heads, self.places = annotations, heads, places

    def __len__(self) -> int:
        return len(self.heads)

    def __getitem__(self, place: int | slice) -> dict | list[dict]:
        if isinstance(place, slice):
            return [self[k] for k in range(*place.indices(len(self)))]
        head, rows = self.heads[index(place)], self.index.of_image(self.places[index(place)])
        rows = rows[rows["outline"] != 0]
        annotations = []
        for source, category in zip(self.index.annotations(rows), rows["category"].tolist(), strict=True):
            annotation = clean_annotation(self.index.path, source, head, Counter())
            annotation["category_id"] = category
            annotations.append(annotation)
        return {**head, "annotations": annotations}

    def cells(self) -> np.ndarray:
        """(R,) annotations of each record that are no crowds."""
        rows = self.index.rows
        chosen = (rows["outline"] != 0) & (rows["iscrowd"] == 0)
        return np.bincount(rows["image"][chosen], minlength=self.places.max(initial=-1) + 1)[self.places]

    def rows(self) -> np.ndarray:
        """The table's rows of all records."""
        rows = self.index.rows
        chosen = np.zeros(rows["image"].max(initial=-1) + 1, dtype=bool)
        chosen[self.places[self.places < len(chosen)]] = True
        return rows if chosen.all() else rows[chosen[rows["image"]]]

    def chosen(self, wanted: np.ndarray) -> "LazyRecords":
        """The records of a (R,) bool array."""
        heads = [self.heads[k] for k in np.flatnonzero(wanted)]
        return LazyRecords(self.index, heads, self.places[wanted])


class JoinedRecords(Sequence):
    """Several sequences of dataset dicts, one after the other."""

    def __init__(self, parts: Sequence[Sequence[dict]]) -> None:
        self.parts = list(parts)
        self.ends = list(accumulate(map(len, self.parts)))

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, place: int) -> dict:
        place = range(len(self))[index(place)]
        part = bisect_right(self.ends, place)
        return self.parts[part][place - self.ends[part] + len(self.parts[part])]


def dataset_dicts(
    coco: CocoFile | IndexedCoco, locate: Callable[[str], str | None]
) -> tuple[list[dict] | LazyRecords, int]:
    """The dataset dicts of the images that ``locate`` finds, and how much was left out, see
    :func:`.coco_json.to_dataset_dicts`; those of an index are read when they are used."""
    if isinstance(coco, CocoFile):
        return to_dataset_dicts(coco, locate)
    found = [(place, image, locate(image["file_name"])) for place, image in enumerate(coco.images)]
    found = [(place, image, file) for place, image, file in found if file is not None]
    heads = [image_record(coco.path, image, file) for _, image, file in found]
    for head in heads:
        del head["annotations"]
    records = LazyRecords(coco.index, heads, np.array([place for place, _, _ in found], dtype=np.int64))
    rows = records.rows()
    annotations, polygons = int((rows["outline"] == 0).sum()), int(rows["dropped"].sum())
    check_outlines(coco.path, annotations, polygons, annotations < len(rows))
    return records, annotations + polygons


def heads(records: Sequence[dict]) -> Sequence[dict]:
    """The records, those of large data sets without their annotations; their dicts may be added to."""
    if isinstance(records, JoinedRecords):
        return [head for part in records.parts for head in heads(part)]
    return records.heads if isinstance(records, LazyRecords) else records


def class_ids(records: Sequence[dict]) -> set[int]:
    """The contiguous class ids of all annotations."""
    if isinstance(records, LazyRecords):
        rows = records.rows()
        return set(np.flatnonzero(np.bincount(rows["category"][rows["outline"] != 0])).tolist())
    return {annotation["category_id"] for record in records for annotation in record.get("annotations", ())}


def has_cells(records: Sequence[dict]) -> bool:
    """Any image has an annotation which is no crowd."""
    if isinstance(records, JoinedRecords):
        return any(map(has_cells, records.parts))
    if isinstance(records, LazyRecords):
        return bool(records.cells().any())
    return any(not annotation.get("iscrowd", 0) for record in records for annotation in record["annotations"])


def with_cells(records: Sequence[dict]) -> Sequence[dict]:
    """The records that have an annotation which is no crowd."""
    if isinstance(records, LazyRecords):
        return records.chosen(records.cells() > 0)
    return filter_images_with_only_crowd_annotations(records)


def without_annotations(records: Sequence[dict]) -> list[dict]:
    """The records with empty lists of annotations."""
    return [{**head, "annotations": []} for head in heads(records)]


def join(parts: Sequence[Sequence[dict]]) -> Sequence[dict]:
    """The records of several data sets as one sequence: a list where all of them are lists."""
    if not any(isinstance(part, LazyRecords) for part in parts):
        return [record for part in parts for record in part]
    return parts[0] if len(parts) == 1 else JoinedRecords(parts)


def shared(records: Sequence[dict]) -> Sequence[dict]:
    """The records in a form that worker processes share instead of copying: bytes in one array, or lazy ones."""
    if isinstance(records, JoinedRecords):
        return JoinedRecords([shared(part) for part in records.parts])
    return records if isinstance(records, LazyRecords) else DatasetFromList(list(records), copy=False, serialize=True)
