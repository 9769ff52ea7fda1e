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
_OUTSIDE = np.float32(-4 * MARGIN)  # quarters of a pixel
_UP = np.float32(0.9999)


def _lanczos() -> np.ndarray:
    """(PHASES + 1, TAPS) float32 weights of the pixels around a place k / PHASES of a pixel beyond the fourth."""
    away = np.arange(_TAPS)[None] - (_TAPS // 2 - 1) - np.arange(_PHASES + 1)[:, None] / _PHASES
    weights = np.sinc(away) * np.sinc(away / (_TAPS // 2))
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


_WEIGHTS = _lanczos()


@njit(cache=True, fastmath=True)
def turn_patches(
    values, distances, offsets, shapes, scales, quarters, mirrored, angles, shifts, sizes, starts, deltas, outlines
):
    """Turn cells: mirrored left to right where that is asked for, then by quarters of a turn, then by an angle.

    Args:
        values, distances: the bank as int16 and as int8.
        offsets: (N,) byte at which each cell begins; shapes: (N, 2) its height and width; scales: (N,) its step.
        quarters, mirrored: (N,) int64; angles: (N,) radians, at most an eighth of a turn. A positive turn takes the x
            axis to the y axis. shifts: (N, 2) x and y, pixels by which each cell is moved after it was turned; only
            those that are turned by an angle are.
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
        _shear(source, angles[n], shifts[n], turned)
        turned *= np.float32(scales[n])
        _turn_outline(known, angles[n], shifts[n], rows, columns, outlines[place])


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
def _shear(source, angle, shift, turned):
    """Turn a plane about its middle by three shears, and move it by x and y; 0 beyond its border."""
    height, width = source.shape
    rows, columns = turned.shape
    if angle == 0.0:
        turned[:] = source
        return
    along, across = -np.tan(angle / 2), np.sin(angle)
    wide = int(np.ceil(width + abs(along) * height)) + 2
    wide += (wide - width) % 2  # so that both have the same pixel centres
    sheared = _shift_lines(source, along, wide, 0.0, 0.0)
    sheared = _shift_lines(sheared.T, across, rows, shift[1], 0.0)
    turned[:] = _shift_lines(sheared.T, along, columns, shift[0], shift[1])


@njit(cache=True, fastmath=True)
def _shift_lines(plane, slope, wide, shift, middle):
    """Shear a plane: each line moved by ``shift``, and by ``slope`` for each line from that which is ``middle`` lines
    from the middle one, and cut or filled with 0 to ``wide`` values. Both are at most a pixel."""
    lines, count = plane.shape
    most = abs(slope) * lines / 2 + 2
    before = max(0, int(np.ceil((wide - count) / 2 + most))) + _TAPS
    framed = np.zeros((lines, before + max(count, wide) + int(np.ceil(most)) + 2 * _TAPS), np.float32)
    for i in range(lines):
        for j in range(count):
            framed[i, before + j] = plane[i, j]
    result = np.empty((lines, wide), np.float32)
    for i in range(lines):
        begin = (count - wide) / 2 - shift - slope * (i + 0.5 - lines / 2 - middle)
        whole = int(np.floor(begin))
        weights = _WEIGHTS[int(np.round((begin - whole) * _PHASES))]
        _filter(framed[i, before + whole - (_TAPS // 2 - 1) :], weights, result[i])
    return result


@njit(cache=True, fastmath=True)
def _filter(source, weights, target):
    """Each value the weighted sum of those from its place on: a loop without conditions, several values at once."""
    for k in range(len(target)):
        total = np.float32(0)
        for t in range(_TAPS):
            total += weights[t] * source[k + t]
        target[k] = total


@njit(cache=True, fastmath=True)
def _turn_outline(known, angle, shift, rows, columns, turned):
    """Turn the distances to an outline; far outside beyond the border. What is inside stays it when it is rounded."""
    if angle != 0.0:
        known = _without_steps(known)
    away = np.empty((rows, columns), np.float32)
    _shear(known - _OUTSIDE, angle, shift, away)
    for k in range(rows * columns):
        value = min(max(away.flat[k] + _OUTSIDE, np.float32(-127)), np.float32(126))  # interpolation overshoots
        turned[k] = int(value + (_UP if value > 0 else -_UP))


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
