"""Open microscopes' own formats, ND2, CZI and LIF, through bioio."""

from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from .metadata import Source, micrometres, seconds
from .other_formats import optional
from .positions import Positions

__all__ = ["BIOIO_READERS", "open_bioio"]

# The package of bioio that reads each of these formats
BIOIO_READERS = {".nd2": "bioio_nd2", ".czi": "bioio_czi", ".lif": "bioio_lif"}
# What an ND2 file begins with, and what is at the end of a whole one, 8 bytes before the last
_ND2_BEGIN, _ND2_END = b"\xda\xce\xbe\n", b"ND2 CHUNK MAP SIGNATURE 0000001!"


class _WithoutOme:
    """Makes bioio's reader of ND2 files leave out the metadata of all frames, which it collects for each position."""

    @property
    def ome_metadata(self) -> Any:
        """Not there, in the way in which bioio's readers say so."""
        raise NotImplementedError


def open_bioio(path: Path) -> Source:
    """An ND2, CZI or LIF file.

    Raises:
        DatasetError: bioio's package for the format is not installed.
        ValueError: scenes of different shapes, or an ND2 file that was cut off.
    """
    kind = path.suffix.lower()
    opened = optional(BIOIO_READERS[kind], path).Reader
    if kind == ".nd2":
        _check_whole_nd2(path)
        opened = type("Reader", (_WithoutOme, opened), {})
    scenes = []
    for at, _ in enumerate(opened(path).scenes):
        reader = opened(path)  # each keeps its scene
        reader.set_scene(at)  # by number: positions may share a name
        scenes.append(reader)
    array, axes = Positions.joined([reader.dask_data for reader in scenes], [reader.dims.order for reader in scenes])
    first = scenes[0]
    names = tuple(str(name) for name in first.channel_names or ())
    known = {".nd2": _nd2_interval, ".lif": _lif_interval}.get(kind)
    interval = known(first) if known else first.time_interval
    interval = interval.total_seconds() if isinstance(interval, timedelta) else interval
    size = first.physical_pixel_sizes.X
    size = None if kind == ".nd2" and size == 1 else size  # what it says of images that are not calibrated
    return Source(array, axes, names, micrometres(size, "um"), seconds(interval, "s"))


def _check_whole_nd2(path: Path) -> None:
    """Raise a ValueError where an ND2 file has lost its end, which tells where its frames are."""
    with path.open("rb") as file:
        if file.read(4) == _ND2_BEGIN:
            file.seek(max(path.stat().st_size - 40, 0))
            if file.read(32) != _ND2_END:
                raise ValueError("cut off: the end of the file, which tells where its frames are, is not there")


def _nd2_interval(reader: Any) -> timedelta | float | None:
    """Median time from frame to frame as it was measured; the period that was asked for is often 0 or 1 ms."""
    times = {}
    for one in getattr(reader, "acquisition_times", None) or ():
        times.setdefault(one.get("T"), one["acquisition_time"])
    steps = [(b - a).total_seconds() for a, b in pairwise(times.values())] or [0.0]
    return round(median(steps), 4) or reader.time_interval


def _lif_interval(reader: Any) -> float | None:
    """Seconds from frame to frame of a LIF file, which bioio has as coordinates of its axis T only."""
    times = reader.xarray_dask_data.coords.get("T", ())
    return float(times[1] - times[0]) if len(times) > 1 else None
