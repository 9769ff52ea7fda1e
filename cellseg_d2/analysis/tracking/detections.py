"""The cells of a film in flat arrays: where each one is, how large, and which of two frames are near each other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from ...errors import DatasetError
from ...evaluation.objects import Objects
from ...evaluation.overlaps import overlap
from ...evaluation.segmentations import to_runs
from ...run_lengths import Runs

__all__ = ["Detections", "Pairs", "detections_of", "near_pairs", "pair_ious"]

CHUNK = 1 << 16  # pairs whose masks are held at a time


@dataclass(frozen=True)
class Detections:
    """N cells of T frames, by frame, then by place in the image, so that the order they came in does not matter.

    Attributes:
        size: height and width of all frames in pixels; (0, 0) where there is no cell.
        frame: (N,) int64, from 0.
        place: (N,) int64, place among the cells of its frame as they came.
        centre: (N, 2) float64 x, y in pixels: mean of the mask's pixels; of an empty mask the centre of the box.
        area: (N,) int64 pixels of the mask.
        boxes: (N, 4) float64 x, y, w, h of the mask.
        masks: their runs.
        frames: T.
    """

    size: tuple[int, int]
    frame: np.ndarray
    place: np.ndarray
    centre: np.ndarray
    area: np.ndarray
    boxes: np.ndarray
    masks: Runs
    frames: int

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def diameter(self) -> float:
        """Median equivalent diameter 2 sqrt(area / pi) in pixels; 1 where no cell has a mask."""
        areas = self.area[self.area > 0]
        return float(np.median(2 * np.sqrt(areas / np.pi))) if len(areas) else 1.0


@dataclass(frozen=True)
class Pairs:
    """P pairs of detections near each other, by the first, then by the second.

    Attributes:
        first, second: (P,) int64 places in :class:`Detections`.
        distance: (P,) float64 pixels between the centres.
        iou: (P,) float64 intersection over union of the masks.
    """

    first: np.ndarray
    second: np.ndarray
    distance: np.ndarray
    iou: np.ndarray


def detections_of(frames: Sequence[Sequence[Mapping[str, Any]]]) -> Detections:
    """The cells of a film.

    Args:
        frames: of each frame its cells, COCO results with ``segmentation``: compressed run lengths, one size for all.

    Raises:
        DatasetError: a cell has no mask, a damaged one, or one of another size; says which.
    """
    origin = [(t, k) for t, cells in enumerate(frames) for k in range(len(cells))]
    cells = [frames[t][k] for t, k in origin]
    rles = [cell.get("segmentation") for cell in cells]

    def where(n: int) -> str:
        return f"cell {origin[n][1] + 1} of frame {origin[n][0] + 1}"

    bad = next((n for n, rle in enumerate(rles) if not isinstance(rle, Mapping) or "size" not in rle), None)
    if bad is not None:
        raise DatasetError(f"{where(bad)} has no run lengths as its segmentation; cells are tracked by their masks")
    height, width = map(int, rles[0]["size"]) if rles else (0, 0)
    masks, _, _ = to_runs(rles, np.full(len(rles), height), np.full(len(rles), width), where)
    frame, place = np.array(origin, dtype=np.int64).reshape(-1, 2).T
    area = masks.areas()
    boxes = masks.boxes(np.full(len(rles), height))
    given = np.array([cell["bbox"] for cell in cells], dtype=np.float64).reshape(-1, 4)
    centre = np.where(area[:, None] > 0, _centres(masks, area, height), given[:, :2] + given[:, 2:] / 2)
    score = np.array([cell.get("score", 1.0) for cell in cells], dtype=np.float64)
    order = np.lexsort((place, score, area, centre[:, 0], centre[:, 1], frame))
    parts = (values[order] for values in (frame, place, centre, area, boxes))
    return Detections((height, width), *parts, masks.take(order), len(frames))


def near_pairs(cells: Detections, first: np.ndarray, second: np.ndarray, lag: int, radius: float) -> Pairs:
    """All pairs of a cell of ``first`` and one of ``second`` that is ``lag`` frames later and at most ``radius`` away.

    Args:
        first, second: (A,) and (B,) int64 ascending places in ``cells``.
        radius: pixels between the centres.
    """
    far = 4 * radius + 1  # frames are this far apart on a third axis, so that one search serves the whole film
    trees = [
        cKDTree(np.column_stack([cells.centre[own], far * (cells.frame[own] + shift)]))
        for own, shift in ((first, lag), (second, 0))
    ]
    found = trees[0].sparse_distance_matrix(trees[1], radius, output_type="ndarray")
    found = found[np.lexsort((found["j"], found["i"]))]
    a, b = first[found["i"]], second[found["j"]]
    return Pairs(a, b, found["v"], pair_ious(cells, a, b))


def pair_ious(cells: Detections, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(P,) float64 intersection over union of the masks of pairs; only masks whose boxes meet are compared."""
    low = np.maximum(cells.boxes[first, :2], cells.boxes[second, :2])
    high = np.minimum(*(cells.boxes[own, :2] + cells.boxes[own, 2:] for own in (first, second)))
    meeting, ious = np.flatnonzero((low < high).all(axis=1)), np.zeros(len(first))
    for part in np.array_split(meeting, len(meeting) // CHUNK + 1):
        found = overlap(_one_an_image(cells, first[part]), _one_an_image(cells, second[part]))
        ious[part[found.result]] = found.iou
    return ious


def _one_an_image(cells: Detections, own: np.ndarray) -> Objects:
    """Cells as objects of an image each, so that each meets only the other one of its pair."""
    count = len(own)
    score, crowd = np.ones(count), np.zeros(count, dtype=bool)
    columns = cells.boxes[own], cells.area[own], crowd, score, score
    return Objects(own, np.arange(count + 1), *columns, cells.masks.take(own))


def _centres(masks: Runs, area: np.ndarray, height: int) -> np.ndarray:
    """(N, 2) mean x, y of the pixels of each mask, by closed sums over its runs; 0 of an empty one."""
    begin, end = masks.begin.astype(np.int64), masks.end.astype(np.int64)
    columns = _column_sum(end, height) - _column_sum(begin, height)
    rows = (begin + end - 1) * (end - begin) // 2 - height * columns
    sums = np.concatenate([[[0, 0]], np.cumsum(np.column_stack([columns, rows]), axis=0)])
    return (sums[masks.offsets[1:]] - sums[masks.offsets[:-1]]) / np.maximum(area, 1)[:, None]


def _column_sum(stop: np.ndarray, height: int) -> np.ndarray:
    """The sum of the columns p // height of all pixels p < stop."""
    full, rest = np.divmod(stop, max(height, 1))
    return height * (full * (full - 1) // 2) + full * rest
