"""What a reader of the scores must know, in words: why a number is missing, and what the detection cap costs."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .curves import mean_or_nan
from .options import Options
from .protocol import Protocol
from .reading import GroundTruth
from .scoring import TaskScore, score_task
from .tables import ObjectTable

__all__ = ["cap_notes", "comparison_notes", "describe_missing", "group_notes", "threshold_notes", "why_missing"]

if TYPE_CHECKING:
    from .evaluate import Evaluation

_SIZES = {"APs": "small", "APm": "medium", "APl": "large"}


def cap_notes(truth: GroundTruth, results: ObjectTable, score: TaskScore, protocol: Protocol) -> list[str]:
    """How many images have more results than the protocol counts, and what that costs."""
    cap = protocol.max_dets[-1]
    counts = np.bincount(results.image, minlength=len(truth.images))
    cut = counts - np.minimum(counts, cap)
    notes = []
    crowded = int((score.ranking.objects[0] > cap).sum())
    if crowded and score.task == "segm":
        notes.append(f"{crowded} images have more than {cap} annotated cells: the cap keeps their recall below 100 %")
    if not cut.any():
        return notes
    lifted = replace(protocol, max_dets=(*protocol.max_dets[:-1], int(counts.max())))
    free = score_task(truth.images, truth.objects, results, score.task, lifted)
    ap, recall = (
        [100 * mean_or_nan(s.ranking.precision()[0][0]) for s in (score, free)],
        [100 * s.recalled[-1].mean(axis=0).sum() / max(s.ranking.objects[0].sum(), 1) for s in (score, free)],
    )
    notes.append(
        f"{score.task}: {int((cut > 0).sum())} of {len(counts)} images have more than {cap} results; the "
        f"{int(cut.sum())} lowest of their results do not count (without the cap AP would be {ap[1]:.2f} instead of "
        f"{ap[0]:.2f}, and recall {recall[1]:.2f} instead of {recall[0]:.2f})"
    )
    return notes


def threshold_notes(digest: str, results: ObjectTable, options: Options) -> list[str]:
    """That the score threshold was chosen on the ground truth that is scored, whose SHA-256 is ``digest``; that it
    leaves out results of a file that was cut at it, by score, before."""
    value, notes = options.threshold.value, []
    if digest and options.threshold.digest == digest:
        notes.append(
            f"score threshold {value:.4g} was chosen on these very images: use it on others, and do not report F1, PQ, "
            "SEG, AJI, counts and errors of these"
        )
    below = int((results.mask_scores < value).sum())
    if below and results.scores.min() >= value:
        notes.append(
            f"all {len(results)} results have a score of {value:.4g} or more, as tools/predict.py keeps them, but "
            f"{below} a mask score below, by which a threshold keeps them here: --score-threshold 0 counts all of them"
        )
    return notes


def comparison_notes(first: "Evaluation", second: "Evaluation") -> list[str]:
    """What to know of the second of two evaluations that are compared."""
    name = second.results.source
    notes = [f"{name}: {note}" for note in second.notes if note not in first.notes]
    missing = [task for task in first.tasks if task not in second.tasks]
    if missing:
        notes.append(f"{name}: {', '.join(missing)} cannot be compared")
    values = [evaluation.options.threshold.value for evaluation in (first, second)]
    cut = f"{values[0]:.4g}" if values[0] == values[1] else f"{values[0]:.4g} and {values[1]:.4g}"
    notes.append(
        f"compared at score threshold {cut}: F1, PQ, SEG, AJI and counts also compare how the two score their results; "
        "AP, AR and AFNR do not depend on it"
    )
    return notes


def group_notes(labels: Mapping[str, list], options: Options) -> list[str]:
    """How many images are in no group of a grouping that was asked for, or that other images are in."""
    notes = []
    for by, groups in labels.items():
        lacking = sum(group is None for group in groups)
        asked = by in options.by or by == "cell_type"
        if lacking and asked and (lacking < len(groups) or by != "cell_type"):
            words = by.replace("_", " ")
            notes.append(
                f"{lacking} of {len(groups)} images have no {words}, neither as a key nor in a LIVECell file name"
            )
    return notes


def why_missing(name: str) -> str:
    """Why a metric has no value.

    >>> why_missing("APs")
    'no annotated small cell'
    """
    if name in _SIZES:
        return f"no annotated {_SIZES[name]} cell"
    if name.endswith(("precision", "precision_50")):
        return "nothing was predicted above the score threshold"
    if name == "count_R2":
        return "all images have the same number of cells"
    if name == "SQ":
        return "no cell was matched above IoU .5"
    return "no annotated cell"


def describe_missing(metrics: Mapping[str, Any], truth: GroundTruth, score: TaskScore) -> list[str]:
    """Which metrics of all images have no value, and why."""
    if not score.ranking.objects[0].sum():
        return [
            f"{truth.source} has no annotated cell (crowds do not count) on {len(truth.images)} images: "
            "AP, AR and all that needs a cell do not exist"
        ]
    missing = {name: why_missing(name) for task in ("segm", "bbox") for name, v in metrics[task].items() if v != v}
    listed = ", ".join(f"{name} ({why})" for name, why in missing.items())
    return [f"these numbers do not exist: {listed}"] if missing else []
