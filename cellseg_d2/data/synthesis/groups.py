"""Which cells of an image are placed together: cells that touch have grown into shapes that fit each other."""

from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

__all__ = ["MOST_TOGETHER", "grown_together", "middles_of"]

MOST_TOGETHER = 16  # cells; larger clusters are parted, or each image would show the same ones


def middles_of(masks: Sequence[tuple[np.ndarray, int, int]]) -> np.ndarray:
    """(N, 2) row and column of the middle of each mask: tight (h, w), and row and column of its first pixel."""
    found = [(top + mask.shape[0] // 2, left + mask.shape[1] // 2) for mask, top, left in masks]
    return np.array(found, np.int64).reshape(-1, 2)


def grown_together(middles: np.ndarray, touched: Sequence[np.ndarray]) -> np.ndarray:
    """(N,) number of the group of each cell, from 0 on.

    A group is a cluster of cells that touch each other, directly or through others; one of more than
    ``MOST_TOGETHER`` cells is parted in the middle, across its longer side, until none is larger.

    Args:
        middles: (N, 2) of the cells.
        touched: of each cell the places of those that it touches.
    """
    count = len(middles)
    if not count:
        return np.zeros(0, np.int64)
    one = np.repeat(np.arange(count), [len(others) for others in touched])
    other = np.concatenate([np.zeros(0, np.int64), *touched]).astype(np.int64)
    _, cluster = connected_components(coo_array((np.ones(len(one)), (one, other)), shape=(count, count)), False)
    order = np.argsort(cluster, kind="stable")
    todo = np.split(order, np.flatnonzero(np.diff(cluster[order])) + 1)
    result, number = np.zeros(count, np.int64), 0
    while todo:
        cells = todo.pop()
        if len(cells) > MOST_TOGETHER:
            along = np.ptp(middles[cells], axis=0).argmax()
            cells = cells[np.argsort(middles[cells, along], kind="stable")]
            todo += [cells[len(cells) // 2 :], cells[: len(cells) // 2]]
        else:
            result[cells] = number
            number += 1
    return result
