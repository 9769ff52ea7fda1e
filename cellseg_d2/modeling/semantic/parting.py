"""Components of pixels parted at their waists, or between the interiors of their cells, by scikit-image's watershed."""

import cv2
import numpy as np
from scipy import ndimage
from skimage.morphology import local_maxima, reconstruction
from skimage.segmentation import watershed

__all__ = ["part_at_waists", "part_between"]

ALL_NEIGHBOURS = np.ones((3, 3))


def part_at_waists(labels: np.ndarray, depth: float, min_area: int = 0) -> np.ndarray:
    """Part components by the watershed of the Euclidean distance to the background, from its h-maxima.

    A maximum is a cell of its own where the distance falls by at least ``depth`` on every way to a higher one. What
    touches the frame of the image goes on behind it.

    Args:
        labels: (H, W) int32 4-connected components, 0 background.
        depth: pixels.
        min_area: a component that would get a smaller part stays whole.

    Returns:
        (H, W) int32, 1..N.
    """
    if labels.all():
        return labels  # nowhere any background
    distance = cv2.distanceTransform((labels > 0).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    lowered = reconstruction(distance - np.float32(depth), distance)
    return part_between(labels, distance, local_maxima(lowered) & (labels > 0), min_area)


def part_between(labels: np.ndarray, heights: np.ndarray, tops: np.ndarray, min_area: int = 0) -> np.ndarray:
    """Part components by flooding ``heights`` downwards from the connected pieces of ``tops``.

    Args:
        labels: as in :func:`part_at_waists`.
        heights: (H, W) float.
        tops: (H, W) bool, inside components; a component that has none, or one, stays whole.
        min_area: as in :func:`part_at_waists`.

    Returns:
        (H, W) int32, 1..N.
    """
    markers, count = ndimage.label(tops, ALL_NEIGHBOURS, output=np.int32)
    topless = np.bincount(labels[tops], minlength=labels.max() + 1) == 0
    topless[0] = False
    markers = np.where(topless[labels], labels + count, markers)
    parts = watershed(-heights, markers, mask=labels > 0)  # to 4 neighbours, as the components are
    owners = np.zeros(parts.max() + 1, np.int64)
    owners[parts] = labels
    areas = np.bincount(parts.ravel(), minlength=len(owners))
    whole = np.unique(owners[(areas > 0) & (areas < min_area)])
    parts = np.where(np.isin(labels, whole) & (labels > 0), labels + len(owners), parts)
    return np.unique(np.append(parts.ravel(), 0), return_inverse=True)[1][:-1].reshape(labels.shape).astype(np.int32)
