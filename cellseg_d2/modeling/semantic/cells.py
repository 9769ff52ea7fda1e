"""From the foreground probability of each pixel to cells: threshold, components, touching cells parted."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
import pycocotools.mask as mask_util
import torch
from detectron2.config import CfgNode
from detectron2.structures import Boxes, Instances
from scipy import ndimage

from ...crops import encode_crop
from .parting import part_at_waists, part_between

__all__ = ["SPLITS", "CellOptions", "label_cells", "labels_to_instances", "with_masks"]

SPLITS = ("none", "distance", "classes")
ROUNDING = 1e-4  # of probabilities that were added or averaged


@dataclass(frozen=True)
class CellOptions:
    """How probabilities become cells.

    Attributes:
        threshold: pixels of at least this foreground probability belong to cells.
        min_area: cells of fewer pixels are dropped.
        hole_area: holes of at most this many pixels are filled.
        split: how touching cells are parted: "none", "distance" (at their waist) or "classes" (between interiors).
        split_depth: for "distance", how much narrower a waist must be than both cells beside it, pixels of radius.

    Raises:
        ValueError: a value is out of its range; names the configuration key.
    """

    threshold: float = 0.5
    min_area: int = 0
    hole_area: int = 0
    split: str = "none"
    split_depth: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"MODEL.SEMANTIC.THRESHOLD: {self.threshold} is no probability; give one in 0..1")
        for key, value in (("MIN_AREA", self.min_area), ("HOLE_AREA", self.hole_area)):
            if not 0 <= value < math.inf:
                raise ValueError(f"MODEL.SEMANTIC.{key}: {value} is no number of pixels; give 0 or more")
        if self.split not in SPLITS:
            raise ValueError(f"MODEL.SEMANTIC.SPLIT: {self.split!r} is unknown; give one of {', '.join(SPLITS)}")
        if not 0 < self.split_depth < math.inf:
            raise ValueError(f"MODEL.SEMANTIC.SPLIT_DEPTH: {self.split_depth} is no depth; give pixels above 0")

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "CellOptions":
        """The options that ``MODEL.SEMANTIC`` gives."""
        keys = cfg.MODEL.SEMANTIC
        return cls(keys.THRESHOLD, keys.MIN_AREA, keys.HOLE_AREA, keys.SPLIT, keys.SPLIT_DEPTH)


def label_cells(
    probability: np.ndarray, options: CellOptions, edge_probability: np.ndarray | None = None
) -> np.ndarray:
    """Number the cells of an image.

    Cells are 4-connected, so that a line one pixel wide parts two of them also where it runs diagonally; holes,
    accordingly, are 8-connected. What touches the frame of the image is no hole.

    "distance" is a watershed on the Euclidean distance to the background: a maximum is a cell of its own where the
    distance falls by at least ``split_depth`` before a higher maximum is reached (the h-maxima transform). "classes" is
    one on the probability of interiors, ``probability - edge_probability``: each connected piece in which it is above
    that of edges is a cell, and a component that has none stays whole. Parts of fewer than ``min_area`` pixels go to
    their neighbours.

    Args:
        probability: (H, W) float, foreground (edges of cells included), 0..1.
        edge_probability: (H, W) float, 0..1; for "classes" only.

    Returns:
        (H, W) int32: 0 background, 1..N cells.

    Raises:
        ValueError: the probabilities are NaN, outside 0..1 or of another shape, or "classes" has no edges.
    """
    probability = _checked("probability", probability)
    foreground = (probability >= options.threshold).view(np.uint8)
    if options.hole_area:
        _fill_holes(foreground, options.hole_area)
    labels = _components(foreground, options.min_area)
    return labels if options.split == "none" else _part(labels, probability, edge_probability, options)


def labels_to_instances(labels: np.ndarray, probability: np.ndarray) -> Instances:
    """The cells of a label map as detections, without an N x H x W stack.

    Args:
        labels: (H, W) integers; 0 and below are no cells, numbers may be missing.
        probability: (H, W) float.

    Returns:
        N cells on the CPU by falling score, with ``pred_boxes`` (XYXY, pixels; x1 is the last column + 1), ``scores``
        (mean probability inside, float32), ``pred_classes`` (0) and ``pred_rles`` (list of {"size", "counts"}).
    """
    height, width = labels.shape
    probability = _checked("probability", probability, labels.shape)
    boxes, scores, rles = [], [], []
    for number, window in enumerate(ndimage.find_objects(labels), start=1):
        if window is not None:
            rows, columns = window
            mask = labels[window] == number
            boxes.append([columns.start, rows.start, columns.stop, rows.stop])
            scores.append(probability[window][mask].mean(dtype=np.float64))
            rles.append(encode_crop(mask, boxes[-1][:2], height, width))
    order = np.argsort(-np.array(scores), kind="stable").tolist()
    result = Instances((height, width))
    result.pred_boxes = Boxes(torch.tensor([boxes[n] for n in order], dtype=torch.float32).reshape(-1, 4))
    result.scores = torch.tensor([scores[n] for n in order], dtype=torch.float32)
    result.pred_classes = torch.zeros(len(order), dtype=torch.int64)
    result.pred_rles = [rles[n] for n in order]
    return result


def with_masks(instances: Instances) -> Instances:
    """A copy with ``pred_masks`` (N, H, W) bool in the place of ``pred_rles``, for Detectron2's own consumers."""
    fields = dict(instances.get_fields())
    rles = fields.pop("pred_rles")
    masks = mask_util.decode(rles) if rles else np.zeros((*instances.image_size, 0), np.uint8)
    return Instances(instances.image_size, **fields, pred_masks=torch.from_numpy(masks.astype(bool)).permute(2, 0, 1))


def _part(
    labels: np.ndarray, probability: np.ndarray, edge_probability: np.ndarray | None, options: CellOptions
) -> np.ndarray:
    """Components parted as the options say."""
    if options.split == "distance":
        return part_at_waists(labels, options.split_depth, options.min_area)
    if edge_probability is None:
        raise ValueError("MODEL.SEMANTIC.SPLIT: classes needs a model with MODEL.SEM_SEG_HEAD.NUM_CLASSES 3")
    edge = _checked("edge probability", edge_probability, probability.shape)
    interior = probability - edge
    return part_between(labels, interior, (interior > edge) & (labels > 0), options.min_area)


def _checked(name: str, values: np.ndarray, shape: tuple[int, int] | None = None) -> np.ndarray:
    """``values`` as float32; an error where they are no map of probabilities (of that shape)."""
    values = np.asarray(values, dtype=np.float32)
    if values.ndim != 2 or not values.size or (shape and values.shape != shape):
        raise ValueError(f"the {name} has shape {values.shape}; it must be {shape or '(H, W)'}, one value a pixel")
    low, high = values.min(), values.max()
    if np.isnan(low):
        count = int(np.isnan(values).sum())
        raise ValueError(f"the {name} is NaN in {count} of {values.size} pixels; the model's output is not finite")
    if low < -ROUNDING or high > 1 + ROUNDING:
        raise ValueError(f"the {name} lies in {low:g}..{high:g}, not in 0..1; are these logits?")
    return values


def _fill_holes(foreground: np.ndarray, area: int) -> None:
    """Set background components (8-connected) of at most ``area`` pixels off the frame to 1; (H, W) uint8, in place."""
    count, holes = cv2.connectedComponents(1 - foreground, connectivity=8)
    small = np.bincount(holes.ravel(), minlength=count) <= area
    small[0] = False
    for frame in (holes[0], holes[-1], holes[:, 0], holes[:, -1]):
        small[frame] = False
    if small.any():
        foreground |= small.view(np.uint8)[holes]


def _components(foreground: np.ndarray, min_area: int) -> np.ndarray:
    """(H, W) int32 numbers of the components (4-connected) of at least ``min_area`` pixels."""
    count, labels = cv2.connectedComponents(foreground, connectivity=4)
    if min_area > 1:
        keep = np.bincount(labels[foreground > 0], minlength=count) >= min_area
        keep[0] = False
        if not keep[1:].all():
            labels = np.where(keep, np.cumsum(keep), 0).astype(np.int32)[labels]
    return labels
