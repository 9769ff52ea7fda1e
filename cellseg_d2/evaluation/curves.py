"""Precision over recall, as COCO draws it: 101 recall levels, precision made monotone from the right."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numba import njit

from .matching import IGNORED, TRUE

__all__ = ["RECALL_LEVELS", "Ranking", "mean_or_nan"]

LANES = 16  # resamples in one block
RECALL_LEVELS = np.linspace(0.0, 1.00, 101)  # pycocotools' own floats, to the last bit


@dataclass(frozen=True)
class Ranking:
    """All predicted objects of a data set from the highest score down, with what became of them.

    Attributes:
        image: (D,) int32 places in the image table.
        scores: (D,) float64, descending; equal scores stay in the order of images.
        flags: (R, T, D) uint8, see :class:`~.matching.Matching`.
        objects: (R, I) int64 annotated objects to be found in each image.
    """

    image: np.ndarray
    scores: np.ndarray
    flags: np.ndarray
    objects: np.ndarray

    @classmethod
    def of(cls, image: np.ndarray, scores: np.ndarray, flags: np.ndarray, objects: np.ndarray) -> "Ranking":
        """Sort predicted objects that are given image by image."""
        order = np.argsort(-scores, kind="stable")
        return cls(image[order].astype(np.int32), scores[order], np.take(flags, order, axis=2), objects)

    def precision(self, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Precision at 101 recall levels.

        With tp and fp the true and false positives down to a rank, recall = tp / objects and precision =
        tp / (tp + fp); the value at level r is the highest precision at any recall of at least r, 0 beyond the last.

        Args:
            weights: (I,) how often each image counts (None: once). A whole number n is the same as n copies of the
                image (whose equal scores stay together), 0 the same as leaving it out.

        Returns:
            (R, T, 101) precision in 0..1, -1 where no object is to be found; and the scores where the levels are
            reached.

        >>> flags = np.array([[[1, 0, 1]]], dtype=np.uint8)
        >>> found = Ranking(np.zeros(3, np.int32), np.array([0.9, 0.8, 0.7]), flags, np.array([[2]]))
        >>> found.precision()[0][0, 0, [0, 50, 51, 100]].round(2).tolist()
        [1.0, 1.0, 0.67, 0.67]
        """
        if weights is None:
            weights = np.ones(self.objects.shape[1])
        weights = np.asarray(weights, dtype=np.float64)
        return _precision(self.image, self.scores, self.flags, self.objects @ weights, weights, RECALL_LEVELS)

    def average_precision(self, weights: np.ndarray, ranges: int | None = None, threads: int = 1) -> np.ndarray:
        """Mean of :meth:`precision` over the recall levels, for many weights at once.

        Args:
            weights: (B, I) whole numbers, see :meth:`precision`.
            ranges: how many of the ranges; None: all.

        Returns:
            (B, R, T) float64 in 0..1, NaN where no object is to be found.
        """
        drawn = weights.any(axis=0)
        part = slice(None) if drawn.all() else np.flatnonzero(drawn[self.image])
        image, flags = self.image[part], np.ascontiguousarray(self.flags[:ranges, :, part])
        blocks = [weights[first : first + LANES] for first in range(0, len(weights), LANES)]

        def work(block: np.ndarray) -> np.ndarray:
            lanes = np.zeros((weights.shape[1], LANES))
            lanes[:, : len(block)] = block.T
            goals = _goals(self.objects[:ranges] @ lanes, RECALL_LEVELS)
            return _average_precision(image, flags, goals, lanes)[:, :, : len(block)]

        with ThreadPoolExecutor(threads) as pool:
            parts = [np.zeros((*flags.shape[:2], 0)), *pool.map(work, blocks)]
        return np.concatenate(parts, axis=2).transpose(2, 0, 1)


def mean_or_nan(values: np.ndarray) -> float:
    """Mean of the values that exist (COCO writes -1 where there is no object); NaN where there is none.

    >>> mean_or_nan(np.array([0.5, -1.0, 1.0]))
    0.75
    """
    values = values[values > -1]
    return float(values.mean()) if values.size else float("nan")


@njit(cache=True, nogil=True)
def _precision(
    image: np.ndarray,
    scores: np.ndarray,
    flags: np.ndarray,
    objects: np.ndarray,
    weights: np.ndarray,
    levels: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    ranges, thresholds, results = flags.shape
    precision = np.full((ranges, thresholds, len(levels)), -1.0)
    reached_at = np.full(precision.shape, -1.0)
    tiny = np.spacing(1.0)
    for r in range(ranges):
        if objects[r] == 0:
            continue
        for t in range(thresholds):
            best, score_at = precision[r, t], reached_at[r, t]
            best[:], score_at[:] = 0.0, 0.0
            true, found, level = 0.0, 0.0, 0
            for d in range(results):
                weight = weights[image[d]]
                if level == 0 and weight > 0:  # recall 0 is reached by whatever comes first
                    score_at[0], level = scores[d], 1
                flag = flags[r, t, d]
                found += weight * (flag != IGNORED)
                # Only a true positive raises precision, and only a true positive reaches a level
                if flag == TRUE and weight > 0:
                    true += weight
                    while level < len(levels) and levels[level] <= true / objects[r]:
                        score_at[level] = scores[d]
                        level += 1
                    best[level - 1] = max(best[level - 1], true / (found + tiny))
            for k in range(level - 2, -1, -1):
                best[k] = max(best[k], best[k + 1])
    return precision, reached_at


def _goals(objects: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """(..., 101) the smallest whole number of true positives whose recall reaches each level; NaN without objects."""
    with np.errstate(divide="ignore", invalid="ignore"):
        goals = np.ceil(objects[..., None] * levels)
        # The product may be rounded across the whole number
        goals -= (goals - 1) / objects[..., None] >= levels
        goals += goals / objects[..., None] < levels
    return np.where(objects[..., None] > 0, goals, np.nan)


@njit(cache=True, nogil=True, error_model="numpy")
def _average_precision(image: np.ndarray, flags: np.ndarray, goals: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(R, T, LANES): as :func:`_precision`, with inner loops over the resamples that a processor runs side by side."""
    ranges, thresholds, results = flags.shape
    levels = goals.shape[2]
    mean = np.full((ranges, thresholds, LANES), np.nan)
    true, found, high, goal = np.zeros(LANES), np.zeros(LANES), np.zeros(LANES), np.zeros(LANES)
    level = np.zeros(LANES, np.int64)
    best = np.zeros((LANES, levels))
    tiny = np.spacing(1.0)
    for r in range(ranges):
        for t in range(thresholds):
            best[:] = 0.0
            for k in range(LANES):
                true[k], found[k], high[k], level[k], goal[k] = 0.0, tiny, 0.0, 1, goals[r, k, 1]
            for d in range(results):
                flag = flags[r, t, d]
                if flag == IGNORED:
                    continue
                weight = weights[image[d]]
                if flag != TRUE:
                    for k in range(LANES):
                        found[k] += weight[k]
                    continue
                crossed = 0
                for k in range(LANES):
                    found[k] += weight[k]
                    true[k] += weight[k]
                    crossed += true[k] >= goal[k]
                if crossed:
                    for k in range(LANES):
                        while true[k] >= goal[k]:
                            best[k, level[k] - 1], high[k] = high[k], 0.0
                            level[k] += 1
                            goal[k] = goals[r, k, level[k]] if level[k] < levels else np.inf
                for k in range(LANES):
                    high[k] = max(high[k], true[k] / found[k])
            for k in range(LANES):
                if np.isnan(goals[r, k, 0]):
                    continue
                best[k, level[k] - 1] = high[k]
                highest, total = 0.0, 0.0
                for place in range(level[k] - 1, -1, -1):
                    highest = max(highest, best[k, place])
                    total += highest
                mean[r, t, k] = total / levels
    return mean
