"""The numbers of polygons as they were written."""

from typing import Any

import numpy as np

__all__ = ["parse_polygons"]

FAR = 1e6  # pixels; no image is as large


def parse_polygons(segmentation: Any) -> tuple[list[np.ndarray], list[tuple[str, str]]]:
    """The polygons of a segmentation.

    Args:
        segmentation: COCO's list of polygons [x0, y0, x1, y1, ...], or what stands in its place.

    Returns:
        Those that can be read, (P, 2) float64 of at least three points, not closed, and what was wrong with the others
        and with those that had to be read leniently.
    """
    if segmentation is None or (isinstance(segmentation, (list, dict, str)) and not segmentation):
        return [], [("no_outline", "")]
    if not isinstance(segmentation, list):
        return [], [("bad_coordinates", f"the segmentation is a {type(segmentation).__name__}")]
    problems = []
    if all(isinstance(value, (int, float)) for value in segmentation):
        problems.append(("bad_coordinates", "one list of numbers instead of a list of polygons"))
        segmentation = [segmentation]
    rings = []
    for polygon in segmentation:
        points, problem = _points(polygon)
        if problem:
            problems.append(problem)
        if points is not None:
            rings.append(points)
    return rings, problems


def _points(polygon: Any) -> tuple[np.ndarray | None, tuple[str, str] | None]:
    """The points of one polygon, or None, and what is wrong with it."""
    try:
        values = np.asarray(polygon)
        problem = None
        if values.dtype.kind in "UO" and values.ndim == 1:
            values, problem = values.astype(np.float64), ("bad_coordinates", "texts instead of numbers")
        elif values.ndim == 2 and values.shape[1] == 2:
            values, problem = values.reshape(-1), ("bad_coordinates", "pairs instead of a flat list")
    except (TypeError, ValueError):
        return None, ("bad_coordinates", "values that are not numbers")
    if values.ndim != 1 or values.dtype.kind not in "iuf":
        return None, ("bad_coordinates", "values that are not numbers")
    if len(values) % 2:
        return None, ("bad_coordinates", f"an odd number of values, {len(values)}")
    if not (np.abs(values) < FAR).all():
        return None, ("bad_coordinates", "values that are not finite, or far from any image")
    points = values.reshape(-1, 2).astype(np.float64)
    if len(points) > 1 and (points[0] == points[-1]).all():
        points = points[:-1]
    return (points, problem) if len(points) >= 3 else (None, ("few_points", f"{len(values) // 2} points"))
