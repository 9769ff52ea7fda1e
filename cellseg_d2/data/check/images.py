"""The image files of a data set: are they there, whole, of the right size, and each there once?"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ..image_folder import ImageFolder
from ..image_io import CorruptImageError, read_raw, to_grey
from .findings import Findings
from .tables import Tables, image_size

__all__ = ["FactFolder", "Facts", "check_images"]

SIDE = 32  # of the thumbnails that images of one name are compared by


@dataclass(frozen=True)
class Facts:
    """What one image file is.

    Attributes:
        path: the file; None where there is none.
        size: height and width; None where it cannot be read.
        digest: of the pixels: equal for equal pixels, whatever the format and the depth; empty where unread.
        thumbnail: (SIDE * SIDE,) float32 of mean 0 and norm 1, zeros for an even image; None where unread.
        damage: why it cannot be read; empty where it can.
    """

    path: Path | None
    size: tuple[int, int] | None = None
    digest: str = ""
    thumbnail: np.ndarray | None = None
    damage: str = ""


class FactFolder(ImageFolder):
    """A folder of images that says what each of its files is."""

    def read(self, name: str) -> tuple[Facts, np.ndarray | None]:
        """What a file is, and its H x W values; None where it cannot be read."""
        path = self.locate(name)
        if path is None:
            return Facts(None), None
        try:
            values = read_raw(path)
        except CorruptImageError as error:
            return Facts(path, damage=error.reason), None
        except OSError as error:
            return Facts(path, damage=error.strerror or str(error)), None
        grey = to_grey(values)
        channels = grey if grey.dtype == values.dtype else values  # three equal channels are one
        return Facts(path, grey.shape, _digest(channels), _thumbnail(grey)), grey


def check_images(tables: Tables, facts: dict[int, Facts], findings: Findings) -> None:
    """Find images that are missing, damaged, of another size than said, or there more than once."""
    same: dict[str, list[int]] = {}
    for place, fact in facts.items():
        name = tables.name(place)
        if fact.path is None:
            findings.add("missing_image", name, place)
        elif fact.damage:
            findings.add("corrupt_image", f"{name}: {fact.damage}", place)
        else:
            same.setdefault(fact.digest, []).append(place)
        _check_size(tables, place, fact, findings)
    for places in same.values():
        cells = [len(tables.cells_of[place]) for place in places]
        kept = places[int(np.argmax(cells))]
        for place, count in zip(places, cells):
            if place != kept:
                where = f"{tables.name(place)} ({count} annotations) = {tables.name(kept)} ({max(cells)})"
                findings.add("duplicate_images", where, place)


def _check_size(tables: Tables, place: int, fact: Facts, findings: Findings) -> None:
    """The size that the JSON says is that of the file."""
    entry = tables.images[place]
    said = image_size(entry)
    if fact.size is not None and said != fact.size:
        found = f"{fact.size[1]} x {fact.size[0]}"
        where = f"{tables.name(place)}: {found}, but the JSON says {entry.get('width')} x {entry.get('height')}"
        findings.add("image_size", where, place, fixable=said is None or said == fact.size[::-1])


def _digest(values: np.ndarray) -> str:
    """A number of the values and the shape, the same for 8 and 16 bits."""
    if values.dtype.kind in "ui" and 0 <= values.min() and values.max() <= 255:
        values = values.astype(np.uint8)
    elif values.dtype.kind in "ui":
        values = values.astype(np.int64)
    state = hashlib.blake2b(f"{values.shape} {values.dtype}".encode(), digest_size=16)
    state.update(np.ascontiguousarray(values))
    return state.hexdigest()


def _thumbnail(grey: np.ndarray) -> np.ndarray:
    """The image in few pixels, without its brightness and contrast."""
    small = cv2.resize(grey.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_AREA).ravel()
    small -= small.mean()
    return small / max(float(np.linalg.norm(small)), 1e-6)
