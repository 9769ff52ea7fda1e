"""Figures of one image: grey values, probability, cells, and the ROC of its model; brings matplotlib."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, hsv_to_rgb
from matplotlib.figure import Figure
from skimage.segmentation import find_boundaries

from ..files import atomic_write
from .roc import Operating, PixelRoc

__all__ = ["four_panels", "label_colours", "probability_overlay", "roc_axes"]

# Background, undecided, cell, and what lies between; the blue is light enough to show grey values
PROBABILITIES = LinearSegmentedColormap.from_list("cells", ["#3f6bff", "#1fb5c9", "#2fd15c", "#e8c52a", "#ff3b30"])
FLOOR, GAMMA = 0.2, 0.5  # brightness of black, and the exponent that lifts dim cells
CURVES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")  # Okabe and Ito: apart for colour-blind readers
ZOOMS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)  # of the inset, side of the corner
WIDTH, DPI = 7.1, 300  # inches: two columns of a page
TEXT, SMALL = 9, 7.5  # points


def probability_overlay(image: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Colour by probability, from blue (background) over green (undecided) to red (cell); brightness by grey value.

    Grey values are stretched and lifted for display, so that dim cells can be seen.

    Args:
        image: (H, W) or (H, W, 3) uint8.
        probability: (H, W) float, 0..1.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ValueError: the two have different sizes, or the image is none.
    """
    grey = _grey(image)
    if grey.shape != np.shape(probability):
        raise ValueError(f"an image of {grey.shape} pixels and a probability of {np.shape(probability)} differ in size")
    brightness = FLOOR + (1 - FLOOR) * grey**GAMMA
    return np.rint(255 * PROBABILITIES(probability)[..., :3] * brightness[..., None]).astype(np.uint8)


def label_colours(labels: np.ndarray, seed: int = 0) -> np.ndarray:
    """Cells in colours of their own with light outlines, on black; the same seed gives the same colours.

    Args:
        labels: (H, W) integers; 0 and below are background.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    labels = np.maximum(labels, 0)
    numbers = np.arange(labels.max(initial=0) + 1)
    random = np.random.default_rng(seed).random((len(numbers), 2))
    # Steps of the golden ratio: cells that follow each other, which often touch, are far apart in hue
    hues = (numbers * 0.6180339887 + seed * 0.37) % 1
    hsv = np.stack([hues, 0.55 + 0.4 * random[:, 0], 0.65 + 0.3 * random[:, 1]], axis=1)
    colours = np.rint(255 * hsv_to_rgb(hsv)).astype(np.uint8)
    colours[0] = 0
    outlined = colours[labels]
    border = find_boundaries(labels, mode="inner")
    outlined[border] = 255 - (255 - outlined[border]) // 3
    return outlined


def roc_axes(ax: Axes, rocs: Mapping[str, PixelRoc], operating: Operating | None = None) -> None:
    """Draw ROC curves with their areas, the operating point on each, and an enlarged corner where curves reach it.

    Args:
        ax: empty axes.
        rocs: by name; the first is the one that the threshold was chosen on.
        operating: the chosen point (of the first); the others are marked at its threshold.

    Raises:
        ValueError: there is no curve, or one of images without foreground or background.
    """
    if not rocs:
        raise ValueError("no ROC to draw; give at least one, by name")
    points = {name: roc.at(operating.threshold) for name, roc in rocs.items()} if operating else {}
    ax.plot([0, 1], [0, 1], color="0.7", linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
    _draw_curves(ax, rocs, points)
    ax.set(xlim=(-0.01, 1), ylim=(0, 1.01), xticks=np.linspace(0, 1, 6), yticks=np.linspace(0, 1, 6))
    ax.set_xlabel("False-positive rate", fontsize=TEXT)
    ax.set_ylabel("True-positive rate", fontsize=TEXT)
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=SMALL)
    zoom = _zoom(rocs, points)
    if zoom:
        inset = ax.inset_axes((0.4, 0.37, 0.56, 0.52))
        _draw_curves(inset, rocs, points)
        wide, high = zoom
        inset.set(xlim=(-wide / 50, wide), ylim=(1 - high, 1 + high / 50))
        inset.locator_params(nbins=4)
        inset.tick_params(labelsize=SMALL - 1, length=2)
        for words in (*inset.get_xticklabels(), *inset.get_yticklabels()):  # above the lines to the corner
            words.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.6})
        ax.indicate_inset_zoom(inset, edgecolor="0.45", linewidth=0.7)
    handles, names = ax.get_legend_handles_labels()
    order = {"loc": "lower right", "fontsize": SMALL, "handlelength": 1.6, "borderaxespad": 0.2}
    ax.legend(handles[::-1], names[::-1], frameon=True, framealpha=1, edgecolor="none", **order)


def four_panels(
    path: str | Path,
    image: np.ndarray,
    probability: np.ndarray,
    labels: np.ndarray,
    rocs: Mapping[str, PixelRoc],
    operating: Operating | None = None,
    title: str = "",
) -> Path:
    """Write a PNG of the width of a page: image, probability over it, cells, and ROC.

    Args:
        path: moved into place when complete.
        image: (H, W) or (H, W, 3) uint8.
        probability, labels: (H, W); see :func:`probability_overlay` and :func:`label_colours`.
        rocs, operating: see :func:`roc_axes`.
        title: above the panels.

    Raises:
        ValueError: sizes differ, or a curve cannot be drawn.
    """
    if np.shape(labels) != np.shape(probability):
        raise ValueError(f"labels {np.shape(labels)} and probability {np.shape(probability)} differ in size")
    overlay = probability_overlay(image, probability)
    height, width = overlay.shape[:2]
    figure = Figure(figsize=(WIDTH, WIDTH * np.clip(height / width, 0.6, 1.5) * 0.95 + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, 2)
    shown = np.repeat(np.rint(255 * _grey(image) ** GAMMA).astype(np.uint8)[..., None], 3, axis=2)
    names = (f"Image (γ = {GAMMA:g})", "Probability of cell", f"Cells (n = {len(np.unique(labels[labels > 0]))})")
    for ax, picture, name in zip(panels.flat, (shown, overlay, label_colours(labels)), names):
        ax.imshow(picture)
        ax.set_axis_off()
        ax.set_title(name, fontsize=TEXT)
    _colour_bar(figure, panels[0, 1], operating)
    roc_axes(panels[1, 1], rocs, operating)
    panels[1, 1].set_title("ROC of pixels", fontsize=TEXT)
    panels[1, 1].set_box_aspect(min(height / width, 1))
    panels[1, 1].set_anchor("N")
    for ax, letter in zip(panels.flat, "abcd"):
        ax.set_title(letter, fontsize=TEXT + 3, fontweight="bold", loc="left")
    if title:
        figure.suptitle(title, fontsize=TEXT + 1)
    return atomic_write(path, lambda stream: figure.savefig(stream, format="png", dpi=DPI))


def _draw_curves(ax: Axes, rocs: Mapping[str, PixelRoc], points: Mapping[str, Operating]) -> None:
    """Curves and the points on them from the back to the front, so that the first is on top."""
    named = [(f"threshold {point.threshold:.3g}", point) for point in list(points.values())[:1]]
    for label, point in named:  # the legend's, below all others
        ax.plot(point.fpr, point.tpr, "o", color=CURVES[0], markersize=4.5, label=label)
    for rank, (name, roc) in reversed(list(enumerate(rocs.items()))):
        colour = CURVES[rank % len(CURVES)]
        fpr, tpr, _ = roc.curve()
        ends = np.flatnonzero((np.diff(fpr, append=2) > 0) | (np.diff(tpr, append=2) > 0))
        ax.plot(fpr[ends], tpr[ends], color=colour, linewidth=1.4, label=f"{name}: AUC {roc.auc:.4f}", zorder=3)
        if name in points:
            style = {"color": colour, "markeredgecolor": "white", "markersize": 6, "markeredgewidth": 0.8}
            ax.plot(points[name].fpr, points[name].tpr, "o", **style, zorder=4)


def _zoom(rocs: Mapping[str, PixelRoc], points: Mapping[str, Operating]) -> tuple[float, float] | None:
    """Width and height of the corner to enlarge: it holds the points and where the curves bend."""
    wide = high = 0.0
    for name, roc in rocs.items():
        fpr, tpr, _ = roc.curve()
        bend = int(np.argmax(tpr - fpr))
        wide, high = max(wide, fpr[bend]), max(high, 1 - tpr[bend])
        if name in points:
            wide, high = max(wide, points[name].fpr), max(high, 1 - points[name].tpr)
    sides = [next((zoom for zoom in ZOOMS if zoom >= 1.6 * extent), None) for extent in (wide, high)]
    return None if None in sides else (sides[0], sides[1])


def _colour_bar(figure: Figure, ax: Axes, operating: Operating | None) -> None:
    """The scale of probabilities, with a line at the threshold."""
    bar = figure.colorbar(ScalarMappable(cmap=PROBABILITIES), ax=ax, fraction=0.045, pad=0.02)
    bar.outline.set_visible(False)
    bar.set_ticks([0, 0.5, 1])
    bar.ax.tick_params(labelsize=SMALL, length=2)
    if operating:
        bar.ax.axhline(operating.threshold, color="black", linewidth=1.5)


def _grey(image: np.ndarray) -> np.ndarray:
    """(H, W) float32 in 0..1: brightness, its 0.5 % darkest pixels black and its 0.1 % brightest white."""
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)) or not image.size:
        raise ValueError(f"an image is (H, W) or (H, W, 3) uint8, not {image.shape} of {image.dtype}")
    grey = image.astype(np.float32) if image.ndim == 2 else image.mean(axis=2, dtype=np.float32)
    low, high = np.percentile(grey, (0.5, 99.9))
    return np.clip((grey - low) / max(high - low, 1), 0, 1)
