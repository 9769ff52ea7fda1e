"""Small plots as inline SVG: they take their colours from the page's style sheet, so that they follow its theme."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np

from ..curves import RECALL_LEVELS
from ..evaluate import Evaluation
from ..notes import why_missing

__all__ = ["Figure", "figures", "interval_mark"]

WIDTH, HEIGHT = 440, 310
LEFT, RIGHT, TOP, BOTTOM = 54, 16, 14, 48  # margins
CURVES = (0.5, 0.6, 0.7, 0.8, 0.9)  # IoU
PERCENT = (0, 20, 40, 60, 80, 100)


@dataclass(frozen=True)
class Figure:
    """One plot: its name, SVG text, (style class, words) of each legend entry, and what it shows in a sentence."""

    name: str
    svg: str
    legend: Sequence[tuple[str, str]] = ()
    caption: str = ""


@dataclass
class _Axes:
    """Axes from 0 on, in SVG; ``width`` and ``height`` are the data's units at the far ends."""

    width: float
    height: float
    parts: list[str] = field(default_factory=list)

    def x(self, value: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * value / self.width, 1)

    def y(self, value: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / self.height, 1)

    def text(self, x: float, y: float, words: str, style: str = "", anchor: str = "middle") -> None:
        self.parts.append(f'<text x="{x}" y="{y}" class="{style}" text-anchor="{anchor}">{escape(words)}</text>')

    def path(self, data: str, style: str) -> None:
        self.parts.append(f'<path d="{data}" class="{style}"/>')

    def line(self, points: Iterable[tuple[float, float]], style: str) -> None:
        self.path("M" + "L".join(f"{self.x(x)} {self.y(y)}" for x, y in points), f"line {style}")

    def frame(self, x_label: str, y_label: str, x_ticks: Sequence[float], y_ticks: Sequence[float]) -> None:
        """Grid, tick labels and axis labels."""
        left, right, floor, top = self.x(0), self.x(self.width), self.y(0), self.y(self.height)
        self.path("".join(f"M{left} {self.y(tick)}H{right}" for tick in y_ticks), "grid")
        self.path("".join(f"M{self.x(tick)} {floor}v4" for tick in x_ticks) + f"M{left} {floor}H{right}", "axis")
        for tick in y_ticks:
            self.text(left - 8, self.y(tick) + 4, f"{tick:g}", anchor="end")
        for tick in x_ticks:
            self.text(self.x(tick), floor + 18, f"{tick:g}")
        self.text((left + right) / 2, HEIGHT - 8, x_label, "label")
        turned = f'transform="translate(14 {(floor + top) / 2}) rotate(-90)"'
        self.parts.append(f'<text {turned} class="label" text-anchor="middle">{escape(y_label)}</text>')

    def svg(self, description: str) -> str:
        label = escape(description)
        return (
            f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">'
            f"{''.join(self.parts)}</svg>"
        )


def figures(evaluation: Evaluation) -> list[Figure]:
    """The plots that the evaluation has data for: without an annotated cell only that of counts."""
    plots = [_counts(evaluation)]
    if evaluation.main.score.ranking.objects[0].sum():
        curves = (_precision_over_recall, _average_precision_over_iou, _average_precision_of_bins)
        plots = [*(draw(evaluation) for draw in curves), *plots]
    return plots


def interval_mark(low: float, value: float, high: float, scale: float) -> str:
    """SVG text of an interval around a difference, on an axis from -scale to scale with a tick at 0."""
    x = [round(60 + 56 * number / scale, 1) for number in (low, value, high)]
    return (
        '<svg class="mark" viewBox="0 0 120 14" aria-hidden="true"><path class="axis" d="M60 0V14"/>'
        f'<path class="line" d="M{x[0]} 7H{x[2]}"/><circle cx="{x[1]}" cy="7" r="3.2"/></svg>'
    )


def _precision_over_recall(evaluation: Evaluation) -> Figure:
    score, axes, legend = evaluation.main.score, _Axes(100, 100), []
    precision = score.ranking.precision()[0][0]
    axes.frame("Recall (%)", "Precision (%)", PERCENT, PERCENT)
    thresholds = score.protocol.iou_thresholds
    for number, iou in enumerate(CURVES):
        nearest = [index for index, threshold in enumerate(thresholds) if abs(threshold - iou) < 1e-6]
        for curve in precision[nearest]:
            points = [(100 * r, 100 * p) for r, p in zip(RECALL_LEVELS, curve) if p > 0]
            if points:
                axes.line(points, f"step{number}")
            legend.append((f"step{number}", f"IoU {iou:.1f} (AP {100 * curve.mean():.1f})"))
    caption = "COCO's interpolated precision at 101 recall levels; a curve ends at the highest recall reached."
    return Figure("Precision over recall", axes.svg("Precision over recall at five IoU thresholds"), legend, caption)


def _average_precision_over_iou(evaluation: Evaluation) -> Figure:
    task, thresholds = evaluation.main.score.task, evaluation.main.score.protocol.iou_thresholds
    values, limits = evaluation.metrics[task], evaluation.metrics["intervals"][task]
    axes = _Axes(1, 100)
    low, high = min(thresholds), max(thresholds)
    span = max(high - low, 0.1)

    def place(iou: float) -> float:
        return 0.04 + 0.92 * (iou - low) / span

    ticks = [place(iou) for iou in thresholds]
    axes.frame("IoU threshold", "AP (%)", (), PERCENT)
    points = [(tick, values[f"AP{100 * iou:.0f}"]) for tick, iou in zip(ticks, thresholds)]
    axes.line(points, "step2")
    for (tick, value), iou in zip(points, thresholds):
        below, above = limits.get(f"AP{100 * iou:.0f}", (np.nan, np.nan))
        if np.isfinite([below, above]).all():
            axes.path(f"M{axes.x(tick)} {axes.y(below)}V{axes.y(above)}", "whisker")
        axes.text(axes.x(tick), axes.y(0) + 18, f"{iou:.2f}".lstrip("0"))
        axes.parts.append(f'<circle cx="{axes.x(tick)}" cy="{axes.y(value)}" r="3.5" class="dot"/>')
    caption = "Bars: 95 % intervals." if limits and np.isfinite(limits["AP"]).all() else ""
    return Figure("AP over IoU threshold", axes.svg("Average precision at each IoU threshold"), (), caption)


def _average_precision_of_bins(evaluation: Evaluation) -> Figure:
    rows = evaluation.budget[evaluation.budget["by"] != "all"].to_dict("records")
    first_density = [row["by"] for row in rows].index("density")
    axes = _Axes(len(rows) + 0.6, 100)
    axes.frame("", "AP (%)", (), PERCENT)
    for place, row in enumerate(rows):
        left = place + 0.6 * (row["by"] == "density")
        if np.isfinite(row["AP"]):
            sides = axes.x(left + 0.16), axes.x(left + 0.84)
            axes.path(f"M{sides[0]} {axes.y(0)}V{axes.y(row['AP'])}H{sides[1]}V{axes.y(0)}z", f"bar {row['by']}")
        words = f"{row['AP']:.1f}" if np.isfinite(row["AP"]) else "no cell"
        middle, name = axes.x(left + 0.5), row["bin"].replace(">=", "≥ ").replace("<", "< ").replace("-", "–")
        axes.text(middle, axes.y(np.nan_to_num(row["AP"])) - 5, words, "value")
        axes.text(middle, axes.y(0) + 15, name, "tick")
        axes.text(middle, axes.y(0) + 27, f"{row['cells']:,}", "small")
    axes.text(axes.x(first_density / 2), HEIGHT - 5, "Cell size", "label")
    axes.text(axes.x((first_density + 0.6 + axes.width) / 2), HEIGHT - 5, "Local density", "label")
    ends = [f"{limits[1]:g}" for name, limits in evaluation.main.score.protocol.area_ranges if name][:-1]
    caption = (
        f"Below each bar: its number of annotated cells. Limits of size: {' and '.join(ends)} px². "
        "Local density: share that annotated cells cover of a window of 6 cell diameters around the cell."
    )
    return Figure("AP by cell size and local density", axes.svg("AP by cell size and local density"), (), caption)


def _counts(evaluation: Evaluation) -> Figure:
    annotated, found = (evaluation.per_image[name].to_numpy() for name in ("cells", "found"))
    ticks = _ticks(max(annotated.max(initial=1), found.max(initial=1)))
    axes = _Axes(ticks[-1], ticks[-1])
    axes.frame("Annotated cells in the image", "Predicted cells", ticks, ticks)
    axes.line([(0, 0), (ticks[-1], ticks[-1])], "equal")
    axes.path("".join(f"M{axes.x(x)} {axes.y(y)}h0" for x, y in zip(annotated, found)), "points")
    values = evaluation.metrics[evaluation.main.score.task]
    r2, error = values.get("count_R2", np.nan), values.get("count_MAE", np.nan)
    caption = "One point an image; on the line the numbers agree. "
    caption += f"R² = {r2:.2f}, " if np.isfinite(r2) else f"R² does not exist: {why_missing('count_R2')}; "
    return Figure(
        "Predicted and annotated counts",
        axes.svg("Predicted over annotated number of cells"),
        (),
        f"{caption}mean absolute error {error:.1f} cells an image.",
    )


def _ticks(highest: float) -> list[float]:
    """Three to seven round numbers from 0 to at least ``highest``."""
    size = 10.0 ** np.floor(np.log10(max(highest, 1)))
    step = next(step for step in (size * f for f in (0.2, 0.5, 1, 2)) if highest / step <= 6)
    step = max(step, 1.0)
    return [step * n for n in range(int(np.ceil(highest / step)) + 1)]
