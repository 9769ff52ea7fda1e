"""All annotated cells of an image, as polygons and run lengths, through transforms to Detectron2's ground truth."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from detectron2.structures import Boxes, Instances, PolygonMasks
from fvcore.transforms.transform import Transform
from pycocotools import mask as mask_util

from .mask_layers import Foreground, moved_masks, stack_masks
from .polygons import PolygonSet
from .rle import rle_to_polygons

__all__ = ["CellOutlines", "transform_instances"]


@dataclass(frozen=True)
class CellOutlines:
    """The outlines of N annotations.

    Attributes:
        classes: (N,) int64.
        polygons: those of the annotations that have some.
        rles: compressed COCO run lengths of the others.
        places: (len(rles),) int64, the annotation of each.
    """

    classes: np.ndarray
    polygons: PolygonSet
    rles: list[dict]
    places: np.ndarray

    @classmethod
    def of(cls, annotations: Sequence[dict], as_polygons: bool) -> "CellOutlines":
        """Annotations with ``category_id`` and ``segmentation`` (polygons or COCO run lengths, also mixed).

        Args:
            annotations: crowds are not treated in another way.
            as_polygons: make polygons of run lengths.
        """
        outlines = [annotation["segmentation"] for annotation in annotations]
        if as_polygons:
            outlines = [rle_to_polygons(outline) if isinstance(outline, dict) else outline for outline in outlines]
        places = np.flatnonzero([isinstance(outline, dict) for outline in outlines])
        polygons = PolygonSet.from_instances([() if isinstance(outline, dict) else outline for outline in outlines])
        classes = np.array([annotation["category_id"] for annotation in annotations], dtype=np.int64)
        return cls(classes, polygons, [outlines[place] for place in places], places)

    def centres(self) -> np.ndarray:
        """(M, 2) float64, x and y of the middles of the outlines' boxes; without those of no extent."""
        boxes = self.polygons.boxes()
        middles = (boxes[:, :2] + boxes[:, 2:]) / 2
        if not self.rles:
            return middles
        corner, size = np.split(mask_util.toBbox(self.rles), 2, axis=1)  # x, y, width, height
        return np.concatenate([middles, (corner + size / 2)[size.any(axis=1)]])

    def polygon_instances(self, transforms: Transform, image_size: tuple[int, int]) -> Instances:
        """What remains after the transforms, with ``gt_masks`` as polygons."""
        polygons = self.polygons.transformed(transforms)
        sources = polygons.sources[np.unique(polygons.owners)]
        instances = self._instances(sources, polygons.boxes().astype(np.float32), image_size)
        instances.gt_masks = PolygonMasks(polygons.to_instances())
        nonempty = instances.gt_boxes.nonempty(threshold=1e-5)
        return instances if nonempty.all() else instances[nonempty]

    def bitmask_instances(self, transforms: Transform, image_size: tuple[int, int]) -> Instances:
        """What remains after the transforms, with ``gt_masks`` as bit masks.

        Polygons are moved and then filled, as Detectron2 does: they are exact below a pixel, so that zooms and turns
        cost no precision, and filling costs a cell's pixels. Run lengths are pixels and move as such.
        """
        parts = moved_masks(self.rles, self.places, transforms)
        if len(self.polygons.lengths):
            parts.append(Foreground.of_polygons(self.polygons.transformed(transforms), *image_size))
        sources, boxes, masks = stack_masks(parts, *image_size)
        instances = self._instances(sources, boxes, image_size)
        instances.gt_masks = masks
        return instances

    def _instances(self, sources: np.ndarray, boxes: np.ndarray, image_size: tuple[int, int]) -> Instances:
        """Boxes and classes of the instances that come from the annotations ``sources``."""
        instances = Instances(tuple(image_size))
        instances.gt_boxes = Boxes(torch.from_numpy(boxes))
        instances.gt_boxes.clip(tuple(image_size))
        instances.gt_classes = torch.from_numpy(self.classes[sources])
        return instances


def transform_instances(
    annotations: Sequence[dict], transforms: Transform, image_size: tuple[int, int], mask_format: str = "polygon"
) -> Instances:
    """Transform all annotations of an image; the result is Detectron2's, many times faster for many cells.

    Args:
        annotations: with ``category_id`` and ``segmentation`` (polygons or COCO run lengths, also mixed).
        transforms: what was applied to the image.
        image_size: height and width after it.
        mask_format: "polygon" or "bitmask".

    Returns:
        ``gt_boxes``, ``gt_classes`` and ``gt_masks`` of the N instances that are in the image, ordered by annotation;
        an annotation that the seam of a circular shift cuts is several.
    """
    outlines = CellOutlines.of(annotations, as_polygons=mask_format == "polygon")
    if mask_format == "polygon":
        return outlines.polygon_instances(transforms, image_size)
    return outlines.bitmask_instances(transforms, image_size)
