"""ImageJ: the cells of a file as a zip of the ROI Manager."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import pycocotools.mask as mask_util

from ...data.convert.outline import rings
from ...data.convert.rois import LARGEST_SIDE, imagej_roi
from ...errors import DatasetError
from ...files import atomic_write
from ..measures.crops import cell_numbers
from ..records import Frame, FrameCells
from .stack import is_hyperstack, place_name

__all__ = ["write_rois"]

_NO_DATE = (1980, 1, 1, 0, 0, 0)  # the same bytes each time


def write_rois(path: str | Path, results: Sequence[FrameCells]) -> Path:
    """Write the outlines of the cells of one file's frames; ImageJ selects exactly the cells' pixels.

    A cell of one piece without holes is a traced ROI, another one a composite ROI. Names are the numbers of the label
    image (``track_id``, or 1..N), "0012", behind the place of a stack's frame: "t003_0012". In a stack each ROI lies
    on its own frame. Properties are ``class`` and ``label``. Cells without a pixel have no outline and are left out.

    Args:
        path: NAME.zip, moved into place when complete.
        results: frames, those of a stack with their ``place``.

    Raises:
        DatasetError: a side of more than 60,535 pixels, which ImageJ's outlines do not reach.
    """
    for result in results:
        if max(result.frame.size) > LARGEST_SIDE:
            raise DatasetError(f"{result.frame.path}: ImageJ outlines reach up to {LARGEST_SIDE} pixels")

    def write(stream) -> None:
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            for result in results:
                _add(archive, result)

    return atomic_write(path, write)


def _add(archive: zipfile.ZipFile, result: FrameCells) -> None:
    """The ROIs of a frame."""
    place = place_name(result.frame)
    position = _position(result.frame)
    for number, cell in zip(cell_numbers(result.cells), result.cells):
        if not mask_util.area(cell["segmentation"]):
            continue
        name = f"{place}_{number:04d}" if place else f"{number:04d}"
        roi = imagej_roi(rings(cell["segmentation"]), name)
        for field, value in position.items():
            setattr(roi, field, value)
        category = " ".join(result.classes[cell["category_id"]].split())
        roi.props = f"class: {category}\nlabel: {number}\n"
        entry = zipfile.ZipInfo(f"{name}.roi", _NO_DATE)
        entry.compress_type = zipfile.ZIP_DEFLATED
        archive.writestr(entry, roi.tobytes())


def _position(frame: Frame) -> dict[str, int]:
    """Where ImageJ shows a frame's ROIs, from 1: the slice of a stack; time and depth, all channels, of a hyperstack.

    ImageJ takes the one for the other in neither kind of stack.
    """
    if is_hyperstack(frame):
        return {f"{axis}_position": place + 1 for axis, place in frame.place.items()}
    return {"position": next(iter(frame.place.values())) + 1} if frame.place else {}
