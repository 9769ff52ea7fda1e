"""Compiled loops that measure cells: their noise, their border pixels, and how near each pixel is."""

import numpy as np
from numba import njit

from .units import FAR, NEAR, UNIT

__all__ = ["EDGE", "noise_level", "measure_noise", "measure_nearness", "measure_rims"]

EDGE = 2.0  # pixels from the outline within which the noise of an edge is measured
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
    UNIT a pixel, at most FAR pixels: a chamfer distance (Borgefors 1986), which is too long by at most 12 %."""
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
            _pass_on(near[i], near[i - 1], False)
        for i in range(tall - 2, -1, -1):
            _pass_on(near[i], near[i + 1], True)


@njit(cache=True)
def _pass_on(line, before, backwards):
    """Distances from the line before, which takes no order, and then from pixel to pixel along the line."""
    for j in range(1, len(line) - 1):
        line[j] = min(line[j], min(before[j] + _NEXT, min(before[j - 1], before[j + 1]) + _DIAGONAL))
    at = 255
    for k in range(len(line)):
        j = len(line) - 1 - k if backwards else k
        at = min(at + _NEXT, line[j])
        line[j] = at


@njit(cache=True)
def noise_level(plane, inside):
    """Standard deviation of the noise of grey values (h x w float32) where ``inside`` (h x w bool) is true.

    sqrt(pi / 2) / 6 times the mean of |I * [[1, -2, 1], [-2, 4, -2], [1, -2, 1]]| (Immerkaer 1996), which structures
    hardly reach, over pixels whose four neighbours are inside, too; 0 without any.
    """
    count, total = 0, 0.0
    for i in range(1, plane.shape[0] - 1):
        for j in range(1, plane.shape[1] - 1):
            if inside[i, j] and inside[i - 1, j] and inside[i + 1, j] and inside[i, j - 1] and inside[i, j + 1]:
                beside = plane[i - 1, j] + plane[i + 1, j] + plane[i, j - 1] + plane[i, j + 1]
                corners = plane[i - 1, j - 1] + plane[i - 1, j + 1] + plane[i + 1, j - 1] + plane[i + 1, j + 1]
                total += abs(4 * plane[i, j] - 2 * beside + corners)
                count += 1
    return np.sqrt(np.pi / 2) / 6 * total / count if count else 0.0


@njit(cache=True)
def measure_noise(deltas, outlines, sizes, starts, levels):
    """Fill ``levels`` (N, 2) with the noise of each turned cell, inside and along its outline."""
    for n in range(len(sizes)):
        rows, columns = sizes[n]
        place = slice(starts[n], starts[n] + rows * columns)
        plane, away = deltas[place].reshape(rows, columns), outlines[place].reshape(rows, columns)
        levels[n, 0] = noise_level(plane, away > 0)
        levels[n, 1] = noise_level(plane, (away >= -4 * EDGE) & (away <= 4 * EDGE))
