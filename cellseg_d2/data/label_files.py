"""Outlined cells from images of other programs: label images, binary masks with or without edges."""

import logging
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from scipy import ndimage
from skimage.measure import label as connected_pieces

from ..crops import encode_crop
from ..errors import DatasetError
from .image_io import CorruptImageError, read_raw

__all__ = [
    "check_labels", "instances_of_mask", "is_binary", "label_segmentations", "label_values", "read_binary",
    "read_labels",
]  # fmt: skip

logger = logging.getLogger(__name__)

# A cell that covers more of its image is background with a label, or many cells that touch
LARGEST_SHARE = 0.5
# Median pixels of the labels below which a label image looks like a mask with smoothed borders
SPECK = 4
# Median number of pieces that a label is in from which it looks like one, or like an image of classes
SCATTERED = 3


def read_labels(path: str | Path) -> np.ndarray:
    """Read a label image or a binary mask, values as they are.

    Args:
        path: tif or png of whole numbers from 0, the background; three equal channels, a palette or floats will do.

    Returns:
        H x W int32.

    Raises:
        DatasetError: colours, fractions, negative or huge values, JPEG (which changes values), or a damaged file.
        OSError: the file is not there or may not be read.
    """
    path = Path(path)
    if path.suffix.lower() in (".jpg", ".jpeg"):
        raise DatasetError(f"{path}: JPEG changes the values at every border; save masks and labels as png or tif")
    try:
        values = _palette_indices(path) if path.suffix.lower() == ".png" else None
        values = read_raw(path) if values is None else values
    except CorruptImageError as error:
        raise DatasetError(str(error)) from error
    if values.ndim == 3:
        if (values != values[:, :, :1]).any():
            raise DatasetError(
                f"{path}: a colour image is not a mask; save one channel in which each cell has a number of its own "
                f"(a 16-bit label image) or all cells are 255 (a binary mask)"
            )
        values = values[:, :, 0]
    return label_values(values, path)


def label_values(values: np.ndarray, place: str | Path) -> np.ndarray:
    """The values of a label image or a mask as H x W int32.

    Raises:
        DatasetError: more than one channel, fractions, negative or huge values.
    """
    if values.ndim != 2 or values.dtype.kind not in "buif":
        raise DatasetError(f"{place}: {values.shape} values of type {values.dtype} are no label image of one channel")
    fractions = values[values != np.rint(values)] if values.dtype.kind == "f" else ()
    if len(fractions):
        raise DatasetError(
            f"{place}: values such as {fractions[0]:g} are not whole numbers; turn probabilities into a mask with a "
            "threshold first"
        )
    if values.min() < 0 or values.max() > 2**24:
        raise DatasetError(
            f"{place}: values from {values.min():g} to {values.max():g}; labels are numbers from 0 (background) to 2^24"
        )
    return values.astype(np.int32)


def is_binary(values: np.ndarray) -> bool:
    """There is background and at most one other value."""
    return not values.any() or bool(((values == 0) | (values == values.max())).all() and (values == 0).any())


def read_binary(path: str | Path) -> np.ndarray:
    """Read a mask of two values, 0 and any other; H x W bool.

    Raises:
        DatasetError: more values, or as :func:`read_labels`.
    """
    values = read_labels(path)
    if not is_binary(values):
        raise DatasetError(f"{path}: not an image of two values, 0 and another; it has {len(np.unique(values))}")
    return values > 0


def check_labels(values: np.ndarray, place: str | Path) -> None:
    """Raise DatasetError where a label covers most of the image, or most labels are scattered over it; warn where most
    are specks."""
    areas = np.bincount(values[values > 0], minlength=2)
    largest = int(areas.argmax())
    if areas[largest] > LARGEST_SHARE * values.size:
        raise DatasetError(
            f"{place}: label {largest} covers {areas[largest] / values.size:.0%} of the image, which looks like "
            f"background labelled as a cell; background must be 0"
        )
    present = areas[areas > 0]
    pieces = connected_pieces(values, background=0, connectivity=2)
    of_piece = np.zeros(pieces.max() + 1, dtype=np.int64)
    of_piece[pieces] = values
    scattered = np.bincount(of_piece[1:], minlength=2)[areas > 0]
    if len(present) and np.median(scattered) >= SCATTERED:
        raise DatasetError(
            f"{place}: half of its {len(present)} labels are in {np.median(scattered):g} or more pieces each, so that "
            "they do not number cells. If this is, or lies among, binary masks: a mask with smoothed borders has more "
            "values than two, turn it into one of 0 and 255 with a threshold; if its values are classes, number the "
            "cells instead"
        )
    if len(present) and np.median(present) <= SPECK:
        logger.warning(
            "%s: half of its %d labels have at most %d pixels; is it a mask with smoothed borders instead of labels?",
            place, len(present), SPECK,
        )  # fmt: skip


def instances_of_mask(mask: np.ndarray, edges: np.ndarray | None = None, place: str | Path = "mask") -> np.ndarray:
    """The cells of a binary mask: its connected pieces, parted along edges.

    Pixels are connected to their four neighbours. With eight, cells would leak into each other through edges drawn as
    thin slanted lines, whose pixels touch at corners only.

    Args:
        mask: H x W bool.
        edges: H x W bool; edge pixels in the mask part the cells and are then given to the cell that is the fewest
            steps away within the mask. A piece of nothing but edges is a cell.
        place: for the log.

    Returns:
        H x W int32 labels; a warning goes to the log where one cell covers more than half of the image.
    """
    parted = mask if edges is None else mask & ~edges
    count, labels = cv2.connectedComponents(parted.astype(np.uint8), connectivity=4)
    if edges is not None:
        labels = _grown_into(labels, mask)
        _, further = cv2.connectedComponents((mask & (labels == 0)).astype(np.uint8), connectivity=4)
        labels[further > 0] = further[further > 0] + count - 1
    share = np.bincount(labels[labels > 0], minlength=1).max() / labels.size
    if share > LARGEST_SHARE:
        logger.warning(
            "%s: one connected piece covers %.0f %% of the image; is the mask inverted, or do the cells touch? Cells "
            "that touch need an image of their edges (DATASETS.MES.EDGES) or a label image",
            place, 100 * share,
        )  # fmt: skip
    return labels


def label_segmentations(labels: np.ndarray) -> list[dict]:
    """Compressed COCO run lengths of each label that occurs in an H x W int32 map, in ascending order."""
    places = enumerate(ndimage.find_objects(labels), start=1)
    return [
        encode_crop(labels[place] == label, [place[1].start, place[0].start], *labels.shape)
        for label, place in places
        if place
    ]


def _palette_indices(path: Path) -> np.ndarray | None:
    """H x W numbers of the colours of a palette PNG, unless the palette is one of greys; None for other files."""
    with path.open("rb") as file:
        if file.read(26)[25:] != b"\x03":  # IHDR's colour type
            return None
    colours = read_raw(path)
    if (colours == colours[:, :, :1]).all():
        return colours[:, :, 0]
    with Image.open(path) as image:
        return np.asarray(image)


def _grown_into(labels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Labels that spread step by step over the mask, H x W int32; only pieces without a label stay 0."""
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    result = labels.astype(np.float32)  # the widest type that OpenCV dilates; exact up to 2^24
    while True:
        spread = cv2.dilate(result, cross)
        taken = mask & (result == 0) & (spread > 0)
        if not taken.any():
            return result.astype(np.int32)
        result[taken] = spread[taken]
