"""Bring grey values of other microscopes to those of LIVECell: a flat background, the same median, the same spread.

Of an image I, with background B, its median m and spread s after flattening:

    out = 128 + g (I - B - m),    g = min(11.6 / s, 3 / n)

n is the noise (see :class:`Adaptation`). Models that were trained on LIVECell take 128 for the mean of their images and
11.6 for the standard deviation.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from ...data.image_io import to_grey

__all__ = ["LIVECELL_MEDIAN", "LIVECELL_PIXEL_SIZE", "LIVECELL_SPREAD", "Adaptation", "AdaptedRegion", "magnification"]

LIVECELL_MEDIAN = 128.0
LIVECELL_SPREAD = 11.6  # standard deviation of the grey values of all images
LIVECELL_PIXEL_SIZE = 1.24  # micrometres; an IncuCyte with its 10x objective
# Grey levels of noise afterwards, at most: about what LIVECell's noisiest images have
LOUDEST_NOISE = 3.0
# Percentile of the blocks' noise that is the image's: what is fine texture of cells counts for none of it
_QUIET = 25
_ROUNDING = 12**-0.5  # standard deviation of rounding to integers
_ORDINARY = (0.1, 99.9)  # percentiles between which the spread is measured: single hot pixels do not count
# Pixels that median and spread are taken from, and rows and columns of a block that its median is taken from, about
_SAMPLE, _BLOCK_SAMPLE = 1 << 20, 64
_LARGEST_BLOCK = 256  # rows and columns, at most: a row of blocks is read at once
_NOTHING = 1e-6  # share of the values that rounding in float32 may change: less is no spread


def magnification(pixel_size: float, target: float = LIVECELL_PIXEL_SIZE) -> float:
    """Factor by which height and width are resized for pixels of ``target`` micrometres: an effective 10x.

    Raises:
        ValueError: a size that is not a finite number above 0.
    """
    for size in (pixel_size, target):
        if not (np.isfinite(size) and size > 0):
            raise ValueError(f"{size} is not the size of a pixel in micrometres")
    return pixel_size / target


@dataclass(frozen=True)
class AdaptedRegion:
    """Callable that adapts regions of one image, all alike.

    Attributes:
        size: height and width of the image.
        surface: (3, 3) coefficients of y^i x^j in the background, y and x from -1 to 1 over the image.
        rest: background without the surface, one value a block, smoothed.
        centre: grey value that becomes 128, above the background.
        gain: grey levels of the result for one of the image; 0 of a constant image.
    """

    size: tuple[int, int]
    surface: np.ndarray
    rest: np.ndarray
    centre: float
    gain: float

    def __call__(self, region: np.ndarray, at: tuple[int, int] = (0, 0)) -> np.ndarray:
        """Adapt a region.

        Args:
            region: (h, w) or (h, w, 3) of the image that this was fitted to.
            at: row and column of its first pixel in that image.

        Returns:
            (h, w) uint8.
        """
        grey = _grey(region)
        rows, columns = at[0] + np.arange(grey.shape[0]), at[1] + np.arange(grey.shape[1])
        flat = grey - self.background(rows, columns) - self.centre
        return np.clip(np.rint(LIVECELL_MEDIAN + self.gain * flat), 0, 255).astype(np.uint8)

    def background(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Background at rows x columns of the image, float64: the surface, and between blocks linearly the rest."""
        places = list(zip((rows, columns), self.size))
        y, x = (_powers(at, length) for at, length in places)
        down, right = (_weights(at, length, blocks) for (at, length), blocks in zip(places, self.rest.shape))
        return y @ self.surface @ x.T + down @ self.rest @ right.T


@dataclass(frozen=True)
class Adaptation:
    """Adaptation of an image's grey values to LIVECell's, from the image alone.

    The background is estimated from medians of blocks: a surface of second degree in y and in x, fitted to them, and
    what they differ from it, smoothed by a Gaussian. Sigma has to be larger than clusters of cells.

    The gain brings the standard deviation (of the values between percentiles 0.1 and 99.9) to 11.6, but the noise not
    above 3 grey levels, so that empty and mostly black images are not blown up. Noise is the part of the variance that
    neighbouring pixels do not share, ``2 v(1) - v(2)`` with v(d) half the mean square difference at distance d, in a
    quiet block (the 25th percentile of all); integers have at least that of rounding. A constant image becomes 128.

    Attributes:
        sigma: of the Gaussian; below 1 a share of the shorter side, else in pixels.
    """

    sigma: float = 0.1

    def __post_init__(self) -> None:
        """Raise ValueError where sigma is not a finite number above 0."""
        if not (np.isfinite(self.sigma) and self.sigma > 0):
            raise ValueError(f"sigma: {self.sigma} is neither a share of the image nor a number of pixels")

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Adapt a whole image of (H, W) or (H, W, 3), numbers: (H, W) uint8. See :meth:`fit`."""
        return self.fit(image)(image)

    def fit(self, image: Any) -> AdaptedRegion:
        """Measure an image, band by band, so that one which stays on disk never is in memory as a whole.

        Args:
            image: (H, W) or (H, W, 3), numbers, no NaN: an array, or what gives one as ``image[y0:y1, x0:x1]``.

        Returns:
            What adapts regions of it, all alike.

        Raises:
            ValueError: several channels that are not colour, no pixel, or not numbers.
        """
        size = height, width = tuple(int(length) for length in image.shape[:2])
        if not height * width:
            raise ValueError(f"cannot adapt an image of shape {tuple(image.shape)}")
        sigma = self.sigma * min(size) if self.sigma < 1 else self.sigma
        edges = [_edges(length, min(sigma / 2, _LARGEST_BLOCK)) for length in size]
        step = int(np.ceil(np.sqrt(height * width / _SAMPLE)))
        rows = pairwise(edges[0].tolist())
        bands = [_measure(_grey(image[top:end, 0:width]), edges[1], -top % step, step) for top, end in rows]
        medians, noises, samples = (np.concatenate(parts) for parts in zip(*bands))
        surface, rest = _smooth(medians, edges, sigma)
        unit = AdaptedRegion(size, surface, rest, 0.0, 1.0)
        flat = samples - unit.background(np.arange(0, height, step), np.arange(0, width, step))
        noise = max(float(np.percentile(noises, _QUIET)), _ROUNDING if image.dtype.kind in "bui" else 0.0)
        gain = _gain(flat, noise, float(np.abs(samples).max()))
        return AdaptedRegion(size, surface, rest, float(np.median(flat)), gain)


def _smooth(medians: np.ndarray, edges: list[np.ndarray], sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Surface and rest of a background; see :class:`AdaptedRegion`."""
    medians = medians.reshape([edge.size - 1 for edge in edges])
    y, x = (_powers((edge[:-1] + edge[1:] - 1) / 2, edge[-1]) for edge in edges)  # at the blocks' centres
    surface = np.linalg.pinv(y) @ medians @ np.linalg.pinv(x).T  # least squares
    steps = [sigma * (edge.size - 1) / edge[-1] for edge in edges]
    return surface, gaussian_filter(medians - y @ surface @ x.T, steps, mode="nearest")


def _gain(flat: np.ndarray, noise: float, scale: float) -> float:
    """Grey levels of the result for one of the image, of flattened values whose originals go up to ``scale``."""
    spread = float(np.clip(flat, *np.percentile(flat, _ORDINARY)).std())
    if spread <= _NOTHING * scale:
        return 0.0
    return min(LIVECELL_SPREAD / spread, LOUDEST_NOISE / noise if noise > 0 else np.inf)


def _grey(region: np.ndarray) -> np.ndarray:
    """(h, w) float64 of a grey or colour image."""
    if region.ndim not in (2, 3) or region.ndim == 3 and region.shape[2] != 3 or region.dtype.kind not in "buif":
        raise ValueError(f"cannot adapt {region.dtype} of shape {region.shape}; choose one channel of grey values")
    return to_grey(region).astype(np.float64)


def _edges(length: int, block: float) -> np.ndarray:
    """Edges of about equal blocks along an axis."""
    count = int(np.clip(round(length / block), 1, length))
    return np.linspace(0, length, count + 1).round().astype(int)


def _measure(band: np.ndarray, edges: np.ndarray, first: int, step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Median and noise (along the rows) of each block of a row of them, and the band's part of the image's sample."""
    medians, noises = [], []
    down = max(1, len(band) // _BLOCK_SAMPLE)
    for left, right in pairwise(edges.tolist()):
        block = band[::down, left:right]
        medians.append(np.median(block[:, :: max(1, (right - left) // _BLOCK_SAMPLE)]))
        near, far = (np.square(block[:, d:] - block[:, :-d]).sum() / 2 / max(1, block[:, d:].size) for d in (1, 2))
        noises.append(np.sqrt(max(0.0, 2 * near - far)) if right - left > 2 else 0.0)
    return (
        np.array(medians),
        np.array(noises),
        band[first::step, ::step].copy(),
    )  # not a view, which would keep the band


def _powers(places: np.ndarray, length: int) -> np.ndarray:
    """(n, 3): 1, t and t^2 of pixels along an axis, t from -1 to 1; the only one of a single pixel is at 0."""
    return np.vander((2 * np.asarray(places) + 1) / length - 1, 3, increasing=True)


def _weights(places: np.ndarray, length: int, blocks: int) -> np.ndarray:
    """(n, blocks): shares of the blocks' values in those of pixels along an axis, linear between their centres."""
    at = np.clip((np.asarray(places) + 0.5) * blocks / length - 0.5, 0, blocks - 1)
    return np.clip(1 - np.abs(at[:, None] - np.arange(blocks)), 0, 1)
