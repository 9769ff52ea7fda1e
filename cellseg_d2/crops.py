"""COCO run lengths of a mask that is empty outside of a small window, at the cost of the window."""

import numpy as np
import pycocotools.mask as mask_util

__all__ = ["encode_crop"]


def encode_crop(crop: np.ndarray, origin: list[int], height: int, width: int) -> dict:
    """COCO RLE of an image of ``height`` x ``width`` zeros with the boolean ``crop`` (h, w) at ``origin`` (x, y)."""
    x0, y0 = origin
    # Positions, in column-major order of the image, where the value changes within or at the end of a column.
    padded = np.zeros((crop.shape[1], crop.shape[0] + 2), dtype=np.int8)
    padded[:, 1:-1] = crop.T
    column, row = np.nonzero(np.diff(padded, axis=1))
    changes = (column + x0) * height + row + y0
    if len(changes):  # a column that ends in 1 on the last row followed by one that starts with 1: one run
        joined = np.nonzero(changes[1:-1:2] == changes[2::2])[0]
        changes = np.delete(changes, np.concatenate([2 * joined + 1, 2 * joined + 2]))
    counts = np.diff(changes, prepend=0, append=height * width)
    if len(changes) and counts[-1] == 0:  # the last pixel of the image belongs to the cell
        counts = counts[:-1]
    rle = mask_util.frPyObjects({"size": [height, width], "counts": counts.tolist()}, height, width)
    return {"size": [height, width], "counts": rle["counts"].decode("ascii")}
