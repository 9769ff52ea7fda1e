"""The tables of a data set in few numbers, for all images and for each group of them."""

from typing import Any

import numpy as np
import pandas as pd

from ...errors import DatasetError
from ..names import natural_order
from .tables import GROUPS, Tables

__all__ = ["SIZE_LIMITS", "UNKNOWN", "group_column", "grouped", "summarise"]

# LIVECell's: small cells have fewer pixels than the first, large ones more than the second
SIZE_LIMITS = (18**2, 31**2)
UNKNOWN = "unknown"  # group of the images whose entry and name do not say it
QUANTILES = {"min": 0.0, "q05": 0.05, "q25": 0.25, "median": 0.5, "q75": 0.75, "q95": 0.95, "max": 1.0}
OF_CELLS = (
    "area", "diameter", "nearest", "nearest_diameters", "foreground", "foreground_sd", "ring", "contrast",
    "contrast_to_noise",
)  # fmt: skip
# Name in the summary -> column of the table of images
OF_IMAGES = {
    "cells_an_image": "cells", "density": "density", "confluence": "confluence", "image_foreground": "foreground",
    "background": "background", "background_sd": "background_sd", "image_contrast": "contrast",
    "image_contrast_to_noise": "contrast_to_noise",
}  # fmt: skip


def group_column(tables: Tables, by: str | None) -> str | None:
    """What to group by: ``by`` itself, or, where it is None, the cell type if any image has one.

    Raises:
        DatasetError: no image has it.
    """
    if by is None:
        return "cell_type" if tables.images["cell_type"].notna().any() else None
    if by not in GROUPS:
        raise DatasetError(f"images are grouped by {', '.join(GROUPS)}, not by {by!r}")
    if not tables.images[by].notna().any():
        raise DatasetError(
            f"no image has a {by}: it comes from the key {by!r} of the image entries in the JSON, or from file names "
            "like LIVECell's"
        )
    return by


def grouped(tables: Tables, by: str | None) -> dict[str, Tables]:
    """The tables of each group of images, in natural order of their names; those without one come last as "unknown".

    Args:
        by: a column of both tables; None for no groups.
    """
    if by is None:
        return {}
    of_images, of_cells = (table[by].fillna(UNKNOWN) for table in (tables.images, tables.cells))
    names = sorted(of_images.unique(), key=lambda name: (name == UNKNOWN, natural_order(name)))
    return {name: Tables(tables.cells[of_cells == name], tables.images[of_images == name], 0) for name in names}


def summarise(tables: Tables, by: str | None = None) -> dict[str, Any]:
    """The numbers of a data set, and of each group of its images.

    Returns:
        ``by``, ``size_limits`` (pixels), ``left_out``, ``overall`` and ``groups`` (by name). Each has ``images``,
        ``cells``, ``megapixels``, ``sizes`` (shares of ``small``, ``medium`` and ``large`` cells by
        :data:`SIZE_LIMITS`), ``at_border`` (share of cells that touch the frame), and of each other measure the
        ``count`` of values that exist, their ``mean``, ``sd`` and quantiles. NaN is what no cell or image has.
    """
    return {
        "by": by, "size_limits": list(SIZE_LIMITS), "left_out": tables.left_out, "overall": _numbers(tables),
        "groups": {name: _numbers(part) for name, part in grouped(tables, by).items()},
    }  # fmt: skip


def _numbers(tables: Tables) -> dict[str, Any]:
    """The numbers of one group."""
    cells, images = tables.cells, tables.images
    area = cells["area"].to_numpy()
    low, high = SIZE_LIMITS
    sizes = {"small": area < low, "medium": (area >= low) & (area <= high), "large": area > high}
    return {
        "images": len(images), "cells": len(cells),
        "megapixels": float((images["height"] * images["width"]).sum() / 1e6),
        "sizes": {name: _share(chosen) for name, chosen in sizes.items()},
        "at_border": _share(cells["at_border"].to_numpy(dtype=bool)),
        **{name: _spread(images[column]) for name, column in OF_IMAGES.items()},
        **{name: _spread(cells[name]) for name in OF_CELLS},
    }  # fmt: skip


def _share(chosen: np.ndarray) -> float:
    """Share of true values; NaN of none."""
    return float(chosen.mean()) if len(chosen) else np.nan


def _spread(column: pd.Series) -> dict[str, float]:
    """Count, mean, standard deviation (of all values, not an estimate from a sample) and quantiles."""
    values = column.dropna().to_numpy(dtype=np.float64)
    if not len(values):
        return {"count": 0, **dict.fromkeys(("mean", "sd", *QUANTILES), np.nan)}
    quantiles = zip(QUANTILES, np.quantile(values, list(QUANTILES.values())).tolist())
    return {"count": len(values), "mean": float(values.mean()), "sd": float(values.std()), **dict(quantiles)}
