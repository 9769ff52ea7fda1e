"""Histograms of size, numbers, density and brightness of a data set, a colour a group; brings matplotlib."""

from collections.abc import Mapping, Sequence
from math import pi
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter

from ...files import atomic_write
from .summary import SIZE_LIMITS, grouped
from .tables import Tables

__all__ = ["write_figure"]

# Okabe and Ito: apart for colour-blind readers; more groups, such as time points, take a scale in their order
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#f0e442")
NAMED = 16  # groups in the legend
BINS, FEW_BINS = 32, 16  # of cells, and of images, which are fewer
ENDS = (0.002, 0.998)  # quantiles of all cells that linear axes end at: one odd cell would squeeze the others
WIDTH, HEIGHT, DPI = 7.1, 4.9, 300  # inches: two columns of a page
TEXT, SMALL = 9, 7.5  # points


def write_figure(path: str | Path, tables: Tables, by: str | None = None, title: str = "") -> Path:
    """Write a PNG of the width of a page: six histograms, of cells as lines, of images as stacked bars.

    Axes of grey values end at 0.2 and 99.8 % of all cells; what lies beyond is not drawn. Dashed lines are LIVECell's
    limits of size, and contrast 0; triangles are the medians of the images' backgrounds.

    Args:
        path: moved into place when complete.
        tables: the data set.
        by: column whose groups get a colour each; None for one colour.
        title: above the panels.
    """
    groups = grouped(tables, by) or {"all": tables}
    colours = _colours(list(groups))
    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    FigureCanvasAgg(figure)
    panels = list(figure.subplots(2, 3).flat)
    size, numbers, density, distance, brightness, contrast = panels
    _lines(size, _column(groups, "diameter"), colours, "Diameter (px)", logarithmic=True)
    for limit in SIZE_LIMITS:
        size.axvline((4 * limit / pi) ** 0.5, color="0.6", linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
    _bars(numbers, _column(groups, "cells", of_images=True), colours, "Cells an image")
    _bars(density, _column(groups, "density", of_images=True), colours, "Cells a megapixel")
    _lines(distance, _column(groups, "nearest_diameters"), colours, "Nearest centre (diameters)", logarithmic=True)
    _lines(brightness, _column(groups, "foreground"), colours, "Grey value of cell (▲ background)")
    for name, levels in _column(groups, "background", of_images=True).items():
        if len(levels):
            style = {"color": colours[name], "markersize": 5, "clip_on": False, "zorder": 3}
            brightness.plot(np.median(levels), 0, "^", **style)
    _lines(contrast, _column(groups, "contrast"), colours, "Contrast: cell – ring")
    contrast.axvline(0, color="0.6", linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
    for ax, letter in zip(panels, "abcdef"):
        _dress(ax, letter)
    if by is not None:
        _legend(figure, colours, by)
    if title:
        figure.suptitle(title, fontsize=TEXT + 1)
    return atomic_write(path, lambda stream: figure.savefig(stream, format="png", dpi=DPI))


def _column(groups: Mapping[str, Tables], name: str, of_images: bool = False) -> dict[str, np.ndarray]:
    """The finite values of a column in each group."""
    columns = {key: (part.images if of_images else part.cells)[name].to_numpy() for key, part in groups.items()}
    return {key: values[np.isfinite(values)] for key, values in columns.items()}


def _colours(names: Sequence[str]) -> dict[str, str | tuple[float, ...]]:
    """A colour for each group."""
    if len(names) <= len(COLOURS):
        return dict(zip(names, COLOURS))
    return dict(zip(names, map(tuple, colormaps["viridis"](np.linspace(0, 0.95, len(names))))))


def _lines(ax: Axes, values: Mapping[str, np.ndarray], colours: Mapping, label: str, logarithmic: bool = False) -> None:
    """Histograms of cells as steps, each in percent of its group, so that groups of different size compare."""
    ax.set(xlabel=label, ylabel="Cells (%)")
    both = np.concatenate(list(values.values()))
    if not len(both):
        return _empty(ax)
    if logarithmic:
        low = both[both > 0].min(initial=both.max() or 1.0)  # cells that lie on each other have the distance 0
        edges = np.geomspace(low * 0.98, max(low, both.max()) * 1.02, BINS + 1)
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.xaxis.set_minor_formatter(NullFormatter())
        ticks = [t for t in np.outer(10.0 ** np.arange(-3, 7), (1, 2, 5)).ravel() if edges[0] <= t <= edges[-1]]
        ax.set_xticks(ticks)
    else:
        edges = _edges(*np.quantile(both, ENDS), BINS)
    for name, own in values.items():
        if len(own):
            counts, _ = np.histogram(own.clip(min=edges[0]) if logarithmic else own, edges)
            ax.stairs(100 * counts / len(own), edges, color=colours[name], linewidth=1.1)
    ax.set_ylim(bottom=0)


def _bars(ax: Axes, values: Mapping[str, np.ndarray], colours: Mapping, label: str) -> None:
    """A histogram of images, the groups on top of each other."""
    ax.set(xlabel=label, ylabel="Images")
    edges = _edges(0, max((own.max() for own in values.values() if len(own)), default=0), FEW_BINS)
    below = np.zeros(FEW_BINS)
    for name, own in values.items():
        counts, _ = np.histogram(own, edges)
        ax.bar(edges[:-1], counts, np.diff(edges), below, align="edge", color=colours[name], edgecolor="white", lw=0.3)
        below += counts
    ax.yaxis.get_major_locator().set_params(integer=True)


def _edges(low: float, high: float, bins: int) -> np.ndarray:
    """(bins + 1,) edges; values that are all the same get a bin of width 1 around them."""
    return np.linspace(low, high, bins + 1) if high > low else np.linspace(low - 0.5, low + 0.5, bins + 1)


def _empty(ax: Axes) -> None:
    """Say that there is nothing to draw."""
    ax.text(0.5, 0.5, "no cell has it", transform=ax.transAxes, ha="center", va="center", fontsize=TEXT, color="0.4")


def _dress(ax: Axes, letter: str) -> None:
    """What all panels share."""
    ax.set_title(letter, fontsize=TEXT + 3, fontweight="bold", loc="left")
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=SMALL)
    ax.xaxis.label.set_size(TEXT - 1)
    ax.yaxis.label.set_size(TEXT - 1)


def _legend(figure: Figure, colours: Mapping, by: str) -> None:
    """The groups' colours below the panels; of many groups some, in even steps."""
    names = list(colours)
    chosen = [names[k] for k in np.unique(np.linspace(0, len(names) - 1, min(NAMED, len(names))).round().astype(int))]
    some = f" ({len(chosen)} of {len(names)} named)" if len(chosen) < len(names) else ""
    handles = [Line2D([], [], color=colours[name], linewidth=4, label=name) for name in chosen]
    title = by.replace("_", " ") + some
    wide = 0.45 + 0.07 * max(map(len, chosen))  # inches of a column, about
    columns = min(8, len(chosen), max(1, int(WIDTH / wide)))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=SMALL,
                  title=title, title_fontsize=SMALL, frameon=False, handlelength=1.0)  # fmt: skip
