"""ImageJ: a zip of the ROI Manager for each image, or for each stack."""

import zipfile
from collections.abc import Iterable, Sequence
from functools import lru_cache, partial
from io import BytesIO
from pathlib import Path

import numpy as np
import roifile

from ...errors import DatasetError
from ..rle import as_rle
from ..roi_files import ROI_SUFFIXES, open_rois, require_one_slice, roi_segmentations
from .labels import label_numbers
from .outline import rings
from .output import write_each
from .pairs import list_files, pair_files
from .records import Cell, Notes, Picture, Request, Source
from .stacks import open_stack

__all__ = ["imagej_roi", "roi_sources", "write_rois"]

# ImageJ keeps corners as 16-bit numbers
LARGEST_SIDE = 60535
_MOVE, _LINE, _CLOSE = 0.0, 1.0, 4.0


def roi_sources(request: Request, notes: Notes) -> list[Source]:
    """The images, or the pages of stacks, with their zips; a ROI's properties ``class`` and ``label`` are kept.

    Each ROI of a stack's zip goes to the page that ImageJ shows it on.
    """
    files = [request.input] if request.input.is_file() else list_files(request.input, ROI_SUFFIXES)
    sources = []
    for image, file in pair_files(request, files, notes):
        stack = open_stack(image)
        pages = [None] if stack is None else range(len(stack.pages))
        sources += [Source(image, partial(_read, image, file, page, request.category), page) for page in pages]
    return sources


def write_rois(pictures: Iterable[Picture], folder: Path, classes: Sequence[str], notes: Notes) -> int:
    """Write a zip an image; returns how many.

    A cell of one piece without holes is a traced ROI, another one a composite ROI; both run along pixel edges, so that
    ImageJ selects exactly the cell's pixels. Class and label are properties of the ROI.
    """
    return write_each(pictures, folder, ".zip", lambda picture, _: _zip(picture, notes))


def _read(
    image: Path, file: Path, page: int | None, category: str, height: int, width: int, notes: Notes
) -> list[Cell]:
    """The cells of a zip or a single .roi file, of a stack those of a page."""
    status = file.stat()
    rois = _open(file, status.st_mtime_ns, status.st_size)
    if page is None:
        require_one_slice(file, rois)
    else:
        rois = _on_page(image, file, rois, page)
    cells = []
    for roi, segmentation in zip(rois, roi_segmentations(file, rois, height, width), strict=True):
        own = dict(line.split(":", 1) for line in roi.props.splitlines() if ":" in line)
        label = own.get("label", "").strip()
        number = int(label) if label.isascii() and label.isdigit() and int(label) else None
        cells.append(Cell(segmentation, own.get("class", "").strip() or category, number))
    return cells


@lru_cache(maxsize=1)  # the pages of a stack ask for its zip one by one
def _open(file: Path, modified: int, size: int) -> list[roifile.ImagejRoi]:
    """See open_rois; ``modified`` and ``size`` tell a file from an older one of its name."""
    return open_rois(file)


def _on_page(image: Path, file: Path, rois: list[roifile.ImagejRoi], page: int) -> list[roifile.ImagejRoi]:
    """The ROIs of a page: by their time or depth, as the stack runs, else (no hyperstack) by their slice.

    Raises:
        DatasetError: a ROI of the file lies on no page, or behind the last one.
    """
    stack = open_stack(image)
    places = [getattr(roi, f"{stack.axis}_position") or roi.position for roi in rois]
    for roi, place in zip(rois, places):
        if not 1 <= place <= len(stack.pages):
            told = f"on slice {place}" if place > 0 else "on no slice of its own (position 0)"
            raise DatasetError(
                f"{file}: outline {roi.name!r} lies {told}, but {image} is a stack of {len(stack.pages)} pages, to one "
                f"of which each outline has to belong; set its position in ImageJ's ROI Manager (More > Properties)"
            )
    return [roi for roi, place in zip(rois, places) if place == page + 1]


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
