"""Files of followed cells: tables as CSV, and masks and tracks as the Cell Tracking Challenge wants them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ...data.label_maps import rasterise
from ...files import atomic_write
from ...inference.records import FrameCells
from ...inference.writers.images import write_label_array
from .lineage import frames_table, lineage_table, points_table
from .tracks import Tracks, require_same

__all__ = ["write_ctc", "write_tracks"]


def write_tracks(output_dir: str | Path, results: Sequence[FrameCells], tracks: Tracks) -> dict[str, Path]:
    """Write ``tracks.csv``, ``lineage.csv``, ``frames.csv`` (see :mod:`.lineage`) and ``res_track.txt``.

    ``res_track.txt`` has a line "L B E P" a track: id, first frame, last frame (from 0), mother's id or 0, the labels
    being the ``track_id``. A track may be missing in frames between; where a program insists on tracks without gaps,
    give it what :func:`write_ctc` writes.

    Returns:
        name -> the file, each moved into place when complete.

    Raises:
        ValueError: the tracks are of another film.
        DatasetError: a cell without a usable mask.
    """
    folder = Path(output_dir)
    tables = {
        "tracks.csv": points_table(results, tracks),
        "lineage.csv": lineage_table(tracks),
        "frames.csv": frames_table(results),
    }
    written = {name: _write_csv(folder / name, table) for name, table in tables.items()}
    return written | {"res_track.txt": _write_lines(folder / "res_track.txt", tracks.table)}


def write_ctc(output_dir: str | Path, results: Sequence[FrameCells], tracks: Tracks) -> Path:
    """Write a result folder of the Cell Tracking Challenge: ``mask000.tif`` ... and ``res_track.txt``.

    A pixel belongs to one cell: where cells overlap the smaller is on top. The Challenge knows no gaps: after one, a
    track goes on under a new label (above all track ids), with its label before as its parent.

    Returns:
        The folder.

    Raises:
        ValueError: the tracks are of another film.
    """
    require_same(results, tracks)
    folder, parents = Path(output_dir), dict(tracks.table[:, [0, 3]].tolist())
    pieces: list[list[int]] = []  # label, first, last, parent
    latest: dict[int, list[int]] = {}  # track -> its piece
    free, digits = max(parents, default=0) + 1, max(3, len(str(len(results) - 1)))
    for t, (result, ids) in enumerate(zip(results, tracks.ids)):
        painted = rasterise(result.cells, *result.frame.size)
        labels = np.zeros(len(ids) + 1, dtype=np.int64)
        for place in np.unique(painted[painted > 0]).tolist():
            track = int(ids[place - 1])
            before = latest.get(track)
            if before is None or before[2] < t - 1:
                mother = before or latest.get(parents[track])
                latest[track] = [track if before is None else free, t, t, mother[0] if mother else 0]
                pieces.append(latest[track])
                free += before is not None
            latest[track][2], labels[place] = t, latest[track][0]
        write_label_array(folder / f"mask{t:0{digits}d}.tif", labels[painted])
    _write_lines(folder / "res_track.txt", np.array(pieces, dtype=np.int64).reshape(-1, 4))
    return folder


def _write_csv(path: Path, table: pd.DataFrame) -> Path:
    text = table.to_csv(index=False, float_format="%.6g", lineterminator="\n")
    return atomic_write(path, lambda stream: stream.write(text.encode("utf-8")))


def _write_lines(path: Path, rows: np.ndarray) -> Path:
    text = "".join(" ".join(map(str, row)) + "\n" for row in rows.tolist())
    return atomic_write(path, lambda stream: stream.write(text.encode("ascii")))
