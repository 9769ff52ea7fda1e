"""The cells and the images of a COCO data set as tables, a row each."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pycocotools import mask as mask_util

from ..datasets.coco_json import CocoFile
from ..datasets.columns import IndexedCoco
from ..datasets.records import dataset_dicts
from ..image_folder import image_places, read_annotated
from ..image_io import to_grey
from ..livecell_names import parse_name
from ..rle import as_rle
from .cells import CELL_COLUMNS, IMAGE_COLUMNS, Measures, measure_image

__all__ = ["GROUPS", "Tables", "cell_table", "image_table", "measure"]

logger = logging.getLogger(__name__)

# What images may be grouped by: a key of their entries in the JSON, or a part of LIVECell's file names
GROUPS = ("cell_type", "well", "time")
Track = Callable[[Iterable[Any]], Iterable[Any]]


@dataclass(frozen=True)
class Tables:
    """A data set in numbers.

    Attributes:
        cells: a row a cell: ``image`` (file name in the JSON), ``image_id``, ``cell`` (id of the annotation),
            ``category``, ``cell_type``, ``well``, ``time``, and :data:`.cells.CELL_COLUMNS`.
        images: a row an image: ``image``, ``image_id``, ``cell_type``, ``well``, ``time``, and
            :data:`.cells.IMAGE_COLUMNS`.
        left_out: annotations without a valid outline, polygons of fewer than three points, and outlines that cover no
            pixel.
    """

    cells: pd.DataFrame
    images: pd.DataFrame
    left_out: int


def measure(coco: CocoFile | IndexedCoco, images: str | Path, track: Track = iter) -> Tables:
    """Measure all images of a data set and their cells; crowds are no cells.

    Args:
        coco: from :func:`~cellseg_d2.data.datasets.columns.open_coco`.
        images: folder of its images; one that is not where its name says is found by its base name below the folder.
        track: wraps the images that are gone through, to show progress.

    Raises:
        MissingDataError: no such folder, or images that are not in it (counted).
        DatasetError: an image that is damaged or of another size than the JSON says, or a JSON without any image.
    """
    places = image_places(coco, images)
    records, left_out = dataset_dicts(coco, places.get)
    image_rows, image_names, cell_parts, empty = [], [], [], 0
    for index in track(range(len(records))):
        record, entry = records[index], coco.images[index]
        found, kept, pixelless = _measure_record(record)
        empty += pixelless
        name = {"image": entry["file_name"], "image_id": entry["id"], **_group_names(entry)}
        image_names.append(name)
        image_rows.append(found.image)
        own = {
            "cell": [annotation["id"] for annotation in kept],
            "category": [coco.classes[annotation["category_id"]] for annotation in kept],
        }
        cell_parts.append((name, own, found.cells))
    if empty:  # dataset_dicts has said the others
        logger.warning("%s: left out %d annotations whose outlines cover no pixel", coco.path, empty)
    frame = pd.DataFrame(image_names).join(pd.DataFrame(image_rows, columns=list(IMAGE_COLUMNS)))
    return Tables(_cells_frame(cell_parts), frame.astype(dict.fromkeys(GROUPS, "str")), left_out + empty)


def cell_table(coco: CocoFile | IndexedCoco, images: str | Path) -> pd.DataFrame:
    """A row a cell; see :class:`Tables` and, for arguments and errors, :func:`measure`, which gives both tables."""
    return measure(coco, images).cells


def image_table(coco: CocoFile | IndexedCoco, images: str | Path) -> pd.DataFrame:
    """A row an image; see :class:`Tables` and, for arguments and errors, :func:`measure`, which gives both tables."""
    return measure(coco, images).images


def _measure_record(record: dict) -> tuple[Measures, list[dict], int]:
    """Measures of one image, the annotations that its cells are, and how many cover no pixel."""
    image, size = to_grey(read_annotated(record)), (record["height"], record["width"])
    outlined = [(annotation, as_rle(annotation["segmentation"], *size)) for annotation in record["annotations"]]
    solid = [pair for pair in outlined if mask_util.area(pair[1])]
    cells = [(annotation, rle) for annotation, rle in solid if not annotation["iscrowd"]]
    crowds = [rle for annotation, rle in solid if annotation["iscrowd"]]
    found = measure_image(image, [rle for _, rle in cells], crowds)
    return found, [annotation for annotation, _ in cells], len(outlined) - len(solid)


def _group_names(entry: dict) -> dict[str, str | None]:
    """What an image is grouped by, as text; None where neither its entry nor its file name says it."""
    parts = parse_name(entry["file_name"])
    said = {key: parts.get(key) if entry.get(key) is None else str(entry[key]) for key in GROUPS}
    return {**said, "cell_type": said["cell_type"].lower() if said["cell_type"] else None}


def _cells_frame(parts: list[tuple[dict, dict, dict[str, np.ndarray]]]) -> pd.DataFrame:
    """The table of cells of images' names, cells' names and measures; columns of text stay text without any cell."""
    counts = [len(cells["area"]) for *_, cells in parts]
    columns: dict[str, Any] = {}
    for key in ("image", "image_id"):
        columns[key] = pd.Series([name[key] for name, *_ in parts]).repeat(counts).to_numpy()
    for key in ("cell", "category"):
        columns[key] = [value for _, own, _ in parts for value in own[key]]
    for key in GROUPS:
        columns[key] = pd.Series([name[key] for name, *_ in parts], dtype="str").repeat(counts).to_numpy()
    for key in CELL_COLUMNS:
        columns[key] = np.concatenate([cells[key] for *_, cells in parts])
    return pd.DataFrame(columns).astype(dict.fromkeys(("image", "category", *GROUPS), "str"))
