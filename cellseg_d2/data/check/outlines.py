"""Outlines of any quality: what is wrong with each, and what is left of it when that is mended."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import shapely
from pycocotools import mask as mask_util

from ..polygons import PolygonSet
from ..rle import parse_runs
from .coordinates import parse_polygons

__all__ = ["Outline", "read_outlines"]

# How far beyond the border a point may lie, in pixels: programs disagree by one on where pixels lie
BORDER = 1.0
# Square pixels below which a polygon has no area
NO_AREA = 0.01
# A polygon may cross itself as long as no more than this share of its area is lost or counted twice: small loops where
# a hand turned back are in every data set, and harm nothing
CROSSING = 0.05
# Pieces of a polygon that crosses itself are dropped below this share of its area
SPECK = 0.01


@dataclass
class Outline:
    """The outline of one annotation.

    Attributes:
        place: in the table of annotations.
        rings: its polygons, mended; (P, 2) float64 points each, empty for run lengths.
        rle: compressed COCO run lengths of the mended outline; None where nothing is left.
        problems: kinds of findings and details, in words.
        area: of the mended outline: inside of its polygons, or in pixels for run lengths.
        pixels: of its mask.
        box: x0, y0, x1, y1 of its polygons or pixels.
    """

    place: int
    rings: list[np.ndarray] = field(default_factory=list)
    rle: dict[str, Any] | None = None
    problems: list[tuple[str, str]] = field(default_factory=list)
    area: float = 0.0
    pixels: float = 0.0
    box: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)

    def segmentation(self) -> list[list[float]] | dict[str, Any] | None:
        """The mended outline as in a COCO JSON."""
        return [ring.reshape(-1).tolist() for ring in self.rings] or self.rle


def read_outlines(entries: Sequence[tuple[int, dict]], size: tuple[int, int]) -> list[Outline]:
    """The outlines of an image's annotations, mended as far as that is safe.

    Args:
        entries: places and entries of the annotations.
        size: height and width of the image.

    Returns:
        One for each entry; its ``problems`` name what was wrong.
    """
    outlines = [_parsed(place, entry.get("segmentation"), size) for place, entry in entries]
    drawn = [outline for outline in outlines if outline.rings]
    if drawn:
        _untangle(drawn)
        _clip([outline for outline in drawn if outline.rings], size)
        _paint([outline for outline in drawn if outline.rings], size)
    for outline in outlines:
        if outline.rle is not None and not outline.pixels:
            outline.problems.append(("zero_area", "its mask has no pixel"))
            outline.rings, outline.rle = [], None
    return outlines


def _parsed(place: int, segmentation: Any, size: tuple[int, int]) -> Outline:
    """An outline as it was written, without what are no numbers."""
    outline = Outline(place)
    if isinstance(segmentation, dict) and segmentation:
        outline.rle, problem = parse_runs(segmentation, size)
        if outline.rle is None:
            outline.problems.append(("bad_run_lengths", problem))
        else:
            outline.pixels = outline.area = float(mask_util.area(outline.rle))
            x, y, width, height = mask_util.toBbox(outline.rle).tolist()
            outline.box = x, y, x + width, y + height
    else:
        outline.rings, outline.problems = parse_polygons(segmentation)
    return outline


def _untangle(outlines: Sequence[Outline]) -> None:
    """Replace polygons that cross themselves by simple ones, drop those without area."""
    rings = [ring for outline in outlines for ring in outline.rings]
    index = np.repeat(np.arange(len(rings)), [len(ring) for ring in rings])
    shapes = shapely.polygons(shapely.linearrings(np.concatenate(rings), indices=index))
    wrong = ~shapely.is_valid(shapes) | (shapely.area(shapes) < NO_AREA)
    owners = [outline for outline in outlines for _ in outline.rings]
    replaced = {}
    for number in np.flatnonzero(wrong).tolist():
        kind, detail, pieces = _simplified(shapes[number])
        if kind:
            owners[number].problems.append((kind, detail))
            replaced[number] = pieces
    numbers = iter(range(len(rings)))
    for outline in outlines:
        outline.rings = [piece for ring in outline.rings for piece in replaced.get(next(numbers), [ring])]


def _simplified(shape: shapely.Polygon) -> tuple[str, str, list[np.ndarray]]:
    """What is wrong with a polygon, or "" where it hardly matters, and the simple polygons that it becomes.

    The inside of a loop belongs to the cell, however often the outline runs around it.
    """
    points = shapely.get_coordinates(shape)[:-1]
    if _crossings(points) > len(points):  # no outline, and one that takes hours to part into its thousands of pieces
        return "self_crossing", "its points are in no order", []
    parts = shapely.get_parts(shapely.get_parts(shapely.make_valid(shape)))  # it may be a collection of collections
    parts = parts[shapely.get_type_id(parts) == shapely.GeometryType.POLYGON]
    filled = shapely.get_parts(shapely.union_all(shapely.polygons(shapely.get_exterior_ring(parts))))
    areas = shapely.area(filled)
    total = float(areas.sum())
    if total < NO_AREA:
        return "zero_area", "a polygon has no area", []
    rings = [shapely.get_coordinates(shapely.get_exterior_ring(part))[:-1] for part in filled[areas >= SPECK * total]]
    wrong = abs(total - shapely.area(shape)) / total
    if wrong <= CROSSING:
        return "", "", []
    return "self_crossing", f"{wrong:.0%} of its area is lost or counted twice", rings


def _crossings(points: np.ndarray) -> int:
    """How often a closed outline, (P, 2) points, crosses itself; of one of thousands of points, of a coarser one."""
    points = points[:: 1 + len(points) // 2000]
    step = np.roll(points, -1, axis=0) - points
    x, y = (points[None] - points[:, None]).transpose(2, 0, 1)
    side = np.sign(step[:, :1] * y - step[:, 1:] * x)  # of line i that point j lies on
    parted = side * np.roll(side, -1, axis=1) < 0
    return int(np.count_nonzero(parted & parted.T)) // 2


def _clip(outlines: Sequence[Outline], size: tuple[int, int]) -> None:
    """Cut off what lies outside of the image."""
    high = np.array(size[::-1], dtype=np.float64)
    for outline in outlines:
        low_point, high_point = _extent(outline.rings)
        beyond = max(0.0, -low_point.min(), (high_point - high).max())
        if beyond <= BORDER:
            continue
        if not any((ring.max(axis=0) > 0).all() and (ring.min(axis=0) < high).all() for ring in outline.rings):
            outline.problems.append(("outside_image", f"{beyond:.0f} px beyond the border"))
            outline.rings = []
            continue
        outline.problems.append(("partly_outside", f"{beyond:.0f} px beyond the border"))
        lengths = np.array([len(ring) for ring in outline.rings])
        polygons = PolygonSet(np.concatenate(outline.rings), lengths, np.zeros(len(lengths), dtype=np.int64))
        pieces = [piece for cell in polygons.clipped(np.zeros(2), high).to_instances() for piece in cell]
        pieces = [piece.reshape(-1, 2) for piece in pieces]
        # Not what the border only grazes
        outline.rings = [piece for piece in pieces if shapely.Polygon(piece).area >= NO_AREA]
        if not outline.rings:
            outline.problems.append(("zero_area", "what lies in the image has no area"))


def _paint(outlines: Sequence[Outline], size: tuple[int, int]) -> None:
    """Masks and measures of polygons."""
    if not outlines:
        return
    counts = [len(outline.rings) for outline in outlines]
    rings = [ring for outline in outlines for ring in outline.rings]
    owners = np.repeat(np.arange(len(outlines)), counts)
    lengths = np.array([len(ring) for ring in rings])
    areas = PolygonSet(np.concatenate(rings), lengths, owners).areas(len(outlines))
    masks = mask_util.frPyObjects([ring.reshape(-1).tolist() for ring in rings], *size)
    begin = 0
    for outline, count, area in zip(outlines, counts, areas.tolist()):
        own = masks[begin : begin + count]
        begin += count
        outline.rle = own[0] if count == 1 else mask_util.merge(own)
        outline.area, outline.pixels = area, float(mask_util.area(outline.rle))
        low, high = _extent(outline.rings)
        outline.box = (*low.tolist(), *high.tolist())


def _extent(rings: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest x and y of polygons."""
    points = rings[0] if len(rings) == 1 else np.concatenate(rings)
    return points.min(axis=0), points.max(axis=0)
