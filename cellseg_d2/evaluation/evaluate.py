"""The whole evaluation of one result list: metrics, groups, intervals, errors, and what to know of them in words."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from .. import __version__
from ..errors import DatasetError
from ..files import sha256
from . import bootstrap
from .groups import GROUPINGS, group_labels
from .instances import best_threshold, instance_sums
from .metrics import UNITS, TaskMetrics
from .notes import cap_notes, describe_missing, group_notes, threshold_notes
from .options import TASKS, Options, Threshold
from .outcomes import Outcomes, error_budget, outcome_sums, outcomes
from .per_image import per_image_table
from .protocol import LIVECELL, Protocol
from .reading import GroundTruth
from .scoring import score_task
from .semantic import pixel_sums
from .tables import ObjectTable

__all__ = ["Evaluation", "Options", "Threshold", "choose_threshold", "compare", "evaluate", "with_notes"]

DEFAULTS = Options()


@dataclass(frozen=True)
class Evaluation:
    """Everything that reports show.

    Attributes:
        truth, results: what was scored.
        tasks: "segm" (where both sides have masks) and "bbox" -> their metrics as functions of image weights.
        outcomes: of the first task's cells.
        budget: see :func:`.outcomes.error_budget`.
        per_image: one row an image.
        metrics: the content of metrics.json; NaN where a number does not exist.
        notes: in words.
    """

    truth: GroundTruth
    results: ObjectTable
    options: Options
    protocol: Protocol
    tasks: Mapping[str, TaskMetrics]
    outcomes: Outcomes
    budget: pd.DataFrame
    per_image: pd.DataFrame
    metrics: dict[str, Any]
    notes: list[str] = field(default_factory=list)

    @property
    def main(self) -> TaskMetrics:
        """Masks where there are masks, else boxes."""
        return next(iter(self.tasks.values()))


def evaluate(
    truth: GroundTruth,
    results: ObjectTable,
    options: Options = DEFAULTS,
    protocol: Protocol = LIVECELL,
    progress: Callable[[str], None] = lambda step: None,
) -> Evaluation:
    """Score results by ``protocol``.

    Args:
        progress: is told what is being computed.
    """
    tasks, notes = {}, [*truth.objects.notes, *results.notes]
    for task in options.tasks or _tasks(truth, results, notes):
        progress(f"matching {'masks' if task == 'segm' else 'boxes'}")
        tasks[task] = _task_metrics(truth, results, task, options, protocol)
        notes += cap_notes(truth, results, tasks[task].score, protocol)
    main = next(iter(tasks.values()))
    found = outcomes(main.score, options.threshold.value)
    labels = {by: group_labels(truth.images, by, options.column if by == "cell_type" else None) for by in GROUPINGS}
    metrics = _all_metrics(truth, tasks, labels, options, progress)
    budget = error_budget(truth.images, main.score, found)
    metrics["error_budget"] = budget.to_dict("records")
    metrics["protocol"] = describe(truth, results, options, protocol)
    notes += (
        threshold_notes(metrics["protocol"]["ground_truth_sha256"], results, options)
        + group_notes(labels, options)
        + describe_missing(metrics, truth, main.score)
    )
    metrics["notes"] = notes
    table = per_image_table(truth, results, main, labels)
    return Evaluation(truth, results, options, protocol, tasks, found, budget, table, metrics, notes)


def choose_threshold(
    truth: GroundTruth, results: ObjectTable, protocol: Protocol = LIVECELL
) -> tuple[Threshold, float]:
    """The score threshold of highest instance F1 at IoU .5 on these images, and that F1 in percent.

    Use it on other images: F1 at a threshold that was chosen on the same images flatters.

    Raises:
        DatasetError: there is nothing to choose it on.
    """
    task = _tasks(truth, results, [])[0]
    value, f1 = best_threshold(score_task(truth.images, truth.objects, results, task, protocol))
    if math.isnan(value):
        raise DatasetError(f"{results.source}: no result matches a cell, so that no score threshold can be chosen")
    return Threshold(value, f"highest F1 on {truth.source}", sha256(truth.source)), 100 * f1


def compare(first: Evaluation, second: Evaluation) -> dict[str, dict[str, Any]]:
    """Task -> metric -> difference of two evaluations of the same ground truth, see :func:`.bootstrap.compare`."""
    if first.truth.images.ids != second.truth.images.ids:
        raise ValueError("two evaluations can be compared only on the same images")
    images, options = len(first.truth.images), first.options
    table = {}
    for task in (task for task in first.tasks if task in second.tasks):
        metrics = [partial(e.tasks[task], threads=options.threads) for e in (first, second)]
        table[task] = bootstrap.compare(*metrics, images, options.bootstrap, options.seed)
    return table


def with_notes(evaluation: Evaluation, notes: list[str]) -> Evaluation:
    """The evaluation with more notes."""
    notes = [*evaluation.notes, *notes]
    return replace(evaluation, notes=notes, metrics={**evaluation.metrics, "notes": notes})


def describe(truth: GroundTruth, results: ObjectTable, options: Options, protocol: Protocol) -> dict[str, Any]:
    """The protocol, and what was scored by it, in words and numbers: for metrics.json and under every table."""
    return {
        "name": "LIVECell" if protocol == LIVECELL else "custom",
        "class_agnostic": True,
        "max_dets": list(protocol.max_dets),
        "iou_thresholds": [round(threshold, 2) for threshold in protocol.iou_thresholds],
        "area_ranges": {name or "all": list(limits) for name, limits in protocol.area_ranges},
        "score_threshold": options.threshold.value,
        "score_threshold_source": options.threshold.source,
        "score_threshold_on": "mask_score where results have it, else score; for masks and boxes alike",
        "ranking": "masks by mask_score where results have it, else by score; boxes by score",
        "units": UNITS,
        "bootstrap": {
            "resamples": options.bootstrap,
            "over": "images",
            "interval": "95 % percentile",
            "seed": options.seed,
        },
        "backend": "fast",
        "images": len(truth.images),
        "cells": int((~truth.objects.crowd).sum()),
        "ground_truth": truth.source,
        "ground_truth_sha256": sha256(truth.source),
        "results": results.source,
        "results_sha256": sha256(results.source),
        "cellseg_d2": __version__,
    }


def _tasks(truth: GroundTruth, results: ObjectTable, notes: list[str]) -> list[str]:
    """The tasks that both sides allow."""
    for side, table in (("the ground truth", truth.objects), ("the results", results)):
        if table.masks is None and len(table):
            notes.append(f"{side}: no object has a mask, so only boxes are scored")
            return ["bbox"]
    return list(TASKS)


def _task_metrics(
    truth: GroundTruth, results: ObjectTable, task: str, options: Options, protocol: Protocol
) -> TaskMetrics:
    """Matches and sums of one task."""
    score = score_task(truth.images, truth.objects, results, task, protocol)
    threshold = options.threshold.value
    sums = instance_sums(score, threshold)
    if task == "segm":
        sums |= pixel_sums(truth.images, score.truth, score.results, score.results.confidence >= threshold)
    sums |= outcome_sums(score, outcomes(score, threshold))
    return TaskMetrics(score, sums)


def _all_metrics(
    truth: GroundTruth,
    tasks: Mapping[str, TaskMetrics],
    labels: Mapping[str, list],
    options: Options,
    progress: Callable[[str], None],
) -> dict[str, Any]:
    """metrics.json without protocol and notes: overall and by group, each with intervals."""
    metrics: dict[str, Any] = {"segm": {}, "bbox": {}, "intervals": {"segm": {}, "bbox": {}}}
    everything = np.ones(len(truth.images), bool)
    scores = _score_sets([everything], tasks, options, progress, ["all images"])[0]
    for task, (values, limits) in scores.items():
        metrics[task], metrics["intervals"][task] = values, limits
    counts = next(iter(tasks.values())).sums["objects"]
    for by in dict.fromkeys(("cell_type", *options.by)):
        groups = sorted({label for label in labels[by] if label is not None})
        members = [np.array([label == group for label in labels[by]]) for group in groups]
        table = metrics[f"by_{by}"] = {}
        limits_table = metrics["intervals"][f"by_{by}"] = {}
        for group, inside, scores in zip(groups, members, _score_sets(members, tasks, options, progress, groups)):
            first = scores[next(iter(tasks))][0]
            headline = {"F1": "pixel_F1", "AP": "AP", "AFNR": "AFNR"}  # the columns of the usual table
            table[group] = {"images": int(inside.sum()), "cells": int(counts[inside].sum())}
            table[group] |= {name: first.get(key, math.nan) for name, key in headline.items()}
            table[group] |= {task: values for task, (values, _) in scores.items()}
            limits_table[group] = {task: limits for task, (_, limits) in scores.items()}
    return metrics


def _score_sets(
    members: list[np.ndarray],
    tasks: Mapping[str, TaskMetrics],
    options: Options,
    progress: Callable[[str], None],
    names: list[str],
) -> list[dict[str, tuple[dict, dict]]]:
    """For each set of images: task -> values, intervals."""
    scores: list[dict] = [{} for _ in members]
    for task, metrics in tasks.items() if members else ():
        points = metrics(np.array(members, dtype=np.float64))
        resampled = partial(metrics, threads=options.threads)
        for place, (inside, name) in enumerate(zip(members, names)):
            values = {metric: float(column[place]) for metric, column in points.items()}
            if options.bootstrap:
                progress(f"95 % intervals of {name}, {task}")
            limits = bootstrap.intervals(resampled, inside, options.bootstrap, options.seed)
            scores[place][task] = values, limits
    return scores
