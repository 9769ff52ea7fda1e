"""Energy distance between two sets of cells, with an interval by image and the floor that the set's own halves give."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist

from .resampling import TwoSampleOptions, random_halves, resampled, strata_of
from .sample_pool import LEAST, TooFewError

__all__ = ["Distance", "energy_distance"]

MOST = 2000  # rows of each set; the matrix of distances grows with the square
SPLITS = 200  # random halves of the first set's images
HALVES = 4  # source images that the first set must have, to be halved
DEFAULTS = TwoSampleOptions()


@dataclass(frozen=True)
class Distance:
    """Result of :func:`energy_distance`: shares of the largest possible one, 0 alike, 1 nothing in common.

    Attributes:
        value, low, high: between the two sets, and the 95 % interval (bootstrap by source image).
        floor, floor_high: median and 95 % quantile between random halves of the first set's source images; NaN where
            it has fewer than 4 of them.
        rows: of the first and of the second set.
    """

    value: float
    low: float
    high: float
    floor: float
    floor_high: float
    rows: tuple[int, int]


def energy_distance(
    first: np.ndarray,
    second: np.ndarray,
    first_groups: Sequence,
    second_groups: Sequence,
    options: TwoSampleOptions = DEFAULTS,
) -> Distance:
    """Energy distance of two samples, relative: (2 E|X - Y| - E|X - X'| - E|Y - Y'|) / (2 E|X - Y|).

    Szekely & Rizzo (2013). The means are over pairs of rows of *different* source images in all three terms: rows of
    one image are not independent, and neither are an image and what was made of it. So the estimate has no bias from
    their likeness, is 0 on average where the sets are alike, and may be a little below 0.

    Args:
        first, second: (N, D) and (M, D) finite values, standardised.
        first_groups, second_groups: source image of each row; of a copied cell, the one that it was cut out of.

    Raises:
        TooFewError: fewer than 20 rows or fewer than two source images in a set.
    """
    rng = np.random.default_rng(options.seed)
    (x, own), (y, other) = _drawn(first, first_groups, rng), _drawn(second, second_groups, rng)
    names, numbers = np.unique(np.concatenate([own, other]), return_inverse=True)
    target = np.repeat([0, 1], [len(x), len(y)])
    strata = strata_of(numbers, target, len(names))
    images = (strata & 1 > 0).sum(), (strata & 2 > 0).sum()
    if min(len(x), len(y)) < LEAST or min(images) < 2:
        raise TooFewError(
            f"a distance takes {LEAST} complete rows of two source images in each set; these have {len(x)} and "
            f"{len(y)} rows of {images[0]} and {images[1]} images: give more images"
        )
    sums = _Sums(x, y, numbers[: len(x)], numbers[len(x) :], len(names))
    ones = np.ones((1, len(names)))
    draws = sums.distances(*2 * (resampled(strata, options.resamples, rng),))
    low, high = np.nanquantile(draws, (0.025, 0.975))
    floor, floor_high = _floor(x, numbers[: len(x)], len(names), rng)
    value = float(sums.distances(ones, ones)[0])
    return Distance(value, float(low), float(high), floor, floor_high, (len(x), len(y)))


class _Sums:
    """Sums of distances and numbers of pairs between the rows of each two groups, (G, G) each."""

    def __init__(self, x: np.ndarray, y: np.ndarray, own: np.ndarray, other: np.ndarray, count: int) -> None:
        sizes = [np.bincount(numbers, minlength=count).astype(np.float64) for numbers in (own, other)]
        self.between = _grouped(cdist(x, y), own, other, count), np.outer(*sizes)
        self.first = _grouped(cdist(x, x), own, own, count), np.outer(sizes[0], sizes[0])
        self.second = _grouped(cdist(y, y), other, other, count), np.outer(sizes[1], sizes[1])

    def distances(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """(R,) relative distances with weights of the groups, (R, G), in the first and in the second set."""
        between = _mean(self.between, first, second)
        return 1 - (_mean(self.first, first, first) + _mean(self.second, second, second)) / (2 * between)


def _mean(sums: tuple[np.ndarray, np.ndarray], left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(R,) mean distance over pairs of different groups; NaN where there is none."""
    total, pairs = (((left @ s) * right).sum(axis=1) - (left * right) @ np.diag(s) for s in sums)
    return np.divide(total, pairs, out=np.full(len(total), np.nan), where=pairs > 0)


def _grouped(matrix: np.ndarray, rows: np.ndarray, columns: np.ndarray, count: int) -> np.ndarray:
    """(count, count) sums of a matrix (N, M) over the groups of its rows and columns."""
    by_row = np.zeros((count, matrix.shape[1]))
    np.add.at(by_row, rows, matrix)
    result = np.zeros((count, count))
    np.add.at(result.T, columns, by_row.T)
    return result


def _floor(x: np.ndarray, own: np.ndarray, count: int, rng: np.random.Generator) -> tuple[float, float]:
    """Median and 95 % quantile of the distance between random halves of the first set's groups."""
    members = np.unique(own)
    if len(members) < HALVES:
        return float("nan"), float("nan")
    here = random_halves(members, count, SPLITS, rng)
    there = np.zeros_like(here)
    there[:, members] = ~here[:, members]
    found = _Sums(x, x, own, own, count).distances(here.astype(np.float64), there.astype(np.float64))
    return tuple(np.nanquantile(found, (0.5, 0.95)).tolist())


def _drawn(values: np.ndarray, groups: Sequence, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """At most MOST rows, by chance, with the names of their groups."""
    chosen = np.sort(rng.choice(len(values), min(len(values), MOST), replace=False))
    return np.asarray(values)[chosen], np.asarray(groups, dtype=str)[chosen]
