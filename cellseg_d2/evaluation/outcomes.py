"""The error budget: what became of each annotated cell and of each predicted one."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from .density import DENSITIES, density_bins, local_confluence
from .instances import IOU, kept_results
from .matching import TRUE
from .scoring import TaskScore
from .tables import ImageTable

__all__ = ["RESULT_OUTCOMES", "TRUTH_OUTCOMES", "Outcomes", "error_budget", "outcome_sums", "outcomes"]

TRUTH_OUTCOMES = ("found", "merged", "split", "inaccurate", "missed", "crowd")
RESULT_OUTCOMES = ("true", "merging", "fragment", "inaccurate", "false", "left out")
_SIZES = {"": "all", "s": "small", "m": "medium", "l": "large"}
FAINT = 0.1  # IoU below which two outlines are not taken for the same cell


@dataclass(frozen=True)
class Outcomes:
    """Codes into :data:`TRUTH_OUTCOMES` ((G,) uint8) and :data:`RESULT_OUTCOMES` ((D,) uint8)."""

    truth: np.ndarray
    results: np.ndarray


def outcomes(score: TaskScore, threshold: float) -> Outcomes:
    """Sort every cell into one drawer; the first that fits counts.

    Annotated cells: *found* (matched at IoU .5); *merged* (a result covers more than half of it and more than half of
    another cell); *split* (two or more results lie in it with more than half of their area); *inaccurate* (a result
    overlaps it with IoU of .1 or more); *missed*. Predicted cells, the same seen from the other side: *true*;
    *merging*; *fragment*; *inaccurate*; *false*. Below the score threshold, or in a crowd: *left out*.
    """
    pairs, keep = score.overlaps, kept_results(score, threshold)
    half = score.protocol.iou_index(IOU)
    use = keep[pairs.result] & ~score.truth.crowd[pairs.truth]
    result, truth, common, iou = (a[use] for a in (pairs.result, pairs.truth, pairs.intersection, pairs.iou))
    covers, inside = common > score.truth.sizes[truth] / 2, common > score.results.sizes[result] / 2
    merging = np.bincount(result[covers], minlength=len(score.results)) > 1
    split = np.bincount(truth[inside], minlength=len(score.truth)) > 1
    overlapping = iou >= FAINT

    matched = keep & (score.matching.flags[0, half] == TRUE)
    found = np.zeros(len(score.truth), bool)
    found[score.matching.partners[half][matched]] = True
    merged = _any(truth[covers & merging[result]], len(found))
    fragment = _any(result[inside & split[truth]], len(keep))
    of_truth = [found, merged, split, _any(truth[overlapping], len(found)), ~score.truth.crowd]
    of_results = [matched, merging, fragment, _any(result[overlapping], len(keep)), keep]
    return Outcomes(*(np.select(c, range(5), 5).astype(np.uint8) for c in (of_truth, of_results)))


def outcome_sums(score: TaskScore, found: Outcomes) -> dict[str, np.ndarray]:
    """Columns of (I,) float64: annotated cells by outcome but *crowd*, and ``false`` predicted cells."""
    sums = {
        f"cells_{name}": score.per_image(found.truth == code, score.truth)
        for code, name in enumerate(TRUTH_OUTCOMES[:-1])
    }
    for code, name in enumerate(RESULT_OUTCOMES[:-1]):
        sums[f"results_{name}"] = score.per_image(found.results == code, score.results)
    return sums


def error_budget(images: ImageTable, score: TaskScore, found: Outcomes) -> pd.DataFrame:
    """Number of annotated cells (and of false results) by outcome: overall, by size and by local density.

    Columns ``by`` ("all", "size", "density"), ``bin``, ``cells``, the outcomes of annotated cells, ``false``, and
    ``AP`` of the bin in percent.
    """
    ranges = [limits for _, limits in score.protocol.area_ranges]
    names = [_SIZES.get(name, name) for name, _ in score.protocol.area_ranges]
    once = np.ones((1, len(images)))
    precision = 100 * score.ranking.average_precision(once)[0].mean(axis=1)
    rows = []
    for index, (name, (low, high)) in enumerate(zip(names, ranges)):
        # Closed ranges share their limits; here each cell counts once, in the larger bin
        upper = np.inf if high == ranges[-1][1] else high
        members = [(o.areas >= low) & (o.areas < upper) for o in (score.truth, score.results)]
        rows.append(_row("size" if index else "all", name, members, found) | {"AP": precision[index]})
    bins = [density_bins(local_confluence(images, score.truth, o)) for o in (score.truth, score.results)]
    for (name, _, _), *members, ap in zip(DENSITIES, *bins, score.average_precision(*bins)):
        rows.append(_row("density", name, members, found) | {"AP": ap})
    return pd.DataFrame(rows)


def _row(by: str, name: str, members: list[np.ndarray], found: Outcomes) -> dict:
    """Counts of one bin."""
    codes, results = found.truth[members[0]], found.results[members[1]]
    counts = {outcome: int((codes == code).sum()) for code, outcome in enumerate(TRUTH_OUTCOMES[:-1])}
    false = int((results == RESULT_OUTCOMES.index("false")).sum())
    return {"by": by, "bin": name, "cells": sum(counts.values()), **counts, "false": false}


def _any(index: np.ndarray, count: int) -> np.ndarray:
    """(count,) bool: true at the places ``index``."""
    flags = np.zeros(count, bool)
    flags[index] = True
    return flags
