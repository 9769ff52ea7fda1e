"""The part of a prediction run that follows cells over time: what belongs to one film, and what is written anew."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path

import pandas as pd

from ..analysis.tracking import (
    LINKERS,
    Doubling,
    Tracks,
    frames_table,
    growth,
    plot_growth,
    tracked,
    write_tracks,
)
from ..files import finite_or_none, write_json
from ..inference.collect import parts_of
from ..inference.outputs import OutputOptions, write_file_outputs, write_frame_outputs
from ..inference.parts import Job, Part, write_part
from ..inference.reader import open_image
from ..inference.records import FrameCells
from ..inference.sources import natural
from ..inference.worker import RunOptions, output_errors

__all__ = ["TRACKS", "Film", "films", "track_film"]

TRACKS = "tracks"


@dataclass(frozen=True)
class Film:
    """Frames in the order of time: of one stack (one depth, one position), or the images of one folder.

    Attributes:
        name: of its outputs.
        parts: the files, each once.
        frames: of each frame the place of its file in ``parts``, and its place in that file.
    """

    name: str
    parts: tuple[Part, ...]
    frames: tuple[tuple[int, int], ...]


def films(jobs: Sequence[Job], output: Path) -> Iterator[Film]:
    """The films among images that were predicted: stacks with a time axis; and folders of single images, in the order
    of the numbers in their names. Single frames that are alone are none."""
    folders: dict[Path, list[Part]] = defaultdict(list)
    for part in parts_of(jobs, output):
        if part.error:
            continue
        if len(part.results) == 1:
            folders[part.job.path.resolve().parent].append(part)
            continue
        planes: dict[tuple, list[tuple[int, int]]] = defaultdict(list)
        for number, result in enumerate(part.results):
            planes[tuple((axis, at) for axis, at in result.frame.place.items() if axis != "t")].append((0, number))
        for plane, frames in planes.items():
            if "t" in part.results[0].frame.place:
                yield Film("_".join([part.job.name, *(f"{axis}{at}" for axis, at in plane)]), (part,), tuple(frames))
    taken = {job.name for job in jobs}
    for folder, parts in folders.items():
        parts.sort(key=lambda part: natural(part.job.path.name))
        if len(parts) > 1:
            name = next(name for name in _names(folder) if name not in taken)
            taken.add(name)
            yield Film(name, tuple(parts), tuple((number, 0) for number in range(len(parts))))


def _names(folder: Path) -> Iterator[str]:
    """The folder's name, then with that of the folder above it, then with numbers."""
    yield folder.name
    longer = f"{folder.parent.name}_{folder.name}"
    yield longer
    yield from (f"{longer}-{number}" for number in count(2))


def track_film(film: Film, options: RunOptions, linker: str = "overlap") -> tuple[Tracks, dict[str, Doubling]]:
    """Link the cells of a film, write every output again with their ``track_id``, and how the cells multiply.

    Args:
        linker: of :data:`~cellseg_d2.analysis.tracking.LINKERS`.

    Returns:
        The tracks, and the growth of "count" and "confluence".

    Raises:
        OutputError: a result cannot be written.
    """
    before = [film.parts[file].results[number] for file, number in film.frames]
    tracks = LINKERS[linker]([result.cells for result in before])
    after = dict(zip(film.frames, tracked(before, tracks)))
    with output_errors(options.outputs.folder):
        for file, part in enumerate(film.parts):
            results = [after.get((file, number), result) for number, result in enumerate(part.results)]
            tables = [_with_tracks(table, result) for table, result in zip(part.tables, results)]
            write_file_outputs(results, part.job.name, options.outputs)
            _draw(part, results, options)
            write_part(options.outputs.folder, replace(part, results=results, tables=tables))
        folder = options.outputs.folder / TRACKS / film.name
        write_tracks(folder, list(after.values()), tracks)
        return tracks, _write_growth(folder, before)


def _write_growth(folder: Path, results: Sequence[FrameCells]) -> dict[str, Doubling]:
    """Write ``growth.json``, what was fitted to counts and confluence, and ``growth.png``; returns the fits."""
    table = frames_table(results)
    fits = growth(table)
    write_json(folder / "growth.json", finite_or_none({name: asdict(fit) for name, fit in fits.items()}), indent=1)
    plot_growth(folder / "growth.png", table, fits)
    return fits


def _with_tracks(table: pd.DataFrame, result: FrameCells) -> pd.DataFrame:
    """The measurements with ``track_id`` behind ``id``."""
    table = table.drop(columns="track_id", errors="ignore")
    if any("track_id" not in cell for cell in result.cells):
        return table
    table.insert(table.columns.get_loc("id") + 1, "track_id", [cell["track_id"] for cell in result.cells])
    return table.astype({"track_id": "int64"})


def _draw(part: Part, results: Sequence[FrameCells], options: RunOptions) -> None:
    """Overlays in the colours of the tracks; their frames are read again."""
    if "overlay" not in options.outputs.save:
        return
    only = OutputOptions(options.outputs.folder, ("overlay",))
    frames = open_image(part.job.path, axes=options.images.axes).frames(part.job.name)
    for frame, result in zip(frames, results):
        write_frame_outputs(replace(result, frame=frame), only)
