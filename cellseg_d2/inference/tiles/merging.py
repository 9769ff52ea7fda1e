"""The cells of overlapping tiles as the cells of the whole image: each whole, and once.

Two tiles see the same pixels where they overlap, so what both call one cell must look alike there:

* Views of one cell are matched by their masks inside the overlap of their tiles (IoU of half or more, the best first).
  A cell is matched to one cell of a tile at most: neighbours that a tile tells apart stay apart.
* A view is cut where it comes near an edge of its tile that is none of the image; it is whole if it is not, and none
  that is cut leaves its tile. Of a cell that some tile sees whole, the view farthest from such edges stays as it is;
  one that no tile sees whole is the union of its views.
* Of two cells from different tiles that lie on each other by half of the smaller one, unmatched, the one nearer to an
  inner edge goes, unless some tile sees both lie like that; two cut ones are views of one cell.
* Whether there is a cell at all is for the tile to say that sees the place from farthest inside: what only others
  found there goes. So errors near seams are as frequent as elsewhere, although several tiles look there.

Each class is merged on its own.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...modeling.paste_loops import write_counts
from .merging_loops import union_lengths
from .merging_views import Pairs, Views, compare_views, place_views
from .tiling import Tile

__all__ = ["merge_tiles"]

SAME = 0.5  # IoU, and intersection over the smaller, from which two masks are of one cell
AT_ONCE = 1 << 14  # masks encoded together


def merge_tiles(
    tiles: Sequence[Tile], found: Sequence[Sequence[Mapping[str, Any]]], height: int, width: int
) -> list[dict[str, Any]]:
    """Merge the cells of overlapping tiles.

    Args:
        tiles: of :func:`.tiling.plan_tiles`.
        found: the cells of each tile, COCO results in its pixels: ``bbox`` [x, y, w, h], ``score``, ``category_id``,
            ``segmentation`` (compressed run lengths of the tile's size) and, where the model scores masks,
            ``mask_score``; more is kept.
        height, width: of the image.

    Returns:
        COCO results of the image's size, best ``score`` first; cells without any pixel are left out. Where views are
        joined, their scores are averaged, weighted by area; otherwise all but the place is the chosen view's.

    Raises:
        ValueError: there are not as many lists as tiles, or run lengths are damaged or not of their tile's size.
    """
    views = place_views(tiles, found, height, width)
    merged = [(_row(views, tiles, chosen), chosen) for chosen in _resolve(views, compare_views(views))]
    merged.sort(key=lambda pair: -pair[0]["score"])
    for begin in range(0, len(merged), AT_ONCE):
        some = merged[begin : begin + AT_ONCE]
        for (row, _), counts in zip(some, _encode([chosen for _, chosen in some], views.runs, height * width)):
            row["segmentation"] = {"size": [height, width], "counts": counts}
    return [row for row, _ in merged]


@dataclass(eq=False)
class _Cell:
    """The views of one cell, tile -> view, those that make its mask, its rank, and whether it stays."""

    views: dict[int, int]
    chosen: tuple[int, ...] = ()
    rank: tuple[bool, float, float] = (False, 0.0, 0.0)
    stays: bool = False

    def choose(self, views: Views, cut: np.ndarray) -> None:
        """The view that lies farthest inside its tile, of those that are whole; or all, where none is."""
        every = list(self.views.values())
        partial = views.boxes[[view for view in every if cut[view]]]
        whole = [view for view in every if not cut[view] and _holds(views.regions[views.tile[view]], partial)]
        ranks = {view: (bool(whole), float(views.inside[view]), float(views.cells[view]["score"])) for view in every}
        best = max(whole or every, key=ranks.__getitem__)
        self.rank, self.chosen = ranks[best], (best,) if whole else tuple(every)


def _resolve(views: Views, pairs: Pairs) -> list[tuple[int, ...]]:
    """The views that make the mask of each cell of the image."""
    shared, cut = views.shared.tolist(), views.cut
    cell_of = {view: _Cell({tile: view}) for view, tile in zip(shared, views.tile[views.shared].tolist())}
    _match(cell_of, pairs.where(pairs.apart & (pairs.iou >= SAME)))
    _match(cell_of, pairs.where(pairs.apart & (pairs.part >= SAME) & cut[pairs.one] & cut[pairs.other]))
    cells = list(dict.fromkeys(cell_of.values()))
    for cell in cells:
        cell.choose(views, cut)
    rivals = _rivals(cell_of, pairs)
    for cell in sorted(cells, key=lambda cell: cell.rank, reverse=True):
        cell.stays = not any(rival.stays for rival in rivals[cell])
    overruled = _overruled(cell_of, pairs, views)
    alone = np.ones(len(views.cells), bool)
    alone[views.shared] = False
    stay = [cell.chosen for cell in cells if cell.stays and cell not in overruled]
    return [(view,) for view in np.flatnonzero(alone).tolist()] + stay


def _match(cell_of: dict[int, _Cell], pairs: list[tuple[int, int]]) -> None:
    """Make one cell of two views, pair by pair, unless it would have two views in one tile."""
    for one, other in pairs:
        cell, gone = cell_of[one], cell_of[other]
        if cell.views.keys().isdisjoint(gone.views):
            cell.views.update(gone.views)
            cell_of.update(dict.fromkeys(gone.views.values(), cell))


def _rivals(cell_of: dict[int, _Cell], pairs: Pairs) -> dict[_Cell, list[_Cell]]:
    """Cells whose masks lie on each other, though no tile has them both like that."""
    neighbours = set(pairs.where(~pairs.apart & (pairs.part >= SAME / 2)))
    rivals = defaultdict(list)
    for one, other in pairs.where(pairs.apart & (pairs.part >= SAME)):
        cell, rival = cell_of[one], cell_of[other]
        if cell is rival or one not in cell.chosen or other not in rival.chosen:
            continue
        both = [sorted((cell.views[tile], rival.views[tile])) for tile in cell.views.keys() & rival.views.keys()]
        if neighbours.isdisjoint(map(tuple, both)):
            rivals[cell].append(rival)
            rivals[rival].append(cell)
    return rivals


def _overruled(cell_of: dict[int, _Cell], pairs: Pairs, views: Views) -> set[_Cell]:
    """Cells that the tile which sees the place from farthest inside does not have.

    Not those on which it has one that gave way to others: there it has seen something.
    """
    judge, gave_way = views.judge, set()
    for one, other in pairs.where(pairs.apart & (pairs.part >= SAME)):
        for view, neighbour in ((one, other), (other, one)):
            if judge[view] in cell_of[neighbour].views and not cell_of[neighbour].stays:
                gave_way.add(view)
    overruled = set()
    for cell in set(cell_of.values()):
        every = list(cell.views.values())
        deepest = max(every, key=views.inside.__getitem__)
        if min(judge[every]) >= 0 and judge[deepest] not in cell.views and gave_way.isdisjoint(every):
            overruled.add(cell)
    return overruled


def _holds(region: np.ndarray, boxes: np.ndarray) -> bool:
    """No box (K, 4) leaves the region (4,), all x0, y0, x1, y1."""
    return bool((boxes[:, :2] >= region[:2]).all() and (boxes[:, 2:] <= region[2:]).all())


def _row(views: Views, tiles: Sequence[Tile], chosen: tuple[int, ...]) -> dict[str, Any]:
    """The COCO result of a cell, but for its run lengths."""
    rows = [_moved(views.cells[view], tiles[views.tile[view]]) for view in chosen]
    if len(rows) == 1:
        return rows[0]
    weights = views.areas[list(chosen)]
    row = dict(rows[int(weights.argmax())])
    for name in {"score", "mask_score"} & row.keys():
        row[name] = float(np.average([piece[name] for piece in rows], weights=weights))
    boxes = np.array([piece["bbox"] for piece in rows])
    low, high = boxes[:, :2].min(axis=0), (boxes[:, :2] + boxes[:, 2:]).max(axis=0)
    return row | {"bbox": [*low.tolist(), *(high - low).tolist()]}


def _moved(cell: Mapping[str, Any], tile: Tile) -> dict[str, Any]:
    """The same with the box in pixels of the image."""
    x, y, width, height = cell["bbox"]
    return {**cell, "bbox": [x + tile.x0, y + tile.y0, width, height]}


def _encode(cells: list[tuple[int, ...]], runs: tuple[np.ndarray, np.ndarray, np.ndarray], pixels: int) -> list[str]:
    """COCO's ``counts`` of cells that are made of one view or more, in an image of so many pixels."""
    starts = np.cumsum([0, *map(len, cells)])
    members = np.array([view for chosen in cells for view in chosen], np.int64)
    text, ends = write_counts(*union_lengths(members, starts, *runs, pixels))
    counts, ends = text.tobytes().decode("ascii"), [0, *ends.tolist()]
    return [counts[begin:end] for begin, end in zip(ends, ends[1:])]
