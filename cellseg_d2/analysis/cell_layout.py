"""Shape of cells, and where they lie among each other."""

import numpy as np
from scipy.spatial import cKDTree
from skimage.measure import regionprops_table

from .cell_regions import Regions

__all__ = ["clark_evans", "layout_columns", "shape_columns"]

NEIGHBOURS = 5  # of which the local density is taken
TOUCHING = 1.0  # pixels between cells that touch, at most: outlines are drawn, and leave a gap
_PROPERTIES = ("label", "area", "perimeter_crofton", "axis_major_length", "axis_minor_length", "eccentricity",
               "solidity", "extent", "centroid")  # fmt: skip


def shape_columns(regions: Regions) -> dict[str, np.ndarray]:
    """Size and shape of all cells, (N,) float64 each; NaN for shape where a cell touches the frame, which may cut it.

    ``area`` pixels; ``perimeter`` pixels (Crofton's formula, four directions); ``aspect_ratio`` = longer / shorter axis
    of the ellipse of the same second moments and ``eccentricity`` of it; ``solidity`` = area / area of the convex hull;
    ``form_factor`` = 4 pi area / perimeter^2, 1 for a disc; ``extent`` = area / area of the bounding box. Also
    ``x`` and ``y`` of the centre (0, 0 is the middle of the first pixel) and ``at_border`` (bool).
    """
    cells = np.maximum(regions.labels, 0)
    found = regionprops_table(cells, properties=_PROPERTIES) if regions.count else dict.fromkeys(_NAMES, np.zeros(0))
    frame = np.concatenate([cells[0], cells[-1], cells[:, 0], cells[:, -1]])
    at_border = np.isin(np.arange(1, regions.count + 1), frame)
    area, perimeter = found["area"].astype(np.float64), found["perimeter_crofton"]
    longer, shorter = found["axis_major_length"], found["axis_minor_length"]
    shapes = {
        "area": area, "perimeter": perimeter, "aspect_ratio": _ratio(longer, shorter),
        "eccentricity": found["eccentricity"], "solidity": found["solidity"],
        "form_factor": _ratio(4 * np.pi * area, perimeter**2), "extent": found["extent"],
    }  # fmt: skip
    shapes = {name: np.where(at_border, np.nan, values) for name, values in shapes.items()}
    return {**shapes, "x": found["centroid-1"], "y": found["centroid-0"], "at_border": at_border}


_NAMES = (*_PROPERTIES[:-1], "centroid-0", "centroid-1")


def layout_columns(regions: Regions, x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    """Where cells lie among each other, (N,) float64 each; NaN of what a lone cell does not have.

    ``nearest_centre`` and ``nearest_outline`` distance to the nearest other cell, pixels (0 free pixels between
    outlines that meet; within a pixel of the exact one); ``touching`` number of cells with at most one pixel between;
    ``local_density`` = k / (pi r_k^2) cells a megapixel, r_k the distance to the k-th other centre, k = 5.
    """
    count = regions.count
    tree = cKDTree(np.stack([x, y], axis=1)) if count > 1 else None
    near, dense = np.full(count, np.nan), np.full(count, np.nan)
    if tree is not None:
        found = tree.query(tree.data, k=min(count, NEIGHBOURS + 1))[0]
        near = found[:, 1]
        if count > NEIGHBOURS:
            dense = NEIGHBOURS / (np.pi * np.maximum(found[:, NEIGHBOURS], 0.5) ** 2) * 1e6
    first, second, gaps = _gaps(regions)
    nearest = np.full(count + 1, np.inf)
    np.minimum.at(nearest, np.concatenate([first, second]), np.concatenate([gaps, gaps]))
    close = gaps <= TOUCHING
    touching = np.bincount(np.concatenate([first[close], second[close]]), minlength=count + 1)[1:].astype(np.float64)
    nearest = np.where(np.isfinite(nearest[1:]), nearest[1:], np.nan)
    return {"nearest_centre": near, "nearest_outline": nearest, "touching": touching, "local_density": dense}


def clark_evans(points: np.ndarray, height: float, width: float) -> float:
    """The nearest-neighbour index of Clark & Evans (1954): 1 at random, below in clusters, above where evenly spread.

    R = mean distance to the nearest neighbour / its expectation .5 sqrt(A / n) + (.0514 + .041 / sqrt(n)) P / n, which
    allows for the frame (Donnelly 1978); A area, P perimeter of the image.

    Args:
        points: (N, 2) positions, pixels.
        height, width: of the image, pixels.

    Returns:
        NaN of fewer than two points.
    """
    count = len(points)
    if count < 2:
        return float("nan")
    mean = cKDTree(points).query(points, k=2)[0][:, 1].mean()
    frame = (0.0514 + 0.041 / count**0.5) * 2 * (height + width) / count
    return float(mean / (0.5 * (height * width / count) ** 0.5 + frame))


def _gaps(regions: Regions) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of cells whose territories meet, (P,) labels each, and the pixels between their outlines, (P,)."""
    owner, beyond = regions.owner, np.maximum(regions.distance, 0)
    pairs = []
    for low, high in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
        meet = (owner[low] != owner[high]) & (owner[low] > 0) & (owner[high] > 0)
        ends = owner[low][meet], owner[high][meet]
        pairs.append((np.minimum(*ends), np.maximum(*ends), (beyond[low] + beyond[high])[meet]))
    first, second, gaps = (np.concatenate(column) for column in zip(*pairs))
    keys, places = np.unique(first.astype(np.int64) * (regions.count + 1) + second, return_inverse=True)
    least = np.full(len(keys), np.inf)
    np.minimum.at(least, places, gaps)
    return keys // (regions.count + 1), keys % (regions.count + 1), least


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """NaN where the denominator is 0."""
    return np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0)
