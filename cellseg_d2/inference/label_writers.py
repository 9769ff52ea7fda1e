"""Files of predictions that other programs open: label images, probability maps, a COCO data set."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
import tifffile

from .. import __version__
from ..files import atomic_write, write_json

__all__ = ["write_coco", "write_labels", "write_probability"]

CATEGORIES = ({"id": 1, "name": "cell", "supercategory": "cell"},)


def write_labels(path: str | Path, labels: np.ndarray) -> Path:
    """Write a label image as TIFF: uint16, or uint32 where a label is above 65,535.

    Args:
        path: moved into place when complete.
        labels: (H, W) integers, 0 background, 1 and more the cells.

    Raises:
        ValueError: another shape or type, or a negative label.
    """
    labels = np.asarray(labels)
    if labels.ndim != 2 or not labels.size or labels.dtype.kind not in "ui":
        raise ValueError(f"{path}: labels are (H, W) integers, not {labels.shape} of {labels.dtype}")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high > np.iinfo(np.uint32).max:
        raise ValueError(f"{path}: labels of {low}..{high} do not fit; set pixels to ignore to 0 before writing")
    return _write_tiff(path, labels.astype(np.uint16 if high <= np.iinfo(np.uint16).max else np.uint32))


def write_probability(path: str | Path, probability: np.ndarray) -> Path:
    """Write a probability map as TIFF, float32 from 0 to 1.

    Args:
        path: moved into place when complete.
        probability: (H, W) float.

    Raises:
        ValueError: another shape, or values that are NaN or outside 0..1.
    """
    probability = np.asarray(probability, dtype=np.float32)
    if probability.ndim != 2 or not probability.size:
        raise ValueError(f"{path}: a probability map has one value a pixel, (H, W), not {probability.shape}")
    low, high = probability.min(), probability.max()
    if not (low >= 0 and high <= 1):
        raise ValueError(f"{path}: probabilities lie in 0..1, these in {low:g}..{high:g}")
    return _write_tiff(path, probability)


def write_coco(path: str | Path, images: Sequence[Mapping[str, Any]], results: Iterable[Mapping[str, Any]]) -> Path:
    """Write predictions as a COCO data set: they can be looked at, corrected, and trained on or scored against.

    Args:
        path: JSON file, moved into place when complete.
        images: with ``file_name``, ``height``, ``width``, optionally an ``id`` (all of them, or none: then numbered
            from 1) and further keys, which are kept.
        results: COCO results with masks, such as ``CellPrediction.cells``; ``image_id`` is an image's ``id`` or
            ``file_name``. All cells become category 1; ``score`` and ``mask_score`` are kept.

    Raises:
        ValueError: an image is named twice or has no size; a result has no mask, one of another size, or no image.
    """
    entries, places = _image_entries(path, images)
    annotations = []
    for number, result in enumerate(results, start=1):
        image = places.get(result["image_id"])
        if image is None:
            raise ValueError(f"{path}: result {number} is of image {result['image_id']!r}, which is not in the list")
        annotations.append({"id": number, "image_id": image["id"], **_annotation(path, number, result, image)})
    info = {"description": "Cells found by cellseg_d2", "version": __version__}
    content = {"info": info, "images": entries, "annotations": annotations, "categories": list(CATEGORIES)}
    return write_json(path, content)


def _image_entries(path: str | Path, images: Sequence[Mapping[str, Any]]) -> tuple[list[dict], dict[Any, dict]]:
    """COCO's entries, and the entry of each id and file name."""
    entries: list[dict] = []
    for number, image in enumerate(images, start=1):
        missing = [key for key in ("file_name", "height", "width") if key not in image]
        if missing:
            raise ValueError(f"{path}: images[{number - 1}] has no {', '.join(missing)}")
        if ("id" in image) != ("id" in images[0]) or not isinstance(image.get("id", number), int | np.integer):
            raise ValueError(f"{path}: ids of images are whole numbers; give one to every image, or to none")
        numbers = {"id": int(image.get("id", number)), "height": int(image["height"]), "width": int(image["width"])}
        entries.append({**image, **numbers, "file_name": str(image["file_name"])})
    for key in ("id", "file_name"):
        for value, count in Counter(entry[key] for entry in entries).most_common(1):
            if count > 1:
                raise ValueError(f"{path}: {count} images have the {key} {value!r}")
    return entries, {entry[key]: entry for entry in entries for key in ("id", "file_name")}


def _annotation(path: str | Path, number: int, result: Mapping[str, Any], image: Mapping[str, Any]) -> dict[str, Any]:
    """What an annotation takes from a result."""
    rle = result.get("segmentation")
    if not isinstance(rle, Mapping) or list(rle["size"]) != [image["height"], image["width"]]:
        raise ValueError(
            f"{path}: result {number} (image {image['file_name']}) needs run lengths of size "
            f"{[image['height'], image['width']]}, but has {rle['size'] if isinstance(rle, Mapping) else 'none'}"
        )
    counts = rle["counts"].decode("ascii") if isinstance(rle["counts"], bytes) else rle["counts"]
    scores = {key: float(result[key]) for key in ("score", "mask_score") if key in result}
    return {
        "category_id": CATEGORIES[0]["id"],
        "bbox": [float(value) for value in result.get("bbox", mask_util.toBbox(rle))],
        "area": int(mask_util.area(rle)),
        **scores,
        "iscrowd": 0,
        "segmentation": {"size": list(rle["size"]), "counts": counts},
    }


def _write_tiff(path: str | Path, values: np.ndarray) -> Path:
    """One zlib-compressed frame; without a predictor, which not every program undoes for floats."""
    content = BytesIO()
    tifffile.imwrite(content, values, compression="zlib", photometric="minisblack", metadata={"axes": "YX"})
    return atomic_write(path, lambda stream: stream.write(content.getvalue()))
