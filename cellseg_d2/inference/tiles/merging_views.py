"""What overlapping tiles see of the cells of one image, and how alike it is where two of them look."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely

from ...run_lengths import decode_counts
from .merging_loops import boxes_of, place_runs, shared_pixels
from .tiling import Tile

__all__ = ["Pairs", "Views", "compare_views", "place_views"]

MARGIN, MARGIN_SHARE = 2, 1 / 16  # a view is cut nearer to an inner edge: pixels, and share of its longer side


@dataclass(frozen=True)
class Views:
    """N cells as T tiles see them, their masks placed in the image; an inner edge of a tile is none of the image.

    Attributes:
        cells: as they were found, in pixels of their tile.
        tile: (N,) place of the tile in the list.
        regions: (T, 4) int64 x0, y0, x1, y1 of the tiles.
        boxes: (N, 4) int64 x0, y0, x1, y1 around the masks; areas: (N,) int64 their pixels.
        runs: the masks as in :mod:`.merging_loops`; height: of the image.
        inside: (N,) float64 distance of the box to the nearest inner edge of the cell's tile, inf where there is none.
        judge: (N,) tile that has the box farther inside than the cell's own tile has, -1 where none has.
        shared: (S,) the views whose box meets another tile.
    """

    cells: list[Mapping[str, Any]]
    tile: np.ndarray
    regions: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    runs: tuple[np.ndarray, np.ndarray, np.ndarray]
    height: int
    inside: np.ndarray
    judge: np.ndarray
    shared: np.ndarray

    @property
    def cut(self) -> np.ndarray:
        """(N,) bool: an inner edge is so near that some of the cell may lie beyond."""
        return self.inside < MARGIN + MARGIN_SHARE * (self.boxes[:, 2:] - self.boxes[:, :2]).max(axis=1, initial=0)


@dataclass(frozen=True)
class Pairs:
    """P pairs of views of one class that have pixels in common; of the two tiles only what both see counts.

    Attributes:
        one, other: (P,) views.
        iou: (P,) float64 intersection over union; part: (P,) intersection over the smaller.
        apart: (P,) bool, from two tiles.
    """

    one: np.ndarray
    other: np.ndarray
    iou: np.ndarray
    part: np.ndarray
    apart: np.ndarray

    def where(self, chosen: np.ndarray) -> list[tuple[int, int]]:
        """The pairs for which (P,) bool ``chosen`` holds, the most alike first."""
        places = np.flatnonzero(chosen)
        places = places[np.lexsort((-self.part[places], -self.iou[places]))]
        return list(zip(self.one[places].tolist(), self.other[places].tolist()))


def place_views(tiles: Sequence[Tile], found: Sequence[Sequence[Mapping[str, Any]]], height: int, width: int) -> Views:
    """The cells of all tiles that have a pixel, placed in the image.

    Raises:
        ValueError: as :func:`.merging.merge_tiles`.
    """
    if len(tiles) != len(found):
        raise ValueError(f"cells of {len(found)} tiles, but there are {len(tiles)}")
    nothing = (np.zeros(1, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64))
    placed = [nothing, *(_placed(tile, cells, height) for tile, cells in zip(tiles, found) if cells)]
    counts = np.concatenate([np.diff(offsets) for offsets, *_ in placed])
    tile = np.repeat(np.arange(len(tiles)), [len(cells) for cells in found])[counts > 0]
    cells = [cell for cell, count in zip((cell for some in found for cell in some), counts.tolist()) if count]
    runs = (
        np.concatenate([[0], np.cumsum(counts[counts > 0])]),
        np.concatenate([begin for _, begin, _ in placed]),
        np.concatenate([end for *_, end in placed]),
    )
    boxes = boxes_of(*runs, height)
    boxes, areas = boxes[:, :4], boxes[:, 4]
    regions = np.array([[tile.x0, tile.y0, tile.x1, tile.y1] for tile in tiles], np.int64).reshape(-1, 4)
    places = _places(tile, boxes, regions, [0, 0, width, height])
    return Views(cells, tile, regions, boxes, areas, runs, height, *places)


def _placed(tile: Tile, cells: Sequence[Mapping[str, Any]], height: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The masks of a tile's cells in the image, as :func:`.merging_loops.place_runs` gives them."""
    rows, columns = tile.size
    rles = [cell["segmentation"] for cell in cells]
    masks, total = decode_counts([rle["counts"] for rle in rles], np.full(len(rles), rows * columns))
    if any(list(rle["size"]) != [rows, columns] for rle in rles) or (total != rows * columns).any():
        raise ValueError(f"run lengths in a tile of {tile.size} pixels (height, width) are damaged or of another size")
    return place_runs(masks.offsets, masks.begin, masks.end, rows, tile.y0, tile.x0, height)


def _places(
    tile: np.ndarray, boxes: np.ndarray, regions: np.ndarray, image: list[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``inside``, ``judge`` and ``shared`` of :class:`Views`; image: x0, y0, x1, y1."""
    limits = np.where(regions == image, [-np.inf, -np.inf, np.inf, np.inf], regions)
    inside = _inside(boxes, limits[tile])
    view, other = shapely.STRtree(shapely.box(*regions.T)).query(shapely.box(*boxes.T))
    view, other = view[other != tile[view]], other[other != tile[view]]
    shared, depth = np.unique(view), _inside(boxes[view], limits[other])
    deeper = np.flatnonzero(depth > inside[view])
    deeper = deeper[np.argsort(depth[deeper], kind="stable")]
    judge = np.full(len(boxes), -1)
    judge[view[deeper]] = other[deeper]  # of several tiles the last, which has it farthest inside
    return inside, judge, shared


def _inside(boxes: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """(N,) float64: how far boxes (N, 4) lie inside of limits (N, 4); negative where they stick out."""
    return np.concatenate([boxes[:, :2] - limits[:, :2], limits[:, 2:] - boxes[:, 2:]], axis=1).min(axis=1)


def compare_views(views: Views) -> Pairs:
    """All pairs of shared views of one class that have pixels in common, also those of one tile."""
    boxes = shapely.box(*views.boxes[views.shared].T)
    one, other = views.shared[shapely.STRtree(boxes).query(boxes)]
    category = np.array([cell["category_id"] for cell in views.cells])
    alike = (one < other) & (category[one] == category[other]) if len(one) else np.zeros(0, bool)
    one, other = one[alike], other[alike]
    first, second = views.regions[views.tile[one]], views.regions[views.tile[other]]
    windows = np.concatenate([np.maximum(first[:, :2], second[:, :2]), np.minimum(first[:, 2:], second[:, 2:])], axis=1)
    pixels = shared_pixels(one, other, windows, *views.runs, views.height)
    met = pixels[:, 0] > 0
    one, other, (common, has, other_has) = one[met], other[met], pixels[met].T
    apart = views.tile[one] != views.tile[other]
    return Pairs(one, other, common / (has + other_has - common), common / np.minimum(has, other_has), apart)
