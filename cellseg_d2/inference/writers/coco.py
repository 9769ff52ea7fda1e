"""COCO: a data set of images and the cells found in them, and plain results; both written while cells are found."""

import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Self

import numpy as np
import pycocotools.mask as mask_util

from ... import __version__
from ...files import atomic_write
from .spool import spooled

__all__ = ["CocoWriter", "ResultsWriter", "write_results"]

Cells = Sequence[Mapping[str, Any]]


class CocoWriter:
    """Writes a COCO data set, image by image; it can be corrected, trained on, and scored as results.

    >>> with CocoWriter("cells.json", ("cell",)) as writer:  # doctest: +SKIP
    ...     writer.add({"file_name": "a.tif", "height": 520, "width": 704}, cells)

    The file comes into place when the block ends, and not where it is left by an exception. Annotations wait in a
    nameless file beside it, so that memory holds one image's cells.

    Args:
        path: JSON file.
        classes: names of the categories, whose ids are from 1.
        info: what COCO's ``info`` says besides description and version.
    """

    def __init__(self, path: str | Path, classes: Sequence[str] = ("cell",), info: Mapping[str, Any] | None = None):
        self.path, self.classes = Path(path), tuple(classes)
        self.info = {"description": "Cells found by cellseg_d2", "version": __version__, **(info or {})}
        self.images: list[dict[str, Any]] = []
        self.annotations = 0
        self._ids: set[int] = set()
        self._spool: IO[bytes] | None = None

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._spool = tempfile.TemporaryFile(dir=self.path.parent)
        return self

    def __exit__(self, kind, error, trace) -> None:
        with self._spool:
            if kind is None:
                atomic_write(self.path, self._write)

    def add(self, image: Mapping[str, Any], cells: Cells) -> int:
        """Add an image and its cells.

        Args:
            image: ``file_name``, ``height``, ``width``, and what else its entry is to say; an ``id`` of its own is
                kept, else images are numbered on from the largest so far.
            cells: COCO results; ``category_id`` from 0. Their annotations keep ``score``, ``mask_score``, ``bbox`` and
                ``track_id`` (which is also ``label``, the number in label images). Cells without a pixel are left out.

        Returns:
            The image's id.

        Raises:
            ValueError: an entry without one of the three, an id that was there before, a mask of another size, or a
                category that ``classes`` does not name; nothing of the image is written then.
        """
        entry = self._entry(image)
        lines: list[str] = []
        for cell in cells:
            annotation = self._annotation(cell, entry)
            if annotation["area"]:
                annotation = {"id": self.annotations + len(lines) + 1, "image_id": entry["id"], **annotation}
                lines.append(_line(annotation, first=not (self.annotations or lines)))
        self._spool.write("".join(lines).encode())
        self.images.append(entry)
        self._ids.add(entry["id"])
        self.annotations += len(lines)
        return entry["id"]

    def _entry(self, image: Mapping[str, Any]) -> dict[str, Any]:
        """COCO's entry of an image."""
        missing = [key for key in ("file_name", "height", "width") if key not in image]
        if missing:
            raise ValueError(f"{self.path}: an image without {', '.join(missing)}")
        number = int(image.get("id", max(self._ids, default=0) + 1))
        if number in self._ids:
            raise ValueError(f"{self.path}: image id {number} of {image['file_name']} is that of another image")
        sides = {key: int(image[key]) for key in ("height", "width")}
        return {"id": number, **{key: image[key] for key in image if key != "id"}, **sides}

    def _annotation(self, cell: Mapping[str, Any], image: Mapping[str, Any]) -> dict[str, Any]:
        """What an annotation says of a cell."""
        rle, category = cell["segmentation"], int(cell["category_id"])
        if list(rle["size"]) != [image["height"], image["width"]]:
            raise ValueError(f"{self.path}: a mask of {list(rle['size'])} in {image['file_name']} of another size")
        if not 0 <= category < len(self.classes):
            raise ValueError(f"{self.path}: category {category} of {image['file_name']}, classes are {self.classes}")
        track = {key: int(cell[key]) for key in ("label", "track_id") if key in cell}
        track |= {"label": track["track_id"]} if "track_id" in track else {}
        area = int(mask_util.area(rle))
        return {"category_id": category + 1, **_measured(cell), "area": area, "iscrowd": 0, **track}

    def _write(self, stream: IO[bytes]) -> None:
        """The whole data set."""
        categories = [{"id": k, "name": name} for k, name in enumerate(self.classes, start=1)]
        parts = [json.dumps(part, allow_nan=False) for part in (self.info, self.images, categories)]
        stream.write(f'{{"info": {parts[0]},\n"images": {parts[1]},\n"annotations": ['.encode())
        self._spool.seek(0)
        shutil.copyfileobj(self._spool, stream)
        stream.write(f'],\n"categories": {parts[2]}}}\n'.encode())


class ResultsWriter:
    """Writes COCO's list of results, image by image, as :class:`CocoWriter` does; ``path`` is the JSON file."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.results = 0
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stream = self._stack.enter_context(spooled(self.path))
        self._stream.write(b"[")
        return self

    def __exit__(self, kind, error, trace) -> None:
        if kind is None:
            self._stream.write(b"]\n")
        self._stack.__exit__(kind, error, trace)

    def add(self, image_id: int | str, cells: Cells) -> None:
        """Add an image's cells; their ``category_id`` from 0 becomes COCO's from 1."""
        for cell in cells:
            result = {"image_id": image_id, "category_id": int(cell["category_id"]) + 1, **_measured(cell)}
            self._stream.write(_line(result, first=not self.results).encode())
            self.results += 1


def write_results(path: str | Path, images: Iterable[tuple[int | str, Cells]]) -> Path:
    """Write COCO's list of results of images, each its id and its cells; moved into place when complete."""
    with ResultsWriter(path) as writer:
        for image_id, cells in images:
            writer.add(image_id, cells)
    return writer.path


def _measured(cell: Mapping[str, Any]) -> dict[str, Any]:
    """Box, scores and mask of a cell as JSON has them."""
    rle = cell["segmentation"]
    counts = rle["counts"].decode("ascii") if isinstance(rle["counts"], bytes) else rle["counts"]
    scores = {key: float(cell[key]) for key in ("score", "mask_score") if key in cell}
    box = np.asarray(cell["bbox"] if "bbox" in cell else mask_util.toBbox(rle), dtype=np.float64).tolist()
    return {"bbox": box, **scores, "segmentation": {"size": [int(side) for side in rle["size"]], "counts": counts}}


def _line(value: Mapping[str, Any], first: bool) -> str:
    """An item of a JSON list."""
    return ("" if first else ",") + "\n" + json.dumps(value, allow_nan=False)
