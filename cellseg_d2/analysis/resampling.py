"""Bootstrap by image: cells of one image are alike, so that it is images that are drawn again, not cells."""

from dataclasses import dataclass

import numpy as np

__all__ = ["TwoSampleOptions", "area_under_curve", "interval", "random_halves", "resampled", "strata_of"]


@dataclass(frozen=True)
class TwoSampleOptions:
    """How two sets are compared.

    Attributes:
        folds: of the cross-validation, at most; no more than either set has source images.
        most: rows of each set that a classifier sees, at most; the others are left out by chance.
        resamples: of the bootstrap.
        seed: of everything that is drawn.
    """

    folds: int = 5
    most: int = 2000
    resamples: int = 1000
    seed: int = 0


def strata_of(groups: np.ndarray, target: np.ndarray, count: int) -> np.ndarray:
    """(count,) which sets a group is in: 1 the first, 2 the second, 3 both, 0 none.

    Args:
        groups: (N,) integers below ``count``.
        target: (N,) 0 of the first set's rows, 1 of the second's.
    """
    first = np.bincount(groups[target == 0], minlength=count) > 0
    second = np.bincount(groups[target == 1], minlength=count) > 0
    return first + 2 * second.astype(np.int64)


def resampled(strata: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """(R, G) float64: how often each group is drawn; groups of each of the strata (G,) as often as there are."""
    counts = np.zeros((resamples, len(strata)))
    for stratum in np.unique(strata[strata > 0]):
        members = np.flatnonzero(strata == stratum)
        counts[:, members] = rng.multinomial(len(members), np.full(len(members), 1 / len(members)), resamples)
    return counts


def random_halves(members: np.ndarray, count: int, splits: int, rng: np.random.Generator) -> np.ndarray:
    """(splits, count) bool: a random half of the members (their indices below ``count``), the smaller one if odd."""
    chosen = np.zeros((splits, count), dtype=bool)
    for row in chosen:
        row[rng.permutation(members)[: len(members) // 2]] = True
    return chosen


def area_under_curve(scores: np.ndarray, target: np.ndarray, weights: np.ndarray | None = None) -> float:
    """P(score of the second set > score of the first) + P(equal) / 2, of weighted rows; NaN where a set has none.

    Args:
        scores, target, weights: (N,) real; 0 and 1; None for equal weights.

    >>> area_under_curve(np.array([1.0, 2.0, 2.0, 3.0]), np.array([0, 0, 1, 1]))
    0.875
    """
    ranks = np.unique(scores, return_inverse=True)[1]
    return _area(ranks, target, np.ones(len(target)) if weights is None else weights)


def interval(scores: np.ndarray, target: np.ndarray, row_counts: np.ndarray) -> tuple[float, float]:
    """95 % interval of the area under the curve over resamples of rows (R, N), by their percentiles."""
    ranks = np.unique(scores, return_inverse=True)[1]
    areas = [_area(ranks, target, weights) for weights in row_counts]
    low, high = np.nanquantile(areas, (0.025, 0.975))
    return float(low), float(high)


def _area(ranks: np.ndarray, target: np.ndarray, weights: np.ndarray) -> float:
    """The area of scores that are replaced by their ranks."""
    size = int(ranks.max(initial=0)) + 1
    second = np.bincount(ranks, weights * target, size)
    first = np.bincount(ranks, weights * (1 - target), size)
    total = first.sum() * second.sum()
    return float(second @ (np.cumsum(first) - first / 2) / total) if total else float("nan")
