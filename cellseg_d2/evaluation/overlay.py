"""Pictures of predictions: outlines drawn over the image."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pycocotools.mask as mask_util

from ..files import atomic_write

__all__ = ["ANNOTATED", "PREDICTED", "draw_outlines", "write_overlay"]

# RGB; blue and orange stay apart for colour-blind readers
PREDICTED = (255, 140, 0)
ANNOTATED = (0, 130, 255)


def draw_outlines(image: np.ndarray, rles: Iterable[Mapping[str, Any]], colour: Sequence[int]) -> np.ndarray:
    """Draw the outline of each mask, one pixel wide.

    Args:
        image: (H, W, 3) uint8, drawn on in place.
        rles: compressed COCO RLEs of the image's size; decoded one at a time, so that thousands need no stack.
        colour: three values in 0..255, in the image's channel order.

    Returns:
        ``image``.
    """
    for rle in rles:
        if tuple(rle["size"]) != image.shape[:2]:
            raise ValueError(f"mask of size {tuple(rle['size'])} does not fit the image of size {image.shape[:2]}")
        mask = mask_util.decode(rle)
        outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(image, outlines, -1, tuple(int(value) for value in colour), 1)
    return image


def write_overlay(
    path: str | Path,
    image: np.ndarray,
    predicted: Iterable[Mapping[str, Any]],
    annotated: Iterable[Mapping[str, Any]] = (),
) -> Path:
    """Write a PNG of ``image`` ((H, W, 3) uint8 RGB) with annotated outlines (blue) under predicted ones (orange)."""
    canvas = np.ascontiguousarray(image).copy()
    draw_outlines(canvas, annotated, ANNOTATED)
    draw_outlines(canvas, predicted, PREDICTED)
    encoded = cv2.imencode(".png", canvas[:, :, ::-1])[1]
    return atomic_write(path, lambda stream: stream.write(encoded.tobytes()))
