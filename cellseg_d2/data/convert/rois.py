"""ImageJ: a zip of the ROI Manager for each image."""

import zipfile
from collections.abc import Iterable, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
import roifile

from ...errors import DatasetError
from ..label_files import ROI_SUFFIXES, read_rois
from ..rle import as_rle
from .labels import label_numbers
from .outline import rings
from .output import write_each
from .pairs import list_files, pair_files
from .records import Cell, Notes, Picture, Request, Source

__all__ = ["roi_sources", "write_rois"]

# ImageJ keeps corners as 16-bit numbers
LARGEST_SIDE = 60535
_MOVE, _LINE, _CLOSE = 0.0, 1.0, 4.0


def roi_sources(request: Request, notes: Notes) -> list[Source]:
    """The images with their zips; a ROI's properties ``class`` and ``label`` are kept where it has them."""
    files = [request.input] if request.input.is_file() else list_files(request.input, ROI_SUFFIXES)
    pairs = pair_files(request, files, notes)
    return [Source(image, partial(_read, file, request.category)) for image, file in pairs]


def write_rois(pictures: Iterable[Picture], folder: Path, classes: Sequence[str], notes: Notes) -> int:
    """Write a zip an image; returns how many.

    A cell of one piece without holes is a traced ROI, another one a composite ROI; both run along pixel edges, so that
    ImageJ selects exactly the cell's pixels. Class and label are properties of the ROI.
    """
    return write_each(pictures, folder, ".zip", lambda picture, _: _zip(picture, notes))


def _read(file: Path, category: str, height: int, width: int, notes: Notes) -> list[Cell]:
    """The cells of a zip or a single .roi file."""
    segmentations = read_rois(file, height, width)
    read = roifile.roiread(file)
    rois = read if isinstance(read, list) else [read]
    cells = []
    for roi, segmentation in zip(rois, segmentations, strict=True):
        own = dict(line.split(":", 1) for line in roi.props.splitlines() if ":" in line)
        label = own.get("label", "").strip()
        number = int(label) if label.isascii() and label.isdigit() and int(label) else None
        cells.append(Cell(segmentation, own.get("class", "").strip() or category, number))
    return cells


def _zip(picture: Picture, notes: Notes) -> bytes:
    """The content of a zip; the same each time, as its entries have no date."""
    if max(picture.height, picture.width) > LARGEST_SIDE:
        raise DatasetError(f"{picture.path}: ImageJ outlines reach up to {LARGEST_SIDE} pixels; cut the image in parts")
    content = BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, cell in zip(label_numbers(picture.cells, notes), picture.cells):
            roi = imagej_roi(rings(as_rle(cell.segmentation, picture.height, picture.width)), f"{number:04d}")
            roi.props = f"class: {' '.join(cell.category.split())}\n"
            roi.props += "" if cell.label is None else f"label: {cell.label}\n"
            entry = zipfile.ZipInfo(f"{roi.name}.roi", (1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, roi.tobytes())
    return content.getvalue()


def imagej_roi(pieces: list[list[np.ndarray]], name: str) -> roifile.ImagejRoi:
    """The ROI of a cell's outlines."""
    outlines = [ring for piece in pieces for ring in piece]
    if len(outlines) == 1:
        roi = roifile.ImagejRoi.frompoints(outlines[0].astype(np.int32), name=name)
        roi.roitype = roifile.ROI_TYPE.TRACED
        return roi
    path: list[float] = []
    for ring in outlines:
        for step, (x, y) in enumerate(ring.tolist()):
            path += [_LINE if step else _MOVE, x, y]
        path.append(_CLOSE)
    (left, top), (right, bottom) = (extreme(np.concatenate(outlines), axis=0).tolist() for extreme in (np.min, np.max))
    return roifile.ImagejRoi(
        roitype=roifile.ROI_TYPE.RECT, name=name, left=left, top=top, right=right, bottom=bottom,
        multi_coordinates=np.array(path, np.float32), shape_roi_size=len(path),
    )  # fmt: skip
