"""Cells of one frame and the next that are the same cell: by overlap and distance, over gaps, and through divisions."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .assignment import assign
from .detections import Detections, Pairs, detections_of, near_pairs
from .divisions import find_divisions
from .tracks import Tracks, tracks_of

__all__ = ["link"]

REACH = 1.0  # median equivalent diameters: the largest distance where none is given
CUTOFF = 2.0  # cost of no link: what masks without overlap cost at the largest distance
MISSED = 0.1  # cost of each frame that a link leaps over


def link(
    frames: Sequence[Sequence[Mapping[str, Any]]],
    *,
    max_distance: float | None = None,
    max_gap: int = 2,
    divisions: bool = True,
) -> Tracks:
    """Follow cells through a film.

    Three linear assignments as in Jaqaman et al. (2008), none of which depends on the order of the cells in a frame:
    links from frame to frame; links from the ends to the starts of tracks over frames in which a cell was not found;
    and starts that are a second daughter (:func:`.divisions.division_cost`). A link costs 1 - IoU of the masks plus the
    distance of the centres over its limit: ``max_distance`` x the square root of the frames passed, as cells wander.

    Args:
        frames: of each frame its cells, COCO results with ``bbox``, ``score`` and ``segmentation``: compressed run
            lengths of one size for all frames. A frame may have no cells.
        max_distance: pixels that the centre of a cell moves from a frame to the next at most; None: the median
            equivalent diameter of all cells.
        max_gap: frames in a row in which a cell may be missing; 0: every gap ends a track.
        divisions: look for daughters; their mother's track ends before them.

    Raises:
        ValueError: a distance that is not positive, or a gap below 0.
        DatasetError: a cell without a usable mask; see :func:`.detections.detections_of`.
    """
    if max_distance is not None and not 0 < max_distance < np.inf:
        raise ValueError(f"max_distance is a number of pixels above 0, or None, not {max_distance!r}")
    if max_gap < 0:
        raise ValueError(f"max_gap is a number of frames, 0 or more, not {max_gap!r}")
    cells = detections_of(frames)
    reach = REACH * cells.diameter if max_distance is None else float(max_distance)
    successor = np.full(len(cells), -1, dtype=np.int64)
    if len(cells):
        _link_frames(cells, reach, successor)
        _close_gaps(cells, reach, max_gap, successor)
    mothers = find_divisions(cells, successor, reach, max_gap) if divisions and len(cells) else {}
    return tracks_of(cells, successor, mothers, reach)


def _link_frames(cells: Detections, reach: float, successor: np.ndarray) -> None:
    """Links between frames that follow each other, each such pair of frames on its own."""
    everything = np.arange(len(cells))
    pairs = near_pairs(cells, everything, everything, 1, reach)
    cost = _cost(pairs, reach)
    starts = np.searchsorted(cells.frame[pairs.first], np.arange(cells.frames + 1))
    for begin, end in zip(starts[:-1], starts[1:]):
        chosen = begin + assign(pairs.first[begin:end], pairs.second[begin:end], cost[begin:end], CUTOFF)
        successor[pairs.first[chosen]] = pairs.second[chosen]


def _close_gaps(cells: Detections, reach: float, max_gap: int, successor: np.ndarray) -> None:
    """Links from where tracks end to where others start some frames later."""
    ends = np.flatnonzero(successor < 0)
    starts = np.setdiff1d(np.arange(len(cells)), successor)
    found = []
    for lag in range(2, max_gap + 2):
        limit = reach * np.sqrt(lag)
        pairs = near_pairs(cells, ends, starts, lag, limit)
        found.append((pairs.first, pairs.second, _cost(pairs, limit) + MISSED * (lag - 1)))
    if found:
        first, second, cost = map(np.concatenate, zip(*found))
        chosen = assign(first, second, cost, CUTOFF)
        successor[first[chosen]] = second[chosen]


def _cost(pairs: Pairs, limit: float) -> np.ndarray:
    """(P,) 0 of the same mask at the same place to 2."""
    return 1 - pairs.iou + pairs.distance / limit
