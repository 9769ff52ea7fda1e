"""How crowded it is around a cell: the share of a window around it that annotated cells cover."""

import numpy as np
from numba import njit

from .objects import Objects
from .tables import ImageTable

__all__ = ["DENSITIES", "density_bins", "local_confluence"]

# Name, lowest share (included), highest share (excluded)
DENSITIES = (("<10%", 0.0, 0.1), ("10-30%", 0.1, 0.3), ("30-60%", 0.3, 0.6), (">=60%", 0.6, np.inf))
WINDOW = 6.0  # side in diameters of the median cell


def local_confluence(images: ImageTable, truth: Objects, around: Objects) -> np.ndarray:
    """Share of the window around each object that annotated cells cover.

    The window is a square of 6 diameters of the data set's median cell (diameter 2 sqrt(area / pi)), cut at the
    image's border. A cell counts with its whole area where its centre lies in the window, so that the share may pass 1
    a little.

    Args:
        truth: annotated objects (G).
        around: the objects to look around (N), annotated or predicted.

    Returns:
        (N,) float64.
    """
    areas = truth.areas[~truth.crowd]
    half = WINDOW / 2 * 2 * np.sqrt(np.median(areas) / np.pi) if len(areas) else 1.0
    weights = np.where(truth.crowd, 0.0, truth.areas)
    centres, points = (o.boxes[:, :2] + o.boxes[:, 2:] / 2 for o in (truth, around))
    order = np.lexsort((centres[:, 0], truth.image))
    x, y = np.ascontiguousarray(centres[order].T)
    sizes = images.widths.astype(np.float64), images.heights.astype(np.float64)
    return _confluence(truth.starts, around.starts, x, y, weights[order], points, *sizes, float(max(half, 1.0)))


def density_bins(confluence: np.ndarray) -> np.ndarray:
    """(bins, N) bool: which objects lie in which of :data:`DENSITIES`.

    >>> density_bins(np.array([0.05, 0.7])).astype(int).tolist()
    [[1, 0], [0, 0], [0, 0], [0, 1]]
    """
    return np.array([(confluence >= low) & (confluence < high) for _, low, high in DENSITIES])


@njit(cache=True)
def _confluence(
    g_starts: np.ndarray,
    starts: np.ndarray,
    g_x: np.ndarray,
    g_y: np.ndarray,
    areas: np.ndarray,
    points: np.ndarray,
    widths: np.ndarray,
    heights: np.ndarray,
    half: float,
) -> np.ndarray:
    shares = np.zeros(len(points))
    for image in range(len(starts) - 1):
        for n in range(starts[image], starts[image + 1]):
            x, y = points[n]
            covered = 0.0
            first = g_starts[image] + np.searchsorted(g_x[g_starts[image] : g_starts[image + 1]], x - half)
            for g in range(first, g_starts[image + 1]):
                if g_x[g] > x + half:
                    break
                if abs(g_y[g] - y) <= half:
                    covered += areas[g]
            across = min(x + half, widths[image]) - max(x - half, 0.0)
            down = min(y + half, heights[image]) - max(y - half, 0.0)
            shares[n] = covered / max(across * down, 1.0)
    return shares
