"""Pictures to look at: a frame with the outlines of its cells, or in the colours of its probability."""

import colorsys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ...data.image_io import stretch_to_uint8
from ...evaluation.figures import probability_overlay
from ...evaluation.overlay import PREDICTED
from ...files import atomic_write
from ..measures.crops import decode_crops, widened
from ..records import Frame, FrameCells

__all__ = ["overlay", "view", "write_overlay"]

LARGEST_SIDE = 4096
_STRIP = 256  # rows of the picture that are shrunk at a time
_STRETCH = (0.1, 99.9)  # percentiles of the grey values that become black and white
_WHITE = (255, 255, 255)
_CLASSES = (PREDICTED, (0, 158, 115), (204, 121, 167), (86, 180, 233), (240, 228, 66), (0, 114, 178))


def write_overlay(path: str | Path, result: FrameCells, largest_side: int = LARGEST_SIDE) -> Path:
    """Write :func:`overlay` as PNG, moved into place when complete."""
    encoded = cv2.imencode(".png", overlay(result, largest_side)[:, :, ::-1])[1]
    return atomic_write(path, lambda stream: stream.write(encoded.tobytes()))


def overlay(result: FrameCells, largest_side: int = LARGEST_SIDE) -> np.ndarray:
    """A frame with its cells' outlines, one pixel wide on the cells' own border pixels.

    Colours: one for each ``track_id``, the same in all frames; else one for each category. Of a result with a
    probability the frame has the colours of :func:`~cellseg_d2.evaluation.figures.probability_overlay`, outlines white.

    Args:
        largest_side: pixels of the picture's longer side, at most; larger frames are shrunk by a whole number.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    step = _step(result.frame, largest_side)
    canvas = view(result.frame, largest_side)
    if result.probability is not None:
        small = _shrunk(result.probability, step)
        canvas = probability_overlay(canvas, np.clip(small, 0, 1))
    canvas = np.ascontiguousarray(canvas)
    crops = decode_crops([cell["segmentation"] for cell in result.cells])
    for cell, crop in reversed(list(zip(result.cells, crops))):  # the best on top
        colour = _WHITE if result.probability is not None else _colour(cell)
        if crop.mask.size:
            outlines, _ = cv2.findContours(widened(crop.mask, 0), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
            shifted = [((outline + [crop.x, crop.y]) // step).astype(np.int32) for outline in outlines]
            cv2.drawContours(canvas, shifted, -1, colour, 1)
    return canvas


def view(frame: Frame, largest_side: int = LARGEST_SIDE) -> np.ndarray:
    """A frame for the eye.

    8-bit RGB stays as it is. Of other images each channel is stretched from its 0.1th to its 99.9th percentile; one
    channel becomes grey, the first ones of several red, green and blue.

    Args:
        largest_side: as of :func:`overlay`.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    pixels = _shrunk(frame.pixels, _step(frame, largest_side))
    if pixels.ndim == 3 and pixels.shape[2] == 3 and frame.pixels.dtype == np.uint8:
        return np.rint(pixels).astype(np.uint8)
    channels = pixels[:, :, None] if pixels.ndim == 2 else pixels[:, :, :3]
    shown = [stretch_to_uint8(channels[:, :, k], _STRETCH) for k in range(channels.shape[2])]
    if len(shown) == 1:
        shown *= 3
    return np.stack(shown + [np.zeros_like(shown[0])] * (3 - len(shown)), axis=2)


def _step(frame: Frame, largest_side: int) -> int:
    """Pixels of the frame along a pixel of the picture."""
    return -(-max(frame.size) // largest_side)


def _shrunk(pixels: Any, step: int) -> np.ndarray:
    """Means of ``step`` x ``step`` pixels, (H, W) or (H, W, C) float32, read strip by strip; not finite ones are 0."""
    height, width = pixels.shape[:2]
    strips = []
    for top in range(0, height, _STRIP * step):
        strip = np.asarray(pixels[top : top + _STRIP * step, :width]).astype(np.float32)
        if np.dtype(pixels.dtype).kind == "f":
            strip = np.nan_to_num(strip, copy=False, nan=0, posinf=0, neginf=0)
        strips.append(_means(strip, step) if step > 1 else strip)
    return np.concatenate(strips)


def _means(pixels: np.ndarray, step: int) -> np.ndarray:
    """Means of ``step`` x ``step`` float32 pixels; those at the end repeat the last row and column."""
    edges = [(0, -side % step) for side in pixels.shape[:2]] + [(0, 0)] * (pixels.ndim - 2)
    pixels = np.pad(pixels, edges, mode="edge")
    rows, columns = (side // step for side in pixels.shape[:2])
    shrunk = cv2.resize(pixels, (columns, rows), interpolation=cv2.INTER_AREA)
    return shrunk.reshape(rows, columns, *pixels.shape[2:])  # OpenCV drops a single channel


def _colour(cell: Mapping[str, Any]) -> tuple[int, ...]:
    """RGB of a cell's outline: hues of successive tracks lie far apart (golden ratio)."""
    if "track_id" not in cell:
        return _CLASSES[cell["category_id"] % len(_CLASSES)]
    number = int(cell["track_id"])
    hue, light = number * 0.6180339887 % 1, (0.55, 0.7)[number % 2]
    return tuple(round(255 * value) for value in colorsys.hls_to_rgb(hue, light, 1))
