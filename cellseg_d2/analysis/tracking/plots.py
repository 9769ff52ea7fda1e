"""Growth as a figure: counts, confluence and cell size over time, with what was fitted."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ...files import atomic_write
from .growth import Doubling, growth, time_axis_of

__all__ = ["plot_growth"]

POINTS, LINE = "#0072b2", "#d55e00"  # Okabe and Ito: apart for colour-blind readers
WIDTH, HEIGHT, DPI = 7.1, 6.4, 150  # inches
TEXT, SMALL = 9, 7.5  # points


def plot_growth(path: str | Path, frames: pd.DataFrame, fits: Mapping[str, Doubling] | None = None) -> Path:
    """Write a PNG: cell count, confluence and median area of each frame over time (hours where known, else frames).

    Args:
        path: moved into place when complete.
        frames: as :func:`.lineage.frames_table` gives them; one frame is enough.
        fits: drawn over the points; None: those of :func:`.growth.growth`.
    """
    fits = growth(frames) if fits is None else fits
    times, unit = time_axis_of(frames)
    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    FigureCanvasAgg(figure)
    count, confluence, size = figure.subplots(3, 1, sharex=True)
    _draw(count, times, frames["count"], "Cells", fits.get("count"))
    _draw(confluence, times, 100 * frames["confluence"], "Confluence (%)", fits.get("confluence"), 100)
    areas = frames["area_median_um2"]
    known = areas.notna().any()
    _draw(size, times, areas if known else frames["area_median_px"], f"Median area ({'µm²' if known else 'px'})")
    size.set_xlabel("Time (h)" if unit == "h" else "Frame", fontsize=TEXT)
    return atomic_write(path, lambda stream: figure.savefig(stream, format="png", dpi=DPI))


def _draw(
    ax: Axes, times: np.ndarray, values: pd.Series, name: str, fit: Doubling | None = None, scale: float = 1.0
) -> None:
    """Points, the fitted curve below its words, and an axis from 0."""
    ax.plot(times, values, "o", color=POINTS, markersize=3)
    if fit is not None:
        ax.set_title(fit.text, fontsize=SMALL, loc="left")
    if fit is not None and np.isfinite(fit.rate):
        fine = np.linspace(times.min(), times.max(), 200)
        ax.plot(fine, scale * fit.level * np.exp(fit.rate * fine), color=LINE, linewidth=1.3)
    highest = np.fmax.reduce(values.to_numpy(dtype=np.float64), initial=0.0)  # passes over NaN
    ax.set_ylim(0, 1.1 * highest if highest > 0 else 1)
    ax.set_ylabel(name, fontsize=TEXT)
    ax.tick_params(labelsize=SMALL)
    ax.spines[["top", "right"]].set_visible(False)
