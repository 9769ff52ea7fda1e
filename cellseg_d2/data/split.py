"""Hold images out of a COCO data set without near-duplicates on both sides."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from scipy.sparse.csgraph import connected_components

from ..errors import DatasetError
from .datasets.coco_json import CocoFile
from .image_io import read_image
from .livecell_names import describe
from .names import natural_order

__all__ = ["NAME_KEYS", "group_alike", "group_by_key", "nearest_count", "provenance", "select", "split_by_group"]

# What a group may be called after where LIVECell's names tell it. A well's name occurs on the plate of every cell type,
# and each well has the same numbers of locations; a time point is one for all of them
NAME_KEYS = {"well": ("cell_type", "well"), "location": ("cell_type", "well", "location"), "time": ("time",)}
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


def group_by_key(images: Sequence[Mapping[str, Any]], key: str) -> tuple[np.ndarray, list[str]]:
    """Number the images by what their entries say under ``key``, or by well, location or time of their file names.

    Args:
        images: entries of a COCO file. Where any of them has the key, all must have it, as it stands before the names.

    Returns:
        (N,) int group numbers from 0, and the groups' names in the order of their numbers.

    Raises:
        DatasetError: images without a value.
    """
    if key in NAME_KEYS and all(image.get(key) is None for image in images):
        parts = [describe(image["file_name"]) for image in images]
        values = [" ".join(str(part[k]) for k in NAME_KEYS[key]) if key in part else None for part in parts]
        names = "no LIVECell file name (<Type>_Phase_<Well>_<Location>_<Time>_<Crop>) and "
    else:
        values = [image.get(key) for image in images]
        names = ""
    wrong = [k for k, value in enumerate(values) if not isinstance(value, str | int | float)]
    if wrong:
        raise DatasetError(
            f"--by {key}: {len(wrong)} of {len(images)} images have {names}no text or number under {key!r} in their "
            f"entries, for example {images[wrong[0]]['file_name']}; add it to the JSON, or divide by something else"
        )
    kinds = sorted({str(value) for value in values}, key=natural_order)
    number = {kind: k for k, kind in enumerate(kinds)}
    return np.array([number[str(value)] for value in values]), kinds


def nearest_count(groups: np.ndarray, wanted: float) -> int:
    """The number of images nearest to ``wanted`` that whole groups can make (the smaller of two), neither none nor all.

    Raises:
        DatasetError: all images are of one group.
    """
    counts = _reachable(groups)
    if not len(counts):
        raise DatasetError(
            f"all {len(groups)} images are of one group, so that none can be held out without the others"
        )
    return int(counts[np.abs(counts - wanted).argmin()])


def split_by_group(groups: np.ndarray, hold_out: int, seed: int) -> np.ndarray:
    """Hold whole groups out, in random order, each that still lets the number be met.

    Args:
        groups: (N,) group numbers from 0.
        hold_out: number of images to hold out.
        seed: of the order.

    Returns:
        (N,) bool, True for held-out images.

    Raises:
        DatasetError: no set of groups has exactly ``hold_out`` images.
    """
    if not 0 < hold_out < len(groups):
        raise DatasetError(f"can hold out 1 to {len(groups) - 1} of {len(groups)} images, not {hold_out}")
    sizes = np.bincount(groups)
    order = np.random.default_rng(seed).permutation(len(sizes))
    chosen = _fill(sizes[order], hold_out)
    if chosen is None:
        counts = _reachable(groups)
        below, above = counts[counts < hold_out][-1:], counts[counts > hold_out][:1]
        possible = " or ".join(map(str, [*below, *above])) or "no other number"
        raise DatasetError(
            f"cannot hold out exactly {hold_out} images, as the {len(np.unique(groups))} groups stay whole: {possible} "
            f"is possible; ask for that number, or for a share such as {hold_out / len(groups):.2f}"
        )
    return np.isin(groups, order[chosen])


def select(coco: CocoFile, image_ids: set[int], more: Mapping[str, Any] | None = None) -> dict:
    """The part of a COCO file with these images and their annotations, as a dict to be written as JSON.

    Args:
        more: other keys of the file, such as ``info`` and ``licenses``.
    """
    return {
        **(more or {}),
        "images": [image for image in coco.images if image["id"] in image_ids],
        "annotations": [a for a in coco.annotations if a["image_id"] in image_ids],
        "categories": coco.categories,
    }


def provenance(info: Any, **split: Any) -> dict[str, Any]:
    """``info`` of a COCO file with the key ``split``; a split it came from itself is kept as ``of``.

    >>> provenance({"year": 2021, "split": {"seed": 1}}, seed=2)
    {'year': 2021, 'split': {'seed': 2, 'of': {'seed': 1}}}
    """
    before = info if isinstance(info, dict) else {} if info is None else {"description": info}
    return {**before, "split": {**split, **({"of": before["split"]} if "split" in before else {})}}


def _reachable(groups: np.ndarray) -> np.ndarray:
    """Numbers of images that whole groups can make, ascending, without none and all."""
    bits = 1  # bit k: k images can be made
    for size in np.bincount(groups).tolist():
        bits |= bits << size
    return np.array([k for k, bit in enumerate(reversed(f"{bits:b}")) if bit == "1"][1:-1], dtype=int)


def _fill(sizes: np.ndarray, total: int) -> np.ndarray | None:
    """Places of ``sizes``, in their order, that make ``total``: each is taken that still lets it be met; or None."""
    taken, left = [], total
    for k, size in enumerate(sizes.tolist()):
        if size <= left:
            taken.append(k)
            left -= size
    if not left:  # the usual case, without a table
        return np.array(taken)
    mask = (1 << (total + 1)) - 1
    after = [1]  # bit k of after[-1 - i]: the sizes from place i on can make k
    for size in reversed(sizes.tolist()):
        after.append((after[-1] | after[-1] << size) & mask)
    if not after[-1] >> total & 1:
        return None
    taken, left = [], total
    for k, size in enumerate(sizes.tolist()):
        if size <= left and after[-2 - k] >> (left - size) & 1:
            taken.append(k)
            left -= size
    return np.array(taken)
