"""A compiled loop that paints cells which have their places.

Numba compiles anew where this file changes, but not where a constant of another one does.
"""

import numpy as np
from numba import njit

from .units import FADED, KEPT, PAD

__all__ = ["compose", "paint"]

_SOFT, _BLEND = 2.0, 1.0  # pixels, see paint
_DEEP = 4.0  # pixels from the outline at which the noise is that of the inside


@njit(cache=True)
def paint(mixed, kept, weights, grain, lost, sizes, starts, deltas, outlines, where, placed):
    """Add placed patches to canvases of H x W float32; divided by ``weights`` they are the weighted means.

    Each patch counts by w = exp(min(d, SOFT) / BLEND), with d the pixels from its outline, positive inside: alone it is
    as it was cut out, cells that touch run into each other over their soft edges, halos go over into each other half
    way, and where cells overlap both shine through.

    Args:
        mixed: gets w times the grey value above the background.
        kept: gets w times how far it brings its own grain, 0 to 1.
        weights: gets w.
        grain: the finest grain of the background.
        lost: (N, 2) how many times of it each patch lacks, inside and along its outline.
        sizes, starts, deltas, outlines: see :class:`.patches.Patches`.
        where, placed: of :func:`find_places`.
    """
    rows, columns = weights.shape
    tables = _by_distance()
    for k in range(len(sizes)):
        if where[k] < 0:
            continue
        y, x = int(placed[0, where[k]]), int(placed[1, where[k]])
        height, width = sizes[k]
        begin = max(0, -x)
        end = max(begin, min(width, columns - x))  # cells of a group may lie wholly beside the canvas
        for i in range(max(0, -y), min(height, rows - y)):
            line, across = starts[k] + i * width, slice(x + begin, x + end)
            inside = slice(line + begin, line + end)
            _paint_row(
                mixed[y + i, across], kept[y + i, across], weights[y + i, across], grain[y + i, across], lost[k],
                deltas[inside], outlines[inside], tables,
            )  # fmt: skip


@njit(cache=True)
def _by_distance():
    """(4, 256) float32 for quarters of a pixel to the outline, from -128 on: the weight w, w times the share of own
    grain, and w times how far what is lost inside, and along the outline, is replaced."""
    away = np.arange(-128, 128) / 4.0
    weight = np.exp(np.minimum(away, _SOFT) / _BLEND)
    own = np.minimum(np.maximum((FADED + away) / (FADED - KEPT), 0.0), 1.0)
    deep = np.minimum(np.maximum(away / _DEEP, 0.0), 1.0)
    result = np.empty((4, 256), np.float32)
    result[0], result[1], result[2], result[3] = weight, weight * own, weight * deep, weight * (1 - deep) * own
    return result


@njit(cache=True, fastmath=True)
def _paint_row(mixed, kept, weights, grain, lost, deltas, outlines, tables):
    """Add a row of a patch."""
    for j in range(len(deltas)):
        at = np.uint8(outlines[j] + 128)
        weight = tables[0, at]
        mixed[j] += weight * deltas[j] + (tables[2, at] * lost[0] + tables[3, at] * lost[1]) * grain[j]
        kept[j] += tables[1, at]
        weights[j] += weight


@njit(cache=True, fastmath=True)
def compose(smooth, residual, mixed, kept, weights, image):
    """Fill ``image`` (H x W float32): the background, its noise as far as cells do not bring their own, and the cells
    that were painted on canvases of ``PAD`` pixels more to each side."""
    height, width = smooth.shape
    for i in range(height):
        inner = slice(PAD, PAD + width)
        _compose_row(
            smooth[i], residual[i], mixed[i + PAD, inner], kept[i + PAD, inner], weights[i + PAD, inner], image[i]
        )


@njit(cache=True, fastmath=True)
def _compose_row(smooth, residual, mixed, kept, weights, image):
    """Of a row."""
    for j in range(len(image)):
        share = np.float32(1) / max(weights[j], np.float32(1e-12))
        image[j] = smooth[j] + mixed[j] * share + (np.float32(1) - kept[j] * share) * residual[j]
