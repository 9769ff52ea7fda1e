"""The files of an evaluation: metrics.json, per_image.csv, and the score threshold that other images can use."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import DatasetError
from ..files import atomic_write, finite_or_none, read_json, write_json
from .evaluate import Evaluation, Threshold
from .instances import best_threshold

__all__ = ["read_threshold", "write_tables", "write_threshold"]


def write_tables(folder: str | Path, evaluation: Evaluation, comparison: Mapping[str, Any] | None = None) -> list[Path]:
    """Write ``metrics.json`` (numbers that do not exist are null) and ``per_image.csv`` (they are empty).

    Args:
        comparison: what :func:`~.evaluate.compare` gives; goes into metrics.json.
    """
    folder = Path(folder)
    content = evaluation.metrics | ({"comparison": comparison} if comparison else {})
    table = evaluation.per_image.to_csv(index=False, lineterminator="\n")
    return [
        write_json(folder / "metrics.json", finite_or_none(content), indent=2),
        atomic_write(folder / "per_image.csv", lambda stream: stream.write(table.encode("utf-8"))),
    ]


def write_threshold(folder: str | Path, evaluation: Evaluation) -> Path | None:
    """Write ``threshold.json``: the score of highest instance F1 on these images; None where nothing can be chosen."""
    value, f1 = best_threshold(evaluation.main.score)
    if value != value:
        return None
    content = {
        "score_threshold": value,
        "instance_F1_50": 100 * f1,
        "chosen_on": evaluation.truth.source,
        "chosen_on_sha256": evaluation.metrics["protocol"]["ground_truth_sha256"],
        "images": len(evaluation.truth.images),
    }
    return write_json(Path(folder) / "threshold.json", content, indent=2)


def read_threshold(path: str | Path) -> Threshold:
    """Read what :func:`write_threshold` wrote.

    Raises:
        DatasetError: no such file, or no threshold in it.
    """
    content = read_json(path)
    value = content.get("score_threshold") if isinstance(content, dict) else None
    if not isinstance(value, int | float) or isinstance(value, bool):
        shown = json.dumps(content)[:60]
        raise DatasetError(f"{path}: no 'score_threshold' in this file ({shown} ...); give one that was written here")
    chosen_on, digest = content.get("chosen_on", "unknown images"), content.get("chosen_on_sha256", "")
    return Threshold(float(value), f"{path}, chosen on {chosen_on}", str(digest))
