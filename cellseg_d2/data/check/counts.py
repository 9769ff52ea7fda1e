"""Images that were hardly annotated."""

import math
from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from ..livecell_names import parse_name
from .detail import Detail, explained_shares
from .findings import Findings
from .images import Facts
from .tables import Tables, image_size

__all__ = ["check_counts", "group_images"]

ENOUGH = 5  # images that tell what is usual
# By their numbers alone: fewer than 1 / FEWER of the usual number, and beyond the spread of the others
FEWER, SPREAD = 5.0, 3.5
# By what can be seen: less than this share of what is usually annotated
EXPLAINED = 0.25


def group_images(tables: Tables, facts: Mapping[int, Facts], least: int = 1) -> dict[int, list[int]]:
    """For each image, those of its size and cell type, itself included; all images where these are fewer than least."""
    groups: dict[Hashable, list[int]] = {}
    keys = {}
    for place in facts:
        entry = tables.images[place]
        kind = entry.get("cell_type", parse_name(tables.name(place)).get("cell_type", ""))
        keys[place] = str(kind).lower(), facts[place].size or image_size(entry)
        groups.setdefault(keys[place], []).append(place)
    everyone = list(facts)
    return {place: group if len(group := groups[keys[place]]) >= least else everyone for place in facts}


def check_counts(tables: Tables, facts: Mapping[int, Facts], details: Mapping[int, Detail], findings: Findings) -> None:
    """Find images with no or far too few annotations.

    Where cells stand out from the background, an image has too few when much less of what looks like a cell is
    annotated than in the others; a field with few cells has not. Else the numbers have to tell.
    """
    groups = group_images(tables, facts, ENOUGH)
    counts = {place: len(cells) for place, cells in tables.cells_of.items()}
    distinct = {id(group): group for group in groups.values()}
    judged = {key: _shares(group, details) for key, group in distinct.items()}
    for place, group in groups.items():
        name, count = tables.name(place), counts[place]
        if not count:
            findings.add("no_annotations", name, place, fixable=False)
            continue
        if len(group) < ENOUGH:
            continue
        shares, usual = judged[id(group)]
        numbers = np.array([counts[member] for member in group])
        if place in shares:
            if shares[place] < EXPLAINED * usual and count < np.median(numbers):
                text = f"{count} annotations on {shares[place]:.0%} of what looks like cells, usual are {usual:.0%}"
                findings.add("few_annotations", f"{name}: {text}", place, fixable=False)
        elif count < _low(numbers):
            text = f"{count} annotations, usual are {np.median(numbers):g}"
            findings.add("few_annotations", f"{name}: {text}", place, fixable=False)


def _shares(group: Sequence[int], details: Mapping[int, Detail]) -> tuple[dict[int, float], float]:
    """The annotated share of each image in which cells can be told, and the usual one."""
    known = explained_shares({place: details[place] for place in group if place in details})
    shares = {place: share for place, share in known.items() if not math.isnan(share)}
    if len(shares) < ENOUGH:
        return {}, math.nan
    return shares, float(np.median(list(shares.values())))


def _low(numbers: np.ndarray) -> float:
    """The number of annotations below which an image has too few; robust to a minority of such images."""
    logs = np.log(np.maximum(numbers, 1))
    middle = float(np.median(logs))
    spread = 1.4826 * float(np.median(np.abs(logs - middle)))
    return math.exp(middle - max(SPREAD * spread, math.log(FEWER)))
