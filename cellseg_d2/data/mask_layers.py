"""Masks of all instances of an image, moved together: the cost is that of the cells' pixels and of a few whole images.

No mask is warped alone. Those that do not overlap share a layer, a label map, which goes through
:func:`~.label_maps.move_labels` once; so what comes out is pixel for pixel what each mask alone would become.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from detectron2.structures import BitMasks
from fvcore.transforms.transform import Transform
from pycocotools import mask as mask_util

from ..run_lengths import decode_counts
from .label_maps import move_labels
from .label_runs import LabelRuns
from .lazy_zeros import lazy_zeros
from .polygons import PolygonSet

__all__ = ["Foreground", "foreground_pixels", "moved_masks", "pack_layers", "stack_masks"]


@dataclass(frozen=True)
class Foreground:
    """The pixels of M masks of an image; a mask may have none.

    Attributes:
        sources: (M,) int64, the annotation that each mask came from.
        boxes: (M, 4) float32, x0, y0, x1, y1 around the pixels of each; zeros where it has none.
        masks: (P,) integers, the mask of each pixel.
        pixels: (P,) int64, places in row-major order.
    """

    sources: np.ndarray
    boxes: np.ndarray
    masks: np.ndarray
    pixels: np.ndarray

    @classmethod
    def of_polygons(cls, polygons: PolygonSet, height: int, width: int) -> "Foreground":
        """A mask for each instance that owns a polygon, filled as pycocotools does."""
        instances = polygons.to_instances()
        flat = [polygon for own in instances for polygon in own]
        boxes, owners = np.zeros((len(instances), 4), dtype=np.float32), np.unique(polygons.owners)
        none = np.zeros(0, dtype=np.int64)
        if not flat:
            return cls(none, boxes, none, none)
        pixels, counts = foreground_pixels(mask_util.frPyObjects(flat, height, width), height, width)
        masks = np.repeat(np.repeat(np.arange(len(instances)), list(map(len, instances))), counts)
        columns, rows = np.divmod(pixels, height)
        first = np.flatnonzero(np.diff(masks, prepend=-1))
        if len(first):
            low = [np.minimum.reduceat(places, first) for places in (columns, rows)]
            high = [np.maximum.reduceat(places, first) + 1 for places in (columns, rows)]
            boxes[masks[first]] = np.stack([*low, *high], axis=1)
        return cls(polygons.sources[owners], boxes, masks, rows * width + columns)

    @classmethod
    def of_layer(cls, labels: np.ndarray, sources: np.ndarray) -> "Foreground":
        """A label map (H x W int32), with the sources (L + 1,) of its labels 0 (of no meaning), 1, ..., L."""
        runs = LabelRuns.of(labels)
        masks = np.repeat(runs.labels, runs.lengths)
        return cls(sources, runs.boxes(len(sources)), masks, runs.pixels(labels.shape[1]))


def moved_masks(rles: Sequence[dict], sources: np.ndarray, transforms: Transform) -> list[Foreground]:
    """Masks as run lengths after a transform or a list of them; what is no sliver, layer by layer.

    Args:
        rles: compressed COCO run lengths, all of one size.
        sources: (len(rles),) int64, the annotation of each.
        transforms: what was applied to the image.
    """
    if not len(rles):
        return []
    size = rles[0]["size"]
    layers = pack_layers(*foreground_pixels(rles, *size), *size)
    moved = [move_labels(layer, transforms) for layer in layers]
    return [Foreground.of_layer(labels, sources[owners]) for labels, owners in moved]


def stack_masks(parts: Sequence[Foreground], height: int, width: int) -> tuple[np.ndarray, np.ndarray, BitMasks]:
    """All masks that have a pixel, ordered by source.

    Returns:
        Their sources (N int64), boxes (N x 4 float32) and masks (N x H x W bool, of which only the masks' own pixels
        are written).
    """
    sources = np.concatenate([np.zeros(0, dtype=np.int64), *(part.sources for part in parts)])
    boxes = np.concatenate([np.zeros((0, 4), dtype=np.float32), *(part.boxes for part in parts)])
    order = np.argsort(sources, kind="stable")
    order = order[boxes[order, 2] > boxes[order, 0]]
    stack = lazy_zeros((len(order), height, width))
    begins, done = np.zeros(len(sources), dtype=np.int64), 0
    begins[order] = height * width * np.arange(len(order))
    for part in parts:
        stack.reshape(-1)[begins[done:][part.masks] + part.pixels] = True
        done += len(part.sources)
    return sources[order], boxes[order], BitMasks(torch.from_numpy(stack))


def foreground_pixels(rles: Sequence[dict], height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The foreground of N masks.

    Args:
        rles: compressed COCO run lengths of height x width.

    Returns:
        (P,) int64 places in column-major order, mask after mask and ascending, and (N,) int64, how many of each.

    Raises:
        ValueError: run lengths of another size.
    """
    for rle in rles:
        if list(rle["size"]) != [height, width]:
            raise ValueError(f"run lengths of {list(rle['size'])} pixels in an image of {[height, width]}")
    runs, totals = decode_counts([rle["counts"] for rle in rles], np.full(len(rles), height * width))
    if (totals != height * width).any():
        raise ValueError(f"run lengths that do not add up to {height} x {width} pixels")
    lengths = (runs.end - runs.begin).astype(np.int64)
    pixels = np.repeat(runs.begin - np.cumsum(lengths) + lengths, lengths) + np.arange(lengths.sum())
    return pixels, runs.areas()


def pack_layers(pixels: np.ndarray, counts: np.ndarray, height: int, width: int) -> list[np.ndarray]:
    """Put N masks into label maps, such that no two in the same one overlap: each in the first that has room.

    Args:
        pixels, counts: as :func:`foreground_pixels` gives them.

    Returns:
        H x W int32 label maps; mask ``k`` has the label ``k + 1`` in one of them.
    """
    labels = np.repeat(np.arange(1, len(counts) + 1), counts)
    shared = np.bincount(pixels, minlength=height * width)[pixels] > 1
    contested, sizes = pixels[shared], np.bincount(labels[shared], minlength=len(counts) + 1)
    ends = np.cumsum(sizes)
    layer, taken = np.zeros(len(sizes), dtype=np.int64), [np.zeros(height * width, dtype=bool)]
    for label in np.flatnonzero(sizes).tolist():
        own = contested[ends[label] - sizes[label] : ends[label]]
        level = 0
        while level < len(taken) and taken[level].take(own).any():
            level += 1
        if level == len(taken):
            taken.append(np.zeros_like(taken[0]))
        taken[level][own], layer[label] = True, level
    layers = np.zeros((len(taken), height * width), dtype=np.int32)
    layers.reshape(-1)[layer[labels] * (height * width) + pixels] = labels
    return [np.ascontiguousarray(flat.reshape(width, height).T) for flat in layers]
