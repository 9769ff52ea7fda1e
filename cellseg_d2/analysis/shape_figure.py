"""The figure of a study of shapes: latents over time, decoded shapes, growth; brings matplotlib."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from ..files import atomic_write
from .growth import PHASES
from .shape_study import Study
from .shape_vae import decode

__all__ = ["closest_to_time", "write_figure"]

# Okabe and Ito: apart for colour-blind readers
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#f0e442")
SHADES = dict(zip(PHASES, ("#e8e8e8", "#ffffff", "#d7e4ee")))
TIME = "viridis"
WIDTH, HEIGHT, DPI = 7.1, 6.9, 200  # inches: two columns of a page
TEXT, SMALL = 9, 7.5  # points
STEPS = 7  # decoded shapes in a row
REACH = 2.0  # standard deviations of the codes to either side
SINGLE, DRAWN = 40, 8  # tracks drawn as thin lines, and latents that have a row and a line, at most
EXAGGERATED = 3
NEAR = 0.4  # standard deviations of the cells that the axes of the trajectory reach to either side, at least


def write_figure(path: str | Path, found: Study) -> Path:
    """Write a PNG of the width of a page.

    a: the mean of the population in the two latents closest to time, its colour the time, single tracks thin (most of
    their way lies beyond the axes); b:
    latents over time with 95 % bands, none where a time has a single image without tracks; c: shapes along each latent,
    from -2 to 2 standard deviations around the mean; d: shapes on the mean trajectory, and with its changes three times
    as large; e: held-out cells as they are, and from their codes and from as many principal components; f: cells an
    image, its curve, and its phases.

    Args:
        path: moved into place when complete.
    """
    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(3, 2, height_ratios=(1.2, 0.8, 0.8))
    (path_ax, time_ax), (axes_ax, along_ax), (held_ax, growth_ax) = panels
    _trajectory(figure, path_ax, found)
    _over_time(time_ax, found)
    _along_axes(axes_ax, found)
    _along_time(along_ax, found)
    _held_out(held_ax, found)
    _growth(growth_ax, found)
    for ax, letter in zip(panels.flat, "abcdef"):
        ax.set_title(letter, fontsize=TEXT + 3, fontweight="bold", loc="left")
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(labelsize=SMALL)
        for label in (ax.xaxis.label, ax.yaxis.label):
            label.set_size(TEXT - 1)
    return atomic_write(path, lambda stream: figure.savefig(stream, format="png", dpi=DPI))


def closest_to_time(found: Study) -> list[str]:
    """The latents, that with the strongest rank correlation with time first."""
    by_time = found.relations.get("time", {})
    return sorted(found.latents, key=lambda name: -np.nan_to_num(abs(by_time.get(name, {"rho": 0.0})["rho"])))


def _trajectory(figure: Figure, ax: Axes, found: Study) -> None:
    """The mean's way through two latents; one latent is drawn against time."""
    x, y = [*closest_to_time(found), "time"][:2]
    table, means = found.table[found.whole], found.over_time
    colours = Normalize(means["time"].min(), means["time"].max())
    tracks = [part for _, part in table.groupby("track", sort=False) if len(part) > 1][:SINGLE]
    for part in tracks:
        ax.plot(part[x], part[y], color="0.6", linewidth=0.35, alpha=0.55, zorder=1)
    if not tracks:
        ax.scatter(table[x], table[y], 1.5, table["time"], cmap=TIME, norm=colours, alpha=0.4, linewidths=0, zorder=1)
    ax.plot(means[x], means[y], color="black", linewidth=0.8, zorder=3)
    drawn = ax.scatter(means[x], means[y], 16, means["time"], cmap=TIME, norm=colours, zorder=4, edgecolors="none")
    bar = figure.colorbar(drawn, ax=ax, shrink=0.8)
    bar.set_label(f"Time ({found.film.unit})", fontsize=SMALL)
    bar.ax.tick_params(labelsize=SMALL)
    ax.set(xlabel=x, ylabel=y, xlim=_around(means[x], table[x]), ylim=_around(means[y], table[y]))


def _around(means: pd.Series, cells: pd.Series) -> tuple[float, float]:
    """Ends of an axis around the mean's way, which is short beside the spread of single cells."""
    half = max(0.75 * np.ptp(means), NEAR * cells.std())
    return (means.max() + means.min()) / 2 - half, (means.max() + means.min()) / 2 + half


def _over_time(ax: Axes, found: Study) -> None:
    """Means of the latents, and their bands where there are intervals."""
    means = found.over_time
    banded = means[[f"{name}_low" for name in found.latents]].notna().any(axis=None)
    for name, colour in zip(found.latents[:DRAWN], COLOURS):
        ax.plot(means["time"], means[name], color=colour, linewidth=1.1, label=name)
        ax.fill_between(means["time"], means[f"{name}_low"], means[f"{name}_high"], color=colour, alpha=0.18, lw=0)
    ax.set(xlabel=f"Time ({found.film.unit})", ylabel="Mean code (95 %)" if banded else "Mean code")
    ax.legend(fontsize=SMALL, frameon=False, ncols=4, loc="upper center", bbox_to_anchor=(0.55, 1.16))


def _along_axes(ax: Axes, found: Study) -> None:
    """A row a latent."""
    codes = found.table.loc[found.whole, found.latents].to_numpy()
    mean, spread = codes.mean(axis=0), codes.std(axis=0)
    rows = []
    for index in range(min(len(mean), DRAWN)):
        line = np.tile(mean, (STEPS, 1))
        line[:, index] += np.linspace(-REACH, REACH, STEPS) * spread[index]
        rows.append(np.hstack(_cropped(decode(found.model, line))))
    _pictures(ax, rows, found.latents, [f"{s:+.1f}" for s in np.linspace(-REACH, REACH, STEPS)])
    ax.set_xlabel("Standard deviations from the mean code")


def _along_time(ax: Axes, found: Study) -> None:
    """The mean codes of STEPS times decoded; below, with the changes of the mean EXAGGERATED times as large."""
    means = found.over_time
    chosen = np.unique(np.linspace(0, len(means) - 1, STEPS).round().astype(int))
    codes = means[found.latents].to_numpy()
    middle = codes.mean(axis=0)
    lines = [middle + gain * (codes[chosen] - middle) for gain in (1, EXAGGERATED)]
    rows = [np.hstack(_cropped(decode(found.model, line))) for line in lines]
    _pictures(ax, rows, ["mean", f"change\n× {EXAGGERATED}"], [f"{t:g}" for t in means["time"].iloc[chosen]])
    ax.set_xlabel(f"Time ({found.film.unit}), shape of the mean code")


def _held_out(ax: Axes, found: Study) -> None:
    """Held-out cells at even steps of how well they are given back, from the worst to the best."""
    held = np.flatnonzero(found.table["held_out"])
    order = held[np.argsort(found.table["iou"].to_numpy()[held], kind="stable")]
    chosen = order[np.linspace(0, len(order) - 1, STEPS).round().astype(int)]
    rows = [np.hstack(_cropped(part[chosen])) for part in (found.images, found.rebuilt, found.linear)]
    _pictures(ax, rows, ["cell", "codes", "PCA"], [f"{v:.2f}" for v in found.table["iou"].iloc[chosen]])
    ax.set_xlabel("IoU of codes, held-out cells from worst to best")


def _growth(ax: Axes, found: Study) -> None:
    """Counts, curves, and the phases as shades."""
    grown = found.growth
    ends = np.concatenate([grown.times[:1], (grown.times[1:] + grown.times[:-1]) / 2, grown.times[-1:]])
    for low, high, phase in zip(ends[:-1], ends[1:], grown.phases):
        ax.axvspan(low, high, color=SHADES[phase], lw=0, zorder=0)
    ax.plot(grown.times, grown.counts, "o", color="black", markersize=2.5, zorder=3)
    fine = np.linspace(grown.times[0], grown.times[-1], 200)
    for fit, colour in zip(grown.fits, COLOURS):
        ax.plot(fine, fit(fine - fine[0]), color=colour, linewidth=1.1, label=fit.name)
    for phase in (phase for phase in PHASES if phase in grown.phases):
        ax.fill_between([], [], color=SHADES[phase], edgecolor="0.6", linewidth=0.5, label=f"{phase} phase")
    ax.set(xlabel=f"Time ({found.film.unit})", ylabel="Cells an image", xlim=(ends[0], ends[-1]))
    if grown.fits:
        ax.legend(fontsize=SMALL - 1, frameon=False)


def _cropped(images: np.ndarray) -> np.ndarray:
    """Without the edges, where there is hardly ever a cell; more of them above and below, as the long axis is x."""
    rows, columns = images.shape[1] // 5, images.shape[2] // 12
    return images[:, rows:-rows, columns:-columns]


def _pictures(ax: Axes, rows: list[np.ndarray], names: list[str], columns: list[str]) -> None:
    """Rows of shapes with their names at the left and their columns' below."""
    height, width = rows[0].shape
    ax.imshow(np.clip(np.vstack(rows), 0, 1), cmap="gray_r", vmin=0, vmax=1, aspect="equal")
    ax.set_yticks([height * (k + 0.5) for k in range(len(rows))], names[: len(rows)])
    ax.set_xticks([width / len(columns) * (k + 0.5) for k in range(len(columns))], columns)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
