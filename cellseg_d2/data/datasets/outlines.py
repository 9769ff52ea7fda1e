"""Dataset dicts of images whose outlines are label images, binary masks or ImageJ's."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from detectron2.structures import BoxMode
from pycocotools import mask as mask_util

from ...errors import DatasetError
from ..image_io import CorruptImageError, read_raw
from ..label_files import (
    check_labels,
    instances_of_mask,
    is_binary,
    label_segmentations,
    read_binary,
    read_labels,
)
from ..label_maps import rasterise
from ..roi_files import ROI_SUFFIXES, read_rois

__all__ = ["ignore_margin", "read_outlines"]

logger = logging.getLogger(__name__)


def read_outlines(images: Sequence[Path], masks: Sequence[Path], edges: Sequence[Path] | None = None) -> list[dict]:
    """Detectron2's dataset dicts of images of one class.

    Args:
        images: N image files.
        masks: their N label images, binary masks or ImageJ outlines. Images of labels are told from binary masks
            for all files together: they are labels where one of them has more than two values.
        edges: N edge images for binary masks.

    Returns:
        N dicts; ``image_id`` counts from 1, annotations have exact run lengths. An image without cells is logged.

    Raises:
        DatasetError: no cells at all, sizes that differ, edges beside labels or ImageJ outlines, or a file that cannot
            be used.
    """
    values = {path: read_labels(path) for path in masks if path.suffix.lower() not in ROI_SUFFIXES}
    labelled = next((path for path in values if not is_binary(values[path])), None)
    if edges and (labelled or len(values) < len(masks)):
        raise DatasetError(
            f"DATASETS.MES.EDGES part the cells of binary masks, but {labelled or masks[0].parent} holds "
            f"{'labels' if labelled else 'outlines'}; leave EDGES empty"
        )
    records, number = [], 0
    for index, (image, mask) in enumerate(zip(images, masks, strict=True)):
        height, width = _size(image)
        if mask not in values:
            segmentations = read_rois(mask, height, width)
        else:
            _check_size(image, (height, width), mask, values[mask])
            if labelled:
                check_labels(values[mask], mask)
                cells = values[mask]
            else:
                cells = instances_of_mask(values[mask] > 0, _edges(image, edges[index]) if edges else None, mask)
            segmentations = label_segmentations(cells)
        if not segmentations:
            logger.warning("%s has no cell; all of %s is background", mask, image)
        annotations = list(_annotations(segmentations, number))
        number += len(annotations)
        record = {"file_name": str(image), "image_id": index + 1, "height": height, "width": width}
        records.append({**record, "annotations": annotations})
    if not number:
        raise DatasetError(f"{masks[0].parent}: none of the {len(masks)} files has a cell")
    return records


def ignore_margin(record: dict, margin: int) -> dict:
    """A dataset dict with the strips along the frame, but for outlined cells, as crowds, which nothing counts.

    There is a strip a side, with a box of its own: the box of a frame of strips would be that of the whole image, and
    scores of boxes would ignore whatever lies in it.

    Args:
        record: dataset dict with its annotations.
        margin: width in pixels of the strip along the frame in which cells may have been left out.

    Raises:
        DatasetError: nothing of the image would be left, or the margin is negative.
    """
    height, width = record["height"], record["width"]
    if not 0 <= 2 * margin < min(height, width):
        raise DatasetError(
            f"DATASETS.MES.MARGIN {margin} does not fit into {record['file_name']} of {width} x {height} pixels: it is "
            "the width of a strip along the frame, from 0 to less than half of the smaller side"
        )
    if not margin:
        return record
    free = rasterise(record["annotations"], height, width) == 0
    annotations = list(record["annotations"])
    for side in (np.s_[:margin], np.s_[-margin:], np.s_[:, :margin], np.s_[:, -margin:]):
        strip = np.zeros((height, width), dtype=np.int32)
        strip[side] = free[side]
        for crowd in _annotations(label_segmentations(strip), 0):  # one, or none under large cells
            del crowd["id"]  # those of the file stay the only ones
            annotations.append({**crowd, "iscrowd": 1})
    return {**record, "annotations": annotations}


def _edges(image: Path, edge_file: Path) -> np.ndarray:
    """The edges in an image, H x W bool."""
    edges = read_binary(edge_file)
    _check_size(image, _size(image), edge_file, edges)
    return edges


def _size(image: Path) -> tuple[int, int]:
    """Height and width of an image."""
    try:
        height, width = read_raw(image).shape[:2]
    except CorruptImageError as error:
        raise DatasetError(str(error)) from error
    return height, width


def _check_size(image: Path, size: tuple[int, int], place: Path, values: np.ndarray) -> None:
    """Raise DatasetError where the values at a place are not of their image's size."""
    if values.shape != size:
        raise DatasetError(
            f"{place} has {values.shape[1]} x {values.shape[0]} pixels, but its image {image} has {size[1]} x {size[0]}"
        )


def _annotations(segmentations: Sequence[dict], number: int) -> Iterator[dict]:
    """Annotations with the ids ``number`` + 1 and so on."""
    for index, segmentation in enumerate(segmentations, start=number + 1):
        yield {
            "id": index, "category_id": 0, "iscrowd": 0, "segmentation": segmentation, "bbox_mode": BoxMode.XYWH_ABS,
            "bbox": mask_util.toBbox(segmentation).tolist(), "area": float(mask_util.area(segmentation)),
        }  # fmt: skip
