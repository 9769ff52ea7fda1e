"""Label images: each cell's pixels have its number, 0 is background."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal
from uuid import NAMESPACE_URL, uuid5

import cv2
import numpy as np
import pycocotools.mask as mask_util
import tifffile

from ...files import atomic_write
from ..measures.crops import Crop, cell_numbers, decode_crops, widened
from ..records import Frame, FrameCells
from .stack import stack_axes, stack_shape

__all__ = ["label_image", "label_type", "write_labels"]

Overlap = Literal["score", "interior"]
Cells = Sequence[Mapping[str, Any]]

LARGE = 64_000_000  # pixels of a frame above which it is made tile by tile
TILE = 512


def label_image(cells: Cells, height: int, width: int, overlap: Overlap = "score") -> np.ndarray:
    """The label image of a frame.

    Args:
        cells: COCO results with run lengths of ``height`` x ``width`` and ``score``.
        overlap: who keeps a pixel of several cells: with "score" the one of the best score, with "interior" the one
            that has it deeper inside, furthest from what is not the cell, and of equal ones the one of the best score.

    Returns:
        (H, W) of :func:`label_type`: a cell's ``track_id``, or its place 1..N where cells have none. A cell that others
        cover wholly is not in it.

    Raises:
        ValueError: a mask of another size, or no such ``overlap``.
    """
    _check(cells, height, width, overlap)
    return _paint(cells, cell_numbers(cells), (0, 0, width, height), overlap, label_type([cells]))


def label_type(frames: Sequence[Cells]) -> np.dtype:
    """uint16, or uint32 where a number of the frames' cells is above 65,535."""
    largest = max((max(cell_numbers(cells), default=0) for cells in frames), default=0)
    return np.dtype(np.uint16 if largest <= np.iinfo(np.uint16).max else np.uint32)


def write_labels(
    path: str | Path, results: Sequence[FrameCells], axes: str | None = None, overlap: Overlap = "score"
) -> int:
    """Write the label images of one file's frames as a TIFF, zlib-compressed, with OME metadata.

    Frames lie at their ``place``; a place that no frame has stays empty. The pixel size is told in micrometres, the
    time between frames in seconds. Frames above 64 megapixels are written in tiles, with memory for a few of them;
    ImageJ reads those through Bio-Formats.

    Args:
        path: NAME.tif, moved into place when complete.
        results: at least one, all of one size.
        axes: such as "TYX", "ZYX" or "TZYX"; None for those that the frames have a place on, "YX" for a single frame.
        overlap: as in :func:`label_image`.

    Returns:
        How many cells are wholly covered by others, and so are not in the file.

    Raises:
        ValueError: no frame, frames of several sizes or in one place, a mask of another size, or wrong ``axes``.
    """
    results = list(results)
    axes = stack_axes(results) if axes is None else axes
    shape = stack_shape(results, axes)
    for result in results:
        _check(result.cells, *shape[-2:], overlap)
    stack = _Stack(results, axes, shape, label_type([result.cells for result in results]), overlap)

    def write(stream: IO[bytes]) -> None:
        # A temporary file's name is a number, which tifffile does not take
        handle = tifffile.FileHandle(stream, name=Path(path).name, size=0)
        tiles = {} if stack.tile == shape[-2:] else {"tile": stack.tile}
        options = _options(results[0].frame, axes) | tiles
        tifffile.imwrite(handle, stack.planes(), shape=shape, dtype=stack.dtype, **options)

    atomic_write(path, write)
    return stack.hidden


@dataclass
class _Stack:
    """The label images of a file's frames, made one by one; ``hidden`` counts the cells that others wholly cover."""

    results: Sequence[FrameCells]
    axes: str
    shape: tuple[int, ...]
    dtype: np.dtype
    overlap: Overlap
    hidden: int = 0

    @property
    def tile(self) -> tuple[int, int]:
        """Rows and columns of what is made at a time: of all of a frame, where it is not large."""
        return (TILE, TILE) if self.shape[-2] * self.shape[-1] > LARGE else self.shape[-2:]

    def planes(self) -> Iterator[np.ndarray]:
        """All frames in the stack's order, whole or tile by tile."""
        along = [axis.lower() for axis in self.axes[:-2]]
        at = {tuple(result.frame.place[axis] for axis in along): result.cells for result in self.results}
        for place in np.ndindex(self.shape[:-2]):
            yield from self._tiles(at.get(place, []))

    def _tiles(self, cells: Cells) -> Iterator[np.ndarray]:
        """The tiles of a frame, row by row."""
        (height, width), (rows, columns) = self.shape[-2:], self.tile
        numbers, boxes = cell_numbers(cells), _boxes(cells)
        unseen = set(numbers)
        corners = [(x, y) for y in range(0, height, rows) for x in range(0, width, columns)]
        for x, y in corners:
            window = x, y, min(x + columns, width), min(y + rows, height)
            inside = np.flatnonzero((boxes[:, :2] < window[2:]).all(axis=1) & (boxes[:, 2:] > window[:2]).all(axis=1))
            labels = _paint([cells[k] for k in inside], [numbers[k] for k in inside], window, self.overlap, self.dtype)
            unseen.difference_update(np.unique(labels).tolist())
            if (x, y) == corners[-1]:  # before the tile is given away: nobody asks for one more
                self.hidden += len(unseen)
            yield labels


def _options(frame: Frame, axes: str) -> dict[str, Any]:
    """tifffile's options: OME metadata, and the pixel size also where programs without OME look for it."""
    metadata: dict[str, Any] = {"axes": axes, "UUID": str(uuid5(NAMESPACE_URL, frame.name))}  # the same bytes each time
    options = {"ome": True, "photometric": "minisblack", "compression": "zlib", "metadata": metadata}
    if frame.pixel_size:
        for key in ("PhysicalSizeX", "PhysicalSizeY"):
            metadata |= {key: frame.pixel_size, f"{key}Unit": "µm"}
        options |= {"resolution": (1e4 / frame.pixel_size,) * 2, "resolutionunit": "CENTIMETER"}
    if frame.interval and "T" in axes:
        metadata |= {"TimeIncrement": frame.interval, "TimeIncrementUnit": "s"}
    return options


def _check(cells: Cells, height: int, width: int, overlap: str) -> None:
    """Raise ValueError where masks or options do not fit."""
    if overlap not in ("score", "interior"):
        raise ValueError(f"overlap is 'score' or 'interior', not {overlap!r}")
    wrong = [cell for cell in cells if list(cell["segmentation"]["size"]) != [height, width]]
    if wrong:
        raise ValueError(f"a mask of {list(wrong[0]['segmentation']['size'])} in a frame of {[height, width]}")


def _boxes(cells: Cells) -> np.ndarray:
    """(N, 4) x0, y0, x1, y1 around the masks, pixels."""
    if not cells:
        return np.zeros((0, 4))
    boxes = np.asarray(mask_util.toBbox([cell["segmentation"] for cell in cells]), dtype=np.float64)
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def _paint(
    cells: Cells, numbers: Sequence[int], window: tuple[int, int, int, int], overlap: Overlap, dtype: np.dtype
) -> np.ndarray:
    """The labels of the pixels x0 <= x < x1, y0 <= y < y1 of a frame; the window is x0, y0, x1, y1."""
    x0, y0, x1, y1 = window
    labels = np.zeros((y1 - y0, x1 - x0), dtype=dtype)
    deepest = np.zeros(labels.shape if overlap == "interior" else (0, 0), dtype=np.float32)
    worst_first = sorted(range(len(cells)), key=lambda k: -cells[k]["score"])[::-1]
    crops = decode_crops([cell["segmentation"] for cell in cells])
    for k in worst_first:
        crop = crops[k]
        left, top, right, bottom = crop.box
        left, top, right, bottom = max(left, x0), max(top, y0), min(right, x1), min(bottom, y1)
        if left >= right or top >= bottom:
            continue
        there = np.s_[top - y0 : bottom - y0, left - x0 : right - x0]
        own = np.s_[top - crop.y : bottom - crop.y, left - crop.x : right - crop.x]
        won = crop.mask[own]
        if overlap == "interior":
            depth = _depth(crop)[own]
            won = won & (depth >= deepest[there])
            deepest[there][won] = depth[won]
        labels[there][won] = numbers[k]
    return labels


def _depth(crop: Crop) -> np.ndarray:
    """(h, w) float32: pixels from each of a cell's pixels to the nearest that is not the cell's."""
    distance = cv2.distanceTransform(widened(crop.mask, 1), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return distance[1:-1, 1:-1]
