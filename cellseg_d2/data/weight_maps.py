"""Targets and loss weights of semantic models, made from label maps.

A label map is H x W int32: 0 background, 1..N cells, -1 ignored. The frame of the image is no border of a cell, as the
cell goes on behind it.
"""

import math

import cv2
import numpy as np
from scipy import ndimage

__all__ = ["class_map", "edge_weights", "unet_weights"]

# Terms of the U-Net weight below this are left out, which makes it local
_NEGLIGIBLE = 1e-4


def class_map(labels: np.ndarray, num_classes: int, edge_width: int = 3) -> np.ndarray:
    """The class of each pixel.

    Args:
        labels: label map.
        num_classes: 1 for background 0 and cells 1; 3 for background 0, interior 1 and edge 2. The edge is the pixels
            of a cell within ``edge_width`` pixels of anything else.
        edge_width: in pixels, at least 1; without a meaning for one class.

    Returns:
        H x W uint8; 255 where ignored.

    Examples:
        >>> labels = np.int32([[0, 1, 1, 1, 2, 2, -1]])
        >>> class_map(labels, num_classes=1)
        array([[  0,   1,   1,   1,   1,   1, 255]], dtype=uint8)
        >>> class_map(labels, num_classes=3, edge_width=1)
        array([[  0,   2,   1,   2,   2,   2, 255]], dtype=uint8)
    """
    if num_classes not in (1, 3):
        raise ValueError(f"num_classes: {num_classes} is neither 1 (foreground) nor 3 (background, interior, edge)")
    cells = labels > 0
    classes = cells.astype(np.uint8)
    if num_classes == 3:
        if edge_width < 1:
            raise ValueError(f"edge_width: {edge_width} is not at least 1 pixel")
        classes += _grown(_beside_border(labels), edge_width - 1) & classes
    classes[labels < 0] = 255
    return classes


def edge_weights(labels: np.ndarray, weight: float, width: float) -> np.ndarray:
    """More weight for the pixels at the borders between cell and background and between two cells.

    Args:
        labels: label map.
        weight: of the pixels within ``width`` / 2 pixels of a border, on both sides; all others have 1. Each side is
            whole pixels, rounded up.
        width: in pixels, above 0.

    Returns:
        H x W float32; 0 where ignored.

    Examples:
        >>> edge_weights(np.int32([[0, 0, 0, 1, 1, 2, 2, 2, 2, -1]]), weight=5, width=2)
        array([[1., 1., 5., 5., 5., 5., 1., 1., 1., 0.]], dtype=float32)
    """
    if width <= 0:
        raise ValueError(f"INPUT.WEIGHT_MAP.EDGE_WIDTH: {width} is not above 0")
    kinds = _grown(_beside_border(labels, also_ignored=False), math.ceil(width / 2) - 1)
    kinds[labels < 0] = 2
    table = np.zeros(256, dtype=np.float32)
    table[:2] = 1, weight
    return cv2.LUT(kinds, table)


def unet_weights(labels: np.ndarray, weight: float, sigma: float) -> np.ndarray:
    """More weight for background between cells that nearly touch.

    Equation 2 of U-Net (Ronneberger et al. 2015) without its balance of classes, on background pixels:
    ``1 + weight * exp(-(d1 + d2)^2 / (2 sigma^2))`` with the distances d1 and d2 to the nearest and the second nearest
    cell. Terms below 0.0001 are left out.

    Args:
        labels: label map.
        weight: ``w0`` of the paper, not negative.
        sigma: in pixels, above 0.

    Returns:
        H x W float32; 1 in cells, 0 where ignored.

    Examples:
        >>> unet_weights(np.int32([[1, 0, 2, 2, 0]]), weight=10, sigma=2).round(2)
        array([[1.  , 7.07, 1.  , 1.  , 1.44]], dtype=float32)
    """
    if sigma <= 0 or weight < 0:
        raise ValueError(f"INPUT.WEIGHT_MAP: UNET_SIGMA {sigma} is not above 0, or UNET_WEIGHT {weight} is negative")
    weights = np.ones(labels.shape, dtype=np.float32)
    if weight > _NEGLIGIBLE:
        reach = math.ceil(sigma * math.sqrt(2 * math.log(weight / _NEGLIGIBLE)))
        sums = sum(_two_nearest(labels, reach))
        near = np.isfinite(sums) & (labels == 0)
        weights[near] += weight * np.exp(sums[near] ** 2 / (-2 * sigma**2))
    weights[labels < 0] = 0
    return weights


def _two_nearest(labels: np.ndarray, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """Distances of each pixel to the nearest and the second nearest cell, float32, infinite beyond ``reach``.

    One window around each cell is enough for that, instead of one map of the image's size.
    """
    nearest = np.full(labels.shape, np.inf, dtype=np.float32)
    second = nearest.copy()
    for label, place in enumerate(ndimage.find_objects(labels), start=1):
        if place is not None:
            window = tuple(slice(max(side.start - reach, 0), side.stop + reach) for side in place)
            outside = (labels[window] != label).view(np.uint8)
            if outside.any():  # no distance is defined in a window that the cell fills
                distance = cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
                distance[distance > reach] = np.inf
                second[window] = np.minimum(second[window], np.maximum(nearest[window], distance))
                nearest[window] = np.minimum(nearest[window], distance)
    return nearest, second


def _beside_border(labels: np.ndarray, also_ignored: bool = True) -> np.ndarray:
    """uint8 map of the pixels whose label differs from that of one of their four neighbours.

    Args:
        also_ignored: ignored pixels differ from others; else there is no border between them.
    """
    down, right = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    ignored = labels < 0
    if not also_ignored and ignored.any():
        down &= ~(ignored[1:] | ignored[:-1])
        right &= ~(ignored[:, 1:] | ignored[:, :-1])
    border = np.zeros(labels.shape, dtype=bool)
    border[1:] |= down
    border[:-1] |= down
    border[:, 1:] |= right
    border[:, :-1] |= right
    return border.view(np.uint8)


def _grown(mask: np.ndarray, radius: int) -> np.ndarray:
    """A uint8 mask and all pixels within ``radius`` of it."""
    if radius == 0:
        return mask
    offsets = np.arange(-radius, radius + 1)
    disc = (offsets[:, None] ** 2 + offsets**2 <= radius**2).astype(np.uint8)
    return cv2.dilate(mask, disc)
