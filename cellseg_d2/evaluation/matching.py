"""COCO's greedy matching of predicted to annotated objects, on overlapping pairs only.

An object below the lowest threshold can never be matched, so leaving it out changes nothing; the order of choice is
pycocotools' own.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit

from .overlaps import Overlaps

__all__ = ["FALSE", "IGNORED", "TRUE", "Matching", "match"]

FALSE, TRUE, IGNORED = 0, 1, 2


@dataclass(frozen=True)
class Matching:
    """What became of D predicted objects at T overlap thresholds, in R ranges of objects.

    Attributes:
        flags: (R, T, D) uint8: ``TRUE`` positive, ``FALSE`` positive, or ``IGNORED``.
        partners: (T, D) int32 annotated objects of the first range's matches (crowds too); -1 where there is none.
        counted: (R, G) bool annotated objects that must be found, i.e. that are in the range and no crowd.
    """

    flags: np.ndarray
    partners: np.ndarray
    counted: np.ndarray


def match(
    overlaps: Overlaps,
    crowd: np.ndarray,
    truth_inside: np.ndarray,
    result_inside: np.ndarray,
    thresholds: np.ndarray,
) -> Matching:
    """Match the predicted objects of each image, best score first, to the annotated object that they overlap most.

    A predicted object takes the free object of highest IoU that reaches the threshold (the later one of equals);
    objects outside the range, and crowds, only where no other is left; crowds may be taken again and again. One that
    takes an ignored object, or takes none and is itself outside the range, is ignored.

    Args:
        overlaps: of D predicted objects, best score first within each image, and G annotated ones.
        crowd: (G,) bool.
        truth_inside, result_inside: (R, G) and (R, D) bool, which objects lie in the range.
        thresholds: (T,) IoU, ascending.

    >>> pairs = Overlaps(np.array([0, 1, 2]), np.array([0, 0], np.int32), np.array([8.0, 9.0]), np.array([0.8, 0.9]))
    >>> one, two = np.ones((1, 1), bool), np.ones((1, 2), bool)
    >>> match(pairs, np.array([False]), one, two, np.array([0.5, 0.85])).flags.tolist()
    [[[1, 0], [0, 1]]]
    """
    limits = np.minimum(np.asarray(thresholds, dtype=np.float64), 1 - 1e-10)
    counted = truth_inside & ~crowd
    flags, partners = _match(overlaps.starts, overlaps.truth, overlaps.iou, limits, crowd, counted, result_inside)
    return Matching(flags, partners, counted)


@njit(cache=True)
def _match(
    pair_starts: np.ndarray,
    truth: np.ndarray,
    iou: np.ndarray,
    limits: np.ndarray,
    crowd: np.ndarray,
    counted: np.ndarray,
    result_inside: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    ranges, results = result_inside.shape
    flags = np.zeros((ranges, len(limits), results), np.uint8)
    partners = np.full((len(limits), results), -1, np.int32)
    # The last (range, threshold) in which an object was taken: images share no object, so nothing is ever reset
    taken = np.full(len(crowd), -1, np.int32)
    for r in range(ranges):
        for t in range(len(limits)):
            turn = r * len(limits) + t
            for d in range(results):
                best, overlap, ignored = -1, limits[t], False
                for p in range(pair_starts[d], pair_starts[d + 1]):
                    g = truth[p]
                    if iou[p] >= overlap and counted[r, g] and taken[g] != turn:
                        best, overlap = g, iou[p]
                if best < 0:
                    for p in range(pair_starts[d], pair_starts[d + 1]):
                        g = truth[p]
                        if iou[p] >= overlap and not counted[r, g] and (crowd[g] or taken[g] != turn):
                            best, overlap, ignored = g, iou[p], True
                if best >= 0:
                    taken[best] = turn
                    if r == 0:
                        partners[t, d] = best
                    flags[r, t, d] = IGNORED if ignored else TRUE
                elif not result_inside[r, d]:
                    flags[r, t, d] = IGNORED
    return flags, partners
