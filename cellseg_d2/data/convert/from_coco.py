"""The images and cells of a COCO data set, for the writers of the other formats."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

from pycocotools import mask as mask_util

from ...errors import DatasetError, MissingDataError
from ..datasets.coco_json import CocoFile, to_dataset_dicts
from ..rle import as_rle
from .output import place_of
from .records import Cell, Notes, Picture
from .stacks import frame_size

__all__ = ["pictures"]


def pictures(coco: CocoFile, images: Path, notes: Notes) -> tuple[int, Iterator[Picture]]:
    """The number of images, and the images with their cells, one by one.

    Crowds, and outlines that cover no pixel, are left out and counted in ``notes``.

    Raises:
        DatasetError: two images would get the same file, or an image has another size than the JSON says (when the
            image's turn comes).
        MissingDataError: images are not there.
    """
    records, left_out = to_dataset_dicts(coco, _Places(images).find)
    gone = [record["file_name"] for record in records if not Path(record["file_name"]).is_file()]
    if gone:
        raise MissingDataError(f"{len(gone)} of {len(records)} images of {coco.path} are not there, first {gone[0]}")
    names = [image["file_name"] for image in coco.images]
    place, count = Counter(place_of(name, ".file") for name in names).most_common(1)[0] if names else ("", 0)
    if count > 1:
        alike = [name for name in names if place_of(name, ".file") == place]
        raise DatasetError(f"{coco.path}: {' and '.join(alike)} would get the same file; rename one of them")
    notes.warnings["annotations or polygons have no valid outline, left out"] += left_out
    labels = {annotation["id"]: annotation.get("label") for annotation in coco.annotations}
    return len(names), (
        _picture(record, name, labels, coco.classes, notes) for record, name in zip(records, names, strict=True)
    )


class _Places:
    """Where the images of a JSON lie below a folder: at their path, or in a sub-folder, as LIVECell's do."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.by_name: dict[str, list[Path]] | None = None  # of all files below; made when a path is not there

    def find(self, file_name: str) -> str:
        """The image's path; that of the JSON where no file, or several, have its name."""
        place = self.folder / file_name
        if place.is_file():
            return str(place)
        if self.by_name is None:
            self.by_name = defaultdict(list)
            for path in self.folder.rglob("*.*"):
                self.by_name[path.name].append(path)
        found = self.by_name.get(place.name, [])
        return str(found[0] if len(found) == 1 else place)


def _picture(record: dict, file_name: str, labels: dict, classes: list[str], notes: Notes) -> Picture:
    """One image."""
    path, height, width = Path(record["file_name"]), record["height"], record["width"]
    found = frame_size(path)
    if found != (height, width):
        raise DatasetError(
            f"{path} has {found[1]} x {found[0]} pixels, but the JSON says {width} x {height}; is it another image?"
        )
    cells = []
    for annotation in record["annotations"]:
        if annotation["iscrowd"]:
            notes.warnings["crowd annotations are no single cells, left out"] += 1
        elif not mask_util.area(as_rle(annotation["segmentation"], height, width)):
            notes.warnings["outlines cover no pixel of their image, left out"] += 1
        else:
            label = labels[annotation["id"]]
            good = isinstance(label, int) and not isinstance(label, bool) and label > 0
            category = classes[annotation["category_id"]]
            cells.append(Cell(annotation["segmentation"], category, label if good else None))
    return Picture(path, file_name, height, width, cells)
