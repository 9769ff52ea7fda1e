"""From matches to numbers: every metric of a task as a function of how often each image counts.

With weights of 1 that is the score of the data set, with 0 and 1 that of a group of images, with random whole numbers
that of a bootstrap resample. Ratios are in percent.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .scoring import TaskScore

__all__ = ["UNITS", "TaskMetrics", "from_sums"]

UNITS = "percent; count_* in cells an image, count_R2 and score thresholds as they are"
Values = dict[str, np.ndarray]


@dataclass(frozen=True)
class TaskMetrics:
    """The metrics of one task.

    Attributes:
        score: its matches.
        sums: further columns of (I,) sums (see :mod:`.instances`, :mod:`.semantic`, :mod:`.outcomes`); may be empty.
    """

    score: TaskScore
    sums: Mapping[str, np.ndarray]

    def __call__(self, weights: np.ndarray, threads: int = 1) -> Values:
        """Metric -> (B,) float64, NaN where it does not exist; ``weights`` is (B, I)."""
        values = self._average_precision(weights, threads) | self._recall(weights)
        names = self.score.protocol.metrics
        more = [name for name in values if name not in names]
        values = {name: values[name] for name in (*names, *more)}
        return values | from_sums({name: weights @ column for name, column in self.sums.items()}, weights)

    def _average_precision(self, weights: np.ndarray, threads: int) -> Values:
        protocol, ranking = self.score.protocol, self.score.ranking
        values = 100 * ranking.average_precision(weights, len(protocol.area_ranges), threads)
        # Objects exist at all IoUs or at none
        table = {f"AP{name}": values[:, r].mean(axis=-1) for r, (name, _) in enumerate(protocol.area_ranges)}
        return table | {f"AP{100 * iou:.0f}": values[:, 0, t] for t, iou in enumerate(protocol.iou_thresholds)}

    def _recall(self, weights: np.ndarray) -> Values:
        protocol, objects = self.score.protocol, weights @ self.score.ranking.objects[0]
        with np.errstate(divide="ignore", invalid="ignore"):
            recall = 100 * (self.score.recalled @ weights.T) / np.where(objects > 0, objects, np.nan)  # (M, T, B)
        values = {f"AR{limit}": recall[m].mean(axis=0) for m, limit in enumerate(protocol.max_dets)}
        if self.score.task == "segm":
            values["AFNR"] = 100 - values[f"AR{protocol.max_dets[-1]}"]
        for t, iou in enumerate(protocol.iou_thresholds):
            values[f"recall{100 * iou:.0f}"] = recall[-1, t]
        return values


def from_sums(s: Values, weights: np.ndarray) -> Values:
    """The metrics at a score threshold, of summed columns (B,) each; ``weights`` is (B, images)."""
    if not s:
        return {}
    with np.errstate(divide="ignore", invalid="ignore"):
        values = _ratios(s, weights.sum(axis=1))
    return {name: np.where(np.isfinite(value), value, np.nan) for name, value in values.items()}


def _ratios(s: Values, images: np.ndarray) -> Values:
    values = {}
    if "pixel_true" in s:
        values |= _f1(
            "pixel", "", s["pixel_true"], s["pixel_true"] + s["pixel_false"], s["pixel_true"] + s["pixel_missed"]
        )
    values |= _f1("instance", "_50", s["true"], s["found"], s["objects"])
    values["mSA"], values["SA50"] = 100 * s["accuracy"] / s["scored"], 100 * s["accuracy_50"] / s["scored"]
    values["SQ"] = 100 * s["quality"] / s["strict"]
    values["RQ"] = 200 * s["strict"] / (s["found"] + s["objects"])
    values["PQ"] = 200 * s["quality"] / (s["found"] + s["objects"])
    values["SEG"] = 100 * s["seg"] / s["objects"]
    values["AJI"] = 100 * s["aji"] / s["scored"]
    values["count_MAE"], values["count_bias"] = s["count_absolute"] / images, s["count_error"] / images
    spread = s["objects_squared"] - s["objects"] ** 2 / images
    values["count_R2"] = np.where(spread > 0, 1 - s["count_squared"] / spread, np.nan)
    for name in s:
        if name.startswith("cells_"):
            values[f"share_{name.removeprefix('cells_')}"] = 100 * s[name] / s["objects"]
    return values


def _f1(prefix: str, suffix: str, true: np.ndarray, found: np.ndarray, objects: np.ndarray) -> Values:
    """F1 = 2 TP / (found + objects), precision = TP / found, recall = TP / objects."""
    parts = {"F1": 2 * true / (found + objects), "precision": true / found, "recall": true / objects}
    return {f"{prefix}_{name}{suffix}": 100 * value for name, value in parts.items()}
