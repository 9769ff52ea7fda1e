"""Label images and binary masks, tif or png, single frames or stacks."""

from collections.abc import Iterable, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from pycocotools import mask as mask_util

from ...errors import DatasetError
from ..image_io import IMAGE_SUFFIXES
from ..label_files import (
    check_labels,
    instances_of_mask,
    is_binary,
    label_segmentations,
    label_values,
    read_binary,
    read_labels,
)
from ..label_maps import rasterise
from ..rle import as_rle
from .output import tiff_bytes, write_each
from .pairs import list_files, pair_files, stem_without_mark
from .records import Cell, Notes, Picture, Request, Source
from .stacks import open_stack

__all__ = ["label_numbers", "label_sources", "mask_sources", "write_labels", "write_masks"]

# Of those that label_files.read_labels takes
LARGEST_LABEL = 2**24


def label_sources(request: Request, notes: Notes) -> list[Source]:
    """The images with label images: each value above 0 is a cell, and stays its ``label``."""
    return _sources(request, notes, is_mask=False)


def mask_sources(request: Request, notes: Notes) -> list[Source]:
    """The images with masks of two values: each piece of pixels that touch along a side is a cell."""
    return _sources(request, notes, is_mask=True)


def write_labels(pictures: Iterable[Picture], folder: Path, classes: Sequence[str], notes: Notes) -> int:
    """Write a label image an image: uint16, or uint32 where a label is above 65,535; returns how many.

    Cells keep their ``label``; others, and those that repeat one, get the next free numbers. Where cells overlap the
    one of fewer pixels is on top, as in :func:`~cellseg_d2.data.label_maps.rasterise`.
    """
    return write_each(pictures, folder, ".tif", lambda picture, _: tiff_bytes(_label_image(picture, notes)))


def write_masks(pictures: Iterable[Picture], folder: Path, classes: Sequence[str], notes: Notes) -> int:
    """Write a mask an image, 0 and 255; returns how many. Cells that touch become one piece, which ``notes`` count."""
    return write_each(pictures, folder, ".png", lambda picture, _: _png(_mask_image(picture, notes)))


def label_numbers(cells: Sequence[Cell], notes: Notes) -> list[int]:
    """A number from 1 for each cell: its ``label``, or the next free one where it has none or repeats one."""
    wanted = {cell.label for cell in cells}
    free = iter(number for number in range(1, 2 * len(cells) + 1) if number not in wanted)
    numbers: list[int] = []
    given: set[int] = set()
    for cell in cells:
        if cell.label in given:
            notes.warnings["cells repeat a label of their image, they get the next free number"] += 1
        number = next(free) if cell.label is None or cell.label in given else cell.label
        given.add(number)
        numbers.append(number)
    return numbers


def _sources(request: Request, notes: Notes, is_mask: bool) -> list[Source]:
    """An image, or a page of a stack, with its labels."""
    files = [request.input] if request.input.is_file() else list_files(request.input, IMAGE_SUFFIXES, request.images)
    if request.input == request.images:
        files = [file for file in files if stem_without_mark(file) != file.stem]
        if not files:
            raise DatasetError(f"{request.input}: no file has a name such as a_masks.tif or a_label.png")
    sources = []
    for image, file in pair_files(request, files, notes):
        for page in _pages(image, file):
            sources.append(Source(image, partial(_read, file, page, is_mask, request.category), page))
    return sources


def _pages(image: Path, file: Path) -> Sequence[int | None]:
    """The pages that an image and its labels have, [None] for single frames."""
    counts = []
    for path in (image, file):
        stack = open_stack(path)
        counts.append(len(stack.pages) if stack else None)
    if counts[0] != counts[1]:
        told = [f"{path} has {count or 'no'} pages" for path, count in zip((file, image), reversed(counts))]
        raise DatasetError(f"{' and its image '.join(told)}; labels and image need the same frames, along one axis")
    return [None] if counts[0] is None else range(counts[0])


def _read(file: Path, page: int | None, is_mask: bool, category: str, height: int, width: int, notes: Notes) -> list:
    """The cells of a label image or a mask."""
    place = str(file) if page is None else f"{file}, page {page + 1}"
    if page is None:
        values = read_binary(file).astype(np.int32) if is_mask else read_labels(file)
    else:
        values = label_values(open_stack(file).pages[page], place)
    if values.shape != (height, width):
        raise DatasetError(
            f"{place} has {values.shape[1]} x {values.shape[0]} pixels, but its image has {width} x {height}"
        )
    if not is_mask:
        return _cells(values, category, place, notes)
    if not is_binary(values):
        raise DatasetError(f"{place}: not an image of two values, 0 and another; are these labels? (--from labels)")
    pieces = instances_of_mask(values > 0, None, place)
    return [Cell(segmentation, category) for segmentation in label_segmentations(pieces)]


def _cells(labels: np.ndarray, category: str, place: str, notes: Notes) -> list[Cell]:
    """A cell for each label."""
    try:
        check_labels(labels, place)
    except DatasetError as error:  # a crop of one large cell is right, and must come through
        notes.warnings[f"label image looks odd: {error}"] += 1
    present = np.unique(labels[labels > 0]).tolist()
    if present == [255] and cv2.connectedComponents((labels > 0).astype(np.uint8))[0] > 2:
        notes.warnings["label images have no label but 255, in several pieces; are they masks? (--from masks)"] += 1
    return [Cell(rle, category, label) for label, rle in zip(present, label_segmentations(labels), strict=True)]


def _index_map(picture: Picture) -> tuple[np.ndarray, list[int]]:
    """H x W int32, 1 + the cell of each pixel, and the pixels of each cell."""
    size = picture.height, picture.width
    cells = [{"segmentation": as_rle(cell.segmentation, *size)} for cell in picture.cells]
    areas = [int(mask_util.area(cell["segmentation"])) for cell in cells]
    return rasterise(cells, *size), areas


def _label_image(picture: Picture, notes: Notes) -> np.ndarray:
    """H x W uint16 or uint32."""
    indices, areas = _index_map(picture)
    left = np.bincount(indices.reshape(-1), minlength=len(areas) + 1)[1:]
    lost = np.asarray(areas, dtype=np.int64) - left
    notes.warnings["pixels lie in several cells and stay with the smallest"] += int(lost.sum())
    notes.warnings["cells are hidden below smaller ones and lost"] += int(np.count_nonzero((left == 0) & (lost > 0)))
    numbers = np.array([0, *label_numbers(picture.cells, notes)], dtype=np.int64)
    if numbers.max() > LARGEST_LABEL:
        raise DatasetError(f"{picture.path}: label {numbers.max()} is too large for a label image, which goes to 2^24")
    dtype = np.uint16 if numbers.max() <= np.iinfo(np.uint16).max else np.uint32
    return numbers.astype(dtype)[indices]


def _mask_image(picture: Picture, notes: Notes) -> np.ndarray:
    """H x W uint8 of 0 and 255."""
    indices, areas = _index_map(picture)
    count, pieces = cv2.connectedComponents((indices > 0).astype(np.uint8), connectivity=4)
    inside = indices > 0
    pairs = np.unique(np.stack([indices[inside], pieces[inside]], axis=1), axis=0).T
    alone = (np.bincount(pairs[0], minlength=len(areas) + 1) == 1)[pairs[0]]
    alone &= (np.bincount(pairs[1], minlength=count) == 1)[pairs[1]]
    notes.warnings["cells touch others or have several pieces: a mask does not tell them apart"] += len(areas) - int(
        alone.sum()
    )
    return np.where(inside, np.uint8(255), np.uint8(0))


def _png(image: np.ndarray) -> bytes:
    """A compressed PNG."""
    content = BytesIO()
    Image.fromarray(image).save(content, format="PNG", optimize=True)
    return content.getvalue()
