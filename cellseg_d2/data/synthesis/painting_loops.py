"""A compiled loop that paints cells which have their places.

Numba compiles anew where this file changes, but not where a constant of another one does.
"""

import numpy as np
from numba import njit

from .units import FADED, KEPT

__all__ = ["paint"]

_SOFT, _BLEND = 2.0, 1.0  # pixels, see paint


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
        grain: noise of standard deviation 1, the finest grain of the background.
        lost: (N,) how much of it each patch lacks.
        sizes, starts, deltas, outlines: see :class:`.patches.Patches`.
        where, placed: of :func:`find_places`.
    """
    rows, columns = weights.shape
    table = np.exp(np.minimum(np.arange(-128, 128) / 4.0, _SOFT) / _BLEND)
    for k in range(len(sizes)):
        if where[k] < 0:
            continue
        y, x = int(placed[where[k], 0]), int(placed[where[k], 1])
        height, width = sizes[k]
        for i in range(max(0, -y), min(height, rows - y)):
            row = y + i
            for j in range(max(0, -x), min(width, columns - x)):
                column, at = x + j, starts[k] + i * width + j
                weight, away = table[outlines[at] + 128], outlines[at] / 4.0
                own = min(max((FADED + away) / (FADED - KEPT), 0.0), 1.0)
                deep = min(max((away + 4.0) / 5.0, 0.0), 1.0)  # less where the grain is that of the background
                mixed[row, column] += weight * (deltas[at] + deep * lost[k] * grain[row, column])
                kept[row, column] += weight * own
                weights[row, column] += weight
