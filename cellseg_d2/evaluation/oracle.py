"""AP and AR by pycocotools' own COCOeval: slow, and the measure of exactness."""

import contextlib
import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ..run_lengths import Runs
from .curves import mean_or_nan
from .evaluate import Evaluation, with_notes
from .groups import group_labels
from .protocol import Protocol
from .reading import GroundTruth
from .tables import ImageTable, ObjectTable

__all__ = ["coco_metrics", "with_pycocotools"]


def coco_metrics(
    truth: GroundTruth, results: ObjectTable, task: str, protocol: Protocol, members: np.ndarray
) -> dict[str, float]:
    """The protocol's metrics (percent, NaN where they do not exist) of some images, by pycocotools.

    Args:
        task: "segm" or "bbox".
        members: (I,) bool images that count.
    """
    images, rank = truth.images, results.confidence if task == "segm" else results.scores
    rows = [_rows(table, images, task) for table in (truth.objects, results)]
    for row, score in zip(rows[1], rank.tolist()):
        row["score"] = score
    entries = [
        {"id": i, "height": int(h), "width": int(w)} for i, h, w in zip(images.ids, images.heights, images.widths)
    ]
    categories = {row["category_id"] for part in rows for row in part}
    tables = []
    with contextlib.redirect_stdout(io.StringIO()):  # it prints
        for part in rows:
            coco = COCO()
            coco.dataset = {
                "images": entries,
                "annotations": part,
                "categories": [{"id": n} for n in sorted(categories)],
            }
            coco.createIndex()
            tables.append(coco)
        evaluation = COCOeval(*tables, task)
        evaluation.params.imgIds = [image_id for image_id, inside in zip(images.ids, members) if inside]
        evaluation.params.useCats = 0
        evaluation.params.maxDets = list(protocol.max_dets)
        evaluation.params.iouThrs = np.array(protocol.iou_thresholds)
        evaluation.params.areaRng = [list(limits) for _, limits in protocol.area_ranges]
        evaluation.params.areaRngLbl = [name or "all" for name, _ in protocol.area_ranges]
        evaluation.evaluate()
        evaluation.accumulate()
    return read_arrays(evaluation.eval["precision"], evaluation.eval["recall"], task, protocol)


def _rows(table: ObjectTable, images: ImageTable, task: str) -> list[dict[str, Any]]:
    """COCO annotations of a table, ids from 1 on (pycocotools reads the id 0 as "no match"), sized for the task."""
    sizes = table.boxes[:, 2] * table.boxes[:, 3] if task == "bbox" else table.masks.areas().astype(np.float64)
    areas = np.where(np.isnan(table.areas), sizes, table.areas).tolist()
    rows = []
    for n, (image, category, box, crowd) in enumerate(
        zip(table.image.tolist(), table.category.tolist(), table.boxes.tolist(), table.crowd.tolist())
    ):
        row = {"id": n + 1, "image_id": images.ids[image], "category_id": category, "bbox": box, "area": areas[n]}
        if task == "segm":
            row["segmentation"] = _rle(table.masks, n, int(images.heights[image]), int(images.widths[image]))
        rows.append({**row, "iscrowd": int(crowd)})
    return rows


def _rle(masks: Runs, n: int, height: int, width: int) -> dict[str, Any]:
    """Mask n as pycocotools' compressed run lengths."""
    part = slice(masks.offsets[n], masks.offsets[n + 1])
    bounds = np.stack([masks.begin[part], masks.end[part]], axis=1).astype(np.int64).ravel()
    lengths = np.diff(np.concatenate([[0], bounds, [height * width]]))
    return mask_util.frPyObjects({"size": [height, width], "counts": lengths.tolist()}, height, width)


def read_arrays(precision: np.ndarray, recall: np.ndarray, task: str, protocol: Protocol) -> dict[str, float]:
    """The metrics in COCOeval's arrays, at the last of maxDets (its ``stats[0]`` is AP at 100, whatever maxDets says).

    Args:
        precision: (T, 101, 1, ranges, M).
        recall: (T, 1, ranges, M).
    """
    precision, recall = precision[:, :, 0, :, -1], recall[:, 0, 0, :]
    metrics = {f"AP{name}": _mean(precision[:, :, a]) for a, (name, _) in enumerate(protocol.area_ranges)}
    for t, iou in enumerate(protocol.iou_thresholds):
        metrics[f"AP{100 * iou:.0f}"] = _mean(precision[t, :, 0])
        metrics[f"recall{100 * iou:.0f}"] = _mean(recall[t, -1])
    metrics |= {f"AR{limit}": _mean(recall[:, m]) for m, limit in enumerate(protocol.max_dets)}
    if task == "segm":
        metrics["AFNR"] = 100 - metrics[f"AR{protocol.max_dets[-1]}"]
    return metrics


def with_pycocotools(evaluation: Evaluation, progress: Callable[[str], None] = lambda step: None) -> Evaluation:
    """The evaluation with AP, AR and AFNR (overall and by group) as pycocotools computes them from the same objects.

    Intervals, the rows of single images and all else stay as they are.
    """
    truth, results, protocol = evaluation.truth, evaluation.results, evaluation.protocol
    metrics = {**evaluation.metrics, "protocol": {**evaluation.metrics["protocol"], "backend": "pycocotools"}}
    largest = 0.0
    for task in evaluation.tasks:
        progress(f"pycocotools on all images, {task}: some seconds for each image of 300 cells")
        exact = coco_metrics(truth, results, task, protocol, np.ones(len(truth.images), bool))
        largest = max(
            [largest, *(abs(exact[name] - metrics[task][name]) for name in exact if exact[name] == exact[name])]
        )
        metrics[task] = {**metrics[task], **exact}
    for key in [key for key in metrics if key.startswith("by_")]:
        by = key.removeprefix("by_")
        labels = group_labels(truth.images, by, evaluation.options.column if by == "cell_type" else None)
        for group, row in metrics[key].items():
            members = np.array([label == group for label in labels])
            for task in evaluation.tasks:
                progress(f"pycocotools on {group}, {task}")
                row[task] = {**row[task], **coco_metrics(truth, results, task, protocol, members)}
            first = row[next(iter(evaluation.tasks))]
            row |= {name: first[name] for name in ("AP", "AFNR") if name in first}
    note = (
        f"AP, AR and AFNR are pycocotools' own (the fast backend's differ by {largest:.1e} at most); intervals, single "
        "images and all else are the fast backend's"
    )
    return with_notes(replace(evaluation, metrics=metrics), [note])


def _mean(values: np.ndarray) -> float:
    """Mean of the values that exist, in percent."""
    return 100 * mean_or_nan(values)
