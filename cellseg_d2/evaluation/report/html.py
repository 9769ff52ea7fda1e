"""report.html: one file with everything in it, made to be read on a screen, on a phone and on paper."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd

from ...files import atomic_write
from ...templates import template_environment
from ..evaluate import Evaluation
from ..notes import why_missing
from .pictures import pictures
from .plots import figures, interval_mark

__all__ = ["write_report"]

# Metric -> head of its column in the summary
SUMMARY = {
    "pixel_F1": "Pixel F1",
    "AP": "AP",
    "AFNR": "AFNR",
    "AP50": "AP50",
    "AP75": "AP75",
    "instance_F1_50": "F1@.5",
    "PQ": "PQ",
}
COMPARED = (*SUMMARY, "mSA", "SEG", "AJI", "count_MAE", "count_R2")
LOWER_IS_BETTER = ("AFNR", "count_MAE", "share_merged", "share_split", "share_inaccurate", "share_missed")
TASKS = {"segm": "masks", "bbox": "boxes"}
TEXT_COLUMNS = ("file_name", "cell_type", "well", "time")
MISSING = "–"


def write_report(
    path: str | Path,
    evaluation: Evaluation,
    images: str | Path | None = None,
    comparison: Mapping[str, Mapping[str, Mapping[str, Any]]] | None = None,
    title: str | None = None,
) -> Path:
    """Write the report of an evaluation as one HTML file that requests nothing from anywhere.

    Args:
        images: folder that holds the images, at any depth, for the pictures of the worst and best ones; without it, and
            where a file is missing, their outlines are drawn on a plain background.
        comparison: what ``compare(evaluation, other)`` returns.
        title: heading of the page.

    Returns:
        ``path``. The file is written atomically: a crash leaves the old one.
    """
    main = evaluation.main.score.task
    worst, best = pictures(evaluation, None if images is None else Path(images))
    page = _template().render(
        title=title or "Cell segmentation report",
        source=Path(evaluation.truth.source).name,
        tasks=[TASKS[task] for task in evaluation.tasks],
        has_masks=main == "segm",
        notes=evaluation.notes,
        protocol=evaluation.metrics["protocol"],
        summary=_summary(evaluation, main, "cell_type"),
        groups=_groups(evaluation, main),
        metrics=_all_metrics(evaluation),
        resamples=evaluation.options.bootstrap,
        figures=figures(evaluation),
        budget=evaluation.budget.to_dict("records"),
        comparison=_comparison(comparison or {}),
        worst=worst,
        best=best,
        rows=evaluation.per_image.to_dict("records"),
        table=_per_image(evaluation.per_image),
        missing=MISSING,
    )
    return atomic_write(path, lambda stream: stream.write(page.encode("utf-8", "replace")))


@cache
def _template() -> jinja2.Template:
    environment = template_environment(Path(__file__).parent)
    environment.filters["number"] = _number
    return environment.get_template("template.html")


def _number(value: float, digits: int = 1) -> str:
    """A number in words that a page shows: thousands with commas, a real minus sign, a dash for NaN.

    >>> _number(-1234.56), _number(float("nan"))
    ('−1,234.6', '–')
    """
    return f"{value:,.{digits}f}".replace("-", "−") if np.isfinite(value) else MISSING


def _cell(name: str, values: Mapping[str, float], limits: Mapping[str, Sequence[float]], digits: int) -> dict:
    """Value and 95 % interval as text, and in words why there is no value."""
    value = values.get(name, np.nan)
    low, high = limits.get(name, (np.nan, np.nan))
    known = np.isfinite([value, low, high]).all()
    interval = f"{_number(low, digits)} to {_number(high, digits)}" if known else ""
    return {"text": _number(value, digits), "interval": interval, "why": "" if value == value else why_missing(name)}


def _summary(evaluation: Evaluation, task: str, by: str, title: str = "", everything: bool = True) -> dict:
    """One table: all images (where ``everything``), then each group; with the reasons of missing numbers below it."""
    metrics, intervals = evaluation.metrics, evaluation.metrics["intervals"]
    names = [name for name in SUMMARY if name in metrics[task]]
    sets = []
    if everything:
        counts = metrics["protocol"]["images"], metrics["protocol"]["cells"]
        sets.append(("All images", *counts, metrics[task], intervals[task]))
    limits = intervals.get(f"by_{by}", {})
    for group, entry in metrics.get(f"by_{by}", {}).items():
        sets.append((group, entry["images"], entry["cells"], entry[task], limits[group][task]))
    rows = [
        {
            "label": label,
            "whole": everything and place == 0,
            "images": images,
            "cells": cells,
            "values": [_cell(name, values, limits, 1) for name in names],
        }
        for place, (label, images, cells, values, limits) in enumerate(sets)
    ]
    reasons = list(dict.fromkeys(cell["why"] for row in rows for cell in row["values"] if cell["why"]))
    return {"title": title, "heads": [SUMMARY[name] for name in names], "rows": rows, "reasons": reasons}


def _groups(evaluation: Evaluation, main: str) -> list[dict]:
    """The tables below the summary: further groupings, and the other task."""
    names = [name.removeprefix("by_") for name in evaluation.metrics if name.startswith("by_")]
    tables = [
        _summary(evaluation, main, by, f"By {by.replace('_', ' ')}", everything=False)
        for by in names
        if by != "cell_type" and evaluation.metrics[f"by_{by}"]
    ]
    others = [task for task in evaluation.tasks if task != main]
    return tables + [_summary(evaluation, task, "cell_type", f"Scored by {TASKS[task]}") for task in others]


def _all_metrics(evaluation: Evaluation) -> list[dict]:
    """Every metric of all images: its name and a cell for each task."""
    metrics, intervals = evaluation.metrics, evaluation.metrics["intervals"]
    names = dict.fromkeys(name for task in evaluation.tasks for name in metrics[task])
    return [
        {
            "name": name,
            "cells": [
                _cell(name, metrics[task], intervals[task], 2) if name in metrics[task] else None
                for task in evaluation.tasks
            ],
        }
        for name in names
    ]


def _comparison(comparison: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[dict]:
    """One table a task: a row a metric, those of the summary first, their intervals drawn at one scale."""
    tables = []
    for task, metrics in comparison.items():
        first = [name for name in COMPARED if name in metrics]
        ends = [abs(end) for name in first for end in metrics[name]["interval"] if _is_drawn(name)]
        scale = max([end for end in ends if np.isfinite(end)], default=0.0)
        rows = [_compared(name, metrics[name], scale) for name in (*first, *(n for n in metrics if n not in first))]
        tables.append({"task": TASKS.get(task, task), "rows": rows, "shown": len(first), "scale": _number(scale)})
    return tables


def _is_drawn(name: str) -> bool:
    """Counts are in other units than all else."""
    return not name.startswith("count_")


def _compared(name: str, entry: Mapping[str, Any], scale: float) -> dict:
    """One row of a comparison, as text."""
    low, high = entry["interval"]
    mark, difference = "", entry["difference"]
    if scale > 0 and _is_drawn(name) and np.isfinite([low, high, difference]).all():
        mark = interval_mark(*(float(np.clip(end, -scale, scale)) for end in (low, difference, high)), scale)
    numbers = {key: entry[key] for key in ("first", "second", "difference")} | {"low": low, "high": high}
    return {
        **{key: _number(value, 2) for key, value in numbers.items()},
        "name": name,
        "mark": mark,
        "share": _number(100 * entry["first_higher"]),
        "lower": name in LOWER_IS_BETTER,
        "sure": low > 0 or high < 0,
        "why": "" if difference == difference else why_missing(name),
    }


def _per_image(table: pd.DataFrame) -> dict:
    """Columns (key, kind) and rows of text of the sortable table; groupings without any group are left out."""
    names = ["file_name", *(name for name in table.columns if name not in ("file_name", "image_id")), "image_id"]
    names = [name for name in names if not table[name].isna().all() or name not in TEXT_COLUMNS]
    texts = [_column(table[name], name) for name in names]
    kinds = [(name, "text" if name in TEXT_COLUMNS else "number") for name in names]
    return {"columns": kinds, "rows": list(zip(*texts))}


def _column(values: pd.Series, name: str) -> list[str]:
    if name in TEXT_COLUMNS or name == "image_id":
        return [MISSING if value is None or value != value else str(value) for value in values]
    digits = 1 if values.dtype.kind == "f" else 0
    return [_number(value, digits) for value in values]
