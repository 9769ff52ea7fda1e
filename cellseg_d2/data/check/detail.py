"""How much of what can be seen in an image is annotated, judged by the images of its kind."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from ..label_maps import rasterise
from .outlines import Outline

__all__ = ["Detail", "explained_shares", "measure_detail"]

WINDOW = 9  # pixels; of the local contrast
SHRINK = 4  # by which contrast is counted more coarsely
LEVELS = np.linspace(-6, 16, 89)  # of the contrast's binary logarithm
CONTRAST = 1.0  # how much more contrast cells need to have than background, in powers of two


@dataclass(frozen=True)
class Detail:
    """How often each level of local contrast occurs in an image, (88,) float64 each, on annotated cells and beside."""

    inside: np.ndarray
    beside: np.ndarray


def measure_detail(grey: np.ndarray, outlines: Sequence[Outline]) -> Detail:
    """Count the levels of contrast (standard deviation in a small window).

    Args:
        grey: H x W values.
        outlines: the image's cells, with masks of its size.
    """
    values = grey.astype(np.float32)
    values -= values.mean()
    mean = cv2.blur(values, (WINDOW, WINDOW))
    deviation = np.sqrt(np.maximum(cv2.blur(values * values, (WINDOW, WINDOW)) - mean * mean, 0))
    annotated = rasterise([{"segmentation": outline.rle} for outline in outlines], *grey.shape) > 0
    size = max(1, grey.shape[1] // SHRINK), max(1, grey.shape[0] // SHRINK)
    level = np.log2(cv2.resize(deviation, size, interpolation=cv2.INTER_AREA) + 2.0**-6)
    # the window of a pixel near a cell sees the cell
    inside = cv2.dilate(cv2.resize(annotated.astype(np.float32), size, interpolation=cv2.INTER_AREA), None) > 0
    return Detail(np.histogram(level[inside], LEVELS)[0], np.histogram(level[~inside], LEVELS)[0])


def explained_shares(details: Mapping[int, Detail]) -> dict[int, float]:
    """For each image, the share of all that looks like cells that is annotated.

    What cells and what background look like is learnt from all images together, by their median levels of contrast.

    Returns:
        The shares, or nothing where cells do not stand out from the background.
    """
    if not details:
        return {}
    cells = _median(sum(detail.inside for detail in details.values()))
    background = _median(sum(detail.beside for detail in details.values()))
    if not cells - background >= CONTRAST:
        return {}
    busy = LEVELS[:-1] >= (cells + background) / 2
    shares = {}
    for image, detail in details.items():
        seen = detail.inside[busy].sum(), detail.beside[busy].sum()
        shares[image] = float(seen[0] / sum(seen)) if sum(seen) else math.nan
    return shares


def _median(counts: np.ndarray) -> float:
    """The middle level; NaN where there is none."""
    return float(LEVELS[np.searchsorted(np.cumsum(counts), counts.sum() / 2)]) if counts.sum() else math.nan
