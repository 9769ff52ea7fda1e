"""Masks that differ in place, direction and size only, made the same: centred, turned to their long axis, scaled."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

__all__ = ["FIELD", "SIDE", "Aligned", "align", "largest_piece", "pixel_masks"]

SIDE = 48  # pixels of an aligned mask
# Side of the window in square roots of the cell's area: an ellipse of aspect 9 fits, a disc has a diameter of 15 pixels
FIELD = 3.5
FINER = 4  # sampled so much finer and averaged, so that large cells get soft edges instead of jagged ones


@dataclass(frozen=True)
class Aligned:
    """A shape without place, direction and size.

    Attributes:
        image: (SIDE, SIDE) float32, the share of each pixel that the cell covers (0..1); its long axis lies along x.
        scale: square root of the cell's area, pixels.
        angle: of the long axis, radians from x towards y (down), in (-pi, pi].
        inside: share of the cell that lies in the window (0..1); the ends of very long cells are cut off.
    """

    image: np.ndarray
    scale: float
    angle: float
    inside: float


def align(mask: np.ndarray) -> Aligned:
    """A cell's aligned mask.

    Centred on the centroid, turned so that the major axis of its second moments lies along x, in the one of the two
    directions whose third moment along the axis, the sum of p^3 over pixels, is positive (the longer tail points
    right), and scaled so that all cells have the same area. Mirror images stay apart. The turn is not well defined for
    cells that are almost round, and its sign not for those that are symmetric; there it makes next to no difference.

    Args:
        mask: (h, w) bool or 0/1, not empty; what lies outside it is no cell.
    """
    if mask.ndim != 2 or not mask.any():
        raise ValueError(f"a mask is (h, w) with at least one pixel, this one has the shape {mask.shape}")
    rows, columns = np.nonzero(mask)
    centre = np.array([columns.mean(), rows.mean()])
    points = np.stack([columns, rows]) - centre[:, None]
    axis = np.linalg.eigh(points @ points.T)[1][:, 1]
    if ((axis @ points) ** 3).sum() < 0:
        axis = -axis
    scale = float(np.sqrt(len(rows)))
    step = FIELD * scale / (SIDE * FINER)
    first = (0.5 - SIDE * FINER / 2) * step
    across = np.array([-axis[1], axis[0]])
    matrix = np.column_stack([axis * step, across * step, centre + first * (axis + across)])
    size = (SIDE * FINER, SIDE * FINER)
    fine = cv2.warpAffine(mask.astype(np.float32), matrix, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    image = fine.reshape(SIDE, FINER, SIDE, FINER).mean(axis=(1, 3))
    inside = min(float(image.sum()) * (FIELD / SIDE) ** 2, 1.0)
    return Aligned(image, scale, float(np.arctan2(axis[1], axis[0])), inside)


def largest_piece(masks: np.ndarray) -> np.ndarray:
    """(N, H, W) bool: of each mask (pixels that touch at a corner are one piece) the largest piece, holes kept."""
    kept = np.zeros(masks.shape, dtype=bool)
    for own, mask in zip(kept, masks):
        count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
        if count > 1:
            own[:] = labels == 1 + np.argmax(stats[1:, cv2.CC_STAT_AREA])
    return kept


def pixel_masks(images: np.ndarray, scales: Sequence[float]) -> list[np.ndarray]:
    """Aligned shapes as masks of the size of cells, ready to be put into an image.

    Args:
        images: (N, SIDE, SIDE) values 0..1, of which those of at least 0.5 are cell.
        scales: square root of each cell's area, pixels.

    Returns:
        (h, w) bool each, cropped, in one piece, its area that of the scale up to the rounding of pixels.

    Raises:
        ValueError: a shape without a pixel of 0.5, a scale that is not positive, or not as many scales as shapes.
    """
    if len(images) != len(scales) or not all(np.isfinite(scale) and scale > 0 for scale in scales):
        raise ValueError(f"{len(images)} shapes take as many positive scales, not {list(scales)}")
    masks = []
    for image, scale in zip(images, scales):
        piece = largest_piece(image[None] >= 0.5)[0]
        if not piece.any():
            raise ValueError("a shape has no pixel of at least 0.5; its code lies far from those of the cells")
        # Grown by a pixel, the piece keeps its soft edge and loses the others
        near = cv2.dilate(piece.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        masks.append(_resized(np.where(near, image, 0).astype(np.float32), float(scale)))
    return masks


def _resized(image: np.ndarray, scale: float) -> np.ndarray:
    """A shape at a scale: as much finer or coarser that its area at the level 0.5 is the scale's square.

    Thin ends lose area where a mask gets coarser; the level is lowered until the area is right again.
    """
    fine = cv2.resize(image, None, fx=8, fy=8, interpolation=cv2.INTER_LINEAR) >= 0.5
    factor = scale / (np.sqrt(fine.sum()) / 8)
    side = max(round(len(image) * factor) + 2, 3)
    corner = (len(image) - side / factor) / 2
    matrix = np.array([[1 / factor, 0, corner + 0.5 / factor - 0.5], [0, 1 / factor, corner + 0.5 / factor - 0.5]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    # A coarser mask takes the mean over its pixels: blurred by as much before it is sampled
    if factor < 1:
        image = cv2.GaussianBlur(image, (0, 0), 0.5 / factor)
    values = cv2.warpAffine(image, matrix, (side, side), flags=flags)
    area = min(max(round(scale**2), 1), values.size)
    level = max(float(np.partition(values, -area, axis=None)[-area]), float(np.finfo(np.float32).tiny))
    mask = largest_piece(values[None] >= level)[0]
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
