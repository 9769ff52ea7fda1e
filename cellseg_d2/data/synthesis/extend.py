"""Extend a data set: its cells at other places and densities, image after image, to be resumed at any time."""

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import groupby
from pathlib import Path, PurePath
from typing import IO, Any

import msgspec
import tifffile

from ...errors import DatasetError
from ...files import atomic_write, read_json, sha256
from ..datasets.coco_json import CocoFile
from ..datasets.columns import IndexedCoco, open_coco
from ..image_folder import image_places
from .bank_build import build_bank
from .cell_bank import CellBank
from .density import ListDensity, UniformDensity, parse_density
from .generate import Synthetic, generate
from .journal import Journal
from .recipe import Plan, Recipe
from .render import Target
from .workers import in_order

__all__ = ["Extension", "extend", "open_bank"]

Track = Callable[[Iterable[Any], str, int], Iterable[Any]]  # (items, title, total) -> items


@dataclass(frozen=True)
class Extension:
    """What became of it: the JSON, numbers of synthetic images and of cells in them, and of the images that are full
    below the density that was drawn."""

    json: Path
    images: int
    cells: int
    short: int


def extend(
    json_file: str | Path, images: str | Path, output: str | Path, recipe: Recipe, workers: int = 1,
    bank_file: str | Path | None = None, track: Track = lambda items, title, total: items,
) -> Extension:  # fmt: skip
    """Write ``images/`` and ``annotations.json`` under ``output``: the data set and synthetic images of its cells.

    Each synthetic image depends on (data set, recipe, index) alone. A call that broke off goes on where it was; images
    and JSON are moved into place when they are complete, the JSON as the last one.

    Args:
        json_file, images: the data set.
        output: folder.
        recipe: what to make.
        workers: processes; they do not change a byte.
        bank_file: the data set's cell bank, which is made where it is not there; None: in ``output``.
        track: ``track(items, title, total)`` shows progress.

    Raises:
        DatasetError: input that cannot be used, a density that cannot be reached, a folder that holds another
            extension, or no space left on the disk.
    """
    output = Path(output)
    try:
        bank = open_bank(bank_file or output / "cells.bank", json_file, images, workers, track)
        return _extend(json_file, images, output, recipe, workers, bank, track)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DatasetError(
            f"{output}: no space is left on the disk; make room and call the same command again, which goes on where "
            "it was"
        ) from error


def open_bank(
    path: str | Path, json_file: str | Path, images: str | Path, workers: int = 1,
    track: Track = lambda items, title, total: items,
) -> CellBank:  # fmt: skip
    """The cell bank of a data set, made where it is not there.

    Raises:
        DatasetError: the file is the bank of another data set; else see :func:`.build_bank`.
    """
    if not Path(path).exists():
        total = len(open_coco(json_file).images)
        return build_bank(json_file, images, path, workers, lambda items: track(items, "images cut up", total))
    bank = CellBank(path)
    if bank.info["json"] != sha256(json_file):
        raise DatasetError(f"{path} is the cell bank of another data set than {json_file}; name another file")
    return bank


def _extend(
    json_file: str | Path, images: str | Path, output: Path, recipe: Recipe, workers: int, bank: CellBank, track: Track
) -> Extension:
    """The extension, with its bank."""
    plan, journal = Plan(bank, recipe), Journal(output, recipe.as_dict(bank))
    if journal.complete:
        return Extension(journal.target, **read_json(journal.target)["info"]["synthetic"])
    _require_reachable(bank, plan, recipe)
    coco, folder = open_coco(json_file), output / "images"
    folder.mkdir(exist_ok=True)
    if recipe.originals:
        _copy_originals(coco, images, folder)
    work = partial(_make, str(bank.path), recipe, str(folder))
    todo = range(journal.count, plan.count)
    for line in track(in_order(work, todo, workers), "synthetic images", len(todo)):
        journal.append(line)
    return _finish(journal, coco, recipe, bank)


def _require_reachable(bank: CellBank, plan: Plan, recipe: Recipe) -> None:
    """The highest density that is asked for finds room in an image of each cell type.

    Raises:
        DatasetError: it does not.
    """
    model = parse_density(recipe.density)
    if isinstance(model, UniformDensity):
        target = Target(confluence=model.high)
    elif isinstance(model, ListDensity):
        target = Target(cells=max(model.cells))
    else:
        return  # as dense as real images; how many stay below is counted
    for _, sources in groupby(range(len(plan.sources)), lambda k: bank.images[plan.sources[k]].cell_type):
        made = generate(bank, plan, recipe, next(sources), target)
        if not made.reached:
            pixels = made.image.size
            covered = sum(annotation["area"] for annotation in made.annotations) / pixels
            asked = f"{target.cells} cells" if target.cells else f"a confluence of {target.confluence:g}"
            raise DatasetError(
                f"density {recipe.density!r}: {asked} cannot be reached with the cells of {made.source.file_name}: its "
                f"{made.image.shape[1]} x {made.image.shape[0]} pixels are full with {len(made.annotations)} cells, a "
                f"confluence of {covered:.2f}; ask for less"
            )


@lru_cache(maxsize=1)
def _opened(path: str, recipe: Recipe) -> tuple[CellBank, Plan]:
    """The bank and the plan, kept by each process."""
    bank = CellBank(path)
    return bank, Plan(bank, recipe)


def _make(bank_file: str, recipe: Recipe, folder: str, index: int) -> str:
    """Write image ``index``; its line in the journal."""
    made = generate(*_opened(bank_file, recipe), recipe, index)
    name = f"{PurePath(made.source.file_name).stem}-x{index:05d}.tif"
    part = Path(folder, f".{name}.part")
    try:
        tifffile.imwrite(part, made.image, photometric="minisblack", metadata=None)
        os.replace(part, Path(folder, name))
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return msgspec.json.encode(_entry(made, name, index, recipe.seed)).decode()


def _entry(made: Synthetic, name: str, index: int, seed: int) -> dict[str, Any]:
    """The image's entry and its annotations."""
    height, width = made.image.shape
    asked = {"cells": made.target.cells} if made.target.confluence is None else {"confluence": made.target.confluence}
    image = {"file_name": name, "height": height, "width": width}
    if made.source.cell_type:
        image["cell_type"] = made.source.cell_type
    image["provenance"] = {
        "source_image": made.background.file_name, "index": index, "seed": seed, "target": asked,
        "reached": made.reached,
    }  # fmt: skip
    return {"image": image, "annotations": made.annotations}


def _copy_originals(coco: CocoFile | IndexedCoco, images: str | Path, folder: Path) -> None:
    """Put the data set's own images beside the synthetic ones: as links to the same data where that is possible."""
    for name, place in image_places(coco, images).items():
        target = folder / name
        if target.resolve().parent != folder.resolve() and folder.resolve() not in target.resolve().parents:
            raise DatasetError(f"{coco.path}: the image {name!r} is not below its folder; name images without '..'")
        if target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(place, target)
        except OSError:  # another disk, or one without links
            atomic_write(target, lambda stream, place=place: _copy(place, stream))


def _copy(place: str, stream: IO[bytes]) -> None:
    """Copy a file's content."""
    with open(place, "rb") as source:
        shutil.copyfileobj(source, stream)


def _finish(journal: Journal, coco: CocoFile | IndexedCoco, recipe: Recipe, bank: CellBank) -> Extension:
    """Write the JSON, entry by entry, as millions of them do not fit into memory."""
    done = {"images": 0, "cells": 0, "short": 0}
    for line in journal.lines():
        done["images"] += 1
        done["cells"] += len(line["annotations"])
        done["short"] += not line["image"]["provenance"]["reached"]
    info = {
        "description": f"{coco.path.name} and synthetic images of its cells" if recipe.originals
        else f"Synthetic images of the cells of {coco.path.name}",
        "extension": recipe.as_dict(bank), "synthetic": done,
    }  # fmt: skip
    tables = {
        "images": lambda: _images(journal, coco, recipe.originals),
        "annotations": lambda: _annotations(journal, coco, recipe.originals),
    }

    def write(stream: IO[bytes]) -> None:
        stream.write(f'{{"info": {json.dumps(info)}, "categories": {json.dumps(coco.categories)}'.encode())
        for name, entries in tables.items():
            stream.write(f', "{name}": ['.encode())
            for number, entry in enumerate(entries()):
                stream.write((", " * (number > 0) + json.dumps(entry)).encode())
            stream.write(b"]")
        stream.write(b"}")

    atomic_write(journal.target, write)
    journal.remove()
    return Extension(journal.target, **done)


def _images(journal: Journal, coco: CocoFile | IndexedCoco, originals: bool) -> Iterator[dict[str, Any]]:
    """The images' entries."""
    if originals:
        yield from coco.images
    first = _next_id(image["id"] for image in coco.images)
    for number, line in enumerate(journal.lines()):
        yield {"id": first + number, **line["image"]}


def _annotations(journal: Journal, coco: CocoFile | IndexedCoco, originals: bool) -> Iterator[dict[str, Any]]:
    """The annotations' entries."""
    highest = 0
    for annotation in _original_annotations(coco):
        highest = max(highest, annotation["id"])
        if originals:
            yield annotation
    first_image = _next_id(image["id"] for image in coco.images)
    number = highest
    for place, line in enumerate(journal.lines()):
        for annotation in line["annotations"]:
            number += 1
            yield {"id": number, "image_id": first_image + place, **annotation}


def _original_annotations(coco: CocoFile | IndexedCoco) -> Iterator[dict[str, Any]]:
    """All annotations as they stand in the file."""
    if isinstance(coco, CocoFile):
        yield from coco.annotations
        return
    for place in range(len(coco.images)):
        yield from coco.index.annotations(coco.index.of_image(place))


def _next_id(ids: Iterable[Any]) -> int:
    """One more than the highest."""
    numbers = list(ids)
    if not all(type(number) is int for number in numbers):
        raise DatasetError("images have ids that are no whole numbers, so that no new ones can be given; number them")
    return max(numbers, default=0) + 1
