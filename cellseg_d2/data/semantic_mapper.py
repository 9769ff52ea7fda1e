"""From a dataset dict to what a semantic model takes: float image, class map and loss weights, changed together."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import transforms as T

from .datasets import SEMANTIC_ONLY
from .image_io import CorruptImageError, read_grey, read_raw
from .label_maps import instances_from_labels, rasterise, transform_labels
from .normalize import Normalization
from .roll_and_rotate import IGNORED_CLASS, transform_classes, transform_weights
from .transforms import build_augmentations
from .weight_maps import class_map, edge_weights, unet_weights

__all__ = ["Frame", "SemanticMapper", "unweighted"]

CACHED_BYTES = 512 << 20  # of whole frames, in each process; few large images are cut up thousands of times
Weigh = Callable[[np.ndarray], np.ndarray]


def unweighted(labels: np.ndarray) -> np.ndarray:
    """Weight map of a label map: 1, and 0 where it is -1."""
    return (labels >= 0).astype(np.float32)


@dataclass(frozen=True)
class Frame:
    """A whole image with its truth.

    Attributes:
        image: H x W x C float32, stretched.
        labels: H x W int32; 0 background, k + 1 the k-th annotation, -1 ignore. None without truth, as the next two.
        classes: H x W uint8; 255 ignore.
        weights: H x W float32.
        categories: class number of each annotation.
    """

    image: np.ndarray
    labels: np.ndarray | None = None
    classes: np.ndarray | None = None
    weights: np.ndarray | None = None
    categories: tuple[int, ...] = ()

    @property
    def nbytes(self) -> int:
        """Memory of the arrays."""
        return sum(a.nbytes for a in (self.image, self.labels, self.classes, self.weights) if a is not None)


class SemanticMapper:
    """Callable that turns a Detectron2 dataset dict into the input of a semantic model.

    Class and weight maps are made of the whole frame and then moved with it, so that the cut of a crop or the seam of
    a roll is no border of a cell.

    Args:
        augmentations: applied in this order.
        normalization: of grey values.
        channels: 1 (colour becomes grey) or 3.
        num_classes: of the head; 1 (foreground) or 3 (background, interior, edge).
        edge_class_width: see :func:`.weight_maps.class_map`.
        weigh: label map -> weight map.
        with_truth: return ``sem_seg``; else only the image.
        with_instances: also return ``instances`` (bitmasks).
        keep_frames: keep whole frames in memory, up to 512 MB: training cuts thousands of crops out of few.
    """

    @configurable
    def __init__(
        self,
        *,
        augmentations: Sequence[T.Augmentation],
        normalization: Normalization,
        channels: int = 1,
        num_classes: int = 1,
        edge_class_width: int = 3,
        weigh: Weigh = unweighted,
        with_truth: bool = True,
        with_instances: bool = False,
        keep_frames: bool = False,
    ) -> None:
        if channels not in (1, 3):
            raise ValueError(f"MODEL.PIXEL_MEAN has {channels} values: a semantic model takes 1 or 3 channels")
        self.augmentations = T.AugmentationList(augmentations)
        self.normalization, self.channels = normalization, channels
        self.num_classes, self.edge_class_width, self.weigh = num_classes, edge_class_width, weigh
        self.with_truth, self.with_instances, self.keep_frames = with_truth, with_instances, keep_frames
        self._frames: OrderedDict[tuple[Any, ...], Frame] = OrderedDict()

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True, with_instances: bool | None = None) -> dict[str, Any]:
        """Arguments from a config; ``with_instances`` without ``is_train`` is the mapper of the validation loss."""
        if cfg.INPUT.EXTENSION.BANK:
            raise ValueError("INPUT.EXTENSION.BANK needs INPUT.MAPPER 'CellDatasetMapper'; extend the data set on disk")
        with_truth = is_train if with_instances is None else with_instances
        return {
            "augmentations": build_augmentations(cfg, is_train),
            "normalization": Normalization.from_config(cfg),
            "channels": len(cfg.MODEL.PIXEL_MEAN),
            "num_classes": cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
            "edge_class_width": cfg.INPUT.EDGE_CLASS_WIDTH,
            "weigh": _weighing(cfg.INPUT.WEIGHT_MAP),
            "with_truth": with_truth,
            "with_instances": with_truth and cfg.MODEL.META_ARCHITECTURE not in SEMANTIC_ONLY,
            "keep_frames": is_train,
        }

    def __call__(self, record: dict[str, Any]) -> dict[str, Any]:
        """Map one record, which is left as it is.

        Returns:
            ``image`` (C x H x W float32 tensor), ``sem_seg`` (2 x H x W float32: class and weight of each pixel) where
            there is truth, ``instances`` where asked for; ``file_name``, ``image_id``, ``height`` and ``width`` of the
            file, and its ``cell_type`` where the data set knows it.

        Raises:
            CorruptImageError: the image cannot be decoded or is not of the annotated size.
        """
        frame = self._frame(record)
        moved = T.AugInput(frame.image, sem_seg=frame.classes)  # classes, as crops may ask for cells
        transforms = self.augmentations(moved)
        item = {key: record[key] for key in ("file_name", "image_id", "height", "width", "cell_type") if key in record}
        item["image"] = torch.from_numpy(np.array(moved.image.transpose(2, 0, 1), dtype=np.float32, order="C"))
        if self.with_truth:
            classes = transform_classes(frame.classes, transforms)
            weights = np.where(classes == IGNORED_CLASS, 0, transform_weights(frame.weights, transforms))
            item["sem_seg"] = torch.from_numpy(np.stack([classes, weights]).astype(np.float32))
        if self.with_instances:
            labels, owners = transform_labels(frame.labels, transforms)
            item["instances"] = instances_from_labels(labels, [frame.categories[owner] for owner in owners])
        return item

    def _frame(self, record: dict[str, Any]) -> Frame:
        """The whole image, from the cache where it is still there."""
        if not self.keep_frames:
            return self._read(record)
        key = (record["file_name"], record["image_id"])
        frame = self._frames.pop(key, None) or self._read(record)
        self._frames[key] = frame
        while len(self._frames) > 1 and sum(f.nbytes for f in self._frames.values()) > CACHED_BYTES:
            self._frames.popitem(last=False)
        return frame

    def _read(self, record: dict[str, Any]) -> Frame:
        """Read and prepare."""
        path, size = record["file_name"], (record["height"], record["width"])
        raw = read_grey(path) if self.channels == 1 else read_raw(path)
        if raw.shape[:2] != size:
            raise CorruptImageError(
                path, f"it has {raw.shape[1]} x {raw.shape[0]} pixels, its annotations say {size[1]} x {size[0]}"
            )
        image = self.normalization(raw)
        image = np.repeat(image[:, :, None], self.channels, axis=2) if image.ndim == 2 else image
        if not self.with_truth:
            return Frame(image)
        labels = rasterise(record["annotations"], *size)
        classes = class_map(labels, self.num_classes, self.edge_class_width)
        categories = tuple(annotation["category_id"] for annotation in record["annotations"])
        return Frame(image, labels, classes, self.weigh(labels), categories)


def _weighing(options: CfgNode) -> Weigh:
    """Label map -> weight map, as INPUT.WEIGHT_MAP says."""
    kinds = {
        "edge": partial(edge_weights, weight=options.EDGE_WEIGHT, width=options.EDGE_WIDTH),
        "unet": partial(unet_weights, weight=options.UNET_WEIGHT, sigma=options.UNET_SIGMA),
        "none": unweighted,
    }
    if options.KIND not in kinds:
        raise ValueError(f"INPUT.WEIGHT_MAP.KIND: {options.KIND!r} is not one of {', '.join(kinds)}")
    return kinds[options.KIND]
