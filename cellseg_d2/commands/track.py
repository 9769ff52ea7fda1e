"""The part of a prediction run that follows cells over time, and what is written anew."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from ..analysis.tracking import (
    LINKERS,
    Doubling,
    Tracks,
    frames_table,
    growth,
    link_by_trackastra,
    load_trackastra,
    numbered_from,
    plot_growth,
    tracked,
    write_tracks,
)
from ..files import finite_or_none, write_json
from ..inference.reading.reader import open_image
from ..inference.records import FrameCells
from ..inference.runs.outputs import TRACKS, OutputOptions, write_file_outputs, write_frame_outputs
from ..inference.runs.parts import Part, write_part
from ..inference.runs.worker import RunOptions, output_errors
from .films import Film, images_of

__all__ = ["TRACKERS", "Followed", "Linker", "follow", "make_linker"]

TRACKERS = (*LINKERS, "trackastra")
# The cells of a film's frames, and what reads its images, to tracks
Linker = Callable[[Sequence[Sequence[Mapping]], Callable[[], list[np.ndarray]]], Tracks]


@dataclass(frozen=True)
class Followed:
    """A film's tracks, and the growth of "count" and "confluence"; or why it could not be followed."""

    film: Film
    tracks: Tracks | None = None
    fits: Mapping[str, Doubling] = field(default_factory=dict)
    error: str = ""


def make_linker(tracker: str, options: RunOptions, model: str | None = None) -> Linker:
    """What follows cells.

    Args:
        tracker: of :data:`TRACKERS`.
        model: see :func:`~cellseg_d2.analysis.tracking.load_trackastra`.

    Raises:
        TrackastraError: it is not installed, or has no such model.
    """
    if tracker == "trackastra":
        device, overlap = options.model.device, options.outputs.overlap
        network = load_trackastra(model, device and device.partition(":")[0])
        return lambda frames, images: link_by_trackastra(frames, images(), network, overlap=overlap)
    return lambda frames, images: LINKERS[tracker](frames)


def follow(parts: Sequence[Part], films: Sequence[Film], options: RunOptions, linker: Linker) -> list[Followed]:
    """Link the cells of films, write every output of their files again with ``track_id``, and how the cells multiply.

    Tracks are numbered on from film to film of one stack, as its label image has them all.

    Args:
        linker: of :func:`make_linker`.

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
        images = partial(images_of, parts, film, options.images)
        try:
            tracks = numbered_from(linker([result.cells for result in before], images), first)
        except (ValueError, OSError) as error:
            found.append(Followed(film, error=str(error)))
            continue
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
