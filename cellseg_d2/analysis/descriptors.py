"""Cells and images in numbers: size and shape, grey values, texture, outline and halo, neighbourhood.

>>> labels, image = np.zeros((40, 40), dtype=np.int32), np.full((40, 40), 50, dtype=np.uint8)
>>> labels[10:20, 5:25] = 7
>>> cells = cell_descriptors(labels, image)
>>> cells["label"].tolist(), cells["area"].tolist(), cells["extent"].tolist()
([7], [200.0], [1.0])
"""

import numpy as np
import pandas as pd

from .cell_appearance import edge_columns, intensity_columns, texture_columns
from .cell_layout import clark_evans, layout_columns, shape_columns
from .cell_regions import regions_of

__all__ = ["CELL_GROUPS", "CELL_NAMES", "IMAGE_NAMES", "WORDS", "cell_descriptors", "image_descriptors", "words"]

# Group -> descriptor -> in words
WORDS = {
    "shape": {
        "area": "area", "perimeter": "perimeter", "aspect_ratio": "ratio of the axes", "eccentricity": "eccentricity",
        "solidity": "solidity (share of the convex hull)", "form_factor": "roundness (form factor)",
        "extent": "share of the bounding box",
    },
    "intensity": {
        "mean_grey": "mean grey value", "sd_grey": "spread of grey values", "skewness": "skewness of grey values",
        "contrast": "contrast to the surroundings",
    },
    "texture": {
        "glcm_contrast": "difference of neighbouring pixels", "glcm_homogeneity": "homogeneity",
        "glcm_correlation": "correlation of neighbouring pixels", "gradient_fine": "gradient at 1 px",
        "gradient_coarse": "gradient at 3 px", "noise": "noise inside", "noise_ratio": "noise inside / outside",
        "noise_correlation": "correlation of the noise (resampling)",
    },
    "edge": {
        "edge_gradient": "gradient across the outline", "edge_step": "step at the outline (outside - inside)",
        "edge_noise": "noise along the outline / inside",
        **{f"halo_{side}_{name}": f"grey value {ring} px {where}, to background"
           for side, where in (("out", "outside"), ("in", "inside"))
           for name, ring in (("near", "1-2"), ("mid", "3-5"), ("far", "6-10"))},
    },
    "neighbourhood": {
        "nearest_centre": "distance to the nearest centre", "nearest_outline": "distance to the nearest outline",
        "touching": "number of touching cells", "local_density": "density of the five nearest cells",
    },
    "image": {
        "density": "cells a megapixel", "confluence": "share covered by cells", "grey_mean": "mean grey value",
        "grey_sd": "spread of grey values", "background_sd": "spread of the background",
        "spectrum_slope": "slope of the power spectrum", "mean_area": "mean area of cells",
        "clark_evans": "nearest-neighbour index (1 random)", "touching_share": "share of touching cells",
    },
}  # fmt: skip
CELL_GROUPS = {group: tuple(names) for group, names in WORDS.items() if group != "image"}
CELL_NAMES = tuple(name for names in CELL_GROUPS.values() for name in names)
IMAGE_NAMES = tuple(WORDS["image"])
SPECTRUM = (0.02, 0.4)  # cycles a pixel, between which the slope is fitted


def words(name: str) -> str:
    """A descriptor in words; its own name where it has none.

    >>> words("area"), words("deep_03")
    ('area', 'deep_03')
    """
    return next((named[name] for named in WORDS.values() if name in named), name)


def cell_descriptors(labels: np.ndarray, image: np.ndarray) -> pd.DataFrame:
    """Describe the cells of one image.

    Args:
        labels: (H, W) integers, 0 background, any positive number a cell, negative ones count neither as cells nor as
            background.
        image: (H, W) grey values of any real type.

    Returns:
        A row a cell, in ascending order of ``label``: ``label``, ``x``, ``y`` (centre, pixels), ``at_border`` (bool:
        touches the frame; its shape is NaN) and :data:`CELL_NAMES`, float64. NaN is what a cell does not have. Grey
        values are in units of the image; see :mod:`.cell_layout` and :mod:`.cell_appearance` for the definitions.

    Raises:
        ValueError: shapes differ, or not a label map.
    """
    if labels.shape != image.shape:
        raise ValueError(f"a label map of {labels.shape} and an image of {image.shape}: both are (height, width)")
    regions, grey = regions_of(labels), np.ascontiguousarray(image, dtype=np.float32)
    shape = shape_columns(regions)
    columns = {
        **shape, **intensity_columns(regions, grey), **texture_columns(regions, grey), **edge_columns(regions, grey),
        **layout_columns(regions, shape["x"], shape["y"]),
    }  # fmt: skip
    first = {"label": regions.names, "x": shape["x"], "y": shape["y"], "at_border": shape["at_border"]}
    return pd.DataFrame(first | {name: columns[name] for name in CELL_NAMES})


def image_descriptors(labels: np.ndarray, image: np.ndarray, cells: pd.DataFrame) -> dict[str, float]:
    """Describe one image.

    Args:
        labels, image: as of :func:`cell_descriptors`.
        cells: what it returned.

    Returns:
        :data:`IMAGE_NAMES`: ``density`` cells a megapixel, ``confluence`` share of pixels in cells, mean and standard
        deviation of all grey values and standard deviation of the free ones, ``spectrum_slope`` of the log power
        spectrum over log frequency between .02 and .4 cycles a pixel, ``mean_area`` (pixels, cells at the frame
        included), ``clark_evans`` index and ``touching_share`` of cells. NaN is what an image does not have.
    """
    grey, free, covered = image.astype(np.float64), labels == 0, labels > 0
    count, missing = len(cells), float("nan")
    return {
        "density": count / labels.size * 1e6, "confluence": float(covered.mean()),
        "grey_mean": float(grey.mean()), "grey_sd": float(grey.std()),
        "background_sd": float(grey[free].std()) if free.any() else missing,
        "spectrum_slope": spectrum_slope(grey), "mean_area": covered.sum() / count if count else missing,
        "clark_evans": clark_evans(cells[["x", "y"]].to_numpy(), *labels.shape),
        "touching_share": float((cells["touching"] > 0).mean()) if count else missing,
    }  # fmt: skip


def spectrum_slope(image: np.ndarray) -> float:
    """Slope of log power over log frequency under a Hann window: 0 of white noise, about -2 of natural images.

    Args:
        image: (H, W) float64.

    Returns:
        NaN of an even image.
    """
    window = np.hanning(image.shape[0])[:, None] * np.hanning(image.shape[1])
    power = np.abs(np.fft.rfft2((image - image.mean()) * window)) ** 2
    frequency = np.hypot(np.fft.fftfreq(image.shape[0])[:, None], np.fft.rfftfreq(image.shape[1]))
    edges = np.geomspace(*SPECTRUM, 13)
    bins = np.digitize(frequency.ravel(), edges)
    power = np.bincount(bins, power.ravel(), 14)[1:13] / np.maximum(np.bincount(bins, minlength=14)[1:13], 1)
    if not (power > 0).sum() >= 3:
        return float("nan")
    middle = np.sqrt(edges[1:] * edges[:-1])[power > 0]
    return float(np.polyfit(np.log(middle), np.log(power[power > 0]), 1)[0])
