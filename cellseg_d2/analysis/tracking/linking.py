"""Cells of one frame and the next that are the same cell: by overlap and distance, over gaps, and through divisions."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .assignment import assign
from .detections import Detections, detections_of, near_pairs
from .divisions import find_divisions
from .tracks import Tracks, tracks_of

__all__ = ["CUTOFF", "costs", "link", "prepared"]

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
    cells, reach = prepared(frames, max_distance, max_gap)
    successor = np.full(len(cells), -1, dtype=np.int64)
    if len(cells):
        _link_frames(cells, reach, successor)
        _close_gaps(cells, reach, max_gap, successor)
    mothers = find_divisions(cells, successor, reach, max_gap) if divisions and len(cells) else {}
    return tracks_of(cells, successor, mothers, reach)


def prepared(
    frames: Sequence[Sequence[Mapping[str, Any]]], max_distance: float | None, max_gap: int
) -> tuple[Detections, float]:
    """The cells of a film, and the largest distance in pixels that they move from a frame to the next.

    Args and errors as of :func:`link`.
    """
    if max_distance is not None and not 0 < max_distance < np.inf:
        raise ValueError(f"max_distance is a number of pixels above 0, or None, not {max_distance!r}")
    if max_gap < 0:
        raise ValueError(f"max_gap is a number of frames, 0 or more, not {max_gap!r}")
    cells = detections_of(frames)
    return cells, REACH * cells.diameter if max_distance is None else float(max_distance)


def costs(
    cells: Detections, first: np.ndarray, second: np.ndarray, lag: int, reach: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What links of cells to cells ``lag`` frames later cost: 0 of the same mask at the same place in the next frame.

    Args:
        first, second: (A,) and (B,) int64 ascending places in ``cells``.
        reach: pixels, largest distance of a link from a frame to the next.

    Returns:
        Of the P pairs that are near enough, by the first, then by the second: (P,) int64 places of both, (P,) float64.
    """
    limit = reach * np.sqrt(lag)
    pairs = near_pairs(cells, first, second, lag, limit)
    return pairs.first, pairs.second, 1 - pairs.iou + pairs.distance / limit + MISSED * (lag - 1)


def _link_frames(cells: Detections, reach: float, successor: np.ndarray) -> None:
    """Links between frames that follow each other, each such pair of frames on its own."""
    everything = np.arange(len(cells))
    first, second, cost = costs(cells, everything, everything, 1, reach)
    starts = np.searchsorted(cells.frame[first], np.arange(cells.frames + 1))
    for begin, end in zip(starts[:-1], starts[1:]):
        chosen = begin + assign(first[begin:end], second[begin:end], cost[begin:end], CUTOFF)
        successor[first[chosen]] = second[chosen]


def _close_gaps(cells: Detections, reach: float, max_gap: int, successor: np.ndarray) -> None:
    """Links from where tracks end to where others start some frames later."""
    ends = np.flatnonzero(successor < 0)
    starts = np.setdiff1d(np.arange(len(cells)), successor)
    found = [costs(cells, ends, starts, lag, reach) for lag in range(2, max_gap + 2)]
    if found:
        first, second, cost = map(np.concatenate, zip(*found))
        chosen = assign(first, second, cost, CUTOFF)
        successor[first[chosen]] = second[chosen]
