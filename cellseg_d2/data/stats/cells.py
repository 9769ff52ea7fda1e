"""Size, place, distance and brightness of the cells of one image, each in its own window of the image."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, pi

import cv2
import numpy as np
from scipy.spatial import cKDTree

from ..rle import decode_columns

__all__ = ["CELL_COLUMNS", "IMAGE_COLUMNS", "Measures", "measure_image"]

# The ring around a cell grows with the cell, so that another magnification gives the same contrast
RING_SHARE, RING_LEAST = 0.25, 2.0  # width in diameters of the cell, and at least, in pixels
RING_PIXELS = 10  # fewer say nothing about a cell's surroundings

CELL_COLUMNS = (
    "area", "diameter", "x", "y", "at_border", "nearest", "nearest_diameters", "foreground", "foreground_sd", "ring",
    "contrast", "contrast_to_noise",
)  # fmt: skip
IMAGE_COLUMNS = (
    "height", "width", "cells", "density", "confluence", "diameter", "nearest", "nearest_diameters", "foreground",
    "background", "background_sd", "contrast", "contrast_to_noise",
)  # fmt: skip


@dataclass(frozen=True)
class Measures:
    """What :func:`measure_image` finds in one image.

    Attributes:
        cells: (N,) array of each of :data:`CELL_COLUMNS`: ``area`` int64 in pixels, ``at_border`` bool (touches the
            frame of the image, which may cut it), the others float64: ``diameter`` of the disc of the same area, centre
            of mass ``x`` and ``y`` (0, 0 is the image's corner, so a single first pixel lies at 0.5, 0.5), distance
            ``nearest`` to the nearest other centre, all in pixels, the same in diameters of the cell; mean and standard
            deviation of the cell's grey values, mean ``ring`` around it, ``contrast`` = foreground - ring, in grey
            values and in standard deviations of the image's background. NaN is what does not exist: the neighbour of a
            lone cell, the ring of one that is enclosed by others.
        image: value of each of :data:`IMAGE_COLUMNS`: ``cells`` is their number, ``density`` cells a megapixel,
            ``confluence`` the share of the image that cells cover, ``diameter`` and the ``nearest`` medians of the
            cells, ``foreground`` and ``background`` mean grey values of covered and of free pixels, ``contrast`` their
            difference.
    """

    cells: dict[str, np.ndarray]
    image: dict[str, float]


@dataclass(frozen=True)
class _Window:
    """The smallest window around a cell: ``mask`` (h, w) bool, upper left pixel ``top``, ``left``."""

    mask: np.ndarray
    top: int
    left: int

    @classmethod
    def of(cls, rle: dict) -> "_Window":
        columns, left = decode_columns(rle)
        rows = np.flatnonzero(columns.any(axis=1))
        return cls(np.ascontiguousarray(columns[rows[0] : rows[-1] + 1]).view(bool), int(rows[0]), left)

    @property
    def place(self) -> tuple[slice, slice]:
        """Rows and columns in the image."""
        height, width = self.mask.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


def measure_image(image: np.ndarray, cells: Sequence[dict], crowds: Sequence[dict] = ()) -> Measures:
    """Measure the cells of an image.

    Args:
        image: (H, W) grey values of any real type.
        cells: compressed COCO run lengths of (H, W) of each cell, none of them empty; cells may overlap.
        crowds: the same of regions that count neither as cells nor as background.

    Raises:
        ValueError: an image that is not (H, W), or run lengths of another size.
    """
    wrong = next((rle["size"] for rle in (*cells, *crowds) if tuple(rle["size"]) != image.shape), None)
    if image.ndim != 2 or wrong is not None:
        raise ValueError(f"an image of {image.shape} and run lengths of {wrong}: both are (height, width)")
    windows = [_Window.of(rle) for rle in cells]
    covered = _union(windows, image.shape)
    free = ~(covered | _union([_Window.of(rle) for rle in crowds], image.shape))
    (background, noise), (bright, _) = _moments(image[free]), _moments(image[covered])
    rows = np.array([_measure_cell(image, free, window) for window in windows], dtype=np.float64).reshape(-1, 7)
    area, x, y, at_border, foreground, deviation, ring = rows.T
    diameter, nearest = np.sqrt(4 * area / pi), _nearest(rows[:, 1:3])
    values = (
        area.astype(np.int64), diameter, x, y, at_border > 0, nearest, nearest / diameter, foreground, deviation, ring,
        foreground - ring, _ratio(foreground - ring, noise),
    )  # fmt: skip
    whole = (
        *image.shape, len(cells), len(cells) / image.size * 1e6, float(covered.mean()), _median(diameter),
        _median(nearest), _median(nearest / diameter), bright, background, noise, bright - background,
        float(_ratio(np.float64(bright - background), noise)),
    )  # fmt: skip
    return Measures(dict(zip(CELL_COLUMNS, values, strict=True)), dict(zip(IMAGE_COLUMNS, whole, strict=True)))


def _union(windows: Sequence[_Window], size: tuple[int, int]) -> np.ndarray:
    """(H, W) bool: the pixels of any of the masks."""
    union = np.zeros(size, dtype=bool)
    for window in windows:
        union[window.place] |= window.mask
    return union


def _measure_cell(image: np.ndarray, free: np.ndarray, window: _Window) -> tuple[float, ...]:
    """Area, x, y, whether it touches the frame, mean and deviation of its grey values, mean of its ring."""
    rows, columns = np.nonzero(window.mask)
    values = image[window.place][rows, columns]
    ends = window.place[0].stop, window.place[1].stop
    at_border = min(window.top, window.left) == 0 or ends[0] == image.shape[0] or ends[1] == image.shape[1]
    area = len(rows)
    centre = window.left + columns.sum() / area + 0.5, window.top + rows.sum() / area + 0.5
    return area, *centre, at_border, *_moments(values), _ring(image, free, window, area)


def _ring(image: np.ndarray, free: np.ndarray, window: _Window, area: int) -> float:
    """Mean grey value of the free pixels near a cell; NaN where there are too few."""
    reach = max(RING_LEAST, RING_SHARE * (4 * area / pi) ** 0.5)
    margin, (rows, columns) = ceil(reach), window.place
    around = (
        slice(max(rows.start - margin, 0), rows.stop + margin),
        slice(max(columns.start - margin, 0), columns.stop + margin),
    )
    outside = np.ones(free[around].shape, dtype=np.uint8)
    inner = outside[rows.start - around[0].start :, columns.start - around[1].start :]
    inner[: window.mask.shape[0], : window.mask.shape[1]] = ~window.mask
    near = cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) <= reach
    values = image[around][near & free[around]]
    return _moments(values)[0] if len(values) >= RING_PIXELS else np.nan


def _nearest(centres: np.ndarray) -> np.ndarray:
    """(N,) distance of each of (N, 2) centres to the nearest other one; NaN for a lone one."""
    if len(centres) < 2:
        return np.full(len(centres), np.nan)
    return cKDTree(centres).query(centres, k=2)[0][:, 1]


def _ratio(values: np.ndarray, noise: float) -> np.ndarray:
    """Values in units of the noise; NaN where there is none."""
    return values / (noise if noise > 0 else np.nan)


def _moments(values: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of (N,) values; NaN of none. NumPy's own take three times as long for small N."""
    if not len(values):
        return np.nan, np.nan
    values = values.astype(np.float64)
    mean = values.sum() / len(values)
    values -= mean
    return float(mean), float(np.sqrt(values @ values / len(values)))


def _median(values: np.ndarray) -> float:
    return float(np.median(values)) if len(values) else np.nan
