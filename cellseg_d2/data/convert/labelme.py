"""LabelMe: a JSON file for each image, with polygons, rectangles, circles and masks."""

import base64
import binascii
import json
import math
import os
from collections.abc import Iterable, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, UnidentifiedImageError
from pycocotools import mask as mask_util

from ...crops import encode_crop
from ...errors import DatasetError
from ...files import read_json
from ..rle import as_rle
from .labels import label_numbers
from .outline import polygons
from .output import write_each
from .pairs import list_files, pair_files
from .records import Cell, Notes, Picture, Request, Source
from .shapes import checked_ellipse, checked_polygon, rectangle

__all__ = ["labelme_sources", "write_labelme"]

VERSION = "5.5.0"
# What LabelMe draws that is not the outline of a cell
_NO_CELLS = ("point", "points", "line", "linestrip")


def labelme_sources(request: Request, notes: Notes) -> list[Source]:
    """The images with their JSON files, which have the image's name or tell it as ``imagePath``."""
    files = [request.input] if request.input.is_file() else list_files(request.input, (".json",))
    pairs = pair_files(request, files, notes, _stem_of_image)
    return [Source(image, partial(_read, file)) for image, file in pairs]


def write_labelme(pictures: Iterable[Picture], folder: Path, classes: Sequence[str], notes: Notes) -> int:
    """Write a JSON an image; returns how many.

    A cell is a polygon, or several that share a ``group_id`` where it has several pieces; a hole is cut in by a bridge
    without width. ``group_id`` is the cell's label where it has one.
    """

    def encode(picture: Picture, place: Path) -> bytes:
        content = {
            "version": VERSION, "flags": {}, "shapes": _shapes(picture, notes),
            "imagePath": Path(os.path.relpath(picture.path, place.parent)).as_posix(), "imageData": None,
            "imageHeight": picture.height, "imageWidth": picture.width,
        }  # fmt: skip
        return json.dumps(content, indent=2, allow_nan=False).encode()

    return write_each(pictures, folder, ".json", encode)


def _shapes(picture: Picture, notes: Notes) -> list[dict]:
    """LabelMe's shapes of an image."""
    shapes = []
    for number, cell in zip(label_numbers(picture.cells, notes), picture.cells):
        pieces = polygons(cell.segmentation, picture.height, picture.width)
        group = number if len(pieces) > 1 or cell.label is not None else None
        for piece in pieces:
            points = [list(point) for point in zip(piece[::2], piece[1::2])]
            shapes.append(
                {"label": cell.category, "points": points, "group_id": group, "description": "",
                 "shape_type": "polygon", "flags": {}, "mask": None}
            )  # fmt: skip
    return shapes


def _load(file: Path) -> dict:
    """A LabelMe file's object."""
    content = read_json(file)
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        raise DatasetError(f"{file}: not a LabelMe file, it has no list of 'shapes'")
    return content


def _stem_of_image(file: Path) -> str:
    """The name of the image that a file is of, without ending."""
    name = _load(file).get("imagePath")
    return PurePosixPath(name.replace("\\", "/")).stem if isinstance(name, str) else file.stem


def _read(file: Path, height: int, width: int, notes: Notes) -> list[Cell]:
    """The cells of a LabelMe file."""
    content = _load(file)
    told = [content.get(key) for key in ("imageHeight", "imageWidth")]
    if None not in told and told != [height, width]:
        raise DatasetError(f"{file}: drawn on an image of {told[1]} x {told[0]} pixels, but it has {width} x {height}")
    groups: dict[tuple, list] = {}
    for index, shape in enumerate(content["shapes"]):
        place = f"{file}: shapes[{index}]"
        if not isinstance(shape, dict) or not isinstance(shape.get("label"), str) or not shape["label"].strip():
            raise DatasetError(f"{place} has no 'label', the class of the cell")
        group = shape.get("group_id")
        if group is not None and not isinstance(group, int | str):
            raise DatasetError(f"{place} has group_id {group!r}, which is not a number")
        segmentation = _segmentation(shape, height, width, place, notes)
        if segmentation is not None:
            key = (shape["label"], "shape", index) if group is None else (shape["label"], "group", group)
            groups.setdefault(key, []).append(segmentation)
    return [
        Cell(_joined(parts, height, width), label, group if kind == "group" and _is_label(group) else None)
        for (label, kind, group), parts in groups.items()
    ]


def _is_label(group: object) -> bool:
    """A group id that can be a label of a label image."""
    return isinstance(group, int) and not isinstance(group, bool) and group > 0


def _joined(parts: list[list[list[float]] | dict], height: int, width: int) -> list[list[float]] | dict:
    """The union of what shares a group."""
    if all(isinstance(part, list) for part in parts):
        return [polygon for part in parts for polygon in part]
    rle = mask_util.merge([as_rle(part, height, width) for part in parts])
    return {"size": [height, width], "counts": rle["counts"].decode("ascii")}


def _segmentation(shape: dict, height: int, width: int, place: str, notes: Notes) -> list[list[float]] | dict | None:
    """The outline or run lengths of a shape; None, and a note, where it can not be a cell."""
    kind, points = shape.get("shape_type", "polygon"), shape.get("points")
    if kind in _NO_CELLS:
        notes.warnings[f"shapes of type {kind} are no outlines of cells, left out"] += 1
        return None
    if not isinstance(points, list):
        raise DatasetError(f"{place} has no list of 'points'")
    if kind in ("polygon", "oriented_rectangle"):
        return checked_polygon(points, place, notes)
    if kind not in ("rectangle", "circle", "mask"):
        raise DatasetError(f"{place} has shape_type {kind!r}, which is none of LabelMe's")
    if len(points) != 2:
        raise DatasetError(f"{place}: a {kind} has two points, not {len(points)}")
    corners = rectangle(points, place)  # also checks the numbers
    if kind == "rectangle":
        return corners
    if kind == "circle":
        (x, y), radius = points[0], math.dist(*points)
        return checked_ellipse([x, y, radius, radius, 0], height, width, place)
    return _mask(shape.get("mask"), points, height, width, place)


def _mask(text: object, points: list, height: int, width: int, place: str) -> dict:
    """Run lengths of a mask shape: a base64 PNG of the box from the first to the last pixel, both included."""
    try:
        with Image.open(BytesIO(base64.b64decode(text, validate=True))) as image:
            crop = np.asarray(image.convert("L")) > 0
    except (TypeError, ValueError, binascii.Error, UnidentifiedImageError, OSError) as error:
        raise DatasetError(f"{place}: its 'mask' is not a PNG in base64 ({error})") from None
    (x0, y0), (x1, y1) = ([int(value) for value in point] for point in points)
    if crop.shape != (y1 - y0 + 1, x1 - x0 + 1):
        raise DatasetError(
            f"{place}: its mask has {crop.shape[1]} x {crop.shape[0]} pixels, its box {x1 - x0 + 1} x {y1 - y0 + 1}"
        )
    top, left = max(0, -y0), max(0, -x0)
    inside = crop[top : max(height - y0, 0), left : max(width - x0, 0)]
    if not inside.size:
        inside, left, top, x0, y0 = np.zeros((1, 1), dtype=bool), 0, 0, 0, 0
    return encode_crop(inside, [x0 + left, y0 + top], height, width)
