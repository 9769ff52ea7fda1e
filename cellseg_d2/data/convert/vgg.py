"""VGG Image Annotator (VIA 2): one JSON for all images, a project or an export of annotations."""

import json
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path, PurePosixPath

from ...errors import DatasetError
from ...files import read_json
from ..names import few
from .outline import one_polygon
from .output import write_once
from .pairs import list_files, list_images, named
from .records import Cell, Notes, Picture, Request, Source
from .shapes import checked_ellipse, checked_polygon, rectangle

__all__ = ["vgg_sources", "write_vgg"]

PROJECT = "via_project.json"
# The region's attribute that names the class, the first of these that it has
CLASS_ATTRIBUTES = ("class", "category", "name", "type", "cell_type", "label")
_NO_CELLS = ("point", "polyline")


def vgg_sources(request: Request, notes: Notes) -> list[Source]:
    """The images that a project or an export lists, found by their names below the image folder.

    Raises:
        DatasetError: not a file of VIA, or images on one side only, which are listed.
    """
    file = request.input
    if not file.is_file():
        files = list_files(file, (".json",))
        if len(files) > 1:
            raise DatasetError(f"{file}: {len(files)} JSON files, {named(files)}; give the one of VIA as --input")
        (file,) = files
    by_name: dict[str, list[Path]] = {}
    images = list_images(request)
    for image in images:
        for name in {image.name, image.relative_to(request.image_folder).as_posix()}:
            by_name.setdefault(name, []).append(image)
    found: dict[Path, list] = {}
    gone = []
    for key, entry in _entries(file).items():
        path = _image_of(by_name, _name_of(entry, f"{file}: {key}"))
        if path is None:
            gone.append(entry["filename"])
        elif path in found:
            raise DatasetError(f"{file}: two entries are of {path.name}; remove one of them")
        else:
            found[path] = _regions(entry, f"{file}: {key}")
    if gone:
        raise DatasetError(f"{file}: {len(gone)} images are not in {request.images}: {few(gone)}")
    left = [image for image in images if image not in found]
    if left and not request.skip_unannotated:
        raise DatasetError(f"{file} does not list {len(left)} images: {named(left)}; see --skip-unannotated")
    notes.remarks["images without annotations, left out"] += len(left)
    return [
        Source(image, partial(_read, f"{file}: {image.name}", regions, request.category))
        for image, regions in found.items()
    ]


def write_vgg(pictures: Iterable[Picture], folder: Path, classes: Sequence[str], notes: Notes) -> int:
    """Write a project that VIA opens; returns the number of images.

    A region is a polygon and a cell: bridges without width lead to its holes and further pieces. The attributes of a
    region are ``class`` and, where the cell has one, ``label``.
    """
    metadata = {}
    for picture in pictures:
        size = picture.path.stat().st_size
        metadata[f"{picture.file_name}{size}"] = {
            "filename": picture.file_name, "size": size, "regions": [_region(picture, cell) for cell in picture.cells],
            "file_attributes": {},
        }  # fmt: skip
    options = {name: "" for name in classes}
    attributes = {
        "class": {"type": "radio", "description": "", "options": options, "default_options": {}},
        "label": {"type": "text", "description": "number in a label image", "default_value": ""},
    }
    content = {
        "_via_settings": {"core": {"default_filepath": ""}, "project": {"name": folder.resolve().name}},
        "_via_img_metadata": metadata, "_via_attributes": {"region": attributes, "file": {}},
        "_via_data_format_version": "2.0.10", "_via_image_id_list": list(metadata),
    }  # fmt: skip
    write_once(folder / PROJECT, json.dumps(content, allow_nan=False).encode())
    return len(metadata)


def _region(picture: Picture, cell: Cell) -> dict:
    """VIA's region of a cell."""
    polygon = one_polygon(cell.segmentation, picture.height, picture.width)
    label = {} if cell.label is None else {"label": str(cell.label)}
    return {
        "shape_attributes": {"name": "polygon", "all_points_x": polygon[::2], "all_points_y": polygon[1::2]},
        "region_attributes": {"class": cell.category, **label},
    }


def _entries(file: Path) -> dict[str, dict]:
    """The entries of the images."""
    content = read_json(file)
    if isinstance(content, dict):
        content = content.get("_via_img_metadata", content)
    good = isinstance(content, dict) and all(isinstance(entry, dict) for entry in content.values())
    if not good or not all("regions" in entry for entry in content.values()):
        raise DatasetError(f"{file}: not a JSON file of VIA 2: neither a project nor an export of annotations")
    return content


def _name_of(entry: dict, place: str) -> str:
    """The name of an entry's image."""
    name = entry.get("filename")
    if not isinstance(name, str) or not name:
        raise DatasetError(f"{place} has no 'filename'")
    return name.replace("\\", "/")


def _image_of(by_name: dict[str, list[Path]], name: str) -> Path | None:
    """The image of that relative path, or of that name where a single one has it."""
    for key in (name, PurePosixPath(name).name):
        if len(by_name.get(key, [])) == 1:
            return by_name[key][0]
    return None


def _regions(entry: dict, place: str) -> list:
    """The regions of an entry: a list, or numbered as VIA 1 wrote them."""
    regions = entry["regions"]
    regions = list(regions.values()) if isinstance(regions, dict) else regions
    if not isinstance(regions, list):
        raise DatasetError(f"{place}: 'regions' is not a list")
    return regions


def _read(place: str, regions: list, category: str, height: int, width: int, notes: Notes) -> list[Cell]:
    """The cells of an image."""
    cells = []
    for index, region in enumerate(regions):
        where = f"{place}: regions[{index}]"
        shape = region.get("shape_attributes") if isinstance(region, dict) else None
        if not isinstance(shape, dict):
            raise DatasetError(f"{where} has no 'shape_attributes'")
        segmentation = _segmentation(shape, height, width, where, notes)
        if segmentation is not None:
            cells.append(Cell(segmentation, *_class_and_label(region.get("region_attributes") or {}, category)))
    return cells


def _segmentation(shape: dict, height: int, width: int, place: str, notes: Notes) -> list[list[float]] | dict | None:
    """The outline or run lengths of a region; None, and a note, where it can not be a cell."""
    kind = shape.get("name")
    if kind in _NO_CELLS:
        notes.warnings[f"regions of type {kind} are no outlines of cells, left out"] += 1
        return None
    try:
        if kind == "polygon":
            return checked_polygon(list(zip(shape["all_points_x"], shape["all_points_y"], strict=True)), place, notes)
        if kind == "rect":
            x, y, across, down = (shape[key] for key in ("x", "y", "width", "height"))
            return rectangle([(x, y), (x + across, y + down)], place)
        if kind in ("circle", "ellipse"):
            radii = (shape["r"], shape["r"]) if kind == "circle" else (shape["rx"], shape["ry"])
            return checked_ellipse([shape["cx"], shape["cy"], *radii, shape.get("theta", 0)], height, width, place)
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, DatasetError):
            raise
        raise DatasetError(f"{place}: a {kind} without its numbers ({type(error).__name__}: {error})") from None
    raise DatasetError(f"{place} has the shape {kind!r}, which is none of VIA's")


def _class_and_label(attributes: dict, category: str) -> tuple[str, int | None]:
    """Class name and label of a region; a single attribute of any name is the class."""
    texts = {name: _text(value) for name, value in attributes.items()}
    texts = {name: text for name, text in texts.items() if text}
    name = next((name for name in CLASS_ATTRIBUTES if name in texts), next(iter(texts), "") if len(texts) == 1 else "")
    label = texts.get("label", "") if name != "label" else ""
    number = int(label) if label.isascii() and label.isdigit() and int(label) else None
    return texts.get(name, category), number


def _text(value: object) -> str:
    """The text of an attribute; of check boxes the first that is set."""
    if isinstance(value, dict):
        return next((str(key) for key, is_set in value.items() if is_set), "")
    return str(value).strip() if value is not None else ""
