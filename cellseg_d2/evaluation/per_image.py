"""One row an image: what per_image.csv holds and the report sorts."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from .curves import Ranking, mean_or_nan
from .metrics import TaskMetrics, from_sums
from .reading import GroundTruth
from .tables import ObjectTable

__all__ = ["per_image_table"]


def per_image_table(
    truth: GroundTruth, results: ObjectTable, metrics: TaskMetrics, labels: Mapping[str, list]
) -> pd.DataFrame:
    """Counts and metrics (percent, NaN where they do not exist) of each image, in the ground truth's order of ids.

    Args:
        labels: grouping -> group of each image.
    """
    images, s = truth.images, metrics.sums
    table = {"image_id": images.ids, "file_name": images.file_names, **labels}
    table |= {"cells": s["objects"].astype(int), "found": s["found"].astype(int), "true": s["true"].astype(int)}
    for name in ("merged", "split", "inaccurate", "missed"):
        table[name] = s[f"cells_{name}"].astype(int)
    table["false"] = s["results_false"].astype(int)
    table["results"] = np.bincount(results.image, minlength=len(images))
    table["AP"] = _average_precision(metrics)
    values = _of_each(metrics)
    for name in ("instance_F1_50", "instance_precision_50", "instance_recall_50", "mSA", "SEG", "AJI", "pixel_F1"):
        if name in values:
            table[name] = values[name]
    table["count_error"] = s["count_error"].astype(int)
    return pd.DataFrame(table)


def _of_each(metrics: TaskMetrics) -> dict[str, np.ndarray]:
    """The metrics at the score threshold of each image alone."""
    return from_sums(dict(metrics.sums), np.ones((len(metrics.sums["objects"]), 1)))


def _average_precision(metrics: TaskMetrics) -> np.ndarray:
    """AP of each image alone, percent."""
    score = metrics.score
    values = np.full(len(score.results.starts) - 1, np.nan)
    for image in range(len(values)):
        part = slice(score.results.starts[image], score.results.starts[image + 1])
        flags, objects = score.matching.flags[:1, :, part], score.ranking.objects[:1, image : image + 1]
        alone = Ranking.of(np.zeros(part.stop - part.start, np.int32), score.results.scores[part], flags, objects)
        values[image] = 100 * mean_or_nan(alone.precision()[0])
    return values
