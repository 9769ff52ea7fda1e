"""The tables that scoring works on: images, annotated objects, predicted objects. Columns, no row objects."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any

import numpy as np

from ..errors import DatasetError
from ..run_lengths import Runs
from .segmentations import to_runs

__all__ = ["ImageTable", "ObjectTable", "image_table", "object_table"]


@dataclass(frozen=True)
class ImageTable:
    """I images, ascending by id (pycocotools' order).

    Attributes:
        ids: as in the ground truth.
        file_names: as in the ground truth.
        heights, widths: (I,) int64 pixels.
        columns: further keys of the images' entries -> I values (None where an entry lacks the key).
    """

    ids: list
    file_names: list[str]
    heights: np.ndarray
    widths: np.ndarray
    columns: Mapping[str, list]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class ObjectTable:
    """N annotated or predicted objects, in the order of their file.

    Attributes:
        image: (N,) int64 places in the image table.
        category: (N,) int64 category ids.
        boxes: (N, 4) float64 x, y, width, height in pixels; the mask's box where none was given.
        areas: (N,) float64 annotated areas in pixels; NaN where none was given.
        crowd: (N,) bool.
        scores: (N,) float64; NaN for annotations.
        mask_scores: (N,) float64; NaN where there is none.
        masks: empty where an object has none; None where no object has one.
        notes: what a reader of the scores should know of these objects, in words.
        source: the file or data set they come from.
    """

    image: np.ndarray
    category: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    crowd: np.ndarray
    scores: np.ndarray
    mask_scores: np.ndarray
    masks: Runs | None
    notes: tuple[str, ...] = ()
    source: str = ""

    def __len__(self) -> int:
        return len(self.image)

    @property
    def confidence(self) -> np.ndarray:
        """(N,) float64: ``mask_score`` where there is one, else ``score``: what a score threshold is compared with."""
        return np.where(np.isnan(self.mask_scores), self.scores, self.mask_scores)


def image_table(entries: Sequence[Mapping[str, Any]], source: str) -> ImageTable:
    """The table of COCO's image entries (each with ``id``, ``file_name``, ``height``, ``width``).

    Raises:
        DatasetError: an entry lacks a key or has an impossible size, ids are doubled or cannot be sorted.
    """
    for index, entry in enumerate(entries):
        missing = [key for key in ("id", "file_name", "height", "width") if key not in entry]
        if missing:
            raise DatasetError(f"{source}: images[{index}] has no {', '.join(map(repr, missing))}")
        for key in ("height", "width"):
            if not isinstance(entry[key], int | float) or not 1 <= entry[key] < 2**31 or entry[key] != int(entry[key]):
                raise DatasetError(f"{source}: image {entry['file_name']} has {key} {entry[key]!r}")
        if entry["height"] * entry["width"] >= 2**31:
            raise DatasetError(f"{source}: image {entry['file_name']} has 2^31 pixels or more: cut it into tiles")
        if not isinstance(entry["id"], int | float | str):
            raise DatasetError(f"{source}: images[{index}] has id {entry['id']!r}; use a number or text")
    ids = [entry["id"] for entry in entries]
    if len(set(ids)) < len(ids):
        doubled = Counter(ids).most_common(1)[0][0]
        raise DatasetError(f"{source}: image id {doubled!r} is used more than once; give every image its own id")
    if len({isinstance(i, str) for i in ids}) > 1:
        raise DatasetError(f"{source}: some image ids are numbers and some are text; use one kind")
    entries = sorted(entries, key=lambda entry: entry["id"])
    keys = {key for entry in entries for key in entry} - {"id", "file_name", "height", "width"}
    return ImageTable(
        [entry["id"] for entry in entries],
        [str(entry["file_name"]) for entry in entries],
        np.array([entry["height"] for entry in entries], dtype=np.int64),
        np.array([entry["width"] for entry in entries], dtype=np.int64),
        {key: [entry.get(key) for entry in entries] for key in sorted(keys)},
    )


def object_table(
    images: ImageTable,
    where: Callable[[int], str],
    *,
    image_ids: Sequence,
    categories: Sequence[int],
    boxes: Sequence[Sequence[float] | None],
    segmentations: Sequence,
    areas: Sequence[float | None] | None = None,
    crowd: Sequence[bool] | None = None,
    scores: Sequence[float] | None = None,
    mask_scores: Sequence[float | None] | None = None,
) -> ObjectTable:
    """The table of N annotations or results; ``where(n)`` names the n-th in messages.

    Raises:
        DatasetError: an object's image is unknown, its mask is damaged or of another size than its image, it has
            neither box nor mask, or a score or box is not a finite number.
    """
    known = {image_id: place for place, image_id in enumerate(images.ids)}
    image = np.fromiter(map(known.get, image_ids, repeat(-1)), np.int64, len(image_ids))
    for n in np.flatnonzero(image < 0)[:1]:
        raise DatasetError(
            f"{where(n)}: there is no image with id {image_ids[n]!r} in the ground truth "
            f"({int((image < 0).sum())} of {len(image)} objects are on unknown images); "
            "score results against the annotation file that they were made for"
        )
    columns = {"score": _floats(scores, len(image)), "mask_score": _floats(mask_scores, len(image))}
    given = {"score": scores, "mask_score": mask_scores}
    for name, values in columns.items():
        for n in np.flatnonzero(~np.isfinite(values)):
            if given[name] is not None and given[name][n] is not None:
                raise DatasetError(f"{where(n)} has {name} {values[n]}; scores must be finite numbers")
    masks, has_mask, notes = to_runs(segmentations, images.heights[image], images.widths[image], where)
    table_areas = _floats(areas, len(image))
    for n in np.flatnonzero(table_areas < 0)[:1]:
        raise DatasetError(f"{where(n)} has area {table_areas[n]:g}; areas cannot be negative")
    no_box = np.array([box is None for box in boxes], dtype=bool)
    if no_box.any():
        boxes = [(np.nan,) * 4 if box is None else box for box in boxes]
    table_boxes = np.fromiter(chain.from_iterable(boxes), np.float64, 4 * len(boxes)).reshape(-1, 4)
    for n in np.flatnonzero(no_box & ~has_mask)[:1]:
        raise DatasetError(f"{where(n)} has neither a 'bbox' nor a 'segmentation'")
    for n in np.flatnonzero(~np.isfinite(table_boxes).all(axis=1) & ~no_box)[:1]:
        raise DatasetError(f"{where(n)} has bbox {boxes[n]}; boxes must be finite numbers")
    if no_box.any():
        table_boxes[no_box] = masks.boxes(images.heights[image])[no_box]
    return ObjectTable(
        image,
        np.asarray(categories, dtype=np.int64),
        table_boxes,
        table_areas,
        np.zeros(len(image), bool) if crowd is None else np.asarray(crowd, dtype=bool),
        columns["score"],
        columns["mask_score"],
        masks if has_mask.any() or not len(image) else None,
        notes,
    )


def _floats(values: Sequence[float | None] | None, count: int) -> np.ndarray:
    """(N,) float64; None is NaN."""
    return np.full(count, np.nan) if values is None else np.array(values, dtype=np.float64)
