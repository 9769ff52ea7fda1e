"""Outlines that fill to exactly the mask they come from, holes and pieces included.

Outlines run along the edges of pixels: pixel (row, column) is the square from (column, row) to (column + 1, row + 1).
Both pycocotools and the rule "a pixel belongs to the polygon that holds its centre" fill them to the same pixels.
"""

import cv2
import numpy as np
from scipy.spatial import cKDTree

from ...crops import encode_crop
from ..rle import as_rle, decode_columns, edge_contours

__all__ = ["ellipse", "keyhole", "one_polygon", "polygons", "rings"]


def rings(rle: dict) -> list[list[np.ndarray]]:
    """The outlines of a mask along its pixel edges.

    Args:
        rle: compressed COCO run lengths of a mask that is not empty.

    Returns:
        For each piece (pixels that touch at a corner are one) its outer outline, then its holes, which run the other
        way round; each (K, 2) int64 corners x, y. What is inside of an odd number of them is the mask.
    """
    contours, hierarchy = edge_contours(*decode_columns(rle), cv2.RETR_CCOMP)
    corners = [_without_repeats(contour.astype(np.int64)) for contour in contours]
    pieces = {index: [corners[index]] for index, parent in enumerate(hierarchy[0, :, 3]) if parent < 0}
    for index, parent in enumerate(hierarchy[0, :, 3].tolist()):
        if parent >= 0:
            pieces[parent].append(corners[index])
    return list(pieces.values())


def keyhole(outlines: list[np.ndarray]) -> np.ndarray:
    """One outline through several, (K, 2): each further one is reached and left along the same bridge.

    A bridge has no width and follows pixel edges, first along x, then along y, so that it meets no pixel centre and
    filling by the even-odd rule gives exactly what the outlines give together.

    Args:
        outlines: (K, 2) integer corners each, at least one; holes and pieces in any order.
    """
    path = outlines[0]
    for outline in outlines[1:]:
        distances, nearest = cKDTree(path).query(outline, p=1)
        begin = int(np.argmin(distances))
        place = int(nearest[begin])
        ring = np.concatenate([outline[begin:], outline[: begin + 1]])
        bend = np.array([[outline[begin, 0], path[place, 1]]])
        path = np.concatenate([path[: place + 1], bend, ring, bend, path[place:]])
        path = _without_repeats(path)
    return path


def polygons(segmentation: list[list[float]] | dict, height: int, width: int) -> list[list[float]]:
    """Polygons whose union is the cell: those it has, or one for each piece of its mask, holes cut in as keyholes."""
    if isinstance(segmentation, list):
        return segmentation
    return [_flat(keyhole(piece)) for piece in rings(segmentation)]


def one_polygon(segmentation: list[list[float]] | dict, height: int, width: int) -> list[float]:
    """A single polygon with the cell's mask, inside of its image.

    The polygon that the cell has, where it is a single one; else the outline of its mask, in which bridges without
    width lead from piece to piece and to the holes.
    """
    if isinstance(segmentation, list) and len(segmentation) == 1:
        points = np.asarray(segmentation[0]).reshape(-1, 2)
        if (points >= 0).all() and (points <= [width, height]).all():
            return segmentation[0]
    pieces = rings(as_rle(segmentation, height, width))
    return _flat(keyhole([ring for piece in pieces for ring in piece]))


def ellipse(centre: tuple[float, float], radii: tuple[float, float], turn: float, height: int, width: int) -> dict:
    """Compressed COCO run lengths of the pixels whose centres lie in an ellipse.

    Args:
        centre: x, y.
        radii: half axes in pixels, both above 0; the first one lies along ``turn``.
        turn: angle of the first axis to x in radians, towards positive y.
    """
    reach = max(radii)
    left, top = (max(0, int(np.floor(value - reach))) for value in centre)
    right, bottom = (min(side, int(np.ceil(value + reach))) for value, side in zip(centre, (width, height)))
    y, x = np.mgrid[top : max(bottom, top), left : max(right, left)] + 0.5
    x, y = x - centre[0], y - centre[1]
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    inside = (along / radii[0]) ** 2 + (across / radii[1]) ** 2 <= 1
    if not inside.any():
        inside, left, top = np.zeros((1, 1), dtype=bool), 0, 0
    return encode_crop(inside, [left, top], height, width)


def _without_repeats(points: np.ndarray) -> np.ndarray:
    """Points of a closed outline without those that repeat the one before; one stays where all are alike."""
    keep = (points != np.roll(points, 1, axis=0)).any(axis=1)
    return points[keep] if keep.any() else points[:1]


def _flat(points: np.ndarray) -> list[float]:
    """COCO's [x0, y0, x1, y1, ...]."""
    return points.astype(np.float64).reshape(-1).tolist()
