"""What followed cells are measured by: a table of track points, one of the lineage and one of the frames."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd

from ...inference.records import FrameCells
from .detections import Detections, detections_of
from .tracks import Tracks, require_same

__all__ = ["frames_table", "lineage_table", "points_table"]

FRAME_COLUMNS = [
    "t", "image", "time_s", "time_h", "count", "confluence", "area_median_px", "area_mean_px", "area_median_um2",
    "area_mean_um2",
]  # fmt: skip


def points_table(results: Sequence[FrameCells], tracks: Tracks) -> pd.DataFrame:
    """A row a track point, by track, then by frame.

    ``track_id``, ``t`` (frame from 0), ``image`` (name of the frame), ``cell`` (its ``id`` where it has one, else its
    place in the frame from 1), ``x_px``, ``y_px`` (mean of the mask's pixels, the first pixel being 0), ``area_px``,
    and, NaN where the file does not say, ``time_s``, ``time_h``, ``x_um``, ``y_um``, ``area_um2``.

    Raises:
        ValueError: the tracks are of another film.
        DatasetError: a cell without a usable mask.
    """
    require_same(results, tracks)
    cells = detections_of([result.cells for result in results])
    seconds, side = _seconds(results)[cells.frame], _pixel_sizes(results)[cells.frame]
    origin = list(zip(cells.frame.tolist(), cells.place.tolist()))
    columns = {
        "track_id": np.array([tracks.ids[t][k] for t, k in origin], dtype=np.int64),
        "t": cells.frame,
        "image": [results[t].frame.name for t, _ in origin],
        "cell": [results[t].cells[k].get("id", k + 1) for t, k in origin],
        "x_px": cells.centre[:, 0],
        "y_px": cells.centre[:, 1],
        "area_px": cells.area,
        "time_s": seconds,
        "time_h": seconds / 3600,
        "x_um": cells.centre[:, 0] * side,
        "y_um": cells.centre[:, 1] * side,
        "area_um2": cells.area * side**2,
    }
    return pd.DataFrame(columns).sort_values(["track_id", "t"], ignore_index=True)


def lineage_table(tracks: Tracks) -> pd.DataFrame:
    """A row a track.

    ``track_id``, ``first``, ``last`` (frames from 0), ``parent`` (0: none), ``generation`` (0 of tracks without a
    mother), ``founder`` (the first ancestor), ``length`` (frames from first to last), ``found`` (frames with the cell).
    """
    table = pd.DataFrame(tracks.table, columns=["track_id", "first", "last", "parent"])
    line: dict[int, tuple[int, int]] = {}  # generation and founder
    for track_id, parent in zip(table["track_id"].tolist(), table["parent"].tolist()):  # mothers come before daughters
        line[track_id] = (line[parent][0] + 1, line[parent][1]) if parent else (0, track_id)
    generation, founder = np.array(list(line.values()), dtype=np.int64).reshape(-1, 2).T
    found = Counter(np.concatenate([np.zeros(0, dtype=np.int64), *tracks.ids]).tolist())
    length = table["last"] - table["first"] + 1
    counts = np.array([found[track_id] for track_id in line], dtype=np.int64)
    return table.assign(generation=generation, founder=founder, length=length, found=counts)


def frames_table(results: Sequence[FrameCells]) -> pd.DataFrame:
    """A row a frame; tracks are not needed.

    ``t`` (from 0), ``image``, ``time_s``, ``time_h`` (NaN where the file does not say), ``count``, ``confluence``
    (share of the pixels that are in any cell), ``area_median_px``, ``area_mean_px`` (NaN without cells), and
    ``area_median_um2``, ``area_mean_um2`` (NaN where the size of a pixel is not known, too).

    Raises:
        DatasetError: a cell without a usable mask.
    """
    cells = detections_of([result.cells for result in results])
    seconds, side = _seconds(results), _pixel_sizes(results)
    starts = np.searchsorted(cells.frame, np.arange(len(results) + 1))
    rows = []
    for t, result in enumerate(results):
        own = slice(starts[t], starts[t + 1])
        areas, (height, width) = cells.area[own], result.frame.size
        median, mean = (float(np.median(areas)), float(areas.mean())) if len(areas) else (np.nan, np.nan)
        rows.append({
            "t": t, "image": result.frame.name, "time_s": seconds[t], "time_h": seconds[t] / 3600, "count": len(areas),
            "confluence": _covered(cells, own) / (height * width), "area_median_px": median, "area_mean_px": mean,
            "area_median_um2": median * side[t] ** 2, "area_mean_um2": mean * side[t] ** 2,
        })  # fmt: skip
    return pd.DataFrame(rows, columns=FRAME_COLUMNS)


def _covered(cells: Detections, own: slice) -> int:
    """Pixels in the union of masks."""
    first, last = cells.masks.offsets[own.start], cells.masks.offsets[own.stop]
    begin, end = (side[first:last].astype(np.int64) for side in (cells.masks.begin, cells.masks.end))
    order = np.argsort(begin, kind="stable")
    until = np.maximum.accumulate(np.concatenate([[0], end[order]]))
    return int(np.maximum(until[1:] - np.maximum(until[:-1], begin[order]), 0).sum())


def _seconds(results: Sequence[FrameCells]) -> np.ndarray:
    """(T,) float64 time of each frame; by its place on the file's time axis where those ascend; NaN where unknown."""
    places = [result.frame.place.get("t", -1) for result in results]
    ascends = all(place >= 0 for place in places) and all(a < b for a, b in zip(places[:-1], places[1:]))
    steps = np.array(places if ascends else range(len(results)), dtype=np.float64)
    return steps * np.array([result.frame.interval or np.nan for result in results], dtype=np.float64)


def _pixel_sizes(results: Sequence[FrameCells]) -> np.ndarray:
    """(T,) float64 micrometres, NaN where unknown."""
    return np.array([result.frame.pixel_size or np.nan for result in results], dtype=np.float64)
