"""Read a COCO JSON file, say clearly what is wrong with it, and turn it into Detectron2's dataset dicts."""

import logging
import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from detectron2.data import MetadataCatalog
from detectron2.structures import BoxMode
from pycocotools import mask as mask_util

from ...errors import DatasetError
from ...files import read_json
from ..rle import parse_runs

__all__ = [
    "Categories",
    "CocoFile",
    "check_outlines",
    "check_tables",
    "clean_annotation",
    "image_record",
    "read_coco",
    "require_known",
    "require_unique",
    "set_metadata",
    "to_dataset_dicts",
]

logger = logging.getLogger(__name__)


class Categories:
    """What follows from ``categories``, which are sorted by id."""

    categories: list[dict]

    @property
    def classes(self) -> list[str]:
        """Class names in the order of the contiguous, 0-based class ids."""
        return [category["name"] for category in self.categories]

    @property
    def contiguous_ids(self) -> dict[int, int]:
        """Category id in the file -> contiguous, 0-based class id."""
        return {category["id"]: index for index, category in enumerate(self.categories)}


@dataclass(frozen=True)
class CocoFile(Categories):
    """The checked tables of one COCO JSON file; ``categories`` are sorted by id."""

    path: Path
    images: list[dict]
    annotations: list[dict]
    categories: list[dict]


def read_coco(path: str | Path) -> CocoFile:
    """Read and check the structure of a COCO instance JSON.

    Args:
        path: the JSON file. Its ``annotations`` may be a list, or a dict of annotations as in some LIVECell files.

    Raises:
        MissingDataError: there is no such file.
        DatasetError: not JSON or cut off, a table or key is missing, ids are doubled or point nowhere.
    """
    path = Path(path)
    content = read_json(path)
    if not isinstance(content, dict):
        raise DatasetError(
            f"{path}: a COCO data set is a JSON object with 'images', 'annotations' and 'categories', "
            f"but this is a {type(content).__name__} (a file of results?)"
        )
    missing = [key for key in ("images", "annotations", "categories") if key not in content]
    if missing:
        raise DatasetError(f"{path}: no {', '.join(map(repr, missing))} in this file; a COCO data set has all three")
    images, annotations, categories = (
        list(table.values()) if isinstance(table, dict) else table
        for table in (content["images"], content["annotations"], content["categories"])
    )
    check_tables(path, images, categories)
    _require_keys(path, "annotations", annotations, ("id", "image_id", "category_id"))
    require_unique(path, "annotations", (entry["id"] for entry in annotations))
    require_known(path, annotations, "image_id", {image["id"] for image in images})
    require_known(path, annotations, "category_id", {category["id"] for category in categories})
    return CocoFile(path, images, annotations, sorted(categories, key=lambda category: category["id"]))


def check_tables(path: Path, images: list[dict], categories: list[dict]) -> None:
    """Check the two short tables of a COCO file.

    Raises:
        DatasetError: a key is missing, or ids are doubled.
    """
    if not categories:
        raise DatasetError(f"{path}: 'categories' is empty; add one such as {{'id': 1, 'name': 'cell'}}")
    _require_keys(path, "categories", categories, ("id", "name"))
    _require_keys(path, "images", images, ("id", "file_name", "height", "width"))
    for name, table in (("categories", categories), ("images", images)):
        require_unique(path, name, (entry["id"] for entry in table))


def to_dataset_dicts(coco: CocoFile, locate: Callable[[str], str | None]) -> tuple[list[dict], int]:
    """Detectron2's dataset dicts of the images that ``locate`` finds.

    Args:
        coco: a file read by :func:`read_coco`.
        locate: ``file_name`` of the JSON -> absolute path of the image, or None to leave the image out.

    Returns:
        The records, in the file's order, and the number of annotations and polygons that were left out because they
        have no valid outline (logged). Each annotation keeps ``id``, ``area``, ``iscrowd`` and ``bbox`` (XYWH_ABS), in
        original pixels; polygons stay lists, run lengths become compressed COCO RLE. Images without annotations stay.
        A record has ``cell_type`` (lower case) where its image entry has it.
    """
    records: dict[Hashable, dict] = {}
    for image in coco.images:
        place = locate(image["file_name"])
        if place is not None:
            records[image["id"]] = image_record(coco.path, image, place)
    left_out = Counter()
    contiguous = coco.contiguous_ids
    for source in coco.annotations:
        record = records.get(source["image_id"])
        if record is None:
            continue
        annotation = clean_annotation(coco.path, source, record, left_out)
        if annotation is not None:
            annotation["category_id"] = contiguous[source["category_id"]]
            record["annotations"].append(annotation)
    any_left = any(record["annotations"] for record in records.values())
    check_outlines(coco.path, left_out["annotations"], left_out["polygons"], any_left)
    return list(records.values()), sum(left_out.values())


def check_outlines(path: Path, annotations: int, polygons: int, any_left: bool) -> None:
    """Log how many annotations and polygons are left out.

    Raises:
        DatasetError: annotations are left out, and none remains.
    """
    if annotations or polygons:
        logger.warning(
            "%s: left out %d annotations without a valid outline and %d polygons of fewer than three points",
            path, annotations, polygons,
        )  # fmt: skip
    if annotations and not any_left:
        raise DatasetError(
            f"{path}: none of the {annotations} annotations has an outline; each needs a "
            f"'segmentation' (polygons or run lengths), boxes alone are not enough"
        )


def set_metadata(name: str, coco: Categories, image_root: Path, **more: object) -> None:
    """Set a data set's metadata, replacing what it had before (Detectron2 alone refuses to)."""
    values = {
        "thing_classes": coco.classes, "thing_dataset_id_to_contiguous_id": coco.contiguous_ids,
        "evaluator_type": "coco", "image_root": str(image_root), **more,
    }  # fmt: skip
    if name in MetadataCatalog.list() and MetadataCatalog.get(name).as_dict() != {"name": name, **values}:
        MetadataCatalog.pop(name)
    MetadataCatalog.get(name).set(**values)


def _require_keys(path: Path, table: str, entries: list[dict], keys: tuple[str, ...]) -> None:
    """Every entry is an object that has all ``keys``."""
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise DatasetError(f"{path}: {table}[{index}] is a {type(entry).__name__}, not an object")
        missing = [key for key in keys if key not in entry]
        if missing:
            raise DatasetError(f"{path}: {table}[{index}] has no {', '.join(map(repr, missing))}")


def require_unique(path: Path, table: str, ids: Iterable[Hashable]) -> None:
    """No id occurs twice."""
    doubled = [value for value, count in Counter(ids).items() if count > 1]
    if doubled:
        raise DatasetError(f"{path}: {len(doubled)} ids in '{table}' are used more than once, first {doubled[0]!r}")


def require_known(path: Path, annotations: list[dict], key: str, known: set) -> None:
    """Every annotation's ``key`` is one of ``known``."""
    unknown = [annotation for annotation in annotations if annotation[key] not in known]
    if unknown:
        raise DatasetError(
            f"{path}: {len(unknown)} annotations have a {key} that is not in the file, "
            f"the first is annotation {unknown[0]['id']!r} with {key} {unknown[0][key]!r}"
        )


def image_record(path: Path, image: dict, place: str) -> dict:
    """The dataset dict of one image, still without annotations."""
    height, width = image["height"], image["width"]
    if not all(isinstance(side, (int, float)) and side >= 1 and side == int(side) for side in (height, width)):
        raise DatasetError(f"{path}: image {image['file_name']} has height {height!r} and width {width!r}")
    record = {
        "file_name": place, "image_id": image["id"], "height": int(height), "width": int(width), "annotations": [],
    }  # fmt: skip
    cell_type = image.get("cell_type")
    if cell_type is None:
        return record
    if not isinstance(cell_type, str):
        raise DatasetError(f"{path}: image {image['file_name']} has cell_type {cell_type!r}, which is not a text")
    return {**record, "cell_type": cell_type.lower()}


def clean_annotation(path: Path, source: dict, record: dict, left_out: Counter) -> dict | None:
    """One annotation with its outline cleaned, or None (counted in ``left_out``) where it has none."""
    segmentation = source.get("segmentation")
    size = [record["height"], record["width"]]
    if isinstance(segmentation, dict):
        segmentation = _compressed(path, source["id"], segmentation, size)
    else:
        polygons = segmentation or []
        if not isinstance(polygons, list) or not all(isinstance(polygon, list) for polygon in polygons):
            raise DatasetError(
                f"{path}: the outline of annotation {source['id']!r} is neither a list of polygons, which are lists "
                "themselves, nor run lengths"
            )
        segmentation = [polygon for polygon in polygons if len(polygon) >= 6 and len(polygon) % 2 == 0]
        left_out["polygons"] += len(polygons) - len(segmentation)
        if not all(map(_is_finite, segmentation)):
            raise DatasetError(f"{path}: the outline of annotation {source['id']!r} has values that are not numbers")
    if not segmentation:
        left_out["annotations"] += 1
        return None
    annotation = {
        "id": source["id"], "iscrowd": int(source.get("iscrowd") or 0), "segmentation": segmentation,
        "bbox": source.get("bbox"), "bbox_mode": BoxMode.XYWH_ABS, "area": source.get("area"),
    }  # fmt: skip
    if annotation["bbox"] is None or annotation["area"] is None:
        is_rle = isinstance(segmentation, dict)
        rle = segmentation if is_rle else mask_util.merge(mask_util.frPyObjects(segmentation, *size))
        if annotation["bbox"] is None:
            annotation["bbox"] = _extent(segmentation, rle)
        if annotation["area"] is None:
            annotation["area"] = float(mask_util.area(rle))
    return annotation


def _is_finite(polygon: list[float]) -> bool:
    """All coordinates are numbers, and finite."""
    try:
        return math.isfinite(sum(polygon))
    except TypeError:
        return False


def _compressed(path: Path, annotation_id: object, rle: dict, size: list[int]) -> dict | None:
    """Compressed COCO RLE (counts as str) of compressed or plain run lengths; None for an empty mask."""
    compressed, problem = parse_runs(rle, size)
    if compressed is None:
        raise DatasetError(f"{path}: the run lengths of annotation {annotation_id!r} cannot be used: {problem}")
    return compressed if mask_util.area(compressed) else None


def _extent(segmentation: list[list[float]] | dict, rle: dict) -> list[float]:
    """Box [x, y, w, h] around polygons or a mask."""
    if isinstance(segmentation, dict):
        return mask_util.toBbox(rle).tolist()
    points = np.concatenate([np.asarray(polygon, dtype=np.float64).reshape(-1, 2) for polygon in segmentation])
    low, high = points.min(axis=0), points.max(axis=0)
    return [*low.tolist(), *(high - low).tolist()]
