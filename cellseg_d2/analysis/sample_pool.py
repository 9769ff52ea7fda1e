"""Rows of two tables side by side, equally many of each, complete, with the source image of each."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..errors import DatasetError
from .resampling import TwoSampleOptions, resampled, strata_of

__all__ = ["LEAST", "Pool", "TooFewError", "pool"]

LEAST = 20  # rows of each set
MISSING = 0.5  # share of a set's rows that may lack a descriptor; one that more lack is left out
DEFAULTS = TwoSampleOptions()


class TooFewError(DatasetError):
    """Too few cells or images for a test."""


@dataclass(frozen=True)
class Pool:
    """Rows of two sets, as many of each.

    Attributes:
        names: (D,) descriptors.
        values: (N, D) float64, finite.
        target: (N,) int64, 0 the first set, 1 the second.
        groups: (N,) int64, the source image of each row, 0..G-1.
    """

    names: tuple[str, ...]
    values: np.ndarray
    target: np.ndarray
    groups: np.ndarray

    def resamples(self, number: int, seed: int) -> np.ndarray:
        """(number, N) weights of the rows when their source images are drawn again."""
        strata = strata_of(self.groups, self.target, int(self.groups.max()) + 1)
        return resampled(strata, number, np.random.default_rng(seed))[:, self.groups]


def pool(
    first: pd.DataFrame,
    second: pd.DataFrame,
    first_groups: Sequence,
    second_groups: Sequence,
    options: TwoSampleOptions = DEFAULTS,
) -> Pool:
    """Rows of two tables side by side, equally many of each.

    Descriptors that more than half of the rows of either table lack are left out, then rows that lack any of the
    others: whether a value is missing says how crowded a place is, and must give nothing away. The larger table is
    drawn from by chance.

    Raises:
        TooFewError: fewer than 20 rows of a table are left.
    """
    shared = [name for name in first.columns if name in second.columns]
    names = [n for n in shared if max(first[n].isna().mean(), second[n].isna().mean()) <= MISSING]
    rng, parts = np.random.default_rng(options.seed), []
    whole = [table[names].notna().all(axis=1).to_numpy() & bool(names) for table in (first, second)]
    rows = min(int(whole[0].sum()), int(whole[1].sum()), options.most)
    if rows < LEAST:
        raise TooFewError(
            f"a test takes {LEAST} complete rows (cells or images) of each set; of {len(first)} and {len(second)} "
            f"{whole[0].sum()} and {whole[1].sum()} are complete: give more images"
        )
    for table, groups, complete in ((first, first_groups, whole[0]), (second, second_groups, whole[1])):
        chosen = np.sort(rng.choice(np.flatnonzero(complete), rows, replace=False))
        parts.append((table[names].to_numpy(dtype=np.float64)[chosen], np.asarray(groups, dtype=str)[chosen]))
    values, groups = np.concatenate([parts[0][0], parts[1][0]]), np.concatenate([parts[0][1], parts[1][1]])
    return Pool(tuple(names), values, np.repeat([0, 1], rows), np.unique(groups, return_inverse=True)[1])
