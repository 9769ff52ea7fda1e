"""Components of pixels parted at their waists, or between the interiors of their cells, by scikit-image's watershed."""

from collections.abc import Callable

import cv2
import numpy as np
from scipy import ndimage
from skimage.morphology import local_maxima, reconstruction
from skimage.segmentation import watershed

__all__ = ["part_at_waists", "part_between"]

PIXEL = 1.0  # by which outlines through pixel centres may err
ALL_NEIGHBOURS = np.ones((3, 3))
Window = tuple[slice, slice]
# The component's pixels in its window, and the window -> the tops among these pixels, and the heights of the window
Look = Callable[[np.ndarray, Window], tuple[np.ndarray, np.ndarray]]


def part_at_waists(labels: np.ndarray, depth: float, min_area: int = 0) -> np.ndarray:
    """Part components by the watershed of the Euclidean distance to the background, from its h-maxima.

    A maximum is a cell of its own where the distance falls by at least ``depth`` on every way to a higher one. What
    touches the frame of the image goes on behind it.

    Args:
        labels: (H, W) int32 4-connected components, 0 background.
        depth: pixels.
        min_area: a top whose part would be smaller is none.

    Returns:
        (H, W) int32, 1..N.
    """
    if labels.all():
        return labels  # nowhere any background

    def look(own: np.ndarray, window: Window) -> tuple[np.ndarray, np.ndarray]:
        at_frame = any(s.start == 0 or s.stop == side for s, side in zip(window, labels.shape))
        if not at_frame and _dent(own) + PIXEL <= depth:
            return own, own
        distance = _to_background(labels, window)
        heights = np.pad(np.where(own, distance, 0), 1)
        return local_maxima(reconstruction(heights - np.float32(depth), heights))[1:-1, 1:-1] & own, distance

    return _part_each(labels, look, min_area)


def part_between(labels: np.ndarray, heights: np.ndarray, tops: np.ndarray, min_area: int = 0) -> np.ndarray:
    """Part components by flooding ``heights`` downwards from the connected pieces of ``tops``.

    Args:
        labels: as in :func:`part_at_waists`.
        heights: (H, W) float.
        tops: (H, W) bool; a component that has none, or one, stays whole.
        min_area: as in :func:`part_at_waists`.

    Returns:
        (H, W) int32, 1..N.
    """
    return _part_each(labels, lambda own, window: (tops[window] & own, heights[window]), min_area)


def _part_each(labels: np.ndarray, look: Look, min_area: int) -> np.ndarray:
    """Part one component after the other in its own window, so that the work goes with the foreground."""
    result = np.zeros_like(labels)
    cells = 0
    for number, window in enumerate(ndimage.find_objects(labels), start=1):
        if window is None:
            continue
        own = labels[window] == number
        tops, heights = look(own, window)
        parts = _flood(own, heights, ndimage.label(tops, ALL_NEIGHBOURS)[0], min_area)
        result[window][own] = parts[own] + cells
        cells += parts.max()
    return result


def _to_background(labels: np.ndarray, window: Window) -> np.ndarray:
    """Euclidean distance to the background of the component that has this window, (h, w) float32, pixels.

    Whatever is closer than the background belongs to the component itself, so that the nearest background lies at most
    one pixel outside of the window.
    """
    wide = tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in window)
    inside = tuple(slice(s.start - w.start, s.stop - w.start) for s, w in zip(window, wide))
    foreground = (labels[wide] > 0).view(np.uint8)
    distance = cv2.distanceTransform(foreground, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[inside]
    # OpenCV's last bits differ from call to call, which would decide ties; squares of distances are whole numbers
    return np.sqrt(np.rint(distance * distance))


def _flood(own: np.ndarray, heights: np.ndarray, markers: np.ndarray, min_area: int) -> np.ndarray:
    """Parts 1, 2, ... of one component; those that are too small lose their marker, but for the largest part."""
    while markers.max() > 1:
        parts = watershed(-heights, markers, mask=own)  # to 4 neighbours, as the component is
        areas = np.bincount(parts[own])
        stays = areas >= min_area
        stays[areas[1:].argmax() + 1], stays[0] = True, False
        if stays[1:].all():
            return parts
        markers = np.where(stays, np.cumsum(stays), 0)[markers]
    return own.astype(np.int32)


def _dent(mask: np.ndarray) -> float:
    """How deep, in pixels, the outline of a component lies below its convex hull; infinite where it has holes.

    The distance to the outside of a convex set is concave, so that it has one top. No waist is deeper than the dents.
    """
    outlines, _ = cv2.findContours(mask.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    if len(outlines) > 1:
        return np.inf
    points, hull = outlines[0][:, 0], cv2.convexHull(outlines[0])[:, 0]
    side = np.roll(hull, -1, axis=0) - hull
    length = np.hypot(*side.T)
    if not length.all():
        return 0.0  # one pixel
    offset = points[:, None] - hull
    return float(np.abs((side[:, 0] * offset[..., 1] - side[:, 1] * offset[..., 0]) / length).min(axis=1).max())
