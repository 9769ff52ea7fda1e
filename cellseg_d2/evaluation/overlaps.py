"""Which predicted objects overlap which annotated ones, and by how much: the sparse form of the IoU matrix.

In a dense image nearly all of the (D, G) pairs have nothing in common. Only those that have are kept.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit

from .objects import Objects

__all__ = ["Overlaps", "overlap"]

_NO_RUNS = (np.zeros(1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.int32))


@dataclass(frozen=True)
class Overlaps:
    """P pairs of D predicted and G annotated objects (places in their :class:`~.tables.Objects`).

    Attributes:
        starts: (D + 1,) int64; the pairs of predicted object d are those from ``starts[d]`` up to ``starts[d + 1]``,
            annotated objects ascending.
        truth: (P,) int32 annotated objects.
        intersection: (P,) float64 pixels in common.
        iou: (P,) float64 intersection over union; for a crowd, over the predicted object's area (as in COCO).
    """

    starts: np.ndarray
    truth: np.ndarray
    intersection: np.ndarray
    iou: np.ndarray

    @property
    def result(self) -> np.ndarray:
        """(P,) int64 predicted objects."""
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))


def overlap(results: Objects, truth: Objects) -> Overlaps:
    """All overlapping pairs, image by image; of masks where both have masks, of boxes otherwise.

    The arithmetic is pycocotools': IoU = i / (a + b - i) in float64.
    """
    if (results.masks is None) != (truth.masks is None):
        raise ValueError("one side has masks and the other has boxes only")
    runs = [
        (o.masks.offsets, o.masks.begin, o.masks.end) if o.masks is not None else _NO_RUNS for o in (results, truth)
    ]
    return Overlaps(
        *_overlap(
            results.masks is not None,
            *(part for o in (results, truth) for part in (o.starts, o.boxes, o.sizes)),
            *runs[0],
            *runs[1],
            truth.crowd,
        )
    )


@njit(cache=True)
def _grow(
    truth: np.ndarray, intersection: np.ndarray, iou: np.ndarray, room: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Arrays of at least ``room`` items with the same content."""
    if room <= len(truth):
        return truth, intersection, iou
    size = 2 * room
    more = np.empty(size, np.int32), np.empty(size), np.empty(size)
    more[0][: len(truth)], more[1][: len(truth)], more[2][: len(truth)] = truth, intersection, iou
    return more


@njit(cache=True)
def _by_left_edge(boxes: np.ndarray, start: int, stop: int) -> tuple[np.ndarray, np.ndarray, float]:
    """The objects start .. stop ordered by left edge, those edges, and the largest width."""
    order = start + np.argsort(boxes[start:stop, 0])
    widest = 0.0
    for g in range(start, stop):
        widest = max(widest, boxes[g, 2])
    return order, boxes[order, 0], widest


@njit(cache=True)
def _near(left: np.ndarray, widest: float, x: float, width: float) -> tuple[int, int]:
    """The part of the objects by left edge that can meet x .. x + width; one pixel more guards against rounding."""
    return np.searchsorted(left, x - widest - 1), np.searchsorted(left, x + width)


@njit(cache=True)
def _sort(truth: np.ndarray, intersection: np.ndarray, iou: np.ndarray) -> None:
    """Sort a few pairs by annotated object, in place."""
    for k in range(1, len(truth)):
        g, common, value = truth[k], intersection[k], iou[k]
        place = k
        while place > 0 and truth[place - 1] > g:
            truth[place] = truth[place - 1]
            intersection[place], iou[place] = intersection[place - 1], iou[place - 1]
            place -= 1
        truth[place], intersection[place], iou[place] = g, common, value


@njit(cache=True)
def _overlap(
    masks: bool,
    d_starts: np.ndarray,
    d_boxes: np.ndarray,
    d_sizes: np.ndarray,
    g_starts: np.ndarray,
    g_boxes: np.ndarray,
    g_sizes: np.ndarray,
    d_runs: np.ndarray,
    d_begin: np.ndarray,
    d_end: np.ndarray,
    g_runs: np.ndarray,
    g_begin: np.ndarray,
    g_end: np.ndarray,
    crowd: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    starts = np.zeros(len(d_boxes) + 1, np.int64)
    truth, intersection, iou = np.empty(1024, np.int32), np.empty(1024), np.empty(1024)
    count = 0
    for image in range(len(d_starts) - 1):
        order, left, widest = _by_left_edge(g_boxes, g_starts[image], g_starts[image + 1])
        for d in range(d_starts[image], d_starts[image + 1]):
            x, y, w, h = d_boxes[d]
            near = _near(left, widest, x, w)
            truth, intersection, iou = _grow(truth, intersection, iou, count + near[1] - near[0])
            first = count
            for place in range(near[0], near[1]):
                g = order[place]
                gx, gy, gw, gh = g_boxes[g]
                across = min(x + w, gx + gw) - max(x, gx)
                if across <= 0:
                    continue
                down = min(y + h, gy + gh) - max(y, gy)
                if down <= 0:
                    continue
                common = across * down
                if masks:
                    common = _common(d_begin, d_end, d_runs[d], d_runs[d + 1], g_begin, g_end, g_runs[g], g_runs[g + 1])
                    if common == 0:
                        continue
                union = d_sizes[d] if crowd[g] else d_sizes[d] + g_sizes[g] - common
                truth[count], intersection[count], iou[count] = g, common, common / union
                count += 1
            _sort(truth[first:count], intersection[first:count], iou[first:count])
            starts[d + 1] = count
    return starts, truth[:count].copy(), intersection[:count].copy(), iou[:count].copy()


@njit(cache=True)
def _common(
    a_begin: np.ndarray, a_end: np.ndarray, a: int, a_stop: int,
    b_begin: np.ndarray, b_end: np.ndarray, b: int, b_stop: int,
) -> float:  # fmt: skip
    """Pixels in the runs a .. a_stop of one mask and b .. b_stop of another."""
    common = 0.0
    while a < a_stop and b < b_stop:
        low, high = max(a_begin[a], b_begin[b]), min(a_end[a], b_end[b])
        if high > low:
            common += high - low
        if a_end[a] < b_end[b]:
            a += 1
        else:
            b += 1
    return common
