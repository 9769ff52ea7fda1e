"""The tables of a COCO JSON, read leniently: what cannot be used is a finding, not an error."""

from collections.abc import Hashable
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

from ...errors import DatasetError
from ...files import read_json
from .findings import Findings

__all__ = ["Tables", "check_tables", "image_size", "is_entry", "is_id", "read_tables"]


@dataclass
class Tables:
    """A COCO JSON.

    Attributes:
        path: the file.
        content: all of it, as it was read.
        images, annotations, categories: its tables; entries may be anything.
        image_of: id of an image -> its place in ``images``, of the first that has it; set by :func:`check_tables`.
        cells_of: place of an image -> places of its annotations; set by :func:`check_tables`.
    """

    path: Path
    content: dict[str, Any]
    images: list[Any]
    annotations: list[Any]
    categories: list[Any]
    image_of: dict[Hashable, int] = field(default_factory=dict)
    cells_of: dict[int, list[int]] = field(default_factory=dict)

    def name(self, image: int) -> str:
        """The file name of an image."""
        return str(self.images[image]["file_name"])

    def cell(self, place: int) -> str:
        """An annotation, for people."""
        entry = self.annotations[place]
        owner = self.image_of.get(entry["image_id"]) if is_id(entry.get("image_id")) else None
        image = f" in {self.name(owner)}" if owner is not None else ""
        return f"annotation {entry.get('id')!r}{image}"


def read_tables(path: str | Path) -> Tables:
    """Read a COCO JSON of any quality.

    Raises:
        MissingDataError: there is no such file.
        DatasetError: not JSON, or without a table of images and one of annotations.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise DatasetError(
            f"{path}: a COCO data set is a JSON object with 'images', 'annotations' and 'categories', "
            f"but this is a {type(content).__name__} (a file of results?)"
        )
    tables = {}
    for name in ("images", "annotations", "categories"):
        table = content.get(name, [] if name == "categories" else None)
        if not isinstance(table, (list, dict)):
            raise DatasetError(
                f"{path}: no table {name!r} in this file; a COCO data set has 'images' and 'annotations'"
            )
        tables[name] = list(table.values()) if isinstance(table, dict) else table
    if not tables["images"]:
        raise DatasetError(f"{path}: the table 'images' is empty; there is nothing to check")
    return Tables(Path(path), content, **tables)


def check_tables(tables: Tables, findings: Findings) -> None:
    """Find entries that are broken, ids that are doubled or point nowhere; index the tables."""
    _check_images(tables, findings)
    known = _check_categories(tables, findings)
    tables.cells_of = {place: [] for place in sorted(tables.image_of.values())}
    seen: dict[Hashable, int] = {}
    for place, entry in enumerate(tables.annotations):
        if not isinstance(entry, dict):
            findings.add("broken_entries", f"annotations[{place}] is a {type(entry).__name__}, not an object")
            continue
        owner = tables.image_of.get(entry["image_id"]) if is_id(entry.get("image_id")) else None
        if not is_id(entry.get("id")):
            findings.add("broken_entries", f"annotations[{place}] has the id {entry.get('id')!r}", owner, [place])
        elif entry["id"] in seen:
            findings.add("doubled_annotation_ids", tables.cell(place), owner, [seen[entry["id"]], place])
        else:
            seen[entry["id"]] = place
        if owner is None:
            findings.add("unknown_image", f"{tables.cell(place)} has image_id {entry.get('image_id')!r}")
            continue
        tables.cells_of[owner].append(place)
        category = entry.get("category_id")
        if tables.categories and not (is_id(category) and category in known):
            findings.add("wrong_category", f"{tables.cell(place)} has category_id {category!r}", owner, [place])


def image_size(entry: dict) -> tuple[int, int] | None:
    """Height and width of an image entry; None where they are not two whole numbers above 0."""
    sides = entry.get("height"), entry.get("width")
    if all(isinstance(s, (int, float)) and not isinstance(s, bool) and s >= 1 and s % 1 == 0 for s in sides):
        return int(sides[0]), int(sides[1])
    return None


def is_id(value: Any) -> bool:
    """It is a finite number or a text, which can be looked up."""
    return isinstance(value, (int, str)) and not isinstance(value, bool) or isinstance(value, float) and isfinite(value)


def is_entry(value: Any) -> bool:
    """It is an object with an id."""
    return isinstance(value, dict) and is_id(value.get("id"))


def _check_images(tables: Tables, findings: Findings) -> None:
    """Broken images and doubled ids; fills ``image_of``."""
    for place, entry in enumerate(tables.images):
        if not is_entry(entry) or not isinstance(entry.get("file_name"), str) or not entry["file_name"]:
            findings.add("broken_entries", f"images[{place}] has no id or no file_name")
        elif entry["id"] in tables.image_of:
            first = tables.name(tables.image_of[entry["id"]])
            where = f"image {entry['id']!r} is {first} and {entry['file_name']}"
            findings.add("doubled_image_ids", where, place)
        else:
            tables.image_of[entry["id"]] = place


def _check_categories(tables: Tables, findings: Findings) -> set[Hashable]:
    """Broken categories and doubled ids; returns the ids."""
    names: dict[Hashable, Any] = {}
    if not tables.categories:
        findings.add("no_categories", str(tables.path), fixable=False)
    for place, entry in enumerate(tables.categories):
        if not is_entry(entry) or not isinstance(entry.get("name"), str):
            findings.add("broken_entries", f"categories[{place}] has no id or no name")
        if not is_entry(entry):
            continue
        if entry["id"] in names:
            same = names[entry["id"]] == entry.get("name")
            where = f"category {entry['id']!r} is {names[entry['id']]} and {entry.get('name')}"
            findings.add("doubled_category_ids", where, fixable=same)
        names.setdefault(entry["id"], entry.get("name"))
    return set(names)
