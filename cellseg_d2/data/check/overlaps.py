"""Pairs of outlines of one image that lie on each other: one cell twice, or one inside of another."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from pycocotools import mask as mask_util

from .findings import Findings
from .outlines import Outline
from .tables import Tables

__all__ = ["Pair", "check_overlaps", "overlapping_pairs"]

DUPLICATE = 0.9  # IoU from which on two outlines are one cell
NESTED = 0.95  # share of the smaller one that lies inside of the larger one ...
LARGER = 2.0  # ... which has at least this many times its pixels
_ROWS = 1000  # outlines compared with all others at once: 8 bytes a pair


class Pair(NamedTuple):
    """Two overlapping outlines, ``first < second``, with their IoU and the share of the smaller one in the other."""

    first: int
    second: int
    iou: float
    inside: float


def check_overlaps(tables: Tables, image: int, outlines: Sequence[Outline], findings: Findings) -> None:
    """Find cells of an image that are outlined twice, and cells inside of others."""
    doubled: set[int] = set()
    pairs = list(overlapping_pairs(outlines))
    for pair in pairs:
        first, second = outlines[pair.first].place, outlines[pair.second].place
        if pair.iou < DUPLICATE or doubled & {pair.first, pair.second}:
            continue
        classes = {tables.annotations[place].get("category_id") for place in (first, second)}
        where = f"{_both(tables, image, first, second)}, IoU {pair.iou:.2f}" + ", two classes" * (len(classes) > 1)
        if len(classes) == 1:
            doubled.add(pair.second)
        findings.add("duplicate_contours", where, image, (first, second), fixable=len(classes) == 1)
    for pair in pairs:
        sizes = sorted(((outlines[k].pixels, outlines[k].place) for k in pair[:2]), reverse=True)
        (large, outer), (small, inner) = sizes
        if pair.inside >= NESTED and large >= LARGER * small and not doubled & {pair.first, pair.second}:
            where = (
                f"{_both(tables, image, inner, outer)}, {pair.inside:.0%} inside, {large / small:.1f} times its size"
            )
            findings.add("nested_contours", where, image, (outer, inner), fixable=False)


def overlapping_pairs(outlines: Sequence[Outline]) -> Iterator[Pair]:
    """The pairs of which at least ``NESTED`` of the smaller one is in the other, or whose IoU is ``DUPLICATE``.

    Boxes are compared first, run lengths only where these overlap; nothing is decoded.

    Args:
        outlines: with a mask of at least one pixel each.
    """
    rles = [outline.rle for outline in outlines]
    pixels = np.array([outline.pixels for outline in outlines])
    for begin in range(0, len(rles), _ROWS):
        rows = rles[begin : begin + _ROWS]
        # for crowds, COCO's "IoU" is the share of the first mask that lies in the second
        share = np.asarray(mask_util.iou(rows, rles, np.ones(len(rles), dtype=np.uint8)))
        first, second = np.nonzero(share)
        first, second = first[first + begin < second], second[first + begin < second]
        common = share[first, second] * pixels[first + begin]
        smaller = np.minimum(pixels[first + begin], pixels[second])
        iou = common / (pixels[first + begin] + pixels[second] - common)
        chosen = (common >= NESTED * smaller) | (iou >= DUPLICATE)
        columns = first[chosen] + begin, second[chosen], iou[chosen], (common / smaller)[chosen]
        yield from map(Pair._make, zip(*(column.tolist() for column in columns)))


def _both(tables: Tables, image: int, one: int, two: int) -> str:
    """Two annotations of an image, for people."""
    ids = [tables.annotations[place].get("id") for place in (one, two)]
    return f"annotations {ids[0]!r} and {ids[1]!r} in {tables.name(image)}"
