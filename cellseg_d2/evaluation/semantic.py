"""Foreground and background: pixels of the union of all cells, annotated against predicted."""

import numpy as np
from numba import njit

from .objects import Objects
from .tables import ImageTable

__all__ = ["pixel_sums"]


def pixel_sums(images: ImageTable, truth: Objects, results: Objects, keep: np.ndarray) -> dict[str, np.ndarray]:
    """Columns of (I,) float64: ``pixel_true``, ``pixel_false``, ``pixel_missed`` pixels of foreground.

    A pixel is foreground where any mask covers it, however many do. Pixels of crowds do not count.

    Args:
        truth, results: objects with masks.
        keep: (D,) bool results that take part.
    """
    sums = _count(
        images.heights * images.widths, truth.starts, truth.crowd, truth.masks.offsets, truth.masks.begin,
        truth.masks.end, results.starts, keep, results.masks.offsets, results.masks.begin, results.masks.end,
    )  # fmt: skip
    return dict(zip(("pixel_true", "pixel_false", "pixel_missed"), sums.astype(np.float64)))


@njit(cache=True)
def _count(
    pixels: np.ndarray,
    g_starts: np.ndarray,
    crowd: np.ndarray,
    g_runs: np.ndarray,
    g_begin: np.ndarray,
    g_end: np.ndarray,
    d_starts: np.ndarray,
    keep: np.ndarray,
    d_runs: np.ndarray,
    d_begin: np.ndarray,
    d_end: np.ndarray,
) -> np.ndarray:
    sums = np.zeros((3, len(pixels)), np.int64)
    for image in range(len(pixels)):
        canvas = np.zeros(pixels[image], np.uint8)
        for d in range(d_starts[image], d_starts[image + 1]):
            if keep[d]:
                for run in range(d_runs[d], d_runs[d + 1]):
                    canvas[d_begin[run] : d_end[run]] = 1
        for g in range(g_starts[image], g_starts[image + 1]):
            if not crowd[g]:
                for run in range(g_runs[g], g_runs[g + 1]):
                    for pixel in range(g_begin[run], g_end[run]):
                        canvas[pixel] |= 2
        for g in range(g_starts[image], g_starts[image + 1]):
            if crowd[g]:
                for run in range(g_runs[g], g_runs[g + 1]):
                    canvas[g_begin[run] : g_end[run]] = 0
        both, found, annotated = 0, 0, 0
        for pixel in canvas:
            found += pixel & 1
            annotated += pixel >> 1
            both += pixel == 3
        sums[0, image], sums[1, image], sums[2, image] = both, found - both, annotated - both
    return sums
