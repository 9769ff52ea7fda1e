"""GeoJSON for QuPath: the cells of a file as objects with class, name and measurements."""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import pycocotools.mask as mask_util

from ...data.convert.geojson import feature
from ..measures.crops import cell_numbers
from ..records import FrameCells
from .spool import spooled

__all__ = ["write_geojson"]


def write_geojson(
    path: str | Path, results: Sequence[FrameCells], object_type: Literal["annotation", "detection"] = "annotation"
) -> Path:
    """Write a FeatureCollection of the cells of one file's frames; outlines fill to exactly the masks.

    Coordinates are pixels, 0, 0 the upper left corner of the image. A cell's name is its number in the label image
    (``track_id``, or 1..N), its class the category; measurements are "Score", "Mask score", "Area px^2" and, where the
    pixel size is known, "Area µm^2". In a stack each cell lies on its plane. Cells without a pixel are left out.

    Args:
        path: NAME.geojson, moved into place when complete.
        results: frames, those of a stack with their ``place``.
        object_type: annotations can be corrected in QuPath, and ``tools/dataset.py convert --from geojson`` reads them
            back; detections can not, but QuPath shows hundreds of thousands of them quickly.
    """
    with spooled(path) as stream:
        stream.write(b'{"type": "FeatureCollection", "features": [')
        for number, item in enumerate(_features(results, object_type)):
            stream.write(((",\n" if number else "\n") + json.dumps(item, allow_nan=False)).encode())
        stream.write(b"\n]}\n")
    return Path(path)


def _features(results: Sequence[FrameCells], object_type: str) -> Iterator[dict[str, Any]]:
    """The features of all frames."""
    for result in results:
        for number, cell in zip(cell_numbers(result.cells), result.cells):
            area = int(mask_util.area(cell["segmentation"]))
            if not area:
                continue
            values = {"Score": cell.get("score"), "Mask score": cell.get("mask_score"), "Area px^2": area}
            if result.frame.pixel_size:
                values["Area µm^2"] = area * result.frame.pixel_size**2
            told = {name: float(value) for name, value in values.items() if value is not None and math.isfinite(value)}
            category = result.classes[cell["category_id"]]
            yield feature(cell["segmentation"], category, str(number), told, result.frame.place, object_type)
