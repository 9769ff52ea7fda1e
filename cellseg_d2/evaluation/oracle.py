"""AP and AR by pycocotools' own COCOeval: slow, and the measure of exactness."""

import contextlib
import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ..files import read_json
from .curves import mean_or_nan
from .evaluate import Evaluation
from .groups import group_labels
from .protocol import Protocol
from .tables import ObjectTable

__all__ = ["coco_metrics", "with_pycocotools"]


def coco_metrics(
    truth: dict[str, Any], results: Sequence[dict[str, Any]], task: str, protocol: Protocol, image_ids: Sequence
) -> dict[str, float]:
    """The protocol's metrics (percent, NaN where they do not exist) of some images, by pycocotools.

    Args:
        truth: a COCO data set whose annotations all have ``bbox``, ``area`` and ``iscrowd``.
        results: COCO results. For masks the box is left out, as pycocotools would size masks by it, and
            ``mask_score`` ranks where there is one.
        task: "segm" or "bbox".
    """
    # Its matching reads the id 0 as "none"
    numbered = [{**annotation, "id": n} for n, annotation in enumerate(truth["annotations"], start=1)]
    rows = [_row(result, task) for result in results]
    known = {category["id"] for category in truth["categories"]}
    known |= {row["category_id"] for row in (*numbered, *rows)}
    with contextlib.redirect_stdout(io.StringIO()):  # it prints
        dataset = COCO()
        dataset.dataset = {**truth, "annotations": numbered, "categories": [{"id": n} for n in sorted(known)]}
        dataset.createIndex()
        found = dataset.loadRes(rows) if rows else COCO()
        evaluation = COCOeval(dataset, found, task)
        evaluation.params.imgIds = list(image_ids)
        evaluation.params.useCats = 0
        evaluation.params.maxDets = list(protocol.max_dets)
        evaluation.params.iouThrs = np.array(protocol.iou_thresholds)
        evaluation.params.areaRng = [list(limits) for _, limits in protocol.area_ranges]
        evaluation.params.areaRngLbl = [name or "all" for name, _ in protocol.area_ranges]
        evaluation.evaluate()
        evaluation.accumulate()
    return read_arrays(evaluation.eval["precision"], evaluation.eval["recall"], task, protocol)


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


def with_pycocotools(
    evaluation: Evaluation,
    truth: str | Path,
    results: str | Path,
    progress: Callable[[str], None] = lambda step: None,
) -> Evaluation:
    """The evaluation with AP, AR and AFNR (overall and by group) as pycocotools computes them from the same files."""
    content, rows = read_json(truth), read_json(results)
    rows = rows["annotations"] if isinstance(rows, dict) else rows
    for row, box in zip(rows, evaluation.results.boxes.tolist()):
        row["bbox"] = row.get("bbox") or box
    content["annotations"] = _complete(content["annotations"], evaluation.truth.objects)
    metrics = {**evaluation.metrics, "protocol": {**evaluation.metrics["protocol"], "backend": "pycocotools"}}
    images, largest = evaluation.truth.images, 0.0
    for task in evaluation.tasks:
        progress(f"pycocotools on all images, {task}: about 1 s for each image of 300 cells")
        exact = coco_metrics(content, rows, task, evaluation.protocol, images.ids)
        shifts = [abs(exact[name] - metrics[task][name]) for name in exact if exact[name] == exact[name]]
        largest = max([largest, *shifts])
        metrics[task] = {**metrics[task], **exact}
    for key in [key for key in metrics if key.startswith("by_")]:
        by = key.removeprefix("by_")
        labels = group_labels(images, by, evaluation.options.column if by == "cell_type" else None)
        for group, row in metrics[key].items():
            members = [image_id for image_id, label in zip(images.ids, labels) if label == group]
            for task in evaluation.tasks:
                progress(f"pycocotools on {group}, {task}")
                row[task] = {**row[task], **coco_metrics(content, rows, task, evaluation.protocol, members)}
            first = row[next(iter(evaluation.tasks))]
            row |= {name: first[name] for name in ("AP", "AFNR") if name in first}
    note = f"AP, AR and AFNR are pycocotools' own; the fast backend's differ by {largest:.1e} at most"
    notes = [*evaluation.notes, note]
    return replace(evaluation, metrics={**metrics, "notes": notes}, notes=notes)


def _complete(annotations: Any, table: ObjectTable) -> list[dict[str, Any]]:
    """The annotations as a list, with the boxes and areas that a file may leave out."""
    annotations = list(annotations.values()) if isinstance(annotations, dict) else annotations
    sizes = table.boxes[:, 2] * table.boxes[:, 3] if table.masks is None else table.masks.areas().astype(np.float64)
    areas = np.where(np.isnan(table.areas), sizes, table.areas).tolist()
    return [
        {**annotation, "bbox": box, "area": area, "iscrowd": int(crowd)}
        for annotation, box, area, crowd in zip(annotations, table.boxes.tolist(), areas, table.crowd)
    ]


def _row(result: dict[str, Any], task: str) -> dict[str, Any]:
    """A fresh result of one task."""
    if task == "bbox":
        return {key: result[key] for key in ("image_id", "category_id", "bbox", "score")}
    row = {key: result[key] for key in ("image_id", "category_id", "segmentation")}
    mask_score = result.get("mask_score")
    return {**row, "score": result["score"] if mask_score is None else mask_score}


def _mean(values: np.ndarray) -> float:
    """Mean of the values that exist, in percent."""
    return 100 * mean_or_nan(values)
