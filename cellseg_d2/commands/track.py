"""The part of a prediction run that follows cells over time: what belongs to one film, and what is written anew."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain, count
from pathlib import Path

import pandas as pd

from ..analysis.tracking import (
    LINKERS,
    Doubling,
    Tracks,
    frames_table,
    growth,
    numbered_from,
    plot_growth,
    tracked,
    write_tracks,
)
from ..files import finite_or_none, write_json
from ..inference.reading.reader import open_image
from ..inference.reading.sources import natural
from ..inference.records import FrameCells
from ..inference.runs.collect import parts_of
from ..inference.runs.outputs import TRACKS, OutputOptions, write_file_outputs, write_frame_outputs
from ..inference.runs.parts import Job, Part, write_part
from ..inference.runs.worker import RunOptions, output_errors

__all__ = ["Film", "Followed", "follow", "groups"]


@dataclass(frozen=True)
class Film:
    """Frames in the order of time: of one stack (one depth, one position), or the images of one folder.

    Attributes:
        name: of its outputs.
        frames: of each frame the place of its file in the group, and its place in that file.
    """

    name: str
    frames: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Followed:
    """A film's tracks, and the growth of "count" and "confluence"; or why it could not be followed."""

    film: Film
    tracks: Tracks | None = None
    fits: Mapping[str, Doubling] = field(default_factory=dict)
    error: str = ""


def groups(jobs: Sequence[Job], output: Path) -> Iterator[tuple[list[Part], list[Film]]]:
    """Files whose cells are followed together, and the films in them.

    A stack with a time axis has a film for each depth and position. Single images of one folder are one, in the order
    of the numbers in their names; one that is alone is none.
    """
    folders: dict[Path, list[Part]] = defaultdict(list)
    taken: set[str] = set()
    for part in parts_of(jobs, output):
        if part.error:
            continue
        if len(part.results) == 1:
            folders[part.job.path.absolute().parent].append(part)
        elif "t" in part.results[0].frame.place:
            yield [part], _films_of_stack(part, taken)
    for folder, parts in folders.items():
        if len(parts) > 1:
            parts.sort(key=lambda part: natural(part.job.path.name))
            frames = tuple((number, 0) for number in range(len(parts)))
            yield parts, [Film(_name((folder.name, f"{folder.parent.name}_{folder.name}"), taken), frames)]


def _films_of_stack(part: Part, taken: set[str]) -> list[Film]:
    planes: dict[tuple, list[tuple[int, int]]] = defaultdict(list)
    for number, result in enumerate(part.results):
        planes[tuple((axis, at) for axis, at in result.frame.place.items() if axis != "t")].append((0, number))
    names = {plane: "_".join([part.job.name, *(f"{axis}{at}" for axis, at in plane)]) for plane in planes}
    return [Film(_name((names[plane],), taken), tuple(frames)) for plane, frames in planes.items()]


def _name(wanted: Sequence[str], taken: set[str]) -> str:
    """The first of some names that is free, else the last one with a number; it is taken then."""
    numbered = (f"{wanted[-1]}-{number}" for number in count(2))
    name = next(name for name in chain(wanted, numbered) if name.lower() not in taken)
    taken.add(name.lower())
    return name


def follow(parts: Sequence[Part], films: Sequence[Film], options: RunOptions, linker: str) -> list[Followed]:
    """Link the cells of films, write every output of their files again with ``track_id``, and how the cells multiply.

    Tracks are numbered on from film to film of one stack, as its label image has them all.

    Args:
        linker: of :data:`~cellseg_d2.analysis.tracking.LINKERS`.

    Raises:
        OutputError: a result cannot be written.
    """
    after: dict[tuple[int, int], FrameCells] = {}
    found, first = [], 0
    for film in films:
        before = [parts[file].results[number] for file, number in film.frames]
        if error := _unlike(before):
            found.append(Followed(film, error=error))
            continue
        tracks = numbered_from(LINKERS[linker]([result.cells for result in before]), first)
        first += len(tracks)
        results = tracked(before, tracks)
        after |= zip(film.frames, results)
        with output_errors(options.outputs.folder):
            folder = options.outputs.folder / TRACKS / film.name
            write_tracks(folder, results, tracks)
            found.append(Followed(film, tracks, _write_growth(folder, before)))
    if after:
        with output_errors(options.outputs.folder):
            for file, part in enumerate(parts):
                _write_again(part, [after.get((file, n), result) for n, result in enumerate(part.results)], options)
    return found


def _unlike(frames: Sequence[FrameCells]) -> str:
    """Why frames are no film; "" where they are one."""
    first = frames[0].frame
    other = next((each.frame for each in frames if each.frame.size != first.size), None)
    if other is None:
        return ""
    return (
        f"{first.path} has {first.size} pixels (height, width), {other.path} has {other.size}: images of one film have "
        "one size, put others into another folder"
    )


def _write_again(part: Part, results: Sequence[FrameCells], options: RunOptions) -> None:
    """A file's outputs with tracks."""
    tables = [_with_tracks(table, result) for table, result in zip(part.tables, results)]
    write_file_outputs(results, part.job.name, options.outputs)
    _draw(part, results, options)
    write_part(options.outputs.folder, replace(part, results=results, tables=tables))


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
        return table  # of a film that could not be followed
    table.insert(table.columns.get_loc("id") + 1, "track_id", [cell["track_id"] for cell in result.cells])
    return table.astype({"track_id": "int64"})


def _draw(part: Part, results: Sequence[FrameCells], options: RunOptions) -> None:
    """Overlays in the colours of the tracks; their frames are read again."""
    if "overlay" not in options.outputs.save:
        return
    only = OutputOptions(options.outputs.folder, ("overlay",))
    frames = open_image(part.job.path, axes=options.images.axes).frames(part.job.name)
    for frame, result in zip(frames, results):
        write_frame_outputs(replace(result, frame=frame), part.job.name, only)
