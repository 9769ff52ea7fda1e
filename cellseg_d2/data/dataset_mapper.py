"""From a dataset dict to what the model takes: read, check, augment, and transform all instances at once."""

from collections.abc import Sequence

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import transforms as T
from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks, polygons_to_bitmask
from fvcore.transforms.transform import CropTransform
from pycocotools import mask as mask_util

from .image_io import CorruptImageError, read_image
from .polygons import MIN_AREA, MIN_SHARE, PolygonSet
from .rle import rle_to_polygons
from .transforms import build_augmentations

__all__ = ["CellMapper", "transform_instances"]


class CellMapper:
    """Callable that turns a Detectron2 dataset dict into a model input.

    Crowd annotations are left out. What a crop leaves of an instance is clipped exactly and dropped where it is a
    sliver (fewer than 10 pixels or 10 % of its area); boxes are those of the transformed masks.

    Args:
        augmentations: applied in this order.
        with_instances: return ``instances`` (training, validation loss); else only the image.
        mask_format: "polygon" (fast, the default of Detectron2) or "bitmask". Annotations of either kind become it.
        image_format: "BGR" or "RGB".
        stretch: see :func:`~cellseg_d2.data.image_io.read_image`.
    """

    @configurable
    def __init__(
        self,
        *,
        augmentations: Sequence[T.Augmentation],
        with_instances: bool,
        mask_format: str = "polygon",
        image_format: str = "BGR",
        stretch: Sequence[float] = (),
    ) -> None:
        if mask_format not in ("polygon", "bitmask"):
            raise ValueError(f"INPUT.MASK_FORMAT: {mask_format!r} is neither 'polygon' nor 'bitmask'")
        if image_format not in ("BGR", "RGB"):
            raise ValueError(f"INPUT.FORMAT: {image_format!r} is neither 'BGR' nor 'RGB'")
        self.augmentations = T.AugmentationList(augmentations)
        self.with_instances, self.mask_format = with_instances, mask_format
        self.image_format, self.stretch = image_format, tuple(stretch)

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True, with_instances: bool | None = None) -> dict:
        """Arguments from a config; ``with_instances`` without ``is_train`` is the mapper of the validation loss."""
        return {
            "augmentations": build_augmentations(cfg, is_train),
            "with_instances": is_train if with_instances is None else with_instances,
            "mask_format": cfg.INPUT.MASK_FORMAT,
            "image_format": cfg.INPUT.FORMAT,
            "stretch": cfg.INPUT.STRETCH_PERCENTILES,
        }

    def __call__(self, record: dict) -> dict:
        """Map one record, which is left as it is.

        Returns:
            ``image`` (3 x H x W uint8 tensor), ``file_name``, ``image_id``, ``height`` and ``width`` of the file, and
            ``instances`` (``gt_boxes``, ``gt_classes``, ``gt_masks``) where asked for.

        Raises:
            CorruptImageError: the image cannot be decoded or is not of the annotated size.
        """
        aug_input = T.AugInput(self._read(record))
        transforms = self.augmentations(aug_input)
        image = aug_input.image
        item = {key: record[key] for key in ("file_name", "image_id", "height", "width")}
        item["image"] = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        if self.with_instances:
            annotations = [annotation for annotation in record["annotations"] if not annotation.get("iscrowd", 0)]
            item["instances"] = transform_instances(annotations, transforms, image.shape[:2], self.mask_format)
        return item

    def _read(self, record: dict) -> np.ndarray:
        """The image, of the size that its record says."""
        image = read_image(record["file_name"], self.stretch)
        height, width = image.shape[:2]
        if (height, width) != (record["height"], record["width"]):
            raise CorruptImageError(
                record["file_name"],
                f"it has {width} x {height} pixels, its annotations say {record['width']} x {record['height']}",
            )
        return image if self.image_format == "BGR" else np.ascontiguousarray(image[:, :, ::-1])


def transform_instances(
    annotations: Sequence[dict], transforms: T.TransformList, image_size: tuple[int, int], mask_format: str = "polygon"
) -> Instances:
    """Transform all annotations of an image; the result is Detectron2's, many times faster for many polygons.

    Args:
        annotations: with ``category_id`` and ``segmentation`` (polygons or COCO run lengths, also mixed).
        transforms: what was applied to the image.
        image_size: height and width after it.
        mask_format: "polygon" or "bitmask".

    Returns:
        ``gt_boxes``, ``gt_classes`` and ``gt_masks`` of the N instances that are still in the image.
    """
    if mask_format == "polygon":
        owners, boxes, masks = _as_polygons(annotations, transforms)
    else:
        owners, boxes, masks = _as_bitmasks(annotations, transforms, image_size)
    classes = np.array([annotation["category_id"] for annotation in annotations], dtype=np.int64)[owners]
    instances = Instances(tuple(image_size))
    instances.gt_boxes = Boxes(boxes)
    instances.gt_boxes.clip(tuple(image_size))
    instances.gt_classes = torch.from_numpy(classes)
    instances.gt_masks = masks
    nonempty = instances.gt_boxes.nonempty(threshold=1e-5)
    return instances if nonempty.all() else instances[nonempty]


def _as_polygons(
    annotations: Sequence[dict], transforms: T.TransformList
) -> tuple[np.ndarray, torch.Tensor, PolygonMasks]:
    """Index of the instances that remain, their boxes (float32) and their polygons."""
    outlines = [annotation["segmentation"] for annotation in annotations]
    outlines = [rle_to_polygons(outline) if isinstance(outline, dict) else outline for outline in outlines]
    polygons = PolygonSet.from_instances(outlines).transformed(transforms)
    boxes = torch.from_numpy(polygons.boxes().astype(np.float32))
    return np.unique(polygons.owners), boxes, PolygonMasks(polygons.to_instances())


def _as_bitmasks(
    annotations: Sequence[dict], transforms: T.TransformList, image_size: tuple[int, int]
) -> tuple[np.ndarray, torch.Tensor, BitMasks]:
    """Index of the instances that remain, their boxes (float32) and an N x H x W stack of masks."""
    outlines = [annotation["segmentation"] for annotation in annotations]
    polygons = PolygonSet.from_instances([() if isinstance(outline, dict) else outline for outline in outlines])
    polygons = polygons.transformed(transforms)
    masks = {
        owner: polygons_to_bitmask(own, *image_size)
        for owner, own in zip(np.unique(polygons.owners).tolist(), polygons.to_instances(), strict=True)
    }
    for owner, outline in enumerate(outlines):
        if isinstance(outline, dict):
            masks[owner] = _transformed_mask(mask_util.decode(outline).astype(bool), transforms)
    owners = [owner for owner in sorted(masks) if masks[owner].any()]
    stack = np.zeros((len(owners), *image_size), dtype=bool)
    for index, owner in enumerate(owners):
        stack[index] = masks[owner]
    bitmasks = BitMasks(torch.from_numpy(stack))
    return np.array(owners, dtype=np.int64), bitmasks.get_bounding_boxes().tensor, bitmasks


def _transformed_mask(mask: np.ndarray, transforms: T.TransformList) -> np.ndarray:
    """One H x W mask after the transforms; all False where a crop leaves a sliver."""
    mask = mask.astype(np.uint8)
    for transform in transforms.transforms:
        before = np.count_nonzero(mask)
        mask = transform.apply_segmentation(mask)
        after = np.count_nonzero(mask)
        if isinstance(transform, CropTransform) and after < before and after < max(MIN_AREA, MIN_SHARE * before):
            mask = np.zeros_like(mask)
    return mask.astype(bool)
