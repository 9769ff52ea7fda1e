"""Is a second set of cells plausible beside the first? Principal components, distances and classifier tests."""

from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from ..errors import DatasetError
from .compare_tests import SETS, Outcome, cell_outcomes, each_alone, group_outcomes, outcome_of
from .descriptor_tables import Described
from .descriptors import CELL_NAMES, IMAGE_NAMES
from .pca import Components, fit_components
from .resampling import TwoSampleOptions

__all__ = ["Comparison", "compare"]

DEEP_AXES = 16  # principal components of deep features that are tested and written
FEW = 10  # source images; a bootstrap of fewer says too little
DEFAULTS = TwoSampleOptions()


@dataclass(frozen=True)
class Comparison:
    """What :func:`compare` finds.

    Attributes:
        cells, images: tables of both sets with a column ``set``; ``pc1`` and ``pc2``, empty for rows that lack a
            descriptor, and ``deep_00``... where there are deep features.
        cell_axes, image_axes: principal components of the original set; None of fewer than three images.
        deep_cells, deep_images: of deep features; None without, or of fewer than three images.
        by: column of groups; None without.
        outcomes: of cells: all descriptors first, then groups of descriptors.
        of_groups: of cells, all descriptors, in each group that both sets have.
        of_images: of images.
        single: each descriptor of cells alone, the one that tells most first; see
            :func:`.two_sample.single_tests`; with ``group`` and ``importance``.
        notes: what the reader has to know, in words.
    """

    cells: pd.DataFrame
    images: pd.DataFrame
    cell_axes: Components
    image_axes: Components | None
    deep_cells: Components | None = None
    deep_images: Components | None = None
    by: str | None = None
    outcomes: list[Outcome] = field(default_factory=list)
    of_groups: list[Outcome] = field(default_factory=list)
    of_images: Outcome | None = None
    single: pd.DataFrame | None = None
    notes: list[str] = field(default_factory=list)


def compare(
    original: Described, extended: Described | None = None, by: str | None = None, options: TwoSampleOptions = DEFAULTS
) -> Comparison:
    """Compare an extended set with the original one, or describe one set by its principal components.

    Cells at the frame are left out, which may cut them. Of an extended set whose annotations say where cells were taken
    from, only those cells are compared. A cell is held out, and drawn again, with the image that it was cut out of, so
    that a classifier never sees the original of a copy that it is judged on; an image, with the one it was made from.

    Args:
        by: ``cell_type``, ``well`` or ``time``: each group is tested too.

    Raises:
        TooFewError: fewer than 20 cells, or fewer than two source images, in a set.
        DatasetError: no image has what ``by`` asks for, or the original has too few cells for principal components.
    """
    notes: list[str] = []
    cells, images = _tables(original, extended, notes)
    if by is not None and not images[by].notna().any():
        raise DatasetError(f"no image has a {by}: it comes from the image entries of the JSON or LIVECell's file names")
    first = cells["set"] == SETS[0]
    cell_axes = fit_components(cells.loc[first, list(CELL_NAMES)])
    cells = _placed(cells, cell_axes)
    own = images.loc[images["set"] == SETS[0], list(IMAGE_NAMES)]
    image_axes = fit_components(own) if len(own.dropna()) >= 3 else None
    if image_axes is None:
        notes.append("The original set has fewer than three complete images: no principal components of images.")
    else:
        images = _placed(images, image_axes)
    both = [described for described in (original, extended) if described is not None]
    cells, deep_cells = _with_deep(cells, [d.deep_cells for d in both])
    images, deep_images = _with_deep(images, [d.deep_images for d in both])
    found = Comparison(cells, images, cell_axes, image_axes, deep_cells, deep_images, by, notes=notes)
    return found if extended is None else _with_tests(found, options)


def _with_tests(found: Comparison, options: TwoSampleOptions) -> Comparison:
    """The comparison with its tests."""
    cells, axes = found.cells, found.cell_axes
    outcomes = cell_outcomes(cells, axes, found.deep_cells, options)
    return replace(
        found, outcomes=outcomes, single=each_alone(cells, outcomes[0].test, options),
        of_groups=[] if found.by is None else group_outcomes(cells, axes, found.by, options),
        of_images=outcome_of("images", found.images, IMAGE_NAMES, found.image_axes, options),
    )  # fmt: skip


def _tables(original: Described, extended: Described | None, notes: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Cells that are compared and images of both sets, with what was left out in words."""
    cells, images = [], []
    for name, described in zip(SETS, (original, extended)):
        if described is None:
            continue
        table = described.cells.assign(row=np.arange(len(described.cells)), set=name)
        pictures = described.images.assign(row=np.arange(len(described.images)), set=name)
        if name == SETS[1] and table["synthetic"].any():
            chosen = table[table["synthetic"]]
            notes.append(f"Of the extended set's {len(table)} cells the {len(chosen)} synthetic ones are compared.")
            table, pictures = chosen, pictures[pictures["image"].isin(chosen["image"])]
        elif name == SETS[1]:
            notes.append("No annotation of the extended set has a provenance: all its cells are compared.")
        inner = table[~table["at_border"]]
        outer = len(table) - len(inner)
        notes.append(f"{outer} of {len(table)} cells of the {name} set touch the frame and are left out.")
        if described.foreign:
            notes.append(
                f"{described.foreign} cells of the {name} set were cut out of another image than the one that theirs "
                "was made from. They are held out with the image that they were cut out of; a classifier may have seen "
                "their background, so AUC may be a little too low where it rests on the grey values around a cell."
            )
        if extended is not None and inner["source"].nunique() < FEW:
            notes.append(
                f"The {name} set's cells come from {inner['source'].nunique()} source images: intervals of fewer than "
                f"{FEW} are too narrow, and AUC may fall below .5 where these images are unlike each other."
            )
        cells.append(inner)
        images.append(pictures)
    return pd.concat(cells, ignore_index=True), pd.concat(images, ignore_index=True)


def _placed(table: pd.DataFrame, axes: Components) -> pd.DataFrame:
    """The table with the first two components; empty where a row lacks a descriptor."""
    whole = axes.complete(table)
    places = np.full((len(table), 2), np.nan)
    places[whole, : len(axes.axes)] = axes.project(table[whole])[:, :2]
    return table.assign(pc1=places[:, 0], pc2=places[:, 1])


def _with_deep(table: pd.DataFrame, features: list[np.ndarray | None]) -> tuple[pd.DataFrame, Components | None]:
    """The table with principal components of deep features, fitted on the original set; without its column ``row``.

    Args:
        features: (R, C) of each set's cells or images; ``row`` of the table says which.
    """
    rows, table = [table.loc[table["set"] == name, "row"] for name in SETS], table.drop(columns="row")
    if features[0] is None or len(rows[0]) < 3:
        return table, None
    values = pd.DataFrame(np.concatenate([own[row] for own, row in zip(features, rows)])).add_prefix("channel_")
    axes = fit_components(values.iloc[: len(rows[0])], DEEP_AXES)
    names = [f"deep_{k:02d}" for k in range(len(axes.axes))]
    return table.join(pd.DataFrame(axes.project(values), columns=names, index=table.index)), axes
