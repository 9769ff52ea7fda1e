"""Compiled loops that turn cells of a bank and measure what placement needs of them.

A cell in the bank is h x w int16 grey values, in steps of its own scale, and h x w int8 quarters of a pixel to the
outline. Turned patches lie one after the other in flat arrays, as their sizes differ. Numba compiles anew where this
file changes, but not where a constant of another one does.
"""

import numpy as np
from numba import njit

from .cutout import FAR, MARGIN
from .placement_loops import NEAR, UNIT

__all__ = ["measure_nearness", "measure_rims", "turn_image", "turn_patches"]

_SHARPNESS = -1.0  # of the cubic convolution (Keys 1981); sharper ones keep more of the grain
_OUTSIDE = -4.0 * MARGIN  # quarters of a pixel
_NEXT, _DIAGONAL = UNIT, round(1.414 * UNIT)


@njit(cache=True, fastmath=True)
def turn_patches(values, distances, offsets, shapes, scales, inverse, sizes, starts, deltas, outlines):
    """Interpolate grey values (cubic) and distances (linear) of turned cells.

    Args:
        values, distances: the bank as int16 and as int8.
        offsets: (N,) byte at which each cell begins; shapes: (N, 2) its height and width; scales: (N,) its step.
        inverse: (N, 2, 3) from x, y of a turned pixel to those of the cell, both of pixel centres.
        sizes, starts: (N, 2) height and width of each turned patch, and where it begins in the two outputs.
        deltas, outlines: float32 and int8, filled: grey values, and quarters of a pixel to the outline, positive
            inside.
    """
    for n in range(len(offsets)):
        height, width = shapes[n]
        first = offsets[n] // 2
        source = values[first : first + height * width].reshape(height, width)
        first = offsets[n] + 2 * height * width
        known = distances[first : first + height * width].reshape(height, width)
        rows, columns = sizes[n]
        for i in range(rows):
            for j in range(columns):
                x = inverse[n, 0, 0] * j + inverse[n, 0, 1] * i + inverse[n, 0, 2]
                y = inverse[n, 1, 0] * j + inverse[n, 1, 1] * i + inverse[n, 1, 2]
                at = starts[n] + i * columns + j
                deltas[at], outlines[at] = 0.0, -128
                left, top = int(np.floor(x)), int(np.floor(y))
                if left < -1 or top < -1 or left > width - 1 or top > height - 1:
                    continue
                away = _linear(known, top, left, y - top, x - left)
                if away > _OUTSIDE:
                    outlines[at] = int(np.ceil(away)) if away > 0 else int(np.floor(away))
                    deltas[at] = scales[n] * _cubic(source, top, left, y - top, x - left)


@njit(cache=True, fastmath=True)
def turn_image(image, turned, radians):
    """Turn an image about its middle, to see what interpolation does to it: H x W float32, ``turned`` is filled."""
    middle_y, middle_x = (image.shape[0] - 1) / 2, (image.shape[1] - 1) / 2
    cosine, sine = np.cos(radians), np.sin(radians)
    for i in range(image.shape[0]):
        for j in range(image.shape[1]):
            y = middle_y + cosine * (i - middle_y) - sine * (j - middle_x)
            x = middle_x + sine * (i - middle_y) + cosine * (j - middle_x)
            top, left = int(np.floor(y)), int(np.floor(x))
            turned[i, j] = _cubic(image, top, left, y - top, x - left)


@njit(cache=True)
def _linear(outline, top, left, down, right):
    """Bilinear interpolation; far outside beyond the border."""
    total = 0.0
    for i in range(2):
        for j in range(2):
            row, column = top + i, left + j
            inside = 0 <= row < outline.shape[0] and 0 <= column < outline.shape[1]
            value = outline[row, column] if inside else _OUTSIDE
            total += value * (down if i else 1.0 - down) * (right if j else 1.0 - right)
    return total


@njit(cache=True, fastmath=True)
def _cubic(source, top, left, down, right):
    """Bicubic interpolation; 0 beyond the border."""
    column_weights = _weights(right)
    row_weights = _weights(down)
    total = 0.0
    whole = top >= 1 and left >= 1 and top + 2 < source.shape[0] and left + 2 < source.shape[1]
    for i in range(4):
        row = top - 1 + i
        if whole or 0 <= row < source.shape[0]:
            along = 0.0
            for j in range(4):
                column = left - 1 + j
                if whole or 0 <= column < source.shape[1]:
                    along += column_weights[j] * source[row, column]
            total += row_weights[i] * along
    return total


@njit(cache=True, fastmath=True)
def _weights(f):
    """Of four pixels for a place ``f`` beyond the second one."""
    a, g = _SHARPNESS, 1.0 - f
    before, after = a * f * g * g, a * g * f * f
    second = ((a + 2) * f - (a + 3)) * f * f + 1
    return before, second, 1.0 - before - second - after, after


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
