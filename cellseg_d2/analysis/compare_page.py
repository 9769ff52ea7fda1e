"""One HTML file, with nothing outside it, that says whether a set is plausible beside another."""

import base64
from collections.abc import Mapping
from pathlib import Path

from ..templates import template_environment
from .compare import Comparison
from .compare_report import axis_words, giveaways, numbers, verdict
from .descriptors import words

__all__ = ["render_page"]

PREFIX = "data:image/png;base64,"
CAPTIONS = {
    "pca_images.png": "Images along the first two principal components of the original set (large signs: medians).",
    "pca_cells.png": "Cells along the first two principal components of the original set.",
    "pca_deep_cells.png": "Cells along the first two principal components of the network's features.",
    "pca_deep_images.png": "Images along the first two principal components of the network's mean features.",
    "density.png": "Number and cover of cells.",
    "giveaways.png": "The six descriptors of cells that differ most.",
}


def render_page(found: Comparison, title: str, pictures: Mapping[str, bytes]) -> str:
    """The page.

    Args:
        title: of the page: what is compared.
        pictures: file name -> PNG, see :func:`.compare_plots.figures`.
    """
    template = template_environment(Path(__file__).parent).get_template("compare.html")
    axes = {"Cells": found.cell_axes, "Images": found.image_axes}
    meaning = [
        (name, f"PC{k + 1}", f"{100 * a.explained[k]:.0f}", axis_words(a, k))
        for name, a in axes.items() if a for k in range(min(2, len(a.axes)))
    ]  # fmt: skip
    loadings = {
        name: [(words(key), [f"{v:+.2f}" for v in row[:2]]) for key, row in zip(a.names, a.loadings().to_numpy())]
        for name, a in axes.items() if a
    }  # fmt: skip
    images = {name: PREFIX + base64.b64encode(data).decode("ascii") for name, data in pictures.items()}
    return template.render(
        title=title, sets=numbers(found)["sets"], found=found, images=images, captions=CAPTIONS, meaning=meaning,
        loadings=loadings, verdict=verdict(found.outcomes[0]) if found.outcomes else "",
        giveaways=giveaways(found.single) if found.outcomes else [], deep=found.deep_cells is not None,
    )  # fmt: skip
