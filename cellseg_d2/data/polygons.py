"""The outlines of all instances of an image in flat arrays, so that thousands of them transform at once."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
import shapely
from fvcore.transforms.transform import CropTransform, Transform

from .roll_and_rotate import RollTransform, RotateTransform, flat_list

__all__ = ["MIN_AREA", "MIN_SHARE", "PolygonSet"]

# What a crop, seam or frame leaves of an instance is dropped when it is less, in pixels and as a share of its area
MIN_AREA = 10.0
MIN_SHARE = 0.1


@dataclass(frozen=True)
class PolygonSet:
    """Polygons of many instances.

    Attributes:
        points: P x 2 float64, the vertices of all polygons, polygon after polygon, in continuous pixel coordinates.
        lengths: K int64, vertices of each polygon.
        owners: K int64, the instance of each polygon, ascending. An instance may own several polygons, or none.
        sources: N int64, ascending: the annotation that each instance came from. A circular shift makes several
            instances of one annotation. None: instance k came from annotation k.
    """

    points: np.ndarray
    lengths: np.ndarray
    owners: np.ndarray
    sources: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.sources is None:
            object.__setattr__(self, "sources", np.arange(self.owners.max(initial=-1) + 1))

    @classmethod
    def from_instances(cls, instances: Sequence[Sequence[Sequence[float]]]) -> "PolygonSet":
        """From COCO segmentations: per instance a list of polygons [x0, y0, x1, y1, ...]."""
        polygons = [polygon for instance in instances for polygon in instance]
        numbers = np.fromiter(chain.from_iterable(polygons), np.float64, sum(map(len, polygons)))
        counts = np.fromiter(map(len, instances), np.int64, len(instances))
        lengths = np.fromiter(map(len, polygons), np.int64, len(polygons)) // 2
        sources = np.arange(len(instances))
        return cls(numbers.reshape(-1, 2), lengths, np.repeat(sources, counts), sources)

    @property
    def starts(self) -> np.ndarray:
        """K int64, index of each polygon's first vertex."""
        return np.cumsum(self.lengths) - self.lengths

    def to_instances(self) -> list[list[np.ndarray]]:
        """For each instance that owns a polygon, its polygons as flat float64 arrays."""
        numbers, ends = self.points.reshape(-1), 2 * np.cumsum(self.lengths)
        polygons = [numbers[begin:end] for begin, end in zip((2 * self.starts).tolist(), ends.tolist(), strict=True)]
        first = np.flatnonzero(np.diff(self.owners, prepend=-1))
        bounds = [*first.tolist(), len(polygons)]
        return [polygons[begin:end] for begin, end in zip(bounds[:-1], bounds[1:], strict=True)]

    def extents(self) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest x and y of each polygon, both K x 2."""
        if not len(self.lengths):
            return np.zeros((0, 2)), np.zeros((0, 2))
        return np.minimum.reduceat(self.points, self.starts), np.maximum.reduceat(self.points, self.starts)

    def boxes(self) -> np.ndarray:
        """Boxes (x0, y0, x1, y1) of the instances that own a polygon, as :meth:`to_instances`."""
        low, high = self.extents()
        if not len(low):
            return np.zeros((0, 4))
        first = np.flatnonzero(np.diff(self.owners, prepend=-1))
        return np.concatenate([np.minimum.reduceat(low, first), np.maximum.reduceat(high, first)], axis=1)

    def areas(self, instances: int) -> np.ndarray:
        """Area of each of ``instances`` instances, the sum over its polygons."""
        if not len(self.lengths):
            return np.zeros(instances)
        following = np.arange(1, len(self.points) + 1)
        following[self.starts + self.lengths - 1] = self.starts
        x, y = (self.points - np.repeat(self.points[self.starts], self.lengths, axis=0)).T
        doubled = np.add.reduceat(x * y[following] - x[following] * y, self.starts)
        return np.bincount(self.owners, np.abs(doubled) / 2, minlength=instances)

    def select(self, keep: np.ndarray) -> "PolygonSet":
        """The polygons at which ``keep`` (K bool) is true; instances that lose all of them stay, with none."""
        chosen = self.points[np.repeat(keep, self.lengths)]
        return replace(self, points=chosen, lengths=self.lengths[keep], owners=self.owners[keep])

    def transformed(self, transforms: Transform) -> "PolygonSet":
        """Apply a transform or a list of them.

        Crops, and turns by any angle, clip exactly; a circular shift makes an instance of what is left of one in each
        of the (up to four) parts between the seams. All drop what is only a sliver (``MIN_AREA``, ``MIN_SHARE``).

        Raises:
            NotImplementedError: a transform that treats polygons in a way of its own.
        """
        result = self
        for transform in flat_list(transforms):
            result = result._transformed(transform)
        return result

    def _transformed(self, transform: Transform) -> "PolygonSet":
        """Apply a single transform."""
        if isinstance(transform, RollTransform):
            return _rolled(self, transform)
        if isinstance(transform, CropTransform):
            corner = np.array([transform.x0, transform.y0], dtype=np.float64)
            clipped = self.clipped(corner, corner + [transform.w, transform.h])
            return replace(clipped, points=clipped.points - corner)
        if type(transform).apply_polygons is not Transform.apply_polygons:
            raise NotImplementedError(f"polygons cannot go through {type(transform).__name__} all at once")
        if not isinstance(transform, RotateTransform):
            return replace(self, points=transform.apply_coords(self.points.copy()))
        inside = self.clipped(np.zeros(2), np.array([transform.width, transform.height]))  # what the image shows
        turned = replace(inside, points=transform.apply_coords(inside.points))
        return turned.clipped(np.zeros(2), np.array(transform.output_size[::-1]))

    def clipped(self, low: np.ndarray, high: np.ndarray) -> "PolygonSet":
        """What lies inside the window from ``low`` to ``high`` (both x, y), without slivers."""
        result, inside = self._window(low, high)
        cut = np.bincount(self.owners, ~inside, len(self.sources)) > 0
        return result._without_slivers(cut, self.areas(len(self.sources)))

    def _window(self, low: np.ndarray, high: np.ndarray) -> tuple["PolygonSet", np.ndarray]:
        """What lies inside a window, and which polygons (K bool) do as they are.

        Only the polygons that cross the border are really intersected, which is slow.
        """
        lowest, highest = self.extents()
        outside = ((highest <= low) | (lowest >= high)).any(axis=1)
        inside = ((lowest >= low) & (highest <= high)).all(axis=1)
        if inside.all():
            return self, inside
        crossing = _intersected(self.select(~outside & ~inside), low, high)
        return _merged([self.select(inside), crossing], self.sources), inside

    def _without_slivers(self, cut: np.ndarray, before: np.ndarray) -> "PolygonSet":
        """Drop the slivers among the instances that were ``cut`` (N bool); ``before`` (N) are the areas before that."""
        sliver = cut & (self.areas(len(self.sources)) < np.maximum(MIN_AREA, MIN_SHARE * before))
        return self.select(~sliver[self.owners]) if sliver.any() else self


def _rolled(polygons: PolygonSet, roll: RollTransform) -> PolygonSet:
    """Shift circularly; the instances are numbered anew, ordered by annotation."""
    shift, size, count = np.array([roll.right, roll.down]), np.array([roll.width, roll.height]), len(polygons.sources)
    parts, whole = [], np.zeros(len(polygons.lengths), dtype=bool)
    for number, wrapped in enumerate(np.array([[1, 1], [0, 1], [1, 0], [0, 0]])):  # x, y: comes in at the other side
        low, high = np.where(wrapped, size - shift, 0), np.where(wrapped, size, size - shift)
        part, inside = polygons._window(low, high)
        parts.append(replace(part, points=part.points + shift - wrapped * size, owners=4 * part.owners + number))
        whole |= inside
    pieces = _merged(parts, polygons.sources)
    numbers, owners = np.unique(pieces.owners, return_inverse=True)
    parents = numbers // 4
    cut = (np.bincount(polygons.owners, ~whole, count) > 0) | (np.bincount(parents, minlength=count) > 1)
    pieces = replace(pieces, owners=owners, sources=polygons.sources[parents])
    return pieces._without_slivers(cut[parents], polygons.areas(count)[parents])


def _merged(sets: Sequence[PolygonSet], sources: np.ndarray) -> PolygonSet:
    """The polygons of all sets, ordered by owner."""
    lengths, owners = (np.concatenate([getattr(one, name) for one in sets]) for name in ("lengths", "owners"))
    by_owner = np.argsort(owners, kind="stable")
    by_vertex = np.argsort(np.repeat(owners, lengths), kind="stable")
    points = np.concatenate([one.points for one in sets])[by_vertex]
    return PolygonSet(points, lengths[by_owner], owners[by_owner], sources)


def _intersected(polygons: PolygonSet, low: np.ndarray, high: np.ndarray) -> PolygonSet:
    """Each polygon's intersection with a window; it may fall into several pieces, or none of any area."""
    if not len(polygons.lengths):
        return polygons
    rings = shapely.linearrings(polygons.points, indices=np.repeat(np.arange(len(polygons.lengths)), polygons.lengths))
    shapes = shapely.polygons(rings)
    crossed = ~shapely.is_valid(shapes)
    shapes[crossed] = shapely.make_valid(shapes[crossed])
    pieces, source = shapely.get_parts(shapely.intersection(shapes, shapely.box(*low, *high)), return_index=True)
    pieces, nested = shapely.get_parts(pieces, return_index=True)  # a repaired shape is a collection of collections
    solid = (shapely.get_type_id(pieces) == shapely.GeometryType.POLYGON) & (shapely.area(pieces) > 0)
    points, ring = shapely.get_coordinates(shapely.get_exterior_ring(pieces[solid]), return_index=True)
    closing = np.diff(ring, append=-1) != 0  # a ring ends with its first point
    lengths = np.bincount(ring[~closing], minlength=np.count_nonzero(solid))
    owners = polygons.owners[source[nested][solid]]
    return PolygonSet(points[~closing], lengths, owners, polygons.sources)
