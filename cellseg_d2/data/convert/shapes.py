"""Shapes drawn by hand, of LabelMe and VIA, checked: numbers that are numbers, polygons with three corners."""

import math
from collections.abc import Sequence

from ...errors import DatasetError
from .outline import ellipse
from .records import Notes

__all__ = ["checked_ellipse", "checked_polygon", "rectangle"]


def checked_polygon(points: Sequence, place: str, notes: Notes) -> list[list[float]] | None:
    """COCO's polygons of corners (x, y); None, and a note, where there are fewer than three.

    Raises:
        DatasetError: a corner is not two finite numbers.
    """
    flat = [value for point in points for value in _numbers(point, 2, place)]
    if len(flat) < 6:
        notes.warnings["polygons have fewer than three corners, left out"] += 1
        return None
    return [flat]


def rectangle(corners: Sequence, place: str) -> list[list[float]]:
    """COCO's polygons of a rectangle between two opposite corners."""
    (x0, y0), (x1, y1) = (_numbers(corner, 2, place) for corner in corners)
    return [[x0, y0, x1, y0, x1, y1, x0, y1]]


def checked_ellipse(numbers: Sequence, height: int, width: int, place: str) -> dict:
    """Run lengths of an ellipse given as centre x, y, half axes, and angle in radians.

    Raises:
        DatasetError: not five finite numbers, or an axis that is not above 0.
    """
    x, y, along, across, turn = _numbers(numbers, 5, place)
    if along <= 0 or across <= 0:
        raise DatasetError(f"{place}: a circle or ellipse with radius {min(along, across):g}; remove it")
    return ellipse((x, y), (along, across), turn, height, width)


def _numbers(values: object, count: int, place: str) -> list[float]:
    """That many finite numbers."""
    good = isinstance(values, Sequence) and not isinstance(values, str) and len(values) == count
    if not good or not all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in values):
        raise DatasetError(f"{place}: {values!r} is not {count} numbers")
    return [float(value) for value in values]
