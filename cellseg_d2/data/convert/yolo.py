"""YOLO segmentation: a text file for each image, a line for each cell: class index, then corners as shares of the size.

A box (class index and four numbers) is not an outline and is refused.
"""

import math
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import yaml

from ...errors import DatasetError, MissingDataError
from .outline import one_polygon
from .output import write_each, write_once
from .pairs import list_files, list_images, pair_files
from .records import CELL, Cell, Notes, Picture, Request, Source

__all__ = ["class_names", "write_yolo", "yolo_sources"]

CLASSES = "classes.txt"
# By which a coordinate may lie outside of its image, as a share of the size
SLACK = 1e-6
# A coordinate this near to one of six decimals is that one: dividing and multiplying by the size moves the last digit
NEAR = 1e-9


def yolo_sources(request: Request, notes: Notes) -> list[Source]:
    """The images with their text files; an image without one has no cells, as YOLO means it, which ``notes`` count."""
    names = class_names(request)
    if request.input.is_file():
        files = [request.input]
    else:
        files = [file for file in list_files(request.input, (".txt",)) if file.name != CLASSES]
        if not files:
            raise MissingDataError(f"{request.input} has no text file but {CLASSES}")
    own = Request(request.input, request.images, request.category, skip_unannotated=True)
    counts = Notes()
    pairs = pair_files(own, files, counts, by_number=False)
    sources = [Source(image, partial(_read, file, names)) for image, file in pairs]
    if request.skip_unannotated or request.input.is_file():
        notes.remarks.update(counts.remarks)
        return sources
    known = {image for image, _ in pairs}
    bare = [image for image in list_images(request) if image not in known]
    notes.remarks["images have no text file: taken for images without cells, as YOLO does"] += len(bare)
    return sources + [Source(image, lambda height, width, notes: []) for image in bare]


def class_names(request: Request) -> list[str]:
    """The names of the classes 0, 1, ...: of classes.txt or a data set's YAML, beside the text files or up to two
    folders up.

    Without such a file there is one class, that of the request.
    """
    folder = (request.input.parent if request.input.is_file() else request.input).resolve()
    for place in (folder, folder.parent, folder.parent.parent):  # labels/train has data.yaml two folders up
        if (place / CLASSES).is_file():
            lines = (place / CLASSES).read_text(encoding="utf-8-sig").splitlines()
            return _checked([line.strip() for line in lines if line.strip()], place / CLASSES)
        for file in sorted([*place.glob("*.yaml"), *place.glob("*.yml")]):
            names = _yaml_names(file)
            if names:
                return _checked(names, file)
    return [request.category or CELL]


def write_yolo(pictures: Iterable[Picture], folder: Path, classes: Sequence[str], notes: Notes) -> int:
    """Write a text file an image (an empty one where there are no cells) and classes.txt; returns how many.

    A line is a cell: bridges without width lead to its holes and further pieces. Numbers have all the digits that are
    needed to get the same polygon back.
    """
    names = [" ".join(name.split()) for name in classes]
    write_once(folder / CLASSES, "".join(f"{name}\n" for name in names).encode())

    def encode(picture: Picture, _: Path) -> bytes:
        return "".join(_line(picture, cell, classes.index(cell.category)) for cell in picture.cells).encode()

    return write_each(pictures, folder, ".txt", encode)


def _line(picture: Picture, cell: Cell, index: int) -> str:
    """The line of a cell."""
    polygon = one_polygon(cell.segmentation, picture.height, picture.width)
    sides = (picture.width, picture.height)
    return f"{index} {' '.join(repr(value / sides[place % 2]) for place, value in enumerate(polygon))}\n"


def _read(file: Path, names: Sequence[str], height: int, width: int, notes: Notes) -> list[Cell]:
    """The cells of a text file."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise DatasetError(f"{file}: not a text file") from None
    cells = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            index, shares = _numbers(line.split(), f"{file}, line {number}", len(names))
            sides = (width, height)
            polygon = [_coordinate(share, sides[place % 2]) for place, share in enumerate(shares)]
            cells.append(Cell([polygon], names[index]))
    return cells


def _numbers(words: list[str], place: str, classes: int) -> tuple[int, list[float]]:
    """Class index and coordinates of a line."""
    try:
        index, shares = float(words[0]), [float(word) for word in words[1:]]
    except ValueError:
        raise DatasetError(f"{place}: not a class index and numbers: {' '.join(words)[:80]}") from None
    if index != int(index) or not 0 <= index < classes:
        raise DatasetError(
            f"{place}: class {words[0]}, but there are {classes} classes, from 0; put all names into {CLASSES}"
        )
    if len(shares) == 4:
        raise DatasetError(f"{place}: a box (four numbers), not an outline; train and export with a -seg model")
    if len(shares) < 6 or len(shares) % 2:
        raise DatasetError(f"{place}: {len(shares)} coordinates; an outline has x and y of three corners or more")
    outside = [share for share in shares if not (math.isfinite(share) and -SLACK <= share <= 1 + SLACK)]
    if outside:
        raise DatasetError(f"{place}: coordinate {outside[0]:g} is no share of the image's size, from 0 to 1")
    return int(index), shares


def _coordinate(share: float, side: int) -> float:
    """A coordinate in pixels, without the error of the division that made the share."""
    value = share * side
    near = round(value, 6)
    return near if abs(value - near) < NEAR else value


def _yaml_names(file: Path) -> list[str]:
    """The ``names`` in a data set's YAML, a list or by index; empty where it has none."""
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DatasetError(f"{file}: not a readable YAML file ({error})") from None
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, dict):
        if sorted(names) != list(range(len(names))):
            raise DatasetError(f"{file}: 'names' has the indices {sorted(names)}, not 0, 1, ...")
        names = [names[index] for index in range(len(names))]
    return [str(name) for name in names] if isinstance(names, list) else []


def _checked(names: list[str], file: Path) -> list[str]:
    """Names of classes, at least one, no two alike."""
    if not names or len(set(names)) < len(names):
        raise DatasetError(f"{file}: {'no names of classes' if not names else 'two classes have one name'}")
    return names
