"""Grey values, texture and outline of cells: what tells a pasted cell from one that grew there."""

import cv2
import numpy as np
from scipy import ndimage

from .cell_regions import Regions, label_means

__all__ = ["background_of", "edge_columns", "intensity_columns", "noise_map", "texture_columns"]

LEAST = 4  # pixels that a mean is taken of
SURROUNDINGS = (2.5, 10.5)  # pixels from the outline, of the local background
RINGS = {"near": (0.0, 2.5), "mid": (2.5, 5.5), "far": (5.5, 10.5)}  # 1-2, 3-5 and 6-10 pixels from the outline
SCALES = {"fine": 1.0, "coarse": 3.0}  # pixels, of the Gaussian derivatives
_LAPLACE = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], dtype=np.float32)


def background_of(regions: Regions, image: np.ndarray) -> float:
    """Median grey value of the pixels outside cells; NaN where there are none."""
    free = image[regions.labels == 0]
    return float(np.median(free)) if len(free) else float("nan")


def noise_map(image: np.ndarray) -> np.ndarray:
    """(H, W) float32 residual whose mean absolute value is the standard deviation of white noise.

    sqrt(pi / 2) / 6 * (I convolved with [[1, -2, 1], [-2, 4, -2], [1, -2, 1]]) (Immerkaer 1996).
    """
    return cv2.filter2D(image, cv2.CV_32F, _LAPLACE) * np.float32((np.pi / 2) ** 0.5 / 6)


def intensity_columns(regions: Regions, image: np.ndarray) -> dict[str, np.ndarray]:
    """Grey values inside the cells, (N,) float64 each.

    ``mean_grey``, ``sd_grey``, ``skewness`` (third standardised moment, NaN of even cells), ``contrast`` = mean less
    that of the free pixels 3-10 px outside the outline.
    """
    cells = regions.labels > 0
    owners, values, count = regions.labels[cells], image[cells].astype(np.float64), regions.count
    mean = label_means(owners, values, count)
    off = values - mean[owners - 1]
    sd = np.sqrt(label_means(owners, off**2, count))
    skewness = np.divide(label_means(owners, off**3, count), sd**3, out=np.full(count, np.nan), where=sd > 1e-6)
    low, high = SURROUNDINGS
    around = regions.means(image, (regions.labels == 0) & (regions.distance > low) & (regions.distance <= high), LEAST)
    return {"mean_grey": mean, "sd_grey": sd, "skewness": skewness, "contrast": mean - around}


def texture_columns(regions: Regions, image: np.ndarray) -> dict[str, np.ndarray]:
    """Texture inside the cells, (N,) float64 each.

    Of the grey-level co-occurrence matrix of neighbouring pixels i, j of a cell, both ways, horizontal and vertical
    (Haralick 1973): ``glcm_contrast`` = mean of (i - j)^2, ``glcm_homogeneity`` = mean of 1 / (1 + (i - j)^2 / s^2)
    with the cell's own standard deviation s, ``glcm_correlation``. ``gradient_fine`` and ``gradient_coarse`` = mean
    magnitude of Gaussian derivatives of 1 and 3 px. ``noise`` = standard deviation of white noise (:func:`noise_map`)
    without the outermost pixels, ``noise_ratio`` = in units of the free background's, ``noise_correlation`` of
    neighbouring residuals, which resampling raises.
    """
    cells, residual = regions.labels > 0, noise_map(image)
    pairs = _pairs(regions, image - image.mean())
    found = dict(zip(("glcm_contrast", "glcm_homogeneity", "glcm_correlation"), pairs))
    for name, sigma in SCALES.items():
        found[f"gradient_{name}"] = regions.means(ndimage.gaussian_gradient_magnitude(image, sigma), cells)
    inner = regions.means(np.abs(residual), cells & (regions.distance <= -2), LEAST)
    free = np.abs(residual[(regions.labels == 0) & (regions.distance >= 2)])
    outer = float(free.mean()) if len(free) >= LEAST else float("nan")
    found["noise"] = inner
    found["noise_ratio"] = inner / outer if outer > 1e-6 else np.full(regions.count, np.nan)
    found["noise_correlation"] = _pairs(regions, residual)[2]
    return found


def edge_columns(regions: Regions, image: np.ndarray) -> dict[str, np.ndarray]:
    """The outlines of the cells and the rings along them, (N,) float64 each.

    ``edge_gradient`` = mean magnitude of Gaussian derivatives (1 px) in the band of one pixel on both sides;
    ``edge_step`` = mean of the ring 1-2 px outside less that of the ring 1-2 px inside; ``edge_noise`` = noise in the
    band, in units of that inside the cell; ``halo_out_*`` and ``halo_in_*`` = mean of the rings of 1-2 (near), 3-5
    (mid) and 6-10 px (far) outside and inside the outline, less the median of the image's free background. Rings
    outside are of free pixels, each of which belongs to the nearest cell. NaN where a ring has no 4 pixels.
    """
    distance, free, cells = regions.distance, regions.labels == 0, regions.labels > 0
    background = background_of(regions, image)
    halo = {}
    for name, (low, high) in RINGS.items():
        for side, own, depth in (("out", free, distance), ("in", cells, -distance)):
            ring = own & (depth > low) & (depth <= high)
            halo[f"halo_{side}_{name}"] = regions.means(image, ring, LEAST) - background
    band = (np.abs(distance) <= 1) & (free | cells)
    noise = np.abs(noise_map(image))
    inner = regions.means(noise, cells & (distance <= -2), LEAST)
    there = np.divide(regions.means(noise, band), inner, out=np.full(regions.count, np.nan), where=inner > 1e-6)
    gradient = regions.means(ndimage.gaussian_gradient_magnitude(image, SCALES["fine"]), band)
    step = halo["halo_out_near"] - halo["halo_in_near"]
    return {"edge_gradient": gradient, "edge_step": step, "edge_noise": there, **halo}


def _pairs(regions: Regions, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Contrast, homogeneity and correlation of neighbouring pixels of a cell, (N,) each."""
    labels, parts = regions.labels, []
    for low, high in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
        same = (labels[low] == labels[high]) & (labels[low] > 0)
        parts.append((labels[low][same], values[low][same], values[high][same]))
    owners, one, other = (np.concatenate(column) for column in zip(*parts))
    one, other = one.astype(np.float64), other.astype(np.float64)

    def mean(column: np.ndarray) -> np.ndarray:
        return label_means(owners, column, regions.count)

    square = (one - other) ** 2
    middle = mean(one + other) / 2
    spread = mean(one**2 + other**2) / 2 - middle**2
    shared = mean(one * other) - middle**2
    spread = np.where(spread > 1e-6, spread, np.nan)  # an even cell has neither
    return mean(square), mean(1 / (1 + square / spread[owners - 1])), shared / spread
