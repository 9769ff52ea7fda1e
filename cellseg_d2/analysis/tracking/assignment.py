"""Which of the possible links hold: the linear assignment of Jaqaman et al. (2008), solved sparsely."""

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

__all__ = ["assign"]


def assign(first: np.ndarray, second: np.ndarray, cost: np.ndarray, cutoff: float) -> np.ndarray:
    """Choose pairs so that nothing is in two of them and the sum of ``cost - cutoff`` is as low as possible.

    To leave one of ``first`` alone costs the cutoff, so no chosen pair costs more.

    Args:
        first, second: (P,) integers, what each pair joins; no pair twice.
        cost: (P,) float64, 0 or more.
        cutoff: cost of no link.

    Returns:
        (L,) ascending places of the chosen pairs.
    """
    kept = np.flatnonzero(cost < cutoff)
    if not len(kept):
        return kept
    rows, a = np.unique(first[kept], return_inverse=True)
    columns, b = np.unique(second[kept], return_inverse=True)
    alone = np.arange(len(rows))
    values = 1 + np.concatenate([cost[kept], np.full(len(rows), cutoff)])  # all rows alike; 0 would be no entry
    places = np.concatenate([a, alone]), np.concatenate([b, len(columns) + alone])
    matrix = csr_matrix((values, places), shape=(len(rows), len(columns) + len(rows)))
    chosen = dict(zip(*(side.tolist() for side in min_weight_full_bipartite_matching(matrix))))
    return kept[[chosen[row] == column for row, column in zip(a.tolist(), b.tolist())]]
