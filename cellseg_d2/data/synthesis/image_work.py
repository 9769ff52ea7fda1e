"""The work of a process that extends a data set: one synthetic image, written and described."""

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePath
from typing import Any

import msgspec
import tifffile

from ..datasets.coco_json import CocoFile
from ..datasets.columns import IndexedCoco
from .cell_bank import CellBank
from .generate import Synthetic, generate
from .recipe import Plan, Recipe

__all__ = ["BankFile", "free_mark", "make_image"]


@dataclass(frozen=True)
class BankFile:
    """A bank's file as it was when it was opened, by which each process keeps it."""

    path: str
    size: int
    inode: int
    changed: int

    @classmethod
    def of(cls, bank: CellBank) -> "BankFile":
        found = os.stat(bank.path)
        return cls(str(bank.path), found.st_size, found.st_ino, found.st_mtime_ns)


@lru_cache(maxsize=1)
def _bank_and_plan(opened: BankFile, recipe: Recipe) -> tuple[CellBank, Plan]:
    """Kept by each process."""
    bank = CellBank(opened.path)
    return bank, Plan(bank, recipe)


def free_mark(coco: CocoFile | IndexedCoco) -> str:
    """What stands between the name of a synthetic image's source and its number: no original's name has it."""
    mark = "-x"
    while any(mark in PurePath(image["file_name"]).stem for image in coco.images):
        mark += "x"
    return mark


def make_image(opened: BankFile, recipe: Recipe, folder: str, mark: str, index: int) -> str:
    """Write image ``index``; its line in the journal."""
    made = generate(*_bank_and_plan(opened, recipe), recipe, index)
    name = f"{PurePath(made.source.file_name).stem}{mark}{index:05d}.tif"
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
