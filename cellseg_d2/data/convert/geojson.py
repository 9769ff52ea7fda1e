"""GeoJSON as QuPath reads and writes it: one file an image, each cell a feature."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from skimage.draw import polygon as fill

from ...crops import encode_crop
from ...errors import DatasetError
from ...files import read_json
from ..rle import as_rle
from .labels import label_numbers
from .outline import rings
from .output import write_each
from .pairs import list_files, pair_files
from .records import Cell, Notes, Picture, Request, Source
from .shapes import checked_polygon
from .stacks import open_stack

__all__ = ["feature", "geojson_sources", "geometry", "write_geojson"]


def geojson_sources(request: Request, notes: Notes) -> list[Source]:
    """The images with their files; of a stack each page, with the features that lie on its plane."""
    files = [request.input] if request.input.is_file() else list_files(request.input, (".geojson",))
    sources = []
    for image, file in pair_files(request, files, notes):
        stack = open_stack(image)
        if stack is None:
            sources.append(Source(image, partial(_read, file, request.category, None, None)))
            continue
        pages = range(len(stack.pages))
        beyond = {_plane(item, stack.axis) for item in _features(file)}.difference(pages)
        if beyond:
            raise DatasetError(f"{file}: outlines at {stack.axis} = {max(beyond)}, but {image} has {len(pages)} frames")
        sources += [Source(image, partial(_read, file, request.category, stack.axis, page), page) for page in pages]
    return sources


def write_geojson(pictures: Iterable[Picture], folder: Path, classes: Sequence[str], notes: Notes) -> int:
    """Write a FeatureCollection an image, exact to the pixel; a cell's name is its label. Returns how many."""

    def encode(picture: Picture, place: Path) -> bytes:
        features = []
        for number, cell in zip(label_numbers(picture.cells, notes), picture.cells):
            rle = as_rle(cell.segmentation, picture.height, picture.width)
            features.append(feature(rle, cell.category, "" if cell.label is None else str(number)))
        return json.dumps({"type": "FeatureCollection", "features": features}, allow_nan=False).encode()

    return write_each(pictures, folder, ".geojson", encode)


def feature(
    rle: dict, category: str, name: str = "", measurements: Mapping[str, float] | None = None,
    plane: Mapping[str, int] | None = None, object_type: str = "annotation",
) -> dict[str, Any]:  # fmt: skip
    """QuPath's feature of a cell.

    Args:
        rle: compressed COCO run lengths of a mask that is not empty.
        category: name of the class.
        name: of the cell; "" for none.
        measurements: names and finite values, which QuPath's tables show.
        plane: place from 0 on t and z of a stack; None for a single frame.
        object_type: "annotation", whose outline can be edited in QuPath, or "detection", which can not, but of which
            QuPath shows hundreds of thousands quickly.
    """
    where = {"plane": {"c": -1, "z": plane.get("z", 0), "t": plane.get("t", 0)}} if plane else {}
    properties: dict[str, Any] = {"objectType": object_type, "classification": {"name": category}}
    properties |= {"name": name} if name else {}
    properties |= {"measurements": dict(measurements)} if measurements else {}
    return {"type": "Feature", "geometry": geometry(rle) | where, "properties": properties}


def geometry(rle: dict) -> dict[str, Any]:
    """GeoJSON's Polygon or MultiPolygon of a mask, along its pixel edges, holes included, valid for shapely and JTS.

    Args:
        rle: compressed COCO run lengths of a mask that is not empty.
    """
    shapes = []
    for shell, *holes in rings(rle):
        shape = shapely.Polygon(shell, holes)
        # Pixels that touch at a corner make an outline that meets itself: parts inside of an odd number of rings
        shapes += [shape] if shape.is_valid else shapely.get_parts(shapely.make_valid(shape)).tolist()
    polygons = [
        [_corners(ring) for ring in (part.exterior, *part.interiors)]
        for shape in shapes
        for part in shapely.get_parts(shape).tolist()
        if isinstance(part, shapely.Polygon)
    ]
    if len(polygons) == 1:
        return {"type": "Polygon", "coordinates": polygons[0]}
    return {"type": "MultiPolygon", "coordinates": polygons}


def _corners(ring: shapely.LinearRing) -> list[list[int]]:
    """The corners of a ring, the first one again at the end."""
    return shapely.get_coordinates(ring).astype(int).tolist()


def _read(
    file: Path, category: str, axis: str | None, page: int | None, height: int, width: int, notes: Notes
) -> list[Cell]:
    """The cells of an image, or of a page of a stack along ``axis``."""
    features = _features(file)
    planes = Counter(_plane(item, axis) for item in features)
    if axis is None and len(planes) > 1:
        raise DatasetError(f"{file}: outlines of {len(planes)} planes of a stack, but its image has a single frame")
    cells = []
    for index, item in enumerate(features):
        place = f"{file}: features[{index}]"
        if axis is not None and _plane(item, axis) != page:
            continue
        segmentation = _segmentation(item.get("geometry"), height, width, place, notes)
        if segmentation is None:
            continue
        properties = _dict(item.get("properties"))
        name = str(properties.get("name") or "")
        number = int(name) if name.isascii() and name.isdigit() and int(name) else None
        cells.append(Cell(segmentation, _class(properties.get("classification")) or category, number))
    return cells


def _features(file: Path) -> list[dict]:
    """The features of a collection, a list, or the single one."""
    status = file.stat()
    return _load(file, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=1)  # the pages of a stack are asked for one by one
def _load(file: Path, modified: int, size: int) -> list[dict]:
    """See _features; ``modified`` and ``size`` tell a file from an older one of its name."""
    content = read_json(file)
    items = content.get("features", [content]) if isinstance(content, dict) else content
    if not isinstance(items, list) or not all(isinstance(i, dict) and i.get("type") == "Feature" for i in items):
        raise DatasetError(f"{file}: not GeoJSON of QuPath, which has features; export objects as FeatureCollection")
    return items


def _plane(item: dict, axis: str | None) -> Any:
    """A feature's place along an axis, or on both where there is none."""
    plane = _dict(_dict(item.get("geometry")).get("plane"))
    t, z = (plane[key] if isinstance(plane.get(key), int) else 0 for key in "tz")
    return {"t": t, "z": z}.get(axis, (t, z))


def _dict(value: Any) -> dict:
    """An object of the file; an empty one where there is none."""
    return value if isinstance(value, dict) else {}


def _class(classification: Any) -> str:
    """The name of QuPath's class; of a derived one all its names."""
    told = classification if isinstance(classification, dict) else {"name": classification}
    names = told.get("names") or [told.get("name")]
    return ": ".join(name.strip() for name in names if isinstance(name, str))


def _segmentation(shape: Any, height: int, width: int, place: str, notes: Notes) -> dict | None:
    """Run lengths of the pixels whose centre lies in a geometry; None, and a note, where it is no outline."""
    kind, parts = (_dict(shape).get(key) for key in ("type", "coordinates"))
    if kind not in ("Polygon", "MultiPolygon"):
        notes.warnings[f"features of type {kind} are no outlines of cells, left out"] += 1
        return None
    parts = [parts] if kind == "Polygon" else parts
    if not isinstance(parts, list) or not all(isinstance(part, list) and part for part in parts):
        raise DatasetError(f"{place} has no coordinates")
    paths = [[_ring(ring, place, notes) for ring in part] for part in parts]
    paths = [[ring for ring in part if len(ring)] for part in paths if len(part[0])]
    return _filled(paths, height, width) if paths else None


def _ring(ring: Any, place: str, notes: Notes) -> np.ndarray:
    """(K, 2) corners x, y of a ring; none of one with fewer than three."""
    if not isinstance(ring, list):
        raise DatasetError(f"{place}: {ring!r} is no outline")
    points = checked_polygon([point[:2] if isinstance(point, list) else point for point in ring], place, notes)
    return np.reshape(points[0] if points else [], (-1, 2))


def _filled(parts: list[list[np.ndarray]], height: int, width: int) -> dict:
    """Run lengths of polygons, each an outline and its holes; what lies outside of the image is left out."""
    corners = np.concatenate([part[0] for part in parts])
    x0, y0 = np.clip(np.floor(corners.min(axis=0)), 0, [width - 1, height - 1]).astype(int).tolist()
    x1, y1 = np.clip(np.ceil(corners.max(axis=0)), [x0 + 1, y0 + 1], [width, height]).astype(int).tolist()
    mask = np.zeros((y1 - y0, x1 - x0), dtype=bool)
    for part in parts:
        own = np.zeros_like(mask)
        for ring in part:
            own[fill(ring[:, 1] - 0.5 - y0, ring[:, 0] - 0.5 - x0, mask.shape)] ^= True
        mask |= own
    return encode_crop(mask, [x0, y0], height, width)
