"""Where data is looked for: ``CELLSEG_DATA``, ``DETECTRON2_DATASETS``, then ``datasets/``, then ``../shared/data``."""

import os
from pathlib import Path

__all__ = ["ENV_NAME", "data_roots", "find", "searched"]

ENV_NAME = "CELLSEG_DATA"
_DETECTRON2 = "DETECTRON2_DATASETS"  # one folder, where Detectron2 looks for its own data sets
_PROJECT = Path(__file__).resolve().parents[3]


def searched() -> list[Path]:
    """All folders that are searched for data, in order, whether they exist or not.

    ``CELLSEG_DATA`` may name several folders, separated as in ``PATH``. Relative folders are tried below the working
    directory and below the project's folder.
    """
    parts = [*os.environ.get(ENV_NAME, "").split(os.pathsep), os.environ.get(_DETECTRON2, "")]
    named = [Path(part).expanduser() for part in parts if part]
    places = named + [base / "datasets" for base in (Path.cwd(), _PROJECT)]
    places += [base.parent / "shared" / "data" for base in (Path.cwd(), _PROJECT)]
    return list(dict.fromkeys(Path(os.path.abspath(place)) for place in places))


def data_roots() -> list[Path]:
    """The existing folders among :func:`searched`, in order."""
    return [place for place in searched() if place.is_dir()]


def find(name: str) -> Path | None:
    """The folder ``name`` in the first root that has it, or None."""
    return next((root / name for root in data_roots() if (root / name).is_dir()), None)
