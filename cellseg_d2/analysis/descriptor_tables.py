"""The descriptors of all cells and images of a COCO data set, with the image that each one was made from."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import ndimage

from ..data.datasets.coco_json import CocoFile
from ..data.datasets.columns import IndexedCoco
from ..data.datasets.records import dataset_dicts
from ..data.image_folder import image_places, read_annotated
from ..data.image_io import to_grey
from ..data.label_maps import rasterise
from ..data.livecell_names import parse_name
from ..data.rle import as_rle
from ..data.stats import GROUPS
from .descriptors import CELL_NAMES, cell_descriptors, image_descriptors

__all__ = ["Described", "describe", "source_of"]

Track = Callable[[Iterable[Any]], Iterable[Any]]
Coco = CocoFile | IndexedCoco
NO_NAMES: Mapping[Any, str] = {}
DeepFeatures = Callable[[str, np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Described:
    """A data set in descriptors.

    Attributes:
        cells: a row a cell: ``image`` (file name in the JSON), ``cell`` (id of the annotation), ``source`` (the image
            that the cell was cut out of; where its annotation does not name one, its image's source), ``synthetic``
            (its annotation says where it was taken from), ``cell_type``, ``well``, ``time``, ``at_border`` and
            :data:`.descriptors.CELL_NAMES`.
        images: a row an image: ``image``, ``source`` (the image that it was made from, or itself), ``cell_type``,
            ``well``, ``time``, ``cells`` (their number) and :data:`.descriptors.IMAGE_NAMES`.
        foreign: synthetic cells that were cut out of another image than their image's source.
        deep_cells, deep_images: (N, C) and (M, C) float32 features of a network, rows as in the tables; None without.
    """

    cells: pd.DataFrame
    images: pd.DataFrame
    foreign: int
    deep_cells: np.ndarray | None = None
    deep_images: np.ndarray | None = None


def describe(
    coco: Coco,
    folder: str | Path,
    names: Mapping[Any, str] = NO_NAMES,
    track: Track = iter,
    deep: DeepFeatures | None = None,
) -> Described:
    """Describe all images of a data set and their cells; crowds count neither as cells nor as background.

    A pixel belongs to one cell: where outlines overlap, to the smaller one.

    Args:
        coco: from :func:`~cellseg_d2.data.datasets.columns.open_coco`.
        folder: its images; one that is not where its name says is found by its base name.
        names: image id -> file name of the data set that provenance refers to.
        track: wraps the images that are gone through, to show progress.
        deep: path of an image and (N, 4) boxes x0, y0, x1, y1 of its cells -> their features (N, C) and those of the
            image (C,); from :func:`.deep_features.deep_extractor`.

    Raises:
        MissingDataError: no such folder, or images that are not in it.
        DatasetError: no image at all, one that is damaged or of another size than the JSON says.
    """
    records, _ = dataset_dicts(coco, image_places(coco, folder).get)
    written = _written(coco)
    cells, images, foreign, features = [], [], 0, []
    for index in track(range(len(records))):
        record, entry = records[index], coco.images[index]
        origins = {a["id"]: a["provenance"] for a in written(index) if isinstance(a.get("provenance"), dict)}
        labels, image = _opened(record)
        found = cell_descriptors(labels, image)
        ids = [record["annotations"][label - 1]["id"] for label in found["label"]]
        source = source_of(entry, origins.values(), names)
        cut_from = {i: _named(origin.get("source_image"), names) or source for i, origin in origins.items()}
        foreign += sum(name != source for name in cut_from.values())
        own = {"image": entry["file_name"], "source": source, **_group_names(entry)}
        sources = [cut_from.get(i, source) for i in ids]
        cells.append(found.assign(**own | {"source": sources}, cell=ids, synthetic=[i in origins for i in ids]))
        images.append({**own, "cells": len(found), **image_descriptors(labels, image, found)})
        if deep is not None:
            features.append(deep(record["file_name"], _boxes(labels, found["label"].to_numpy())))
    first = ["image", "cell", "source", "synthetic", *GROUPS, "at_border"]
    table = pd.concat(cells, ignore_index=True)[[*first, *CELL_NAMES]]
    return Described(table, pd.DataFrame(images), foreign, *_joined(features))


def source_of(entry: Mapping[str, Any], origins: Iterable[Mapping], names: Mapping[Any, str]) -> str:
    """The image that an image was made from; its own file name where nothing says it.

    That is ``source_image`` of its entry, or of the entry's ``provenance``, or what all its cells' provenance names.

    Args:
        entry: of the image, in the JSON.
        origins: provenance of its annotations that have one.
        names: image id -> file name, for sources that are named by their id.

    >>> source_of({"file_name": "b.tif", "source_image": 7}, [], {7: "a.tif"})
    'a.tif'
    """
    told = entry.get("provenance")
    said = entry.get("source_image") or (told.get("source_image") if isinstance(told, Mapping) else told)
    if said is None:
        named = {_named(origin.get("source_image"), names) for origin in origins} - {""}
        return named.pop() if len(named) == 1 else entry["file_name"]
    return _named(said, names)


def _named(source: Any, names: Mapping[Any, str]) -> str:
    """File name of a source that is given by its name or by its id; empty for None."""
    return "" if source is None else str(names.get(source, source))


def _written(coco: Coco) -> Callable[[int], list[dict]]:
    """Place of an image in the JSON -> its annotations as they stand there."""
    if isinstance(coco, IndexedCoco):
        return lambda place: coco.index.annotations(coco.index.of_image(place))
    own: dict[Any, list[dict]] = {image["id"]: [] for image in coco.images}
    for annotation in coco.annotations:
        own[annotation["image_id"]].append(annotation)
    return lambda place: own[coco.images[place]["id"]]


def _opened(record: dict) -> tuple[np.ndarray, np.ndarray]:
    """Label map and grey image of a record."""
    image, size = to_grey(read_annotated(record)), (record["height"], record["width"])
    solid = [a | {"segmentation": as_rle(a["segmentation"], *size)} for a in record["annotations"]]
    return rasterise(solid, *size), image


def _boxes(labels: np.ndarray, names: np.ndarray) -> np.ndarray:
    """(N, 4) float32 x0, y0, x1, y1 of cells, pixel edges."""
    places = ndimage.find_objects(np.maximum(labels, 0))
    found = [places[name - 1] for name in names]
    boxes = [(columns.start, rows.start, columns.stop, rows.stop) for rows, columns in found]
    return np.array(boxes, dtype=np.float32).reshape(-1, 4)


def _joined(features: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Features of all cells and of all images; None without any."""
    if not features:
        return None, None
    return np.concatenate([cells for cells, _ in features]), np.stack([image for _, image in features])


def _group_names(entry: Mapping[str, Any]) -> dict[str, str | None]:
    """What an image is grouped by, from its entry or its file name; None where neither says it."""
    parts = parse_name(entry["file_name"])
    said = {key: parts.get(key) if entry.get(key) is None else str(entry[key]) for key in GROUPS}
    return {**said, "cell_type": said["cell_type"].lower() if said["cell_type"] else None}
