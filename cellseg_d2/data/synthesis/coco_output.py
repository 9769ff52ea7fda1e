"""The COCO JSON of an extended data set, written entry by entry, as millions of them do not fit into memory."""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from ...errors import DatasetError
from ...files import atomic_write
from ..datasets.coco_json import CocoFile
from ..datasets.columns import IndexedCoco

__all__ = ["next_ids", "write_coco"]

Lines = Callable[[], Iterable[dict[str, Any]]]


def write_coco(
    target: Path, coco: CocoFile | IndexedCoco, lines: Lines, info: dict[str, Any], originals: bool
) -> None:
    """Write a JSON of an original data set's entries (where wanted), and of new images and their annotations.

    Args:
        target: the file, written in one step.
        coco: the original.
        lines: gives the new images, each a dict of ``image`` and ``annotations`` without ids, every time anew.
        info: for the JSON.
        originals: include the original's entries.
    """
    tables = {"images": _images(coco, lines, originals), "annotations": _annotations(coco, lines, originals)}

    def write(stream: IO[bytes]) -> None:
        stream.write(f'{{"info": {json.dumps(info)}, "categories": {json.dumps(coco.categories)}'.encode())
        for name, entries in tables.items():
            stream.write(f', "{name}": ['.encode())
            for number, entry in enumerate(entries):
                stream.write((", " * (number > 0) + json.dumps(entry)).encode())
            stream.write(b"]")
        stream.write(b"}")

    atomic_write(target, write)


def next_ids(coco: CocoFile | IndexedCoco) -> tuple[int, int]:
    """The first free ids of images and of annotations.

    Raises:
        DatasetError: ids that are no whole numbers.
    """
    highest = []
    for name, entries in (("images", coco.images), ("annotations", _original_annotations(coco))):
        ids = [entry["id"] for entry in entries]
        wrong = next((value for value in ids if type(value) is not int), None)
        if wrong is not None:
            raise DatasetError(
                f"{coco.path}: the id {wrong!r} in '{name}' is no whole number, so that no new ones can be given; "
                "number them"
            )
        highest.append(max(ids, default=0) + 1)
    return highest[0], highest[1]


def _images(coco: CocoFile | IndexedCoco, lines: Lines, originals: bool) -> Iterator[dict[str, Any]]:
    """The images' entries."""
    if originals:
        yield from coco.images
    first, _ = next_ids(coco)
    for number, line in enumerate(lines()):
        yield {"id": first + number, **line["image"]}


def _annotations(coco: CocoFile | IndexedCoco, lines: Lines, originals: bool) -> Iterator[dict[str, Any]]:
    """The annotations' entries."""
    if originals:
        yield from _original_annotations(coco)
    image, annotation = next_ids(coco)
    for place, line in enumerate(lines()):
        for entry in line["annotations"]:
            yield {"id": annotation, "image_id": image + place, **entry}
            annotation += 1


def _original_annotations(coco: CocoFile | IndexedCoco) -> Iterator[dict[str, Any]]:
    """All annotations as they stand in the file."""
    if isinstance(coco, CocoFile):
        yield from coco.annotations
        return
    for place in range(len(coco.images)):
        yield from coco.index.annotations(coco.index.of_image(place))
