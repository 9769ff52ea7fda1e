"""What TIFF files tell of themselves: axes, pixel size, time between frames, channels, and whether all is there."""

import struct
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from statistics import median
from typing import Any
from xml.etree import ElementTree

import tifffile

__all__ = ["Source", "TIFF_SIGNATURES", "check_whole_tiff", "micrometres", "seconds", "tiff_axes", "tiff_metadata"]

TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# Resolutions of plain TIFF files are often a printer's (1200 dpi are 21 um); microscopes have finer ones
_COARSEST = 20.0
_ALPHA = (tifffile.EXTRASAMPLE.ASSOCALPHA, tifffile.EXTRASAMPLE.UNASSALPHA)

_UM = {"m": 1e6, "cm": 1e4, "centimeter": 1e4, "mm": 1e3, "millimeter": 1e3, "um": 1.0, "micron": 1.0}
_UM |= {"micrometer": 1.0, "nm": 1e-3, "nanometer": 1e-3, "inch": 25400.0, "in": 25400.0}
_SECONDS = {"s": 1.0, "sec": 1.0, "second": 1.0, "ms": 1e-3, "msec": 1e-3, "millisecond": 1e-3, "us": 1e-6}
_SECONDS |= {"min": 60.0, "minute": 60.0, "h": 3600.0, "hr": 3600.0, "hour": 3600.0, "d": 86400.0, "day": 86400.0}


@dataclass(frozen=True)
class Source:
    """An opened file.

    Attributes:
        array: has ``shape`` and ``dtype`` and gives an array where it is indexed by integers and slices.
        axes: a letter for each axis; see :func:`axes.resolve_axes`.
        channels: their names, empty where the file has none.
        pixel_size: micrometres, or None.
        interval: seconds from frame to frame, or None.
        inverted: whether 0 is white.
    """

    array: Any
    axes: str
    channels: tuple[str, ...] = ()
    pixel_size: float | None = None
    interval: float | None = None
    inverted: bool = False


def micrometres(value: Any, unit: str) -> float | None:
    """A length in micrometres; None for one that is not above 0 and for units that are no length ("pixel")."""
    return _scaled(value, unit, _UM)


def seconds(value: Any, unit: str) -> float | None:
    """A time in seconds; None for one that is not above 0 and for units that are no time."""
    return _scaled(value, unit, _SECONDS)


def _scaled(value: Any, unit: str, table: dict[str, float]) -> float | None:
    unit = unit.strip().replace("\\u00B5", "u").replace("\u00b5", "u").replace("\u03bc", "u").lower()
    unit = unit.replace("metre", "meter")
    factor = table.get(unit) or table.get(unit.removesuffix("s"))
    if factor is None or value is None or not isfinite(float(value)) or float(value) <= 0:
        return None
    return float(value) * factor


def tiff_axes(series: tifffile.TiffPageSeries) -> str:
    """Axes of a series; samples that are neither colour nor alpha are channels."""
    page = series.keyframe
    grey = page.photometric in (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.MINISWHITE)
    if grey and "C" not in series.axes and not set(page.extrasamples) & set(_ALPHA):
        return series.axes.replace("S", "C")
    return series.axes


def tiff_metadata(tif: tifffile.TiffFile) -> dict[str, Any]:
    """``channels``, ``pixel_size`` (um) and ``interval`` (s) of a TIFF, from OME, ImageJ or resolution tags."""
    if tif.ome_metadata:
        return _ome(tif.ome_metadata)
    described = tif.imagej_metadata or {}
    size = _resolution(tif.pages[0], described.get("unit"))
    return {"pixel_size": size, "interval": seconds(described.get("finterval"), str(described.get("tunit") or "s"))}


def _resolution(page: tifffile.TiffPage, unit: str | None) -> float | None:
    """Width of a pixel in um: one over the pixels in a unit; ``unit`` is ImageJ's, else the tag's is taken."""
    tag = page.tags.get("XResolution")
    if tag is None or not tag.value[0]:
        return None
    size = tag.value[1] / tag.value[0]
    if unit and str(unit).lower() != "inch":
        return micrometres(size, str(unit))
    tag = page.tags.get("ResolutionUnit")
    name = {tifffile.RESUNIT.INCH: "inch", tifffile.RESUNIT.CENTIMETER: "cm"}.get(tag.value if tag else 0, "")
    size = micrometres(size, "inch" if unit else name)  # ImageJ writes inches of pictures without a scale
    return size if size is not None and size < _COARSEST else None


def _ome(text: str) -> dict[str, Any]:
    """From the first image of an OME-XML header."""
    pixels = ElementTree.fromstring(text.encode()).find("{*}Image/{*}Pixels")
    if pixels is None:
        return {}
    names = tuple(channel.get("Name") or "" for channel in pixels.findall("{*}Channel"))
    interval = seconds(pixels.get("TimeIncrement"), pixels.get("TimeIncrementUnit", "s"))
    return {
        "channels": names,
        "pixel_size": micrometres(pixels.get("PhysicalSizeX"), pixels.get("PhysicalSizeXUnit", "um")),
        "interval": interval if interval is not None else _interval_of_planes(pixels),
    }


def _interval_of_planes(pixels: ElementTree.Element) -> float | None:
    """Median time between the first planes of two frames, in seconds; None where planes have no times."""
    planes = [plane for plane in pixels.findall("{*}Plane") if plane.get("TheC") == plane.get("TheZ") == "0"]
    planes = sorted((plane for plane in planes if plane.get("DeltaT")), key=lambda plane: int(plane.get("TheT", 0)))
    times = [float(plane.get("DeltaT", 0)) for plane in planes]
    if len(times) < 2:
        return None
    return seconds(median(b - a for a, b in zip(times, times[1:])), planes[0].get("DeltaTUnit", "s"))


def check_whole_tiff(path: Path) -> None:
    """Follow the chain of a TIFF's pages, as readers take a stack that was cut off for one with fewer pages.

    Raises:
        ValueError: the chain or the first page's description leads out of the file; says after which page.
    """
    size, pages = path.stat().st_size, 0
    with path.open("rb") as file:
        head = file.read(16)
        order, big = "<" if head[:2] == b"II" else ">", 43 in (head[2], head[3])
        count, tag, where, at = ("Q", "HHQQ", "Q", 8) if big else ("H", "HHII", "I", 4)
        offset = struct.unpack_from(order + where, head, at)[0]
        widths = struct.calcsize("=" + count), struct.calcsize("=" + tag), struct.calcsize("=" + where)
        seen = set()
        while offset and offset not in seen:
            seen.add(offset)
            file.seek(offset)
            number = file.read(widths[0])
            tags = struct.unpack(order + count, number)[0] if len(number) == widths[0] else 0
            content = file.read(tags * widths[1] + widths[2]) if tags < 65536 else b""
            if not tags or len(content) < tags * widths[1] + widths[2]:
                raise ValueError(f"cut off: page {pages} is at byte {offset}, and the file ends at {size}")
            for entry in range(tags if not pages else 0):
                code, _, length, value = struct.unpack_from(order + tag, content, entry * widths[1])
                if code == 270 and length > widths[2] and value + length > size:
                    raise ValueError(f"cut off: its description ends at byte {value + length} and the file at {size}")
            offset = struct.unpack_from(order + where, content, tags * widths[1])[0]
            pages += 1
