"""Annotations of other programs as a COCO data set."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from pycocotools import mask as mask_util

from ...errors import DatasetError
from ..rle import as_rle
from .output import tiff_bytes, write_once
from .records import CELL, Cell, Notes, Source
from .stacks import frame_size, open_stack, page_name

__all__ = ["PAGES", "image_root", "to_coco"]

# The folder below the output that the pages of stacks go to
PAGES = "images"


def image_root(sources: Sequence[Source], images: Path, output: Path) -> Path:
    """The folder that ``file_name`` is relative to: that of the images, or that of the pages where there are stacks."""
    return output / PAGES if any(source.page is not None for source in sources) else images


def to_coco(sources: Iterable[Source], images: Path, root: Path, classes: Sequence[str], notes: Notes) -> dict:
    """A COCO data set, to be written as JSON.

    Masks become run lengths, polygons stay as they are; ``area`` counts pixels, ``bbox`` encloses them, and a cell
    keeps its ``label``. Images without cells stay. Pages of stacks are written below ``root``.

    Args:
        sources: the images.
        images: folder of the images.
        root: see :func:`image_root`.
        classes: names that come first, in this order; others follow by the alphabet. A cell without one gets the
            first; where ``classes`` is empty, the one that all others have, or "cell".
        notes: counts what is left out.

    Raises:
        DatasetError: sizes that differ, files that cannot be used, or no cell in any image.
    """
    entries: list[dict] = []
    annotations: list[dict] = []
    names: list[str] = []
    for source in sources:
        file_name, height, width = _image(source, images, root)
        entries.append({"id": len(entries) + 1, "file_name": file_name, "height": height, "width": width})
        before = len(annotations)
        for cell in source.read(height, width, notes):
            annotation = _annotation(cell, height, width)
            if annotation is None:
                notes.warnings["outlines cover no pixel of their image, left out"] += 1
                continue
            names.append(cell.category)
            annotations.append({"id": len(annotations) + 1, "image_id": len(entries), **annotation})
        notes.remarks["images have no cell"] += len(annotations) == before
    if not annotations:
        raise DatasetError(f"{images}: none of the {len(entries)} images has a cell")
    names = _filled(names, classes, notes)
    ordered = [*classes, *sorted(set(names) - set(classes))]
    numbers = {name: number for number, name in enumerate(ordered, start=1)}
    for annotation, name in zip(annotations, names, strict=True):
        annotation["category_id"] = numbers[name]
    categories = [{"id": number, "name": name} for name, number in numbers.items()]
    return {"images": entries, "annotations": annotations, "categories": categories}


def _filled(names: list[str], classes: Sequence[str], notes: Notes) -> list[str]:
    """The class names with one for each cell that has none, such as one that was drawn anew."""
    known = list(dict.fromkeys([*classes, *filter(None, names)]))
    default = known[0] if len(known) == 1 or classes else CELL
    if len(known) > 1:
        text = f"cells have no class name and are {default!r} now; there are {', '.join(known)}"
        notes.remarks[text] += names.count("")
    return [name or default for name in names]


def _image(source: Source, images: Path, root: Path) -> tuple[str, int, int]:
    """File name, height and width of an image; a page of a stack is written."""
    if source.page is None:
        return Path(os.path.relpath(source.image, root)).as_posix(), *frame_size(source.image)
    page = open_stack(source.image).pages[source.page]
    name = source.image.relative_to(images).with_name(page_name(source.image, source.page)).as_posix()
    write_once(root / name, tiff_bytes(page))
    return name, *page.shape[:2]


def _annotation(cell: Cell, height: int, width: int) -> dict | None:
    """COCO's annotation without its numbers; None where the cell covers no pixel."""
    rle = as_rle(cell.segmentation, height, width)
    area = int(mask_util.area(rle))
    if not area:
        return None
    label = {} if cell.label is None else {"label": cell.label}
    return {
        "category_id": 0, "iscrowd": 0, "bbox": mask_util.toBbox(rle).tolist(), "area": area,
        "segmentation": cell.segmentation, **label,
    }  # fmt: skip
