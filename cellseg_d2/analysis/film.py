"""The cells of a film: mask, place, track and time of each one, from a COCO JSON."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as mask_util

from ..data.datasets.coco_json import CocoFile, check_outlines, clean_annotation, image_record, read_coco
from ..data.rle import as_rle, decode_columns
from ..errors import DatasetError
from .time_axis import time_axis

__all__ = ["AREA_LEAST", "Cell", "Film", "Track", "read_film"]

logger = logging.getLogger(__name__)

AREA_LEAST = 30  # pixels; the outline of a smaller cell is mostly the pixel grid
Track = Callable[[Iterable[Any]], Iterable[Any]]


@dataclass(frozen=True)
class Cell:
    """One cell in one image.

    Attributes:
        image: place in :attr:`Film.images`.
        cell: id of the annotation.
        track: number of the cell over time, 0 to tracks - 1.
        mask: (h, w) bool, the smallest window of its largest piece (pixels that touch at a corner are one), holes
            filled: the shape is that of one closed outline.
        left, top: upper left pixel of the window in the image.
    """

    image: int
    cell: Any
    track: int
    mask: np.ndarray
    left: int
    top: int


@dataclass(frozen=True)
class Film:
    """All cells of a data set in time.

    Attributes:
        path: the JSON.
        images: its image entries.
        times: (I,) float64, time of each image in ``unit``.
        unit: "hours" or "frames".
        source: where the times come from, in words.
        cells: in order of their images' times.
        tracks: name of each track, of the track key or, without tracks, of the annotation.
        tracked: cells are followed over time; False: every cell is a track of its own.
        counts: (I,) int64, annotated cells of each image, also those that are too small for a shape.
        left_out: cells that are too small for a shape.
    """

    path: Path
    images: list[dict]
    times: np.ndarray
    unit: str
    source: str
    cells: list[Cell]
    tracks: list[Any]
    tracked: bool
    counts: np.ndarray
    left_out: int


def read_film(path: str | Path, track_key: str = "label", track: Track = iter) -> Film:
    """The cells of a COCO JSON whose images have a time; crowds are no cells.

    Args:
        track_key: of the annotations, the same value in several images being the same cell. Where no annotation has
            it, and for an empty key, every cell is a track of its own.
        track: wraps the annotations that are gone through, to show progress.

    Raises:
        MissingDataError, DatasetError: see :func:`~cellseg_d2.data.datasets.coco_json.read_coco`; no time axis (see
            :func:`.time_axis.time_axis`), no cell, only some annotations with the track key, one track twice at a time.
    """
    coco = read_coco(path)
    times, unit, source = time_axis(coco)
    sources = [a for a in coco.annotations if not a.get("iscrowd")]
    names = _track_names(coco, sources, track_key)
    tracked = len(set(names)) < len(names)
    places = {image["id"]: k for k, image in enumerate(coco.images)}
    _require_once(coco, sources, names, times[[places[a["image_id"]] for a in sources]], track_key)
    numbers = {name: k for k, name in enumerate(dict.fromkeys(names))}
    cells, counts, small = _cells(coco, list(zip(sources, map(numbers.get, names))), places, track)
    if not cells:
        raise DatasetError(f"{path}: no cell of at least {AREA_LEAST} pixels; there is no shape to look at")
    if small:
        logger.warning("%s: %d cells of fewer than %d pixels have no shape and are left out", path, small, AREA_LEAST)
    cells.sort(key=lambda cell: (times[cell.image], cell.image))
    return Film(coco.path, coco.images, times, unit, source, cells, list(numbers), tracked, counts, small)


def _cells(
    coco: CocoFile, sources: list[tuple[dict, int]], places: dict, track: Track
) -> tuple[list[Cell], np.ndarray, int]:
    """The cells of annotations and their tracks, cells of each image, and how many of them are too small."""
    records = [image_record(coco.path, image, str(image["file_name"])) for image in coco.images]
    cells, dropped, counts, small = [], Counter(), np.zeros(len(records), dtype=np.int64), 0
    for source, number in track(sources):
        place = places[source["image_id"]]
        clean = clean_annotation(coco.path, source, records[place], dropped)
        rle = clean and as_rle(clean["segmentation"], records[place]["height"], records[place]["width"])
        if not rle or not mask_util.area(rle):
            continue
        counts[place] += 1
        cell = Cell(place, source["id"], number, *_window(rle))
        if cell.mask.sum() < AREA_LEAST:
            small += 1
        else:
            cells.append(cell)
    check_outlines(coco.path, dropped["annotations"], dropped["polygons"], bool(cells))
    return cells, counts, small


def _track_names(coco: CocoFile, sources: list[dict], key: str) -> list[Any]:
    """The track of each annotation: its value of the key, or its own id."""
    has = [annotation.get(key) is not None for annotation in sources]
    if not key or not any(has):
        return [annotation["id"] for annotation in sources]
    if not all(has):
        raise DatasetError(
            f"{coco.path}: {len(has) - sum(has)} of {len(has)} annotations have no {key!r}, such as annotation "
            f"{sources[has.index(False)]['id']!r}; give all of them a track, or take --track-key '' for no tracks"
        )
    wrong = next((a for a in sources if not isinstance(a[key], int | str)), None)
    if wrong is not None:
        value = f"annotation {wrong['id']!r} has {key} {wrong[key]!r}"
        raise DatasetError(f"{coco.path}: {value}; a track is a whole number or a text")
    return [annotation[key] for annotation in sources]


def _require_once(coco: CocoFile, sources: list[dict], names: list[Any], times: np.ndarray, key: str) -> None:
    """A cell is in one place at a time."""
    seen: dict[tuple, Any] = {}
    for annotation, name, time in zip(sources, names, times.tolist()):
        if (name, time) in seen:
            raise DatasetError(
                f"{coco.path}: annotations {seen[name, time]!r} and {annotation['id']!r} of one time have the same "
                f"{key!r}, {name!r}; it is no track then: merge them, or take another --track-key ('' for no tracks)"
            )
        seen[name, time] = annotation["id"]


def _window(rle: dict) -> tuple[np.ndarray, int, int]:
    """The largest piece of a mask, holes filled, in its smallest window, and the window's corner."""
    columns, left = decode_columns(rle)
    contours, _ = cv2.findContours(np.ascontiguousarray(columns), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = [cv2.drawContours(np.zeros(columns.shape, np.uint8), [c], 0, 1, cv2.FILLED) for c in contours]
    mask = max(filled, key=np.sum)
    rows, across = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    window = mask[rows[0] : rows[-1] + 1, across[0] : across[-1] + 1]
    return window.astype(bool), left + int(across[0]), int(rows[0])
