"""Numbers that do not fit: boxes and areas that are not the outline's, cells of a size that no other has."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..polygons import MIN_AREA
from .findings import Findings
from .outlines import Outline
from .tables import Tables

__all__ = ["area_differs", "box_differs", "check_sizes"]

# Boxes and areas of pixels and of polygons differ by the pixels of the border, and programs by one in w and h
BOX_PIXELS, BOX_SHARE = 2.0, 0.05
AREA_BORDER, AREA_SHARE = 0.25, 0.05  # shares of the box's circumference and of the area
# Sizes are compared with the cells of the same type; what has fewer than MIN_AREA pixels, a crop drops in any case
TINY_SHARE = 0.01
HUGE_TIMES, HUGE_IMAGE = 30.0, 0.5
ENOUGH = 20  # cells that tell what is usual


def box_differs(said: Any, outline: Outline) -> str:
    """What is wrong with a COCO box [x, y, w, h]; empty where it is that of the outline, or not said."""
    if said is None:
        return ""
    if not isinstance(said, (list, tuple)) or len(said) != 4 or not all(map(_is_number, said)):
        return f"bbox {said!r} is not four numbers"
    x0, y0, x1, y1 = outline.box
    true = np.array([x0, y0, x1, y1])
    found = np.array([said[0], said[1], said[0] + said[2], said[1] + said[3]])
    allowed = np.maximum(BOX_PIXELS, BOX_SHARE * np.array([x1 - x0, y1 - y0] * 2))
    if (np.abs(found - true) <= allowed).all():
        return ""
    return f"bbox {_short(said)}, but the outline has {_short([x0, y0, x1 - x0, y1 - y0])}"


def area_differs(said: Any, outline: Outline) -> str:
    """What is wrong with an area; empty where it is that of the polygons or of the pixels, or not said."""
    if said is None:
        return ""
    if not _is_number(said):
        return f"area {said!r} is not a number"
    x0, y0, x1, y1 = outline.box
    for area in (outline.area, outline.pixels):
        if abs(said - area) <= AREA_SHARE * area + AREA_BORDER * 2 * (x1 - x0 + y1 - y0):
            return ""
    return f"area {said:g}, but the outline has {outline.area:g}"


def check_sizes(
    tables: Tables, areas: Mapping[int, Mapping[int, float]], groups: Mapping[int, Sequence[int]], findings: Findings
) -> None:
    """Find cells that are tiny or huge beside the others.

    Args:
        tables: the data set.
        areas: place of an image -> place of an annotation -> its pixels, crowds left out.
        groups: for each image, the images whose cells are of the same type.
    """
    usual: dict[int, float] = {}
    for image, cells in areas.items():
        members = groups[image]
        if id(members) not in usual:
            pixels = [value for member in members for value in areas.get(member, {}).values()]
            usual[id(members)] = float(np.median(pixels)) if len(pixels) >= ENOUGH else math.nan
        median = usual[id(members)]
        height, width = _size(tables.images[image])
        for place, pixels in cells.items():
            times = f"{tables.cell(place)}: {pixels:g} pixels" + f", usual are {median:g}" * (median == median)
            if pixels < MIN_AREA or pixels < TINY_SHARE * median:
                findings.add("tiny_instances", times, image, [place], fixable=False)
            elif pixels > HUGE_TIMES * median or pixels > HUGE_IMAGE * height * width:
                findings.add("huge_instances", times, image, [place], fixable=False)


def _size(entry: dict) -> tuple[float, float]:
    """Height and width, or such that nothing is huge."""
    sides = entry.get("height"), entry.get("width")
    return sides if all(map(_is_number, sides)) else (math.inf, math.inf)


def _is_number(value: Any) -> bool:
    """It is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _short(values: Sequence[float]) -> str:
    return "[" + ", ".join(f"{value:.1f}" for value in values) + "]"
