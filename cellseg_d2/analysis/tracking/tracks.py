"""Tracks: which cells of a film are one and the same, and which are daughters of another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...inference.records import FrameCells
from .detections import Detections

__all__ = ["Tracks", "require_same", "tracked", "tracks_of"]


@dataclass(frozen=True)
class Tracks:
    """The tracks of a film.

    Attributes:
        ids: of each frame (n,) int64: the track of each of its cells, from 1, in the order in which the cells came.
        table: (K, 4) int64, the tracks by id 1..K: id, first frame, last frame (from 0), and the id of the mother or 0;
            the columns L B E P of the Cell Tracking Challenge. A track may be missing in frames between.
        max_distance: pixels, as it was given or chosen.
    """

    ids: tuple[np.ndarray, ...]
    table: np.ndarray
    max_distance: float

    def __len__(self) -> int:
        return len(self.table)

    def daughters(self, track_id: int) -> list[int]:
        """Ids of the tracks whose mother this is."""
        return self.table[self.table[:, 3] == track_id, 0].tolist()


def tracks_of(cells: Detections, successor: np.ndarray, mothers: Mapping[int, int], max_distance: float) -> Tracks:
    """Number the tracks by first frame, then by place in the image.

    Args:
        successor: (N,) int64, the cell that each cell becomes, or -1.
        mothers: second daughter -> mother; the mother's successor is the first daughter. All places in ``cells``.
    """
    mother_of = {**mothers, **{int(successor[mother]): mother for mother in mothers.values()}}
    before = np.full(len(cells), -1, dtype=np.int64)
    before[successor[successor >= 0]] = np.flatnonzero(successor >= 0)
    before[list(mother_of)] = -1
    track, rows = np.zeros(len(cells), dtype=np.int64), []
    for cell in range(len(cells)):  # by frame: what a cell was is numbered before it
        if before[cell] >= 0:
            track[cell] = track[before[cell]]
            rows[track[cell] - 1][2] = cells.frame[cell]
            continue
        track[cell] = len(rows) + 1
        parent = track[mother_of[cell]] if cell in mother_of else 0
        rows.append([track[cell], cells.frame[cell], cells.frame[cell], parent])
    starts = np.searchsorted(cells.frame, np.arange(cells.frames + 1))
    came = track[np.lexsort((cells.place, cells.frame))]
    ids = tuple(came[begin:end] for begin, end in zip(starts[:-1], starts[1:]))
    return Tracks(ids, np.array(rows, dtype=np.int64).reshape(-1, 4), max_distance)


def numbered_from(tracks: Tracks, first: int) -> Tracks:
    """The same tracks with ids that follow ``first``: 1 becomes ``first + 1``."""
    table = tracks.table.copy()
    table[:, 0] += first
    table[table[:, 3] > 0, 3] += first
    return replace(tracks, ids=tuple(ids + first for ids in tracks.ids), table=table)


def tracked(results: Sequence[FrameCells], tracks: Tracks) -> list[FrameCells]:
    """The same frames with ``track_id`` in every cell; what came is left as it is.

    Raises:
        ValueError: the tracks are of another film.
    """
    require_same(results, tracks)
    return [
        replace(result, cells=[{**cell, "track_id": int(track)} for cell, track in zip(result.cells, ids)])
        for result, ids in zip(results, tracks.ids)
    ]


def require_same(results: Sequence[FrameCells], tracks: Tracks) -> None:
    """The tracks have as many frames, and cells in each, as the results."""
    ours, theirs = [len(result.cells) for result in results], [len(ids) for ids in tracks.ids]
    if ours != theirs:
        raise ValueError(f"these tracks are of another film: it has {theirs} cells a frame, the results have {ours}")
