"""Several COCO data sets as one."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ..errors import MissingDataError
from .datasets.coco_json import read_coco

__all__ = ["Part", "merge"]


class Part(NamedTuple):
    """A data set that goes into a merged one: the ``cell_type`` its images get, COCO JSON and image folder."""

    cell_type: str
    json_file: Path
    images: Path


def merge(parts: Iterable[Part], folder: str | Path) -> dict:
    """One COCO data set of several, as a dict to be written as JSON into ``folder``.

    Images and annotations are numbered anew, categories of the same name are one, ``file_name`` becomes relative to
    ``folder``, and each image gets the ``cell_type`` of its part (an empty one leaves what it has). Other keys stay.

    Raises:
        MissingDataError: an image is not in its folder.
        DatasetError: see :func:`.datasets.coco_json.read_coco`.
    """
    target = Path(folder).resolve()  # ".." leads elsewhere from a link
    images: list[dict] = []
    annotations: list[dict] = []
    categories: dict[str, dict] = {}
    for part in parts:
        coco, root = read_coco(part.json_file), part.images.resolve()
        gone = [image["file_name"] for image in coco.images if not (root / image["file_name"]).is_file()]
        if gone:
            raise MissingDataError(
                f"{len(gone)} of {len(coco.images)} images of {part.json_file} are not below {part.images}, "
                f"first {gone[0]}"
            )
        for category in coco.categories:
            categories.setdefault(category["name"], {**category, "id": len(categories) + 1})
        new_class = {category["id"]: categories[category["name"]]["id"] for category in coco.categories}
        new_image = {image["id"]: len(images) + i for i, image in enumerate(coco.images, start=1)}
        for image in coco.images:
            path = os.path.relpath(root / image["file_name"], target)
            moved = {**image, "id": new_image[image["id"]], "file_name": Path(path).as_posix()}
            images.append({**moved, "cell_type": part.cell_type} if part.cell_type else moved)
        for annotation in coco.annotations:
            owner, kind = new_image[annotation["image_id"]], new_class[annotation["category_id"]]
            annotations.append({**annotation, "id": len(annotations) + 1, "image_id": owner, "category_id": kind})
    return {"images": images, "annotations": annotations, "categories": list(categories.values())}
