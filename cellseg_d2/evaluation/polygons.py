"""Polygons to masks: pycocotools' pixels, without its cost for each polygon."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit

from ..run_lengths import Runs

__all__ = ["Polygons", "fill"]

SCALE = 5.0  # COCO's outlines walk on a grid of a fifth of a pixel
FARTHEST = 1e7  # coordinates beyond this are no pixels of any image


@dataclass(frozen=True)
class Polygons:
    """Outlines of N objects: polygon p has points ``points[starts[p] : starts[p + 1]]``, object n the polygons
    ``objects[n]`` up to ``objects[n + 1]``.

    Attributes:
        points: (P, 2) float64 x, y in pixels.
        starts: (polygons + 1,) int64.
        objects: (N + 1,) int64.
    """

    points: np.ndarray
    starts: np.ndarray
    objects: np.ndarray

    @classmethod
    def from_lists(cls, outlines: Sequence[Sequence[Sequence[float]]]) -> "Polygons":
        """From COCO's lists: a list of ``[x0, y0, x1, y1, ...]`` for each object."""
        lengths = np.array([len(polygon) // 2 for polygons in outlines for polygon in polygons], dtype=np.int64)
        flat = [np.asarray(polygon, dtype=np.float64)[: len(polygon) // 2 * 2] for o in outlines for polygon in o]
        points = np.concatenate([np.zeros(0), *flat]).reshape(-1, 2)
        counts = np.array([len(polygons) for polygons in outlines], dtype=np.int64)
        return cls(points, np.concatenate([[0], np.cumsum(lengths)]), np.concatenate([[0], np.cumsum(counts)]))


def fill(polygons: Polygons, heights: np.ndarray, widths: np.ndarray) -> Runs:
    """The pixels inside the outlines, as ``pycocotools.mask.frPyObjects`` and ``merge`` give them.

    The outline is walked on a grid of a fifth of a pixel; where it passes from one pixel column into the next, the
    column's filling starts or ends.

    Args:
        polygons: of N objects; several polygons of one object are united.
        heights, widths: (N,) of each object's image.
    """
    heights, widths = np.asarray(heights, dtype=np.int64), np.asarray(widths, dtype=np.int64)
    # A polygon has at most two runs for each step of its outline into another column
    offsets, begin, end = _fill(polygons.points, polygons.starts, polygons.objects, heights, widths)
    return Runs(offsets, begin, end)


@njit(cache=True)
def _fill(
    points: np.ndarray, starts: np.ndarray, objects: np.ndarray, heights: np.ndarray, widths: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Offsets, begins and ends of the runs."""
    offsets = np.zeros(len(objects), np.int64)
    begin, end = np.empty(1024, np.int32), np.empty(1024, np.int32)
    crossings = np.empty(1024, np.int64)
    run = 0
    for n in range(len(objects) - 1):
        first = run
        for p in range(objects[n], objects[n + 1]):
            outline = points[starts[p] : starts[p + 1]]
            steps = 2
            for j in range(len(outline)):
                steps += int(abs(outline[j, 0] - outline[j - 1, 0])) + 2
            if steps > len(crossings):
                crossings = np.empty(2 * steps, np.int64)
            if run + steps > len(begin):
                grown = 2 * len(begin) + steps
                more_begin, more_end = np.empty(grown, np.int32), np.empty(grown, np.int32)
                more_begin[:run], more_end[:run] = begin[:run], end[:run]
                begin, end = more_begin, more_end
            count = _cross_columns(outline, heights[n], widths[n], crossings)
            _sort(crossings, count)
            if count % 2:
                crossings[count] = heights[n] * widths[n]
                count += 1
            alone = run
            for k in range(0, count, 2):
                a, b = crossings[k], crossings[k + 1]
                if a == b:
                    continue
                if run > alone and end[run - 1] == a:
                    end[run - 1] = b
                else:
                    begin[run], end[run] = a, b
                    run += 1
        if objects[n + 1] - objects[n] > 1:
            run = first + _unite(begin[first:run], end[first:run])
        offsets[n + 1] = run
    return offsets, begin[:run].copy(), end[:run].copy()


@njit(cache=True)
def _cross_columns(outline: np.ndarray, height: int, width: int, crossings: np.ndarray) -> int:
    """Write the places where the filling of a column starts or ends; returns how many.

    An edge is walked in steps of one fifth of a pixel along its longer side. Of all steps only those count that go
    between the fifths 5c + 2 and 5c + 3, the middle of column c; the upper of their two ends is the place.
    """
    count, k = 0, len(outline)
    for j in range(k):
        nxt = j + 1 if j + 1 < k else 0
        xs, xe = int(SCALE * outline[j, 0] + 0.5), int(SCALE * outline[nxt, 0] + 0.5)
        ys, ye = int(SCALE * outline[j, 1] + 0.5), int(SCALE * outline[nxt, 1] + 0.5)
        dx, dy = abs(xe - xs), abs(ye - ys)
        if dx == 0:
            continue
        flat = dx >= dy
        if xs > xe if flat else ys > ye:
            xs, xe, ys, ye = xe, xs, ye, ys
        slope = (ye - ys) / dx if flat else (xe - xs) / dy
        low, high = min(xs, xe), max(xs, xe)
        column = max((low + 2) // 5, 0)
        while column < width and 5 * column + 3 <= high:
            right = 5 * column + 3
            column += 1
            if right - 1 < low:
                continue
            if flat:
                t = right - xs
                v = min(int(ys + slope * t + 0.5), int(ys + slope * (t - 1) + 0.5))
            else:
                v = ys + _first_step(xs, slope, right) - 1
            row = np.ceil(min(max((float(v) + 0.5) / SCALE - 0.5, 0.0), float(height)))
            crossings[count] = (column - 1) * height + int(row)
            count += 1
    return count


@njit(cache=True)
def _sort(values: np.ndarray, count: int) -> None:
    """Sort the first ``count`` values in place: a Shell sort, faster than the general one on some dozens of values."""
    for gap in (10, 1):
        for k in range(gap, count):
            value, place = values[k], k
            while place >= gap and values[place - gap] > value:
                values[place] = values[place - gap]
                place -= gap
            values[place] = value


@njit(cache=True)
def _first_step(x: int, slope: float, right: int) -> int:
    """The first step t after the walk int(x + slope t + 0.5) passes between ``right`` - 1 and ``right``."""
    t = max(int((right - 0.5 - x) / slope), 1)
    if slope > 0:
        while t > 1 and int(x + slope * (t - 1) + 0.5) >= right:
            t -= 1
        while int(x + slope * t + 0.5) < right:
            t += 1
    else:
        while t > 1 and int(x + slope * (t - 1) + 0.5) < right:
            t -= 1
        while int(x + slope * t + 0.5) >= right:
            t += 1
    return t


@njit(cache=True)
def _unite(begin: np.ndarray, end: np.ndarray) -> int:
    """Sort runs and join those that overlap or touch, in place; returns how many are left."""
    order = np.argsort(begin)
    begin[:], end[:] = begin[order].copy(), end[order].copy()
    last = 0
    for r in range(1, len(begin)):
        if begin[r] <= end[last]:
            end[last] = max(end[last], end[r])
        else:
            last += 1
            begin[last], end[last] = begin[r], end[r]
    return last + 1 if len(begin) else 0
