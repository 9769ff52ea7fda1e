"""Cells linked by LapTrack (Fukai and Kawaguchi 2023), which takes the costs of our own links."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .detections import Detections
from .divisions import SPREAD
from .linking import CUTOFF, costs, prepared
from .tracks import Tracks, tracks_of

__all__ = ["link_by_laptrack"]

SPLIT_CUTOFF = 1 + 1 / SPREAD  # a daughter overlaps her mother, or is nearer to her than that distance
Metric = Callable[[np.ndarray, np.ndarray], float]


def link_by_laptrack(
    frames: Sequence[Sequence[Mapping[str, Any]]],
    *,
    max_distance: float | None = None,
    max_gap: int = 2,
    divisions: bool = True,
) -> Tracks:
    """Follow cells through a film as :func:`.linking.link` does, but by LapTrack's assignment.

    A link costs what it costs there, also over a gap. A division differs: LapTrack looks at one daughter at a time, so
    that all a second daughter has to show is a place at her mother's in the frame before: 1 - IoU with the mother plus
    the distance over twice its limit, at most 1.5. Sizes do not count, and so a small cell that appears close beside
    another may pass for its daughter; a second daughter or a mother that was missed at the division is not found.

    LapTrack asks for the cost of all pairs of cells of two frames one by one, so that time grows with the square of
    their number: two frames of 200, 500 and 1000 cells take 0.3, 1.1 and 2.3 s of a core, ten frames 0.8, 3.6 and 12 s
    (:func:`.linking.link`: 0.03 s for two and 0.2 s for ten frames of 1000).

    Args, order of the tracks and errors: as of :func:`.linking.link`.
    """
    cells, reach = prepared(frames, max_distance, max_gap)
    nothing = np.zeros(0, dtype=np.int64), {}
    successor, mothers = _solve(cells, reach, max_gap, divisions) if len(cells) else nothing
    return tracks_of(cells, successor, mothers, reach)


def _solve(cells: Detections, reach: float, max_gap: int, divisions: bool) -> tuple[np.ndarray, dict[int, int]]:
    """(N,) int64, the cell that each one becomes, or -1, and second daughter -> mother."""
    from laptrack import LapTrack  # here, as its import takes seconds and nothing else needs it

    own = np.arange(len(cells))
    linked = [costs(cells, own, own, lag, reach) for lag in range(1, max_gap + 2)]
    metric = _looked_up(*map(np.concatenate, zip(*linked)), len(cells), CUTOFF)
    mother, daughter, cost = costs(cells, own, own, 1, SPREAD * reach)
    alone = ("track_start_cost", "track_end_cost", "segment_start_cost", "segment_end_cost", "no_splitting_cost")
    tracker = LapTrack(
        metric=metric,
        cutoff=CUTOFF,
        gap_closing_metric=metric,
        gap_closing_cutoff=CUTOFF if max_gap else False,
        gap_closing_max_frame_count=max_gap + 1,
        splitting_metric=_looked_up(daughter, mother, cost, len(cells), SPLIT_CUTOFF),
        splitting_cutoff=SPLIT_CUTOFF if divisions else False,
        merging_cutoff=False,
        **dict.fromkeys(alone, CUTOFF),
    )
    starts = np.searchsorted(cells.frame, np.arange(cells.frames + 1))
    tree = tracker.predict([own[begin:end, None].astype(np.float64) for begin, end in zip(starts[:-1], starts[1:])])
    successor, mothers = np.full(len(cells), -1, dtype=np.int64), {}
    for frame, place in tree.nodes:
        after = sorted(int(starts[t] + k) for t, k in tree.successors((frame, place)))
        successor[starts[frame] + place] = after[0] if after else -1
        mothers.update(dict.fromkeys(after[1:], int(starts[frame] + place)))
    return successor, mothers


def _looked_up(first: np.ndarray, second: np.ndarray, cost: np.ndarray, count: int, cutoff: float) -> Metric:
    """The cost of two of ``count`` cells, each given by its place as (1,) float64; infinite where it is not listed."""
    near = cost < cutoff
    table = dict(zip((float(count) * first[near] + second[near]).tolist(), cost[near].tolist()))
    return lambda one, other: table.get(count * one.item(0) + other.item(0), np.inf)
