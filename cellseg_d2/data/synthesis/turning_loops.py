"""Compiled loops that turn cells of a bank.

A cell in the bank is h x w int16 grey values, in steps of its own scale, and h x w int8 quarters of a pixel to the
outline. Turned patches lie one after the other in flat arrays, as their sizes differ. Grey values are turned by right
angles, which loses nothing, and then by three shears (Paeth 1986), each a shift of rows or columns by a windowed sinc
(Lanczos): two-dimensional interpolation would smooth the grain, which gives synthetic cells away.

Numba compiles anew where this file changes, but not where a constant of another one does.
"""

import numpy as np
from numba import njit

from .units import MARGIN

__all__ = ["turn_patches"]

_TAPS, _PHASES = 8, 256
_OUTSIDE = -4.0 * MARGIN  # quarters of a pixel


def _lanczos() -> np.ndarray:
    """(PHASES + 1, TAPS) float32 weights of the pixels around a place k / PHASES of a pixel beyond the fourth."""
    away = np.arange(_TAPS)[None] - (_TAPS // 2 - 1) - np.arange(_PHASES + 1)[:, None] / _PHASES
    weights = np.sinc(away) * np.sinc(away / (_TAPS // 2))
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


_WEIGHTS = _lanczos()


@njit(cache=True, fastmath=True)
def turn_patches(
    values, distances, offsets, shapes, scales, quarters, mirrored, angles, sizes, starts, deltas, outlines
):
    """Turn cells: mirrored left to right where that is asked for, then by quarters of a turn, then by an angle.

    Args:
        values, distances: the bank as int16 and as int8.
        offsets: (N,) byte at which each cell begins; shapes: (N, 2) its height and width; scales: (N,) its step.
        quarters, mirrored: (N,) int64; angles: (N,) radians, at most an eighth of a turn. A positive turn takes the x
            axis to the y axis.
        sizes, starts: (N, 2) height and width of each turned patch, and where it begins in the two outputs.
        deltas, outlines: float32 and int8, filled: grey values, and quarters of a pixel to the outline, positive
            inside.
    """
    for n in range(len(offsets)):
        height, width = shapes[n]
        first = offsets[n] // 2
        source = _upright(values[first : first + height * width].reshape(height, width), quarters[n], mirrored[n])
        first = offsets[n] + 2 * height * width
        known = _upright(distances[first : first + height * width].reshape(height, width), quarters[n], mirrored[n])
        rows, columns = sizes[n]
        place = slice(starts[n], starts[n] + rows * columns)
        turned = deltas[place].reshape(rows, columns)
        _shear(source, angles[n], turned)
        turned *= np.float32(scales[n])
        _turn_outline(known, angles[n], outlines[place].reshape(rows, columns))


@njit(cache=True)
def _upright(plane, quarters, mirrored):
    """A plane as float32, mirrored and turned by right angles."""
    height, width = plane.shape
    odd = quarters % 2 == 1
    result = np.empty((width, height) if odd else (height, width), np.float32)
    for i in range(height):
        for j in range(width):
            column = width - 1 - j if mirrored else j
            if quarters == 0:
                result[i, column] = plane[i, j]
            elif quarters == 1:
                result[column, height - 1 - i] = plane[i, j]
            elif quarters == 2:
                result[height - 1 - i, width - 1 - column] = plane[i, j]
            else:
                result[width - 1 - column, i] = plane[i, j]
    return result


@njit(cache=True, fastmath=True)
def _shear(source, angle, turned):
    """Turn a plane about its middle by three shears; 0 beyond its border."""
    height, width = source.shape
    rows, columns = turned.shape
    if angle == 0.0:
        turned[:] = source
        return
    along, across = -np.tan(angle / 2), np.sin(angle)
    wide = int(np.ceil(width + abs(along) * height)) + 2
    wide += (wide - width) % 2  # so that both have the same pixel centres
    first, second = np.empty((height, wide), np.float32), np.empty((rows, wide), np.float32)
    for i in range(height):
        _shift(source[i], first[i], (width - wide) / 2 - along * (i + 0.5 - height / 2))
    for j in range(wide):
        _shift(first[:, j], second[:, j], (height - rows) / 2 - across * (j + 0.5 - wide / 2))
    for i in range(rows):
        _shift(second[i], turned[i], (wide - columns) / 2 - along * (i + 0.5 - rows / 2))


@njit(cache=True, fastmath=True)
def _shift(source, target, begin):
    """Values of a line at the places ``begin``, ``begin`` + 1, ..., interpolated; 0 beyond its ends."""
    whole = int(np.floor(begin))
    weights = _WEIGHTS[int(np.round((begin - whole) * _PHASES))]
    count = len(source)
    for k in range(len(target)):
        first = whole + k - (_TAPS // 2 - 1)
        total = np.float32(0)
        if first >= 0 and first + _TAPS <= count:
            for t in range(_TAPS):
                total += weights[t] * source[first + t]
        else:
            for t in range(max(0, -first), min(_TAPS, count - first)):
                total += weights[t] * source[first + t]
        target[k] = total


@njit(cache=True, fastmath=True)
def _turn_outline(known, angle, turned):
    """Turn the distances to an outline by linear interpolation; far outside beyond the border."""
    height, width = known.shape
    rows, columns = turned.shape
    cosine, sine = np.cos(angle), np.sin(angle)
    if angle != 0.0:
        known = _without_steps(known)
    for i in range(rows):
        for j in range(columns):
            right, down = j + 0.5 - columns / 2, i + 0.5 - rows / 2
            x = cosine * right + sine * down + width / 2 - 0.5
            y = cosine * down - sine * right + height / 2 - 0.5
            left, top = int(np.floor(x)), int(np.floor(y))
            away = 0.0
            for m in range(2):
                for k in range(2):
                    row, column = top + m, left + k
                    inside = 0 <= row < height and 0 <= column < width
                    value = known[row, column] if inside else _OUTSIDE
                    away += value * (y - top if m else 1.0 - y + top) * (x - left if k else 1.0 - x + left)
            turned[i, j] = int(np.ceil(away)) if away > 0 else int(np.floor(away))


@njit(cache=True, fastmath=True)
def _without_steps(known):
    """Distances to an outline along pixel edges, smoothed (1-2-1 both ways) so that its steps are not turned along."""
    height, width = known.shape
    across, result = known.copy(), known.copy()
    for i in range(height):
        for j in range(1, width - 1):
            across[i, j] = 0.25 * known[i, j - 1] + 0.5 * known[i, j] + 0.25 * known[i, j + 1]
    for i in range(1, height - 1):
        for j in range(width):
            result[i, j] = 0.25 * across[i - 1, j] + 0.5 * across[i, j] + 0.25 * across[i + 1, j]
    return result
