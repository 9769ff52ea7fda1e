"""From a name or a path to the files of a model: local folders, weight files, downloads in a cache folder."""

import difflib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from ..data.download import Transfer
from ..data.download.transfer import fetch
from ..engine.errors import UserError
from ..files import read_json, sha256, write_json
from .catalogue import PUBLISHED, ZooEntry

__all__ = ["ModelFiles", "ModelZooError", "add_model", "available", "cache_folder", "find_model"]

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
VARIABLE = "CELLSEG_MODELS"
RECORD = "model.json"
# What tools/train_net.py leaves in OUTPUT_DIR, the best first
CHECKPOINTS = ("model_best.pth", "model_final.pth")


class ModelZooError(UserError):
    """A name that is unknown, or a model that cannot be got or is not what it was."""


@dataclass(frozen=True)
class ModelFiles:
    """Where a model is.

    Attributes:
        name: as the user gave it.
        folder: a folder of ``inference.model_folder.save_model``; None for the other two.
        config: YAML file; None for a folder.
        weights: weight file; None for a folder.
        licence: terms of a published model.
    """

    name: str
    folder: Path | None = None
    config: Path | None = None
    weights: Path | None = None
    licence: str = ""

    @property
    def sha256(self) -> str:
        """Of the weights."""
        return str(read_json(self.folder / RECORD)["sha256"]) if self.folder else sha256(self.weights or "")


def cache_folder() -> Path:
    """Where downloads and models of :func:`add_model` are: ``CELLSEG_MODELS``, else in the user's cache folder."""
    given = os.environ.get(VARIABLE)
    if given:
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "cellseg_d2" / "models"


def available() -> dict[str, str]:
    """Names that :func:`find_model` knows, with a line on each: published ones, then those of the cache folder."""
    here = {path.parent.name: path.parent for path in sorted(cache_folder().glob(f"*/{RECORD}"))}
    own = {name: f"{read_json(folder / RECORD).get('class', 'model')} in {folder}" for name, folder in here.items()}
    published = {}
    for name, entry in PUBLISHED.items():
        state = "downloaded" if _target(entry).is_file() else "not downloaded yet"
        published[name] = f"{entry.description}; {state}; {entry.licence}"
    return {**published, **own}


def find_model(name: str | Path, weights: str | Path | None = None, transfer: Transfer | None = None) -> ModelFiles:
    """The files of a model.

    Args:
        name: one of :func:`available`; a model folder (``save_model``); an output folder of ``tools/train_net.py``
            (its best checkpoint, else the final one); or a configuration file, which needs ``weights``.
        weights: a weight file in the place of the model's own; not for model folders.
        transfer: how a published model is downloaded, once.

    Raises:
        ModelZooError: unknown name (with close ones), no weights, or weights that are not those of their hash.
        DatasetError: a download fails; the next call goes on with it.
    """
    text, path = str(name), Path(name)
    if path.is_dir():
        return _of_folder(text, path, weights)
    if path.is_file():
        if path.suffix not in (".yaml", ".yml"):
            raise ModelZooError(f"{path} is no configuration: give its .yaml as the model, and {path} as the weights")
        if weights is None:
            raise ModelZooError(f"{path} needs weights: give them with --weights FILE")
        return ModelFiles(text, config=path, weights=_existing(weights))
    own = cache_folder() / text
    if os.sep not in text and (own / RECORD).is_file():
        return _of_folder(text, own, weights)
    entry = PUBLISHED.get(text.lower())
    if entry is None:
        known = list(available())
        close = difflib.get_close_matches(text.lower(), known, n=3, cutoff=0.5)
        raise ModelZooError(
            f"--model {text}: there is no such file or folder, and no model of this name; "
            + (f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(known)}")
        )
    file = _existing(weights) if weights else _downloaded(entry, transfer or Transfer())
    return ModelFiles(text, config=CONFIGS / entry.config, weights=file, licence=entry.licence)


def add_model(name: str, folder: str | Path) -> Path:
    """Copy a model folder into the cache folder, where :func:`find_model` knows it by ``name``.

    Raises:
        ModelZooError: the name is taken or no plain name, or the folder is no model folder.
    """
    target, source = cache_folder() / name, Path(folder)
    if not name or Path(name).name != name or name.lower() in PUBLISHED:
        raise ModelZooError(f"a model cannot be called {name!r}: choose a plain name that no published model has")
    if target.exists():
        raise ModelZooError(f"{target} is there already: choose another name, or remove it")
    if not (source / RECORD).is_file():
        raise ModelZooError(f"{source} is no model folder, it has no {RECORD}: give one that save_model wrote")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{name}.{os.getpid()}")
    try:
        shutil.copytree(source, partial)
        os.rename(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def _of_folder(name: str, folder: Path, weights: str | Path | None) -> ModelFiles:
    """A model folder, or the output folder of a training."""
    if (folder / RECORD).is_file():
        if weights is not None:
            raise ModelZooError(
                f"{folder} has its own weights: leave --weights out, or give its config.yaml as the model"
            )
        return ModelFiles(name, folder=folder)
    config = folder / "config.yaml"
    if not config.is_file():
        raise ModelZooError(
            f"{folder} is neither a model folder ({RECORD}) nor the output folder of a training (config.yaml)"
        )
    if weights is not None:
        return ModelFiles(name, config=config, weights=_existing(weights))
    for checkpoint in CHECKPOINTS:
        if (folder / checkpoint).is_file():
            return ModelFiles(name, config=config, weights=folder / checkpoint)
    raise ModelZooError(f"{folder} has no {' or '.join(CHECKPOINTS)}: train to the end, or give --weights FILE")


def _existing(weights: str | Path) -> Path:
    if not Path(weights).is_file():
        raise ModelZooError(f"--weights {weights}: there is no such file")
    return Path(weights)


def _target(entry: ZooEntry) -> Path:
    return cache_folder() / "published" / entry.url.rsplit("/", 1)[1]


def _downloaded(entry: ZooEntry, transfer: Transfer) -> Path:
    """The weight file in the cache, got where it is not there, and compared with its hash at each use."""
    target = _target(entry)
    note = target.with_name(target.name + ".json")
    known = entry.sha256 or (str(read_json(note)["sha256"]) if note.is_file() else "")
    if not target.is_file():
        transfer.say(f"{entry.name}: {entry.url}\n{entry.licence}")
        fetch(entry.url, target, transfer, known)
    found = sha256(target)
    if known and found != known:
        raise ModelZooError(
            f"{target} was changed or damaged: its SHA-256 begins with {found[:12]}, it should with {known[:12]}; "
            "remove it, and it will be downloaded again"
        )
    if not known:
        write_json(note, {"url": entry.url, "sha256": found})
    return target
