"""The cells of a label map and the bands along their outlines, each pixel once for the whole image."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

__all__ = ["Regions", "label_means", "regions_of"]


@dataclass(frozen=True)
class Regions:
    """Which pixel belongs to which cell, and how far from its outline it lies.

    Attributes:
        labels: (H, W) int32, 0 background, 1..N cells in ascending order of the labels they had, -1 ignored.
        names: (N,) the labels they had.
        owner: (H, W) int32: the cell that a pixel lies in, or that is nearest to it; 0 of ignored pixels, and of all
            where there is no cell.
        distance: (H, W) float32, pixels: in a cell -1 for the outermost pixels, -2 for the next ones (Euclidean);
            outside 1 for the first pixel, measured to the nearest pixel of a cell; infinity where there is no cell.
    """

    labels: np.ndarray
    names: np.ndarray
    owner: np.ndarray
    distance: np.ndarray

    @property
    def count(self) -> int:
        """Number of cells."""
        return len(self.names)

    def means(self, values: np.ndarray, chosen: np.ndarray, least: int = 1) -> np.ndarray:
        """(N,) mean of the chosen pixels (H, W bool) that each cell owns; NaN where there are fewer than ``least``."""
        return label_means(self.owner[chosen], values[chosen], self.count, least)


def regions_of(labels: np.ndarray) -> Regions:
    """The regions of a label map.

    Args:
        labels: (H, W) integers, 0 background, any positive number a cell, negative ones are ignored.

    Raises:
        ValueError: an array of another shape or type.
    """
    if labels.ndim != 2 or labels.dtype.kind not in "iu":
        raise ValueError(f"a label map is (height, width) integers, this is {labels.shape} {labels.dtype}")
    cells = labels > 0
    names, ranks = np.unique(labels[cells], return_inverse=True)
    names, own = names.astype(np.int64), np.where(labels < 0, np.int32(-1), np.int32(0))
    own[cells] = ranks + 1
    if not len(names):
        return Regions(own, names, np.zeros_like(own), np.full(own.shape, np.inf, dtype=np.float32))
    outside, places = ndimage.distance_transform_edt(~cells, return_indices=True)
    inside = ndimage.distance_transform_edt(cells & ~_outermost(own))
    distance = np.where(cells, -1 - inside, outside).astype(np.float32)
    owner = np.where(own < 0, 0, own[tuple(places)]).astype(np.int32)
    return Regions(own, names, owner, distance)


def label_means(owners: np.ndarray, values: np.ndarray, count: int, least: int = 1) -> np.ndarray:
    """(count,) mean of the values (K,) of owners 1..count (K,); NaN where there are fewer than ``least``.

    >>> label_means(np.array([1, 1, 3]), np.array([2.0, 4.0, 5.0]), 3).tolist()
    [3.0, nan, 5.0]
    """
    numbers = np.bincount(owners, minlength=count + 1)[1:]
    totals = np.bincount(owners, values, minlength=count + 1)[1:]
    return np.divide(totals, numbers, out=np.full(count, np.nan), where=numbers >= max(least, 1))


def _outermost(labels: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels beside, above or below one of another label; the frame of the image is no outline."""
    found = np.zeros(labels.shape, dtype=bool)
    for low, high in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
        other = labels[low] != labels[high]
        found[low] |= other
        found[high] |= other
    return found
