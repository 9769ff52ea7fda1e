"""Where the images of a COCO data set are on disk, and what they are."""

import os
from pathlib import Path, PurePath

import numpy as np

from ..errors import DatasetError, MissingDataError
from .datasets.coco_json import CocoFile
from .datasets.columns import IndexedCoco
from .image_io import CorruptImageError, read_raw

__all__ = ["ImageFolder", "image_places", "read_annotated"]


class ImageFolder:
    """A folder of images that a JSON's file names are relative to.

    A file that is not where its name says is found by its base name where only one file below the folder has it.

    Raises:
        MissingDataError: there is no such folder.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise MissingDataError(f"{folder}: there is no such image folder")
        self._below: dict[str, list[Path]] = {}
        for parent, _, names in os.walk(folder):
            for name in names:
                self._below.setdefault(name, []).append(Path(parent, name))

    def locate(self, name: str) -> Path | None:
        """The file of an image, or None."""
        path = self.folder / name
        if path.is_file():
            return path
        others = self._below.get(PurePath(name.replace("\\", "/")).name, [])
        return others[0] if len(others) == 1 else None


def image_places(coco: CocoFile | IndexedCoco, images: str | Path) -> dict[str, str]:
    """``file_name`` in the JSON -> path of the image, for all of them.

    Raises:
        MissingDataError: no such folder, or images that are not below it.
        DatasetError: no image in the JSON, or one without a name.
    """
    if not coco.images:
        raise DatasetError(f"{coco.path}: the table 'images' is empty; there is nothing to measure")
    names = [image["file_name"] for image in coco.images]
    wrong = next((name for name in names if not isinstance(name, str) or not name), None)
    if wrong is not None:
        raise DatasetError(f"{coco.path}: an image has the file_name {wrong!r}, which is not the name of a file")
    folder = ImageFolder(images)
    found = {name: folder.locate(name) for name in names}
    gone = [name for name in names if found[name] is None]
    if gone:
        raise MissingDataError(
            f"{len(gone)} of {len(names)} images of {coco.path} are not below {images}, first {gone[0]}"
        )
    return {name: str(place) for name, place in found.items()}


def read_annotated(record: dict) -> np.ndarray:
    """The image of a dataset dict, values as they are: H x W, or H x W x 3 in RGB order.

    Raises:
        DatasetError: it is damaged, or not of the size that the JSON says.
    """
    path, size = record["file_name"], (record["height"], record["width"])
    try:
        image = read_raw(path)
    except CorruptImageError as error:
        raise DatasetError(f"{error}; copy it again, or leave it out of the JSON") from error
    if image.shape[:2] != size:
        raise DatasetError(
            f"{path} has {image.shape[1]} x {image.shape[0]} pixels, but the JSON says {size[1]} x {size[0]}; "
            "is it another image?"
        )
    return image
