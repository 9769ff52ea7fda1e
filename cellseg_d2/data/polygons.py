"""The outlines of all instances of an image in flat arrays, so that thousands of them transform at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import shapely
from fvcore.transforms.transform import CropTransform, Transform, TransformList

__all__ = ["MIN_AREA", "MIN_SHARE", "PolygonSet"]

# An instance that a crop cuts is dropped when less than this remains, in pixels and as a share of its area
MIN_AREA = 10.0
MIN_SHARE = 0.1


@dataclass(frozen=True)
class PolygonSet:
    """Polygons of many instances.

    Attributes:
        points: P x 2 float64, the vertices of all polygons, polygon after polygon, in continuous pixel coordinates.
        lengths: K int64, vertices of each polygon.
        owners: K int64, the instance of each polygon, ascending. An instance may own several polygons, or none.
    """

    points: np.ndarray
    lengths: np.ndarray
    owners: np.ndarray

    @classmethod
    def from_instances(cls, instances: Sequence[Sequence[Sequence[float]]]) -> "PolygonSet":
        """From COCO segmentations: per instance a list of polygons [x0, y0, x1, y1, ...]."""
        polygons = [polygon for instance in instances for polygon in instance]
        numbers = np.fromiter(chain.from_iterable(polygons), np.float64, sum(map(len, polygons)))
        counts = np.fromiter(map(len, instances), np.int64, len(instances))
        lengths = np.fromiter(map(len, polygons), np.int64, len(polygons)) // 2
        return cls(numbers.reshape(-1, 2), lengths, np.repeat(np.arange(len(instances)), counts))

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
        """The polygons at which ``keep`` (K bool) is true."""
        return PolygonSet(self.points[np.repeat(keep, self.lengths)], self.lengths[keep], self.owners[keep])

    def transformed(self, transforms: Transform) -> "PolygonSet":
        """Apply a transform or a list of them.

        Crops clip exactly and drop instances of which only a sliver is left (``MIN_AREA``, ``MIN_SHARE``).

        Raises:
            NotImplementedError: a transform that treats polygons in a way of its own.
        """
        if isinstance(transforms, TransformList):
            result = self
            for transform in transforms.transforms:
                result = result.transformed(transform)
            return result
        if isinstance(transforms, CropTransform):
            corner = np.array([transforms.x0, transforms.y0], dtype=np.float64)
            clipped = self.clipped(corner, corner + [transforms.w, transforms.h])
            return PolygonSet(clipped.points - corner, clipped.lengths, clipped.owners)
        if type(transforms).apply_polygons is not Transform.apply_polygons:
            raise NotImplementedError(f"polygons cannot go through {type(transforms).__name__} all at once")
        return PolygonSet(transforms.apply_coords(self.points.copy()), self.lengths, self.owners)

    def clipped(self, low: np.ndarray, high: np.ndarray) -> "PolygonSet":
        """What lies inside the window from ``low`` to ``high`` (both x, y), without slivers.

        Only the polygons that cross the border are really intersected, which is slow.
        """
        lowest, highest = self.extents()
        outside = ((highest <= low) | (lowest >= high)).any(axis=1)
        inside = ((lowest >= low) & (highest <= high)).all(axis=1)
        result = _merged(self.select(inside), _intersected(self.select(~outside & ~inside), low, high))
        instances = int(self.owners.max(initial=-1)) + 1
        before, after = self.areas(instances), result.areas(instances)
        cut = np.zeros(instances, dtype=bool)
        cut[self.owners[~inside]] = True
        sliver = cut & (after < np.maximum(MIN_AREA, MIN_SHARE * before))
        return result.select(~sliver[result.owners])


def _merged(one: PolygonSet, two: PolygonSet) -> PolygonSet:
    """Both sets' polygons, ordered by owner."""
    lengths, owners = np.concatenate([one.lengths, two.lengths]), np.concatenate([one.owners, two.owners])
    by_owner = np.argsort(owners, kind="stable")
    by_vertex = np.argsort(np.repeat(owners, lengths), kind="stable")
    return PolygonSet(np.concatenate([one.points, two.points])[by_vertex], lengths[by_owner], owners[by_owner])


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
    return PolygonSet(points[~closing], lengths, polygons.owners[source[nested][solid]])
