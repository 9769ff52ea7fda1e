"""Plain TIFF files of one frame: a label image, a probability map."""

from io import BytesIO
from pathlib import Path

import numpy as np
import tifffile

from ...files import atomic_write

__all__ = ["write_label_array", "write_probability"]


def write_label_array(path: str | Path, labels: np.ndarray) -> Path:
    """Write a label image as TIFF: uint16, or uint32 where a label is above 65,535.

    Args:
        path: moved into place when complete.
        labels: (H, W) integers, 0 background, 1 and more the cells.

    Raises:
        ValueError: another shape or type, or a negative label.
    """
    labels = np.asarray(labels)
    if labels.ndim != 2 or not labels.size or labels.dtype.kind not in "ui":
        raise ValueError(f"{path}: labels are (H, W) integers, not {labels.shape} of {labels.dtype}")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high > np.iinfo(np.uint32).max:
        raise ValueError(f"{path}: labels of {low}..{high} do not fit; set pixels to ignore to 0 before writing")
    return _write_tiff(path, labels.astype(np.uint16 if high <= np.iinfo(np.uint16).max else np.uint32))


def write_probability(path: str | Path, probability: np.ndarray) -> Path:
    """Write a probability map as TIFF, float32 from 0 to 1.

    Args:
        path: moved into place when complete.
        probability: (H, W) float.

    Raises:
        ValueError: another shape, or values that are NaN or outside 0..1.
    """
    probability = np.asarray(probability, dtype=np.float32)
    if probability.ndim != 2 or not probability.size:
        raise ValueError(f"{path}: a probability map has one value a pixel, (H, W), not {probability.shape}")
    low, high = probability.min(), probability.max()
    if not (low >= 0 and high <= 1):
        raise ValueError(f"{path}: probabilities lie in 0..1, these in {low:g}..{high:g}")
    return _write_tiff(path, probability)


def _write_tiff(path: str | Path, values: np.ndarray) -> Path:
    """One zlib-compressed frame; without a predictor, which not every program undoes for floats."""
    content = BytesIO()
    tifffile.imwrite(content, values, compression="zlib", photometric="minisblack", metadata={"axes": "YX"})
    return atomic_write(path, lambda stream: stream.write(content.getvalue()))
