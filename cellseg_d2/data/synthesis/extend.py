"""Extend a data set: its cells at other places and densities, image after image, to be resumed at any time."""

import errno
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ...errors import DatasetError
from ...files import atomic_write, locked, read_json, sha256
from ..datasets.coco_json import CocoFile
from ..datasets.columns import IndexedCoco, open_coco
from ..image_folder import image_places
from .bank_build import build_bank, digest
from .cell_bank import CellBank
from .coco_output import next_ids, write_coco
from .density import GrowthDensity, ListDensity, UniformDensity, fit_growth, parse_density
from .generate import generate
from .image_work import BankFile, free_mark, make_image
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
    if Path(images).resolve() == (output / "images").resolve():
        raise DatasetError(f"{images} would get the synthetic images, too; choose another --output")
    try:
        with _alone(output):
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
    made_of = bank.info.get("json"), bank.info.get("images")
    if made_of != (sha256(json_file), digest(image_places(open_coco(json_file), images).values())):
        raise DatasetError(
            f"{path} is the cell bank of another data set than {json_file}, or of other images; name another file"
        )
    return bank


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """No other process extends into the folder.

    Raises:
        DatasetError: one does.
    """
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    taken = DatasetError(f"{folder}: another process is extending into this folder; wait for it")
    try:
        with locked(folder / ".lock", taken):
            yield
    finally:
        if made and not any(folder.iterdir()):
            folder.rmdir()


def _extend(
    json_file: str | Path, images: str | Path, output: Path, recipe: Recipe, workers: int, bank: CellBank, track: Track
) -> Extension:
    """The extension, with its bank."""
    plan, coco, folder = Plan(bank, recipe), open_coco(json_file), output / "images"
    next_ids(coco)
    if not (output / "annotations.json").is_file():
        _require_reachable(bank, plan, recipe)
    journal = Journal(output, recipe.as_dict(bank))
    if journal.complete:
        return Extension(journal.target, **read_json(journal.target)["info"]["synthetic"])
    folder.mkdir(exist_ok=True)
    if recipe.originals:
        _copy_originals(coco, images, folder)
    work = partial(make_image, BankFile.of(bank), recipe, str(folder), free_mark(coco))
    todo = range(journal.count, plan.count)
    for line in track(in_order(work, todo, workers), "synthetic images", len(todo)):
        journal.append(line)
    return _finish(journal, coco, recipe, bank, folder)


def _require_reachable(bank: CellBank, plan: Plan, recipe: Recipe) -> None:
    """The highest density that is asked for finds room in an image of each cell type, and growth has its times.

    Raises:
        DatasetError: it does not.
    """
    model = parse_density(recipe.density)
    if isinstance(model, GrowthDensity):
        for place in plan.sources:
            fit_growth(plan.alike(place))
    if isinstance(model, UniformDensity):
        target = Target(confluence=model.high)
    elif isinstance(model, ListDensity):
        target = Target(cells=max(model.cells))
    else:
        return  # as dense as real images; how many stay below is counted
    one_each = {bank.images[place].cell_type: k for k, place in reversed(list(enumerate(plan.sources)))}
    for index in one_each.values():
        made = generate(bank, plan, recipe, index, target)
        if not made.reached:
            covered = sum(annotation["area"] for annotation in made.annotations) / made.image.size
            asked = f"a confluence of {target.confluence:g}" if target.cells is None else f"{target.cells} cells"
            raise DatasetError(
                f"density {recipe.density!r}: {asked} cannot be reached with the cells of {made.source.file_name}: its "
                f"{made.image.shape[1]} x {made.image.shape[0]} pixels are full with {len(made.annotations)} cells, a "
                f"confluence of {covered:.2f}; ask for less"
            )


def _copy_originals(coco: CocoFile | IndexedCoco, images: str | Path, folder: Path) -> None:
    """Put copies of the data set's own images beside the synthetic ones: what is done to them leaves the originals."""
    for name, place in image_places(coco, images).items():
        target = folder / name
        if folder.resolve() not in target.resolve().parents:
            raise DatasetError(f"{coco.path}: the image {name!r} is not below its folder; name it relative to that")
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(place, "rb") as source:
                atomic_write(target, lambda stream, source=source: shutil.copyfileobj(source, stream))


def _finish(
    journal: Journal, coco: CocoFile | IndexedCoco, recipe: Recipe, bank: CellBank, folder: Path
) -> Extension:
    """Write the JSON.

    Raises:
        DatasetError: an image of the journal is gone.
    """
    done = {"images": 0, "cells": 0, "short": 0}
    for line in journal.lines():
        if not (folder / line["image"]["file_name"]).is_file():
            raise DatasetError(
                f"{folder / line['image']['file_name']} was made before and is gone; delete {journal.path} to begin "
                "again"
            )
        done["images"] += 1
        done["cells"] += len(line["annotations"])
        done["short"] += not line["image"]["provenance"]["reached"]
    described = "{} and synthetic images of its cells" if recipe.originals else "Synthetic images of the cells of {}"
    info = {
        "description": described.format(coco.path.name), "extension": recipe.as_dict(bank), "synthetic": done,
    }  # fmt: skip
    write_coco(journal.target, coco, journal.lines, info, recipe.originals)
    journal.remove()
    return Extension(journal.target, **done)
