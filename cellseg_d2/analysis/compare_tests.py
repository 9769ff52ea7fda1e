"""The tests of two sets of cells: all descriptors, each group of them, each one alone, each group of images."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from .descriptors import CELL_GROUPS, CELL_NAMES
from .energy import Distance, energy_distance
from .pca import Components
from .resampling import TwoSampleOptions
from .sample_pool import TooFewError, pool
from .two_sample import TwoSample, classifier_test, single_tests

__all__ = ["SETS", "Outcome", "cell_outcomes", "each_alone", "group_outcomes", "outcome_of"]

SETS = ("original", "extended")
ALL, APPEARANCE = "all", "appearance"  # the latter: all but the neighbourhood


@dataclass(frozen=True)
class Outcome:
    """One row of the table of tests: what was compared, and the result or why there is none."""

    name: str
    test: TwoSample | None = None
    distance: Distance | None = None
    why: str = ""


def cell_outcomes(
    cells: pd.DataFrame, axes: Components, deep: Components | None, options: TwoSampleOptions
) -> list[Outcome]:
    """All descriptors, all but the neighbourhood, each group; the first must be there."""
    rest = tuple(name for group, names in CELL_GROUPS.items() if group != "neighbourhood" for name in names)
    outcomes = [_tested(ALL, cells, CELL_NAMES, axes, options), outcome_of(APPEARANCE, cells, rest, axes, options)]
    outcomes += [outcome_of(group, cells, names, axes, options) for group, names in CELL_GROUPS.items()]
    if deep is not None:
        names = tuple(name for name in cells.columns if name.startswith("deep_"))
        outcomes.append(outcome_of("deep", cells, names, None, options))
    return outcomes


def group_outcomes(cells: pd.DataFrame, axes: Components, by: str, options: TwoSampleOptions) -> list[Outcome]:
    """All descriptors, in each group of images that both sets have."""
    sides = [set(cells.loc[cells["set"] == name, by].dropna()) for name in SETS]
    names = sorted(sides[0] & sides[1])
    return [outcome_of(name, cells[cells[by] == name], CELL_NAMES, axes, options) for name in names]


def outcome_of(name: str, *arguments: Any) -> Outcome:
    """The result of a test, or why there is none."""
    try:
        return _tested(name, *arguments)
    except TooFewError as error:
        return Outcome(name, why=str(error))


def _tested(
    name: str, table: pd.DataFrame, names: tuple[str, ...], axes: Components | None, options: TwoSampleOptions
) -> Outcome:
    """Classifier test of columns, and the distance in them in standard deviations of the original set."""
    first, second = (table[table["set"] == side] for side in SETS)
    test = classifier_test(first[list(names)], second[list(names)], first["source"], second["source"], options)
    kept = [n for n in test.names if axes is None or n in axes.names]
    if not kept:
        return Outcome(name, test)
    wholes = [part[part[kept].notna().all(axis=1)] for part in (first, second)]
    mean, scale = wholes[0][kept].mean(), wholes[0][kept].std(ddof=0)
    varies = scale > 0
    values = [((part[kept] - mean) / scale).loc[:, varies].to_numpy() for part in wholes]
    distance = energy_distance(*values, *(part["source"] for part in wholes), options)
    return Outcome(name, test, distance)


def each_alone(cells: pd.DataFrame, test: TwoSample, options: TwoSampleOptions) -> pd.DataFrame:
    """Each descriptor alone, on all cells that have it; the one that tells most first."""
    group_of = {name: group for group, names in CELL_GROUPS.items() for name in names}
    first, second = (cells[cells["set"] == side] for side in SETS)
    parts = []
    for name in CELL_NAMES:
        try:
            both = pool(first[[name]], second[[name]], first["source"], second["source"], options)
        except TooFewError:
            continue  # hardly any cell has it
        parts.append(single_tests(both, options))
    table = pd.concat(parts, ignore_index=True)
    table["group"] = table["descriptor"].map(group_of)
    table["importance"] = table["descriptor"].map(test.importance)
    order = (table["auc"] - 0.5).abs().sort_values(ascending=False, kind="stable").index
    return table.loc[order].reset_index(drop=True)
