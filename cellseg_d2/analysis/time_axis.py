"""When the images of a data set were taken: from their entries, LIVECell's file names, or the numbers of frames."""

import re
from pathlib import PurePath

import numpy as np

from ..data.datasets.coco_json import CocoFile
from ..data.livecell_names import hours_of, parse_name
from ..data.names import few, last_number
from ..errors import DatasetError

__all__ = ["time_axis"]


def time_axis(coco: CocoFile) -> tuple[np.ndarray, str, str]:
    """(I,) time of each image, its unit, and where it comes from.

    The first of these that any image has, and then all must have: ``hours`` (a number) in the image entries; ``time``
    there as LIVECell writes it (01d04h30m); LIVECell's file names; ``frame`` (a number) in the entries; the last
    number of file names that are the same but for it.

    Raises:
        DatasetError: no image has any of them, some images lack it, or there is only one point of time.
    """
    ways = {
        "'hours' of the image entries": ("hours", lambda image: _number(image.get("hours"))),
        "'time' of the image entries": ("hours", lambda image: _hours(image.get("time"))),
        "LIVECell's file names": ("hours", lambda image: _hours(parse_name(str(image["file_name"])).get("time"))),
        "'frame' of the image entries": ("frames", lambda image: _number(image.get("frame"))),
    }
    if len({_without_number(str(image["file_name"])) for image in coco.images}) == 1:
        ways["the number in the file names"] = ("frames", lambda image: last_number(PurePath(str(image["file_name"]))))
    for source, (unit, read) in ways.items():
        times = [read(image) for image in coco.images]
        without = [image["file_name"] for image, time in zip(coco.images, times) if time is None]
        if without and len(without) < len(times):
            raise DatasetError(
                f"{coco.path}: times come from {source}, but {len(without)} of {len(times)} images have none there "
                f"({few(without, 3)}); add them, or leave these images out"
            )
        if without or not times:
            continue
        if len(set(times)) < 2:
            raise DatasetError(
                f"{coco.path}: all {len(times)} images have the same time by {source}; shapes over time take at least "
                "two points of time"
            )
        return np.array(times, dtype=np.float64), unit, source
    raise DatasetError(
        f"{coco.path}: the images have no time: no 'hours', 'time' or 'frame' in their entries, no file names like "
        "LIVECell's, and none that differ only by a frame's number; add 'frame' (0, 1, ...) or 'hours' to each image"
    )


def _number(value: object) -> float | None:
    """A finite number, or None."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value)
    return float(value) if is_number else None


def _hours(text: object) -> float | None:
    """Hours of a text such as 01d04h30m, or None."""
    named = parse_name(f"x_Phase_A1_1_{text}_1") if isinstance(text, str) else {}
    return hours_of(named["time"]) if named else None


def _without_number(name: str) -> str:
    """A file name with its last number left out."""
    return re.sub(r"[0-9]+(?=[^0-9]*$)", "", PurePath(name).stem)
