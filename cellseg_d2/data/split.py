"""Hold images out of a COCO data set without near-duplicates on both sides."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from scipy.sparse.csgraph import connected_components

from .datasets.coco_json import CocoFile
from .image_io import read_image

__all__ = ["group_alike", "select", "split_by_group"]

QUANTILES = (1, 25, 50, 75, 95, 99.5)
SIDE = 24


def group_alike(paths: Sequence[str | Path], *, contrast: float = 0.15, correlation: float = 0.8) -> np.ndarray:
    """Number the images by likeness: images of one acquisition share a number.

    Two images are alike when they have the same size and either all their grey-value quantiles (1, 25, 50, 75, 95,
    99.5 %) agree within the factor exp(``contrast``), or their thumbnails correlate by more than ``correlation``
    (the same field of view). Likeness is passed on (single linkage).

    Returns:
        (N,) int group numbers from 0.
    """
    sizes, quantiles, thumbnails = [], [], []
    for path in paths:
        grey = read_image(path)[:, :, 0].astype(np.float32)
        sizes.append(grey.shape)
        quantiles.append(np.log1p(np.percentile(grey, QUANTILES)))
        small = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA).ravel()
        thumbnails.append((small - small.mean()) / (np.linalg.norm(small - small.mean()) + 1e-6))
    size, quantile, thumbnail = np.array(sizes), np.array(quantiles), np.array(thumbnails)
    same_size = (size[:, None] == size[None]).all(-1)
    same_contrast = np.abs(quantile[:, None] - quantile[None]).max(-1) < contrast
    alike = same_size & (same_contrast | (thumbnail @ thumbnail.T > correlation))
    return connected_components(alike)[1]


def split_by_group(groups: np.ndarray, hold_out: int, seed: int) -> np.ndarray:
    """Hold whole groups out, in random order, each that still fits.

    Args:
        groups: (N,) group numbers.
        hold_out: number of images to hold out.
        seed: of the order.

    Returns:
        (N,) bool, True for held-out images.

    Raises:
        ValueError: no set of groups was found with exactly ``hold_out`` images.
    """
    if not 0 < hold_out < len(groups):
        raise ValueError(f"can hold out 1 to {len(groups) - 1} of {len(groups)} images, not {hold_out}")
    held = np.zeros(len(groups), dtype=bool)
    for group in np.random.default_rng(seed).permutation(groups.max() + 1):
        members = groups == group
        if held.sum() + members.sum() <= hold_out:
            held |= members
    if held.sum() != hold_out:
        raise ValueError(
            f"groups of alike images are too large to hold out exactly {hold_out}: {held.sum()} is possible with seed "
            f"{seed}; ask for that number or try another seed"
        )
    return held


def select(coco: CocoFile, image_ids: set[int]) -> dict:
    """The part of a COCO file with these images and their annotations, as a dict to be written as JSON."""
    return {
        "images": [image for image in coco.images if image["id"] in image_ids],
        "annotations": [a for a in coco.annotations if a["image_id"] in image_ids],
        "categories": coco.categories,
    }
