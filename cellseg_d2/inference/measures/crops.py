"""Masks of cells at the cost of the cells: each one cut out of its frame, along its own box."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np

from ...run_lengths import decode_counts

__all__ = ["Crop", "cell_numbers", "decode_crop", "decode_crops", "touching_pairs", "widened"]

_BLOCK = 1024  # cells whose boxes are compared with the others at a time


class Crop(NamedTuple):
    """A mask without what is empty around it.

    Attributes:
        mask: (h, w) bool, C-contiguous; (0, 0) of a cell without a pixel.
        x, y: column and row of the mask's first pixel in its frame.
    """

    mask: np.ndarray
    x: int
    y: int

    @property
    def box(self) -> tuple[int, int, int, int]:
        """x0, y0, x1, y1 in pixels, the last two behind the mask."""
        return self.x, self.y, self.x + self.mask.shape[1], self.y + self.mask.shape[0]


def decode_crop(rle: Mapping[str, Any]) -> Crop:
    """The mask of compressed COCO run lengths; neither time nor memory depend on the size of the frame."""
    return decode_crops([rle])[0]


def decode_crops(rles: Sequence[Mapping[str, Any]]) -> list[Crop]:
    """The masks of compressed COCO run lengths, thousands in one go; ValueError for damaged ones."""
    if not len(rles):
        return []
    height, width = np.array([rle["size"] for rle in rles], dtype=np.int64).T
    runs, totals = decode_counts([rle["counts"] for rle in rles], height * width)
    if (totals != height * width).any():
        raise ValueError(f"the run lengths of mask {np.flatnonzero(totals != height * width)[0]} are damaged")
    owner, begin, end = runs.owners(), runs.begin.astype(np.int64), runs.end.astype(np.int64)
    height = height[owner]
    column, parts = begin // height, (end - 1) // height - begin // height + 1
    if (parts > 1).any():  # a run that goes on at the top of the next column
        place = np.arange(parts.sum()) - np.repeat(np.cumsum(parts) - parts, parts)
        owner, begin, end, height, column = (np.repeat(of, parts) for of in (owner, begin, end, height, column))
        column = column + place
        begin, end = np.maximum(begin, column * height), np.minimum(end, (column + 1) * height)
    top, bottom = begin - column * height, end - column * height
    crops = [Crop(np.zeros((0, 0), dtype=bool), 0, 0)] * len(rles)
    first = np.flatnonzero(np.diff(owner, prepend=-1))
    if len(first):
        ends = [*first[1:].tolist(), len(owner)]
        y0, y1 = np.minimum.reduceat(top, first).tolist(), np.maximum.reduceat(bottom, first).tolist()
        for cell, low, high, y, below in zip(owner[first].tolist(), first.tolist(), ends, y0, y1):
            own = column[low:high], top[low:high] - y, bottom[low:high] - y
            crops[cell] = _painted(*own, int(below) - int(y), int(y))
    return crops


def _painted(column: np.ndarray, top: np.ndarray, bottom: np.ndarray, height: int, y: int) -> Crop:
    """The mask of runs top <= row < bottom, ascending, none over the end of its column."""
    x = int(column[0])
    steps = np.zeros((int(column[-1]) - x + 1, height + 1), dtype=np.int8)
    steps[column - x, top] = 1
    steps[column - x, bottom] -= 1
    return Crop(np.ascontiguousarray(steps.cumsum(axis=1, dtype=np.int8)[:, :-1].T).view(bool), x, y)


def widened(mask: np.ndarray, margin: int) -> np.ndarray:
    """A mask, (h, w) bool, as uint8 with ``margin`` empty pixels around it."""
    wide = np.zeros((mask.shape[0] + 2 * margin, mask.shape[1] + 2 * margin), dtype=np.uint8)
    wide[margin : mask.shape[0] + margin, margin : mask.shape[1] + margin] = mask
    return wide


def cell_numbers(cells: Sequence[Mapping[str, Any]]) -> list[int]:
    """The value of each cell in a label image: its ``track_id``, or its place from 1 where cells have none."""
    if any("track_id" in cell for cell in cells):
        return [int(cell["track_id"]) for cell in cells]
    return list(range(1, len(cells) + 1))


def touching_pairs(crops: Sequence[Crop], reach: int) -> np.ndarray:
    """Pairs of cells of which two pixels are at most ``reach`` apart, centre to centre; overlapping ones count.

    Returns:
        (P, 2) int64 places in ``crops``, each pair once, the smaller place first.
    """
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disc = (x**2 + y**2 <= reach**2).astype(np.uint8)
    found, place, wide = [], -1, None
    for first, second in _near_boxes(crops, reach).tolist():
        if first != place:
            place = first
            wide = cv2.dilate(widened(crops[first].mask, reach), disc).view(bool)
        if _meet(Crop(wide, crops[first].x - reach, crops[first].y - reach), crops[second]):
            found.append((min(first, second), max(first, second)))
    return np.array(found, dtype=np.int64).reshape(-1, 2)


def _near_boxes(crops: Sequence[Crop], reach: int) -> np.ndarray:
    """(P, 2) int64 pairs of cells whose boxes are at most ``reach`` apart; those of one first cell in a row."""
    filled = np.array([k for k, crop in enumerate(crops) if crop.mask.size], dtype=np.int64)
    boxes = np.array([crops[k].box for k in filled], dtype=np.int64).reshape(-1, 4)
    order = np.argsort(boxes[:, 0], kind="stable")
    x0, y0, x1, y1 = boxes[order].T
    ends = np.searchsorted(x0, x1 + reach)  # up to where boxes begin that reach the own one
    pairs = [np.zeros((0, 2), dtype=np.int64)]
    for low in range(0, len(order), _BLOCK):
        own = np.arange(low, min(low + _BLOCK, len(order)))
        counts = ends[own] - own - 1
        first = np.repeat(own, counts)
        second = first + 1 + np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        near = (y0[first] < y1[second] + reach) & (y0[second] < y1[first] + reach)
        pairs.append(np.stack([first[near], second[near]], axis=1))
    return filled[order][np.concatenate(pairs)]


def _meet(one: Crop, other: Crop) -> bool:
    """Whether two masks share a pixel."""
    (ax, ay, bx, by), (cx, cy, dx, dy) = one.box, other.box
    x0, y0, x1, y1 = max(ax, cx), max(ay, cy), min(bx, dx), min(by, dy)
    if x0 >= x1 or y0 >= y1:
        return False
    mine, theirs = (crop.mask[y0 - crop.y : y1 - crop.y, x0 - crop.x : x1 - crop.x] for crop in (one, other))
    return bool((mine & theirs).any())
