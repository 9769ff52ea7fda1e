"""The evaluation as tables for a terminal."""

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ..evaluate import Evaluation
from ..notes import why_missing

__all__ = ["comparison_table", "render"]

TASKS = {"segm": "masks", "bbox": "boxes"}
AT_THRESHOLD = {
    "pixel_F1": "F1 of foreground pixels",
    "instance_F1_50": "F1 of cells at IoU .5",
    "instance_precision_50": "precision of cells",
    "instance_recall_50": "recall of cells",
    "mSA": "mean segmentation accuracy",
    "PQ": "panoptic quality",
    "SEG": "SEG (Cell Tracking Challenge)",
    "AJI": "aggregated Jaccard index",
    "count_MAE": "count error, cells an image",
    "count_R2": "R2 of counts",
}
_BINS = {"size": "size", "density": "confluence"}
COMPARED = ("AP", "AP50", "AP75", "AFNR", "pixel_F1", "instance_F1_50", "mSA", "PQ", "SEG", "AJI")


def render(evaluation: Evaluation) -> RenderableType:
    """Scores with intervals, scores by group, the error budget, and the notes."""
    metrics, protocol = evaluation.metrics, evaluation.metrics["protocol"]
    limits = ", ".join(map(str, protocol["max_dets"]))
    words = (
        f"{protocol['name']} protocol: class-agnostic, up to {limits} detections an image, IoU .50 to .95; percent. "
        f"Images: {protocol['images']}; annotated cells: {protocol['cells']}. F1, counts and errors are of results "
        f"with a score of at least {protocol['score_threshold']:.4g} ({protocol['score_threshold_source']})."
    )
    parts: list[RenderableType] = [Padding(Text(words), (1, 0, 0, 0)), _scores(evaluation)]
    groupings = [key for key in metrics if key.startswith("by_") and metrics[key]]
    parts += [_groups(key.removeprefix("by_"), metrics[key]) for key in groupings]
    parts.append(_budget(evaluation))
    parts += [Text(f"note: {note}") for note in evaluation.notes]
    return Group(*parts)


def comparison_table(comparison: Mapping[str, Mapping[str, Any]], other: str) -> Table:
    """Differences to a second result file, masks first."""
    table = _table(title=f"difference to {other}, paired over images")
    for column in ("", "this", "other", "difference", "95 %", "higher in"):
        table.add_column(column, justify="right" if column else "left")
    for task, values in comparison.items():
        for name in (name for name in COMPARED if name in values):
            row = values[name]
            higher = "–" if row["first_higher"] != row["first_higher"] else f"{100 * row['first_higher']:.0f} %"
            numbers = (number(row["first"]), number(row["second"]), number(row["difference"], sign="+"))
            table.add_row(f"{TASKS[task]} {name.removeprefix('instance_')}", *numbers, span(row["interval"]), higher)
    return table


def number(value: float, sign: str = "") -> str:
    """A value, or a dash where there is none.

    >>> number(float("nan"))
    '–'
    """
    return "–" if value != value else f"{value:{sign}.2f}"


def span(interval: Any) -> str:
    """The two ends of an interval.

    >>> span((1.0, 2.5))
    '1.0 to 2.5'
    """
    return "" if not interval or interval[0] != interval[0] else f"{interval[0]:.1f} to {interval[1]:.1f}"


def _table(title: str | None = None) -> Table:
    """An empty table that is narrow enough for 80 columns."""
    return Table(title=title, title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)


def _scores(evaluation: Evaluation) -> Table:
    """One line a metric: masks and boxes, each with its interval."""
    tasks = [task for task in TASKS if evaluation.metrics[task]]
    table = _table()
    table.add_column("")
    for task in tasks:
        table.add_column(TASKS[task], justify="right", style="bold")
        table.add_column("95 %", style="dim", no_wrap=True)
    names = {name: name for name in (*evaluation.protocol.metrics, "AFNR")}
    source = evaluation.options.threshold
    for label, group in (("", names), (f"kept from score {source.value:.3g}", AT_THRESHOLD)):
        if label:
            table.add_section()
            table.add_row(Text(label, style="italic"), *[""] * 2 * len(tasks))
        for name, words in group.items():
            cells, missing = [], False
            for task in tasks:
                value = evaluation.metrics[task].get(name)
                limits = evaluation.metrics["intervals"][task].get(name)
                cells += ["", ""] if value is None else [number(value), span(limits)]
                missing |= value is not None and value != value
            table.add_row(f"{words}: {why_missing(name)}" if missing else words, *cells)
    return table


def _groups(by: str, groups: Mapping[str, Mapping[str, Any]]) -> Table:
    """The usual table of papers: pixel F1, AP and AFNR of each group."""
    table = _table()
    for column in (by.replace("_", " "), "images", "cells", "pixel F1", "AP", "AFNR"):
        table.add_column(column, justify="left" if column == by.replace("_", " ") else "right")
    for name, row in groups.items():
        values = (number(row[key]) for key in ("F1", "AP", "AFNR"))
        table.add_row(name, str(row["images"]), str(row["cells"]), *values)
    if any(row["AP"] != row["AP"] for row in groups.values()):
        table.caption = f"–: {why_missing('AP')}"
    return table


def _budget(evaluation: Evaluation) -> Table:
    """What became of the annotated cells, in percent of each bin."""
    outcomes = ("found", "merged", "split", "inaccurate", "missed")
    table = _table(title="what became of the annotated cells, percent; false: results on none of them")
    for column in ("", "cells", *outcomes, "false", "AP"):
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    before = "all"
    for row in evaluation.budget.to_dict("records"):
        if row["by"] != before:
            table.add_section()
            table.add_row(Text(_BINS[row["by"]], style="italic"))
            before = row["by"]
        shares = [f"{100 * row[name] / row['cells']:.1f}" if row["cells"] else "–" for name in outcomes]
        table.add_row(row["bin"], str(row["cells"]), *shares, str(row["false"]), number(row["AP"]))
    return table
