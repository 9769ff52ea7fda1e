"""Label maps: all cells of an image in one array, which goes through augmentations that polygons cannot take.

A label map is H x W int32: 0 background, 1..N cells, -1 ignored (crowds, and what lies outside of a turned image). A
pixel belongs to one cell.
"""

from collections.abc import Sequence

import numpy as np
import torch
from detectron2.structures import BitMasks, Boxes, Instances
from fvcore.transforms.transform import CropTransform, Transform
from pycocotools import mask as mask_util
from scipy import ndimage

from .label_runs import LabelRuns
from .lazy_zeros import lazy_zeros
from .polygons import MIN_AREA, MIN_SHARE
from .rle import run_lengths
from .roll_and_rotate import RollTransform, RotateTransform, flat_list, transform_map

__all__ = [
    "drop_slivers",
    "instances_from_labels",
    "move_labels",
    "rasterise",
    "separate_at_seam",
    "transform_labels",
]


def rasterise(annotations: Sequence[dict], height: int, width: int) -> np.ndarray:
    """The label map of a dataset dict's annotations.

    Args:
        annotations: with ``segmentation`` (polygons, or compressed COCO run lengths of height x width) and ``iscrowd``.

    Returns:
        H x W int32; annotation ``k`` has label ``k + 1``. Where cells overlap the one of fewer pixels is on top, so
        that no cell vanishes behind a larger one; crowds, which are -1, lie below all cells.
    """
    runs = [_foreground_runs(annotation["segmentation"], height, width) for annotation in annotations]
    labels = [-1 if annotation.get("iscrowd", 0) else k for k, annotation in enumerate(annotations, start=1)]
    areas = [int(lengths.sum()) for _, lengths in runs]
    flat = np.zeros(height * width, dtype=np.int32)
    for k in sorted(range(len(runs)), key=lambda k: (labels[k] > 0, -areas[k])):
        begins, lengths = runs[k]
        first = np.cumsum(lengths) - lengths
        flat[np.repeat(begins - first, lengths) + np.arange(areas[k])] = labels[k]
    return np.ascontiguousarray(flat.reshape(width, height).T)


def transform_labels(labels: np.ndarray, transforms: Transform) -> tuple[np.ndarray, np.ndarray]:
    """Carry a label map through a transform or a list of them; brightness and the like leave it.

    A cell that a circular shift cuts becomes one cell on each side of the seam. What a shift, a turn or a crop leaves
    of a cell that it cuts becomes background where it is a sliver, as in
    :class:`~cellseg_d2.data.polygons.PolygonSet`; a class map that is transformed on its own keeps it as foreground.

    Args:
        labels: label map.

    Returns:
        The label map with labels 1..M, and (M,) int64 ``owners``: the cell with label ``m + 1`` is what had the label
        ``owners[m] + 1``, which makes ``owners`` an index into the annotations after :func:`rasterise`.
    """
    return _compact(*move_labels(labels, transforms))


def move_labels(labels: np.ndarray, transforms: Transform) -> tuple[np.ndarray, np.ndarray]:
    """:func:`transform_labels` without numbering the labels anew, which takes as long as a transform.

    Returns:
        The label map, in which some labels may not occur, and (L + 1,) int64 owners of the labels 0, 1, ..., as above;
        the owner of 0 is -1.
    """
    owners = np.arange(-1, labels.max(initial=0))  # of labels 0, 1, ...
    for transform in flat_list(transforms):
        if isinstance(transform, RollTransform):
            labels, parents = separate_at_seam(transform.apply_segmentation(labels), transform.down, transform.right)
            owners = owners[parents]
        elif isinstance(transform, (RotateTransform, CropTransform)):
            runs, labels = LabelRuns.of(labels), transform_map(labels, transform)
            cut = _turned_out(runs, transform, len(owners)) if isinstance(transform, RotateTransform) else None
            labels = drop_slivers(labels, runs.areas(len(owners)), cut)
        else:
            labels = transform_map(labels, transform)
    return labels, owners


def separate_at_seam(labels: np.ndarray, down: int, right: int) -> tuple[np.ndarray, np.ndarray]:
    """Give the pieces of a cell on the sides of the seams of a circular shift a label each; slivers get label 0.

    Args:
        labels: label map after the shift.
        down, right: the shift, 0 <= down < H and 0 <= right < W; the seams are above row ``down`` and left of column
            ``right``.

    Returns:
        A label map in which the largest piece keeps its label, and (L + 1,) int64 parents: what each label, 0
        included, was before.
    """
    runs = LabelRuns.of(labels, seam=right)
    labels_before = int(labels.max(initial=0)) + 1
    corner = 2 * (runs.rows >= down) + (runs.begins >= right)  # which of the four parts between the seams
    areas = np.bincount(4 * runs.labels + corner, runs.lengths, 4 * labels_before).reshape(labels_before, 4)
    totals = areas.sum(axis=1, keepdims=True)
    cut = np.count_nonzero(areas, axis=1, keepdims=True) > 1
    new = np.where(areas > 0, np.arange(labels_before)[:, None], 0)
    further = cut & (areas > 0) & (np.arange(4) != areas.argmax(axis=1)[:, None])
    parents = np.concatenate([np.arange(labels_before), np.nonzero(further)[0]])
    new[further] = np.arange(labels_before, len(parents))
    new[cut & (areas < np.maximum(MIN_AREA, MIN_SHARE * totals))] = 0
    now = new[runs.labels, corner]
    return runs.painted(labels, now, now != runs.labels), parents


def drop_slivers(labels: np.ndarray, areas: np.ndarray, cut: np.ndarray | None = None) -> np.ndarray:
    """Set the label 0 where a cut left fewer than ``MIN_AREA`` pixels, or less than ``MIN_SHARE``, of a cell.

    Args:
        labels: label map after the cut.
        areas: (L,) pixels of each label, 0 included, before it.
        cut: (L,) bool, the labels that were cut; None for all that have fewer pixels than before.

    Returns:
        A label map.
    """
    after = np.bincount(labels[labels > 0], minlength=len(areas))
    cut = after < areas if cut is None else cut
    sliver = cut & (after > 0) & (after < np.maximum(MIN_AREA, MIN_SHARE * areas))
    return np.where(sliver[np.maximum(labels, 0)], np.int32(0), labels) if sliver.any() else labels


def instances_from_labels(labels: np.ndarray, classes: Sequence[int]) -> Instances:
    """The cells of a label map as Detectron2's ground truth.

    Args:
        labels: label map.
        classes: contiguous class id of labels 1, 2, ...; after :func:`transform_labels` those of the ``owners``.

    Returns:
        ``gt_boxes``, ``gt_classes`` and ``gt_masks`` (bit masks) of the labels that occur, in ascending order.
    """
    places = ndimage.find_objects(labels)
    if len(places) > len(classes):
        raise ValueError(f"the label map has labels up to {len(places)}, but there are {len(classes)} classes")
    present = [label for label, place in enumerate(places) if place is not None]
    masks = lazy_zeros((len(present), *labels.shape))
    boxes = np.zeros((len(present), 4), dtype=np.float32)
    for index, label in enumerate(present):
        rows, columns = places[label]
        masks[index, rows, columns] = labels[rows, columns] == label + 1
        boxes[index] = columns.start, rows.start, columns.stop, rows.stop
    instances = Instances(labels.shape)
    instances.gt_boxes = Boxes(torch.from_numpy(boxes))
    instances.gt_classes = torch.from_numpy(np.asarray(classes, dtype=np.int64)[present])
    instances.gt_masks = BitMasks(torch.from_numpy(masks))
    return instances


def _turned_out(runs: LabelRuns, turn: RotateTransform, count: int) -> np.ndarray:
    """(count,) bool, the labels of which a turn moves pixels out of the image; others only change by rounding."""
    height, width = turn.output_size
    ends = np.stack([runs.begins + 0.5, runs.begins + runs.lengths - 0.5])
    centres = np.stack([ends, np.broadcast_to(runs.rows + 0.5, ends.shape)], axis=-1)  # 2 x R x (x, y)
    x, y = turn.apply_coords(centres.reshape(-1, 2)).reshape(2, -1, 2).transpose(2, 0, 1)
    outside = ((x < 0) | (x > width) | (y < 0) | (y > height)).any(axis=0)
    return np.bincount(runs.labels, outside, count) > 0


def _compact(labels: np.ndarray, owners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number the labels that occur 1..M; the owners of these."""
    present = np.flatnonzero(np.bincount(labels[labels > 0], minlength=len(owners)))
    if len(present) == len(owners) - 1:
        return np.ascontiguousarray(labels), owners[1:]
    numbers = np.zeros(len(owners) + 1, dtype=np.int32)
    numbers[present] = np.arange(1, len(present) + 1)
    numbers[-1] = -1  # which the ignored pixels, of label -1, are an index to
    return numbers[labels], owners[present]


def _foreground_runs(segmentation: list | dict, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Begins and lengths of the runs of a mask's pixels in column-major order, both int64."""
    if not isinstance(segmentation, dict):
        segmentation = mask_util.merge(mask_util.frPyObjects(segmentation, height, width))
    elif list(segmentation["size"]) != [height, width]:
        raise ValueError(f"run lengths of {segmentation['size']} pixels in an image of {[height, width]}")
    bounds = np.cumsum(run_lengths(segmentation["counts"]))
    begins, ends = bounds[0 : len(bounds) - 1 : 2], bounds[1::2]
    return begins, ends - begins
