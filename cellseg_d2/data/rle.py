"""COCO run lengths of one small object in a large image: mask and outline at the cost of the object, not the image."""

from typing import Any

import cv2
import numpy as np
from pycocotools import mask as mask_util

__all__ = ["as_rle", "decode_columns", "edge_contours", "outline_corners", "paint_columns", "parse_runs"]
__all__ += ["rle_to_polygons", "run_lengths"]


def as_rle(segmentation: list[list[float]] | dict, height: int, width: int) -> dict:
    """Compressed COCO run lengths of polygons (their union, as pycocotools fills them) or of run lengths."""
    if isinstance(segmentation, dict):
        return segmentation
    rle = mask_util.merge(mask_util.frPyObjects(segmentation, height, width))
    return {"size": [height, width], "counts": rle["counts"].decode("ascii")}


def run_lengths(counts: str | bytes) -> np.ndarray:
    """Decompress COCO's ``counts``: int64 lengths of the runs, background first, in column-major order.

    COCO writes 5 bits a character, lowest first, bit 5 saying that more follow; from the fourth number on it writes
    the difference to the number before the last one.
    """
    raw = np.frombuffer(counts.encode("ascii") if isinstance(counts, str) else counts, dtype=np.uint8).astype(np.int64)
    raw -= 48
    last = np.flatnonzero((raw & 0x20) == 0)
    first = np.concatenate([[0], last[:-1] + 1])
    shift = 5 * (np.arange(len(raw)) - np.repeat(first, last - first + 1))
    numbers = np.add.reduceat((raw & 0x1F) << shift, first)
    numbers[(raw[last] & 0x10) != 0] -= 1 << (shift[last][(raw[last] & 0x10) != 0] + 5)
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers


def parse_runs(segmentation: dict, size: tuple[int, int]) -> tuple[dict[str, Any] | None, str]:
    """Compressed COCO run lengths (counts as text) of a mask of ``size`` (height, width), plain or compressed before.

    Returns:
        The run lengths and "", or None and what is wrong with them.
    """
    said, counts = segmentation.get("size"), segmentation.get("counts")
    if not isinstance(said, (list, tuple)) or list(said) != list(size):
        return None, f"they have the size {said!r} in an image of {list(size)} (height, width)"
    if isinstance(counts, list) and all(isinstance(n, int) and n >= 0 for n in counts):
        if sum(counts) != size[0] * size[1]:
            return None, f"they add up to {sum(counts)} pixels, the image has {size[0] * size[1]}"
        counts = mask_util.frPyObjects({"size": list(size), "counts": counts}, *size)["counts"].decode("ascii")
        return {"size": list(size), "counts": counts}, ""
    if not isinstance(counts, str) or not _is_compressed(counts):
        return None, "the counts are damaged, or there are none"
    lengths = run_lengths(counts)
    if (lengths < 0).any() or lengths.sum() != size[0] * size[1]:
        return None, f"they add up to {int(lengths.sum())} pixels, the image has {size[0] * size[1]}"
    return {"size": list(size), "counts": counts}, ""


def _is_compressed(counts: str) -> bool:
    """Only COCO's 64 characters, and the last number is complete."""
    return bool(counts) and all("0" <= letter <= "o" for letter in counts) and not (ord(counts[-1]) - 48) & 0x20


def decode_columns(rle: dict) -> tuple[np.ndarray, int]:
    """The columns of a mask that have foreground.

    Args:
        rle: compressed COCO run lengths of a mask that is not empty.

    Returns:
        H x N uint8, all columns from the first to the last with foreground, and the index of the first.
    """
    bounds = np.cumsum(run_lengths(rle["counts"]))
    begin, end = bounds[0 : len(bounds) - 1 : 2], bounds[1::2]
    return paint_columns(begin[end > begin], end[end > begin], rle["size"][0])


def paint_columns(begin: np.ndarray, end: np.ndarray, height: int) -> tuple[np.ndarray, int]:
    """The columns of a mask that have foreground.

    Args:
        begin, end: (R,) runs of foreground pixels begin <= p < end in column-major order, at least one, ascending.
        height: rows of the image.

    Returns:
        As :func:`decode_columns`.
    """
    first = int(begin[0]) // height
    columns = (int(end[-1]) - 1) // height + 1 - first
    steps = np.zeros(height * columns + 1, dtype=np.int8)
    np.add.at(steps, begin - first * height, 1)
    np.add.at(steps, end - first * height, -1)
    return np.cumsum(steps[:-1], dtype=np.int8).view(np.uint8).reshape(columns, height).T, first


def rle_to_polygons(rle: dict) -> list[list[float]]:
    """The outlines of a mask along its pixel edges: filled again, they give exactly the mask, holes filled.

    Args:
        rle: compressed COCO run lengths of a mask that is not empty.

    Returns:
        Polygons [x0, y0, x1, y1, ...], one for each piece; pixels that touch at a corner are one piece.
    """
    return [
        corners[(corners != np.roll(corners, 1, axis=0)).any(axis=1)].astype(np.float64).reshape(-1).tolist()
        for corners in outline_corners(*decode_columns(rle))
    ]


def outline_corners(mask: np.ndarray, first: int) -> list[np.ndarray]:
    """The outer outlines of a mask along its pixel edges: as :func:`edge_contours`, without holes."""
    return edge_contours(mask, first, cv2.RETR_EXTERNAL)[0]


def edge_contours(mask: np.ndarray, first: int, mode: int) -> tuple[list[np.ndarray], np.ndarray]:
    """The outlines of a mask along its pixel edges.

    Args:
        mask: H x N uint8, the columns of an image from ``first`` on, as :func:`paint_columns` gives them.
        mode: which ones, ``RETR_*`` of ``cv2.findContours``.

    Returns:
        (K, 2) integer corners x, y of each outline, in the image; a corner may come twice in a row. And OpenCV's
        hierarchy of the outlines.
    """
    rows = np.flatnonzero(mask.any(axis=1))
    mask = mask[rows[0] : rows[-1] + 1]
    # In the doubled mask the border pixels of pixel c are 2c and 2c + 1, so (u + 1) // 2 is the pixel's edge
    doubled = np.ascontiguousarray(mask.repeat(2, axis=0).repeat(2, axis=1))
    contours, hierarchy = cv2.findContours(doubled, mode, cv2.CHAIN_APPROX_SIMPLE)
    return [(contour[:, 0] + 1) // 2 + [first, int(rows[0])] for contour in contours], hierarchy
