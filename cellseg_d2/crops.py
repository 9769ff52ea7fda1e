"""COCO run lengths of a mask that is empty outside of a small window, at the cost of the window."""

import numpy as np
import pycocotools.mask as mask_util

__all__ = ["encode_crop", "encode_crops"]


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


def encode_crops(crops: np.ndarray, origins: np.ndarray, height: int, width: int) -> list[dict]:
    """What :func:`encode_crop` gives for each of many crops of one size, without a loop over them.

    Args:
        crops: (N, h, w) bool; pixels outside of the image are False.
        origins: (N, 2) int64, x and y of the crops' corners in an image of ``height`` x ``width``.
    """
    count, h, w = crops.shape
    padded = np.zeros((count, w, h + 2), dtype=np.int8)
    padded[:, :, 1:-1] = crops.transpose(0, 2, 1)
    cell, column, row = np.nonzero(padded[:, :, 1:] != padded[:, :, :-1])
    change = (column + origins[cell, 0]) * height + row + origins[cell, 1]
    joined = np.zeros(len(change), dtype=bool)  # a column that ends on the last row, and the next begins on the first
    joined[1:] = (change[1:] == change[:-1]) & (cell[1:] == cell[:-1])
    joined[:-1] |= joined[1:]
    cell, change = cell[~joined], change[~joined]
    runs = np.bincount(cell, minlength=count)  # changes of a cell, after which its last run follows
    last = np.cumsum(runs) + np.arange(count)
    values = np.empty(len(change) + count, dtype=np.int64)
    is_last = np.zeros(len(values), dtype=bool)
    is_last[last] = True
    values[is_last], values[~is_last] = height * width, change
    first = last - runs
    counts = np.diff(values, prepend=0)
    counts[first] = values[first]
    empty = is_last & (counts == 0) & (np.arange(len(values)) != np.repeat(first, runs + 1))
    place = np.arange(len(values)) - np.repeat(first, runs + 1)
    # COCO writes each count after the third as its difference to the one before the last
    written = np.where(place > 2, counts - np.roll(counts, 2), counts)
    texts = _chunks(written[~empty])
    ends = np.cumsum(np.bincount(np.repeat(np.arange(count), runs + 1)[~empty], minlength=count))
    return [{"size": [height, width], "counts": text} for text in _split(texts, np.concatenate([[0], ends]))]


def _chunks(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """COCO's text of whole numbers: their characters (uint8), and where each number's begin, with the end."""
    most = 8  # chunks of five bits
    bits = values[:, None] >> (5 * np.arange(most))
    rest = values[:, None] >> (5 * np.arange(1, most + 1))
    sign = (bits & 0x10) != 0
    done = np.where(sign, rest == -1, rest == 0)
    lengths = done.argmax(axis=1) + 1
    used = np.arange(most) < lengths[:, None]
    more = np.arange(most) < lengths[:, None] - 1
    characters = ((bits & 0x1F) | (more << 5)) + 48
    return characters[used].astype(np.uint8), np.concatenate([[0], np.cumsum(lengths)])


def _split(texts: tuple[np.ndarray, np.ndarray], ends: np.ndarray) -> list[str]:
    """The text of each cell, whose numbers end at ``ends``."""
    characters, places = texts
    text, cuts = characters.tobytes().decode("ascii"), places[ends].tolist()
    return [text[begin:end] for begin, end in zip(cuts[:-1], cuts[1:])]
