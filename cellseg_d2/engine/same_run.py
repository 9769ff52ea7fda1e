"""A run goes on in its folder with the configuration and the data it began with: its scores were of neither else."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from detectron2.config import CfgNode

from ..data import datasets
from ..data.label_maps import rasterise
from ..data.names import few
from ..files import read_json, sha256, write_json
from .errors import ConfigError
from .setup import load_config

__all__ = ["require_same_run"]

KEYS = ("DATASETS", "INPUT", "MODEL", "SEED", "SOLVER", "TEST")
DATA = "data.json"


def require_same_run(cfg: CfgNode) -> None:
    """Compare with the run that is in OUTPUT_DIR; where none is there, note the data of this one.

    Args:
        cfg: of the run, data sets resolved.

    Raises:
        ConfigError: another value under one of ``KEYS``, or an image or an outline that is other, new or gone.
    """
    output = Path(cfg.OUTPUT_DIR)
    data = {name: _digests(name) for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)}
    if not (output / "last_checkpoint").is_file():
        write_json(output / DATA, data, indent=1)
        return
    remedy = "choose another output folder, or delete this one"
    lacking = [name for name in ("config.yaml", DATA) if not (output / name).is_file()]
    if lacking:
        raise ConfigError(
            f"{output} has checkpoints, but no {' and no '.join(lacking)} to say what they were trained with: {remedy}"
        )
    old, new = (_values(each) for each in (load_config(str(output / "config.yaml")), cfg))
    if other := [name for key in KEYS for name in _differing(old[key], new[key], key)]:
        raise ConfigError(f"{output} has a run with other {few(other)} (its config.yaml tells): {remedy}")
    before = read_json(output / DATA)
    if changed := [place for name, files in data.items() for place in _changed(before.get(name, {}), files)]:
        raise ConfigError(
            f"{output} has a run with other images or outlines ({len(changed)} are new, gone or changed, such as "
            f"{changed[0]}): {remedy}"
        )


def _values(cfg: CfgNode) -> dict[str, Any]:
    """The configuration as plain values, without the device, which may be another one on another day, and without what
    training notes of its data, which are compared themselves."""
    values = yaml.safe_load(cfg.dump())
    del values["MODEL"]["DEVICE"], values["DATASETS"]["CLASSES"], values["INPUT"]["FRAME_SIDE"]
    return values


def _differing(old: Any, new: Any, name: str) -> list[str]:
    """The keys below ``name`` whose values are not the same."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = dict.fromkeys([*old, *new])
        return [found for key in keys for found in _differing(old.get(key), new.get(key), f"{name}.{key}")]
    return [] if old == new else [name]


def _digests(name: str) -> dict[str, str]:
    """Image file -> digest of the file and of what is outlined in it, for all images of a data set."""
    return {record["file_name"]: _digest(record) for record in datasets.load(name)}


def _digest(record: Mapping[str, Any]) -> str:
    """SHA-256 of an image's content and outlines."""
    labels = rasterise(record["annotations"], record["height"], record["width"])
    return hashlib.sha256(sha256(record["file_name"]).encode() + labels.tobytes()).hexdigest()


def _changed(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Files whose digest is another, or that only one has."""
    return sorted(file for file in {*before, *now} if before.get(file) != now.get(file))
