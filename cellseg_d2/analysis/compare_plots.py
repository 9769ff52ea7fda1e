"""Figures of a comparison: scatter of principal components, densities, what gives cells away; brings matplotlib."""

from collections.abc import Sequence
from io import BytesIO

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .compare import Comparison
from .compare_tests import SETS
from .descriptors import words

__all__ = ["figures"]

# Okabe and Ito: apart for colour-blind readers
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#f0e442")
COLOURS = dict(zip(SETS, PALETTE))
MARKERS = dict(zip(SETS, ("o", "x")))
DPI, WIDTH, HEIGHT = 150, 5.2, 4.2  # inches of a scatter
MOST = 4000  # points of each set in a scatter
BINS = 24
ENDS = (0.005, 0.995)  # quantiles that axes of cells end at


def figures(found: Comparison, seed: int = 0) -> dict[str, bytes]:
    """File name -> PNG.

    ``pca_cells.png``, ``pca_images.png`` (where there are three images), ``pca_deep_cells.png`` and
    ``pca_deep_images.png`` (with deep features),
    ``density.png``, and with two sets ``giveaways.png``: the six descriptors that tell most.

    Args:
        seed: of the choice of cells that are drawn, where there are more than 4,000 of a set.
    """
    rng, sheets = np.random.default_rng(seed), {}
    sheets["pca_cells.png"] = _scatter(found.cells, "pc1", "pc2", found.cell_axes.explained, found.by, rng)
    if found.image_axes is not None:
        sheets["pca_images.png"] = _scatter(found.images, "pc1", "pc2", found.image_axes.explained, found.by, rng)
    for name, table, axes in (("cells", found.cells, found.deep_cells), ("images", found.images, found.deep_images)):
        if axes is not None:
            sheet = _scatter(table, "deep_00", "deep_01", axes.explained, found.by, rng)
            sheets[f"pca_deep_{name}.png"] = sheet
    titles = {"density": "Cells a megapixel", "cells": "Cells an image", "confluence": "Share covered by cells"}
    sheets["density.png"] = _histograms(found.images, titles, "Images (%)", (0, 1))
    if found.single is not None:
        names = found.single["descriptor"].head(6)
        sheets["giveaways.png"] = _histograms(found.cells, {name: words(name) for name in names}, "Cells (%)", ENDS)
    return sheets


def _scatter(
    table: pd.DataFrame, across: str, up: str, explained: np.ndarray, by: str | None, rng: np.random.Generator
) -> bytes:
    """Two components: a colour a set, or a colour a group and a sign a set; crosses are the medians."""
    figure, (ax,) = _sheet(1, 1, WIDTH, HEIGHT)
    table = table.dropna(subset=[across, up])
    groups = [None] if by is None else sorted(table[by].dropna().unique())
    for side in SETS:
        own = table[table["set"] == side]
        own = own.iloc[np.sort(rng.permutation(len(own))[:MOST])]
        for place, group in enumerate(groups):
            part = own if group is None else own[own[by] == group]
            colour = COLOURS[side] if group is None else PALETTE[place % len(PALETTE)]
            label = side if group is None else f"{side}, {group}"
            size = 6 if len(table) > 500 else 22
            if len(part):
                style = {"alpha": 0.5, "linewidths": 0.8 if side == SETS[1] else 0}
                ax.scatter(part[across], part[up], size, colour, marker=MARKERS[side], label=label, **style)
                if group is None:
                    ax.plot(*part[[across, up]].median(), "P", ms=11, mfc=colour, mec="white", mew=1.2, zorder=4)
    shares = [f"PC{k + 1} ({100 * share:.0f} % of the original's variance)" for k, share in enumerate(explained[:2])]
    ax.set(xlabel=shares[0], ylabel=shares[-1])
    limits = [np.quantile(table[axis], (0.001, 0.999)) for axis in (across, up)] if len(table) > 500 else []
    for low_high, limit in zip(limits, (ax.set_xlim, ax.set_ylim)):
        margin = 0.06 * (low_high[1] - low_high[0])
        limit(low_high[0] - margin, low_high[1] + margin)
    ax.legend(fontsize=7 if by else 8, frameon=False, markerscale=1.5, ncols=2 if len(groups) > 4 else 1)
    return _png(figure)


def _histograms(table: pd.DataFrame, titles: dict[str, str], label: str, ends: tuple[float, float]) -> bytes:
    """Histograms of columns as steps, in percent of each set."""
    rows = -(-len(titles) // 3)
    figure, panels = _sheet(rows, 3, 7.4, 2.4 * rows)
    for ax, (name, title) in zip(panels, titles.items()):
        values = table[name].dropna().to_numpy(dtype=np.float64)
        low, high = np.quantile(values, ends) if len(values) else (0.0, 1.0)
        edges = np.linspace(low, high, BINS + 1) if high > low else np.array([low - 0.5, low + 0.5])
        for side in SETS:
            own = table.loc[table["set"] == side, name].dropna()
            if len(own):
                counts, _ = np.histogram(own, edges)
                ax.stairs(100 * counts / len(own), edges, color=COLOURS[side], linewidth=1.2, label=side)
        ax.set(ylabel=label)
        ax.set_xlabel(title, wrap=True)
        ax.set_ylim(bottom=0)
    for ax in panels[len(titles) :]:
        ax.set_axis_off()
    panels[0].legend(fontsize=7, frameon=False)
    return _png(figure)


def _sheet(rows: int, columns: int, width: float, height: float) -> tuple[Figure, Sequence[Axes]]:
    """An empty figure and its panels."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    panels = list(np.ravel(figure.subplots(rows, columns)))
    for ax in panels:
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(labelsize=7)
        ax.xaxis.label.set_size(8)
        ax.yaxis.label.set_size(8)
    return figure, panels


def _png(figure: Figure) -> bytes:
    stream = BytesIO()
    figure.savefig(stream, format="png", dpi=DPI)
    return stream.getvalue()
