"""A comparison of two sets as numbers for JSON and in words."""

from dataclasses import asdict
from typing import Any

import pandas as pd

from .compare import Comparison
from .compare_tests import SETS, Outcome
from .descriptors import words
from .pca import Components

__all__ = ["axis_words", "giveaways", "numbers", "verdict"]

SHOWN = 10  # descriptors that are named
CHANCE, TOLD = 0.5, 0.6  # an interval from below the one to above the other decides nothing
LEVELS = ((0.6, "hardly be told"), (0.75, "be told in part"), (0.9, "mostly be told"), (2.0, "almost always be told"))


def numbers(found: Comparison) -> dict[str, Any]:
    """All numbers of a comparison; NaN is what does not exist."""
    sets = {
        name: {"images": int((found.images["set"] == name).sum()), "cells": int((found.cells["set"] == name).sum()),
               "sources": int(found.images.loc[found.images["set"] == name, "source"].nunique())}
        for name in SETS if (found.images["set"] == name).any()
    }  # fmt: skip
    axes = {"cells": found.cell_axes, "images": found.image_axes}
    axes |= {"deep_cells": found.deep_cells, "deep_images": found.deep_images}
    result = {"sets": sets, "pca": {name: _axes(a, name) for name, a in axes.items() if a}, "notes": found.notes}
    if found.outcomes:
        result["cells"] = [_outcome(outcome) for outcome in found.outcomes]
        result["by"] = {"column": found.by, "groups": [_outcome(outcome) for outcome in found.of_groups]}
        result["images"] = _outcome(found.of_images)
        result["descriptors"] = found.single.to_dict("records")
        result["verdict"] = verdict(found.outcomes[0])
    return result


def verdict(outcome: Outcome) -> str:
    """How well the stronger of the two classifiers tells the sets apart, in a sentence.

    That is one whose interval is above chance before one whose is not, then the one of the larger area.
    """
    test = outcome.test
    both = (
        (test.auc, test.low, test.high, "gradient boosting"),
        (test.check, test.check_low, test.check_high, "logistic regression"),
    )
    auc, low, high, name = max(both, key=lambda one: (one[1] > CHANCE, one[0]))
    measured = f"AUC {auc:.2f} ({name}), 95 % interval {low:.2f} to {high:.2f}"
    if low > CHANCE:
        how = next(text for limit, text in LEVELS if auc < limit)
        return f"Cells of the two sets can {how} apart: {measured} (.5 is chance, 1 always)."
    if high > TOLD:
        return (
            f"Undecided: too few source images to say whether the two sets can be told apart. {measured}, holds both "
            "chance, which is .5, and a clear difference."
        )
    return f"The two sets cannot be told apart by these descriptors: {measured}, is not above chance, which is .5."


def giveaways(single: pd.DataFrame, most: int = SHOWN) -> list[str]:
    """The descriptors that tell most, a sentence each; those whose interval contains .5 tell nothing.

    Args:
        single: see :class:`.compare.Comparison`.
    """
    telling = single[(single["low"] > 0.5) | (single["high"] < 0.5)].head(most)
    sentences = []
    for row in telling.itertuples():
        way = "higher" if row.auc > 0.5 else "lower"
        sentences.append(
            f"{words(row.descriptor)} ({row.group}): {way} in the extended set, median {row.second:.4g} against "
            f"{row.first:.4g}; alone AUC {max(row.auc, 1 - row.auc):.2f}"
        )
    return sentences


def axis_words(axes: Components, axis: int, most: int = 5) -> str:
    """What an axis means: the descriptors that correlate most with it, a minus before those that fall along it."""
    column = axes.loadings().iloc[:, axis]
    order = column.abs().sort_values(ascending=False, kind="stable").index[:most]
    return ", ".join(f"{'-' if column[name] < 0 else ''}{words(name)} ({column[name]:+.2f})" for name in order)


def _outcome(outcome: Outcome) -> dict[str, Any]:
    return {
        "name": outcome.name, "test": asdict(outcome.test) if outcome.test else None,
        "distance": asdict(outcome.distance) if outcome.distance else None, "why": outcome.why,
    }  # fmt: skip


def _axes(axes: Components, name: str) -> dict[str, Any]:
    """Explained variance and loadings; those of channels of a network say nothing to a reader."""
    explained = {"explained": axes.explained.tolist()}
    return explained if name.startswith("deep") else explained | {"loadings": axes.loadings().to_dict("index")}
