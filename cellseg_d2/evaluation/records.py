"""Between Detectron2's records and ours: predictions to a COCO result list, dataset dicts to tables."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
from detectron2.structures import BoxMode, Instances

from .reading import GroundTruth
from .tables import image_table, object_table

__all__ = ["ground_truth", "instances_to_results", "to_rle"]


def instances_to_results(instances: Instances, image_id: Any, file_name: str) -> list[dict[str, Any]]:
    """The predictions of one image as COCO results, with the model's contiguous class numbers.

    Args:
        instances: on any device, with ``pred_boxes`` (XYXY, pixels), ``scores``, ``pred_classes`` and, where the
            model makes masks, ``pred_rles`` or ``pred_masks`` (N, H, W); ``mask_scores`` is kept where present.
        image_id, file_name: of the image; the name is for error messages.

    Returns:
        dicts ``{image_id, category_id, bbox [x, y, w, h], score, mask_score?, segmentation?}``.

    Raises:
        FloatingPointError: a box or score is NaN or infinite.
    """
    instances = instances.to("cpu")
    boxes = instances.pred_boxes.tensor.double().numpy()
    columns = {"score": instances.scores.double().numpy()}
    if instances.has("mask_scores"):
        columns["mask_score"] = instances.mask_scores.double().numpy()
    for name, values in {"box": boxes, **columns}.items():
        if not np.isfinite(values).all():
            raise FloatingPointError(
                f"prediction for image {file_name} (id {image_id}) has a {name} that is NaN or infinite: the weights "
                "or the image hold non-finite values; check the checkpoint and the image"
            )
    columns["bbox"] = BoxMode.convert(boxes, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
    columns["category_id"] = instances.pred_classes.numpy()
    results = [{"image_id": image_id} for _ in range(len(instances))]
    for name, values in columns.items():
        for result, value in zip(results, values.tolist(), strict=True):
            result[name] = value
    if instances.has("pred_rles"):
        rles: Iterable[dict] = instances.pred_rles
    elif instances.has("pred_masks"):
        rles = (mask_util.encode(np.asfortranarray(mask.numpy().astype(np.uint8))) for mask in instances.pred_masks)
    else:
        return results
    for result, rle in zip(results, rles, strict=True):
        result["segmentation"] = _with_text_counts(rle)
    return results


def ground_truth(records: Sequence[Mapping[str, Any]], category_ids: Mapping[int, int], source: str) -> GroundTruth:
    """The tables of Detectron2 dataset dicts; areas and crowd flags as they stand in the data set.

    Args:
        records: with ``image_id``, ``file_name``, ``height``, ``width`` and (where there are any) ``annotations``.
        category_ids: contiguous class number -> category id of the data set; others keep their number.
        source: name of the data set, for messages.
    """
    entries = [
        {key: value for key, value in record.items() if isinstance(value, str | int | float)}
        | {"id": record["image_id"], "file_name": record.get("file_name", "?")}
        for record in records
    ]
    images = image_table(entries, source)
    rows = [(record["image_id"], a) for record in records for a in record.get("annotations", ())]
    objects = object_table(
        images,
        lambda n: f"{source}: annotation {n} (image {rows[n][0]!r})",
        image_ids=[image_id for image_id, _ in rows],
        categories=[category_ids.get(a["category_id"], a["category_id"]) for _, a in rows],
        boxes=[BoxMode.convert(list(a["bbox"]), a["bbox_mode"], BoxMode.XYWH_ABS) for _, a in rows],
        segmentations=[a.get("segmentation") for _, a in rows],
        areas=[a.get("area") for _, a in rows],
        crowd=[bool(a.get("iscrowd", 0)) for _, a in rows],
    )
    return GroundTruth(source, images, objects, frozenset(category_ids.values()))


def to_rle(segmentation: Any, height: int, width: int) -> dict[str, Any]:
    """Polygons (lists of x, y in pixels), an uncompressed or a compressed RLE -> a compressed RLE with text counts."""
    if isinstance(segmentation, list):
        segmentation = mask_util.merge(mask_util.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation["counts"], list):
        segmentation = mask_util.frPyObjects(segmentation, height, width)
    return _with_text_counts(segmentation)


def _with_text_counts(rle: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a compressed RLE that JSON can hold."""
    counts = rle["counts"]
    return {"size": list(rle["size"]), "counts": counts.decode("ascii") if isinstance(counts, bytes) else counts}
