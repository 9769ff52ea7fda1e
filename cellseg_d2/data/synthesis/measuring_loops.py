"""Compiled loops that measure cells: their finest detail, their border pixels, and how near each pixel is."""

import numpy as np
from numba import njit

from .units import FAR, NEAR, UNIT

__all__ = ["finest_detail", "measure_details", "measure_nearness", "measure_rims"]

_NEXT, _DIAGONAL = UNIT, round(1.414 * UNIT)


@njit(cache=True)
def measure_rims(outlines, sizes, starts, rims, rim_starts):
    """Fill ``rims`` (R, 2) with rows and columns of every second pixel of each mask beside one that is not of it, and
    ``rim_starts`` (N + 1,) with where those of each patch begin."""
    count = 0
    for n in range(len(sizes)):
        rim_starts[n] = count
        rows, columns = sizes[n]
        mask = outlines[starts[n] : starts[n] + rows * columns].reshape(rows, columns) > 0
        for i in range(rows):
            for j in range(columns):
                if not mask[i, j]:
                    continue
                inner = 0 < i < rows - 1 and 0 < j < columns - 1
                if inner and mask[i - 1, j] and mask[i + 1, j] and mask[i, j - 1] and mask[i, j + 1]:
                    continue
                if (i + j) % 2 == 0:  # half of them, evenly, cost half of the time
                    rims[count, 0], rims[count, 1] = i, j
                    count += 1
    rim_starts[len(sizes)] = count
    return count


@njit(cache=True)
def measure_nearness(outlines, sizes, starts, nearness, near_starts):
    """Fill ``nearness`` (uint8) with the distance to each cell in its patch with NEAR pixels around it, in parts of
    UNIT a pixel, at most FAR pixels: a chamfer distance (Borgefors 1986), which is too long by at most 8 %."""
    for n in range(len(sizes)):
        rows, columns = sizes[n]
        mask = outlines[starts[n] : starts[n] + rows * columns].reshape(rows, columns) > 0
        tall, wide = rows + 2 * NEAR, columns + 2 * NEAR
        near = nearness[near_starts[n] : near_starts[n] + tall * wide].reshape(tall, wide)
        near[:] = UNIT * FAR
        for i in range(rows):
            for j in range(columns):
                if mask[i, j]:
                    near[i + NEAR, j + NEAR] = 0
        for i in range(1, tall):
            for j in range(1, wide - 1):
                ahead = min(near[i, j - 1], near[i - 1, j]) + _NEXT
                aslant = min(near[i - 1, j - 1], near[i - 1, j + 1]) + _DIAGONAL
                near[i, j] = min(near[i, j], min(ahead, aslant))
        for i in range(tall - 2, -1, -1):
            for j in range(wide - 2, 0, -1):
                ahead = min(near[i, j + 1], near[i + 1, j]) + _NEXT
                aslant = min(near[i + 1, j + 1], near[i + 1, j - 1]) + _DIAGONAL
                near[i, j] = min(near[i, j], min(ahead, aslant))


@njit(cache=True)
def finest_detail(plane, inside):
    """How strong the finest grain of grey values (h x w float32) is where ``inside`` (h x w bool) is true.

    It is the mean absolute difference d to the mean of the four neighbours, at pixels whose neighbours are inside, too,
    without those above twice the mean of all, which are structure: fine bright points are no noise. 0 without any.
    """
    limit = np.inf
    for _ in range(3):
        count, total = 0, 0.0
        for i in range(1, plane.shape[0] - 1):
            for j in range(1, plane.shape[1] - 1):
                if inside[i, j] and inside[i - 1, j] and inside[i + 1, j] and inside[i, j - 1] and inside[i, j + 1]:
                    around = plane[i - 1, j] + plane[i + 1, j] + plane[i, j - 1] + plane[i, j + 1]
                    found = abs(plane[i, j] - np.float32(0.25) * around)
                    if found <= limit:
                        count += 1
                        total += found
        if count == 0:
            return 0.0
        limit = 2.0 * total / count
    return total / count


@njit(cache=True)
def measure_details(deltas, outlines, sizes, starts, details):
    """Fill ``details`` (N,) with the finest detail of each turned cell."""
    for n in range(len(sizes)):
        rows, columns = sizes[n]
        place = slice(starts[n], starts[n] + rows * columns)
        inside = outlines[place].reshape(rows, columns) > 0
        details[n] = finest_detail(deltas[place].reshape(rows, columns), inside)
