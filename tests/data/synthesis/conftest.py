"""A small data set of phantoms, its cell bank, and one extension of it."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cellseg_d2.data.synthesis.bank_build import build_bank
from cellseg_d2.data.synthesis.cell_bank import CellBank
from cellseg_d2.data.synthesis.extend import extend
from cellseg_d2.data.synthesis.phantom import PhantomSpec, write_dataset
from cellseg_d2.data.synthesis.recipe import Recipe

SPEC = PhantomSpec(height=160, width=160, cells=(12, 24), cell_types=("PHRound",), scale=0.8)
RECIPE = Recipe(factor=2.5, seed=3)


def disc(shape: tuple[int, int], y: float, x: float, radius: float) -> np.ndarray:
    """H x W bool, the pixels whose middle is within ``radius`` of that of pixel (y, x)."""
    rows, columns = np.indices(shape)
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


@pytest.fixture(scope="session")
def paint_disc() -> Callable[..., np.ndarray]:
    """:func:`disc`."""
    return disc


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Five images: the JSON and the images' folder."""
    folder = tmp_path_factory.mktemp("phantoms")
    return write_dataset(folder, SPEC, 5, seed=1), folder / "images"


@pytest.fixture(scope="session")
def bank(phantoms: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> CellBank:
    """The bank of :func:`phantoms`."""
    return build_bank(*phantoms, tmp_path_factory.mktemp("bank") / "cells.bank")


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    """That of :func:`extended`."""
    return RECIPE


@pytest.fixture(scope="session")
def extended(phantoms: tuple[Path, Path], bank: CellBank, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an extension of :func:`phantoms`, made in one go by one process."""
    folder = tmp_path_factory.mktemp("extended")
    extend(*phantoms, folder, RECIPE, bank_file=bank.path)
    return folder


@pytest.fixture(scope="session")
def contents() -> Callable[[Path], dict[str, bytes]]:
    """``contents(folder)``: relative path -> bytes of all files, hidden ones, too."""
    return lambda folder: {
        str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


@pytest.fixture
def edited(phantoms: tuple[Path, Path], tmp_path: Path) -> Callable[..., Path]:
    """``edited(change)``: a copy of the JSON after ``change(content)``."""

    def edit(change: Callable[[dict], object], name: str = "edited.json") -> Path:
        content = json.loads(phantoms[0].read_text())
        change(content)
        (tmp_path / name).write_text(json.dumps(content))
        return tmp_path / name

    return edit
