"""A trained model as a folder: its configuration, its weights, and a record of what is known about them."""

import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from detectron2 import __version__ as detectron2_version
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn

from .. import __version__
from ..engine.errors import UserError, config_errors
from ..engine.setup import load_config
from ..files import atomic_write, finite_or_none, read_json, sha256, write_json
from ..modeling.checkpoint import load_weights

__all__ = ["ModelFolderError", "build_loaded", "load_model", "read_record", "save_model", "versions"]

CONFIG, WEIGHTS, RECORD = "config.yaml", "model.pth", "model.json"
# Networks that were exported from the weights; the star is the beginning of their hash
NETWORKS = "network-*.onnx"


class ModelFolderError(UserError):
    """A folder is no model, or its weights are not those that were saved."""


def save_model(folder: str | Path, cfg: CfgNode, model: nn.Module, info: Mapping[str, Any]) -> Path:
    """Write ``config.yaml``, ``model.pth`` and ``model.json`` into ``folder``, which is made; older ones are replaced.

    ``model.json`` comes last: a folder without it was not finished.

    Args:
        cfg: the whole configuration that the model was built with.
        model: its state dict, buffers such as threshold and stretch included, goes to ``model.pth``.
        info: what else shall stand in ``model.json``, such as how the threshold was chosen; values that JSON has.

    Returns:
        The folder.

    Raises:
        ValueError: ``info`` has a key that is written anyway.
    """
    folder = Path(folder)
    record = {"class": type(model).__name__, **_prediction_state(model), "versions": versions()}
    taken = {*record, "sha256"} & info.keys()
    if taken:
        raise ValueError(f"{RECORD} has {', '.join(sorted(taken))} already; give it another name in info")
    for name in (RECORD, *(path.name for path in folder.glob(NETWORKS))):
        (folder / name).unlink(missing_ok=True)
    saved = cfg.clone()
    saved.defrost()
    saved.MODEL.WEIGHTS, saved.MODEL.TRUST_WEIGHTS = "", False  # of the training, not of the folder
    atomic_write(folder / CONFIG, lambda stream: stream.write(saved.dump().encode("utf-8")))
    state = {name: value.cpu() for name, value in model.state_dict().items()}
    weights = atomic_write(folder / WEIGHTS, lambda stream: torch.save({"model": state}, stream))
    write_json(folder / RECORD, finite_or_none({**record, **info, "sha256": sha256(weights)}), indent=2)
    return folder


def load_model(
    folder: str | Path, device: str = "cpu", options: Sequence[Any] = ()
) -> tuple[CfgNode, nn.Module]:
    """The configuration (frozen) and the model (in evaluation mode, on ``device``) of a folder of :func:`save_model`.

    Args:
        options: ``KEY, VALUE, ...`` that are other than in the folder's configuration.

    Raises:
        ModelFolderError: no such folder, no model in it, weights that are not those that were saved, or no such device.
        ConfigError, WeightsError: the configuration or the weights do not fit this version.
    """
    folder, record = Path(folder), read_record(folder)
    found = sha256(folder / WEIGHTS)
    if found != record.get("sha256"):
        raise ModelFolderError(
            f"{folder / WEIGHTS} was changed or damaged since the model was saved: its SHA-256 begins with "
            f"{found[:12]}, that in {RECORD} with {str(record.get('sha256'))[:12]}. Copy the folder again, or save the "
            "model again"
        )
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ModelFolderError(f"device {device}: torch sees no GPU here; use the device cpu")
    return build_loaded(folder / CONFIG, folder / WEIGHTS, device, options)


def build_loaded(
    config: Path, weights: Path, device: str = "cpu", options: Sequence[Any] = (), trust: bool | None = False
) -> tuple[CfgNode, nn.Module]:
    """The configuration (frozen, without the path of the weights) and the model, in evaluation mode, of two files.

    Args:
        options: ``KEY, VALUE, ...`` that are other than in the configuration.
        trust: see :func:`..modeling.checkpoint.load_weights`; None: as MODEL.TRUST_WEIGHTS says.

    Raises:
        ConfigError, WeightsError: they do not fit together, or not this version.
    """
    cfg = load_config(str(config), [*options, "MODEL.DEVICE", device, "MODEL.WEIGHTS", str(weights)])
    with config_errors(f"the model of {config}"):
        model = build_model(cfg)
    load_weights(model, str(weights), complete=True, trust=cfg.MODEL.TRUST_WEIGHTS if trust is None else trust)
    cfg.MODEL.WEIGHTS = ""
    cfg.freeze()
    return cfg, model.eval()


def read_record(folder: str | Path) -> dict[str, Any]:
    """What ``model.json`` says.

    Raises:
        ModelFolderError: not a folder with a model.
        DatasetError: ``model.json`` is damaged.
    """
    folder = Path(folder)
    if folder.is_file():
        raise ModelFolderError(f"{folder} is a file: give the folder that has {CONFIG}, {WEIGHTS} and {RECORD}")
    if not folder.is_dir():
        raise ModelFolderError(f"{folder}: there is no such model folder")
    missing = [name for name in (CONFIG, WEIGHTS, RECORD) if not (folder / name).is_file()]
    if missing:
        raise ModelFolderError(
            f"{folder} is no complete model folder, it lacks {' and '.join(missing)}: give a folder that save_model "
            "wrote to the end"
        )
    record = read_json(folder / RECORD)
    if not isinstance(record, dict):
        raise ModelFolderError(f"{folder / RECORD} does not describe a model: save the model again")
    return record


def versions() -> dict[str, str]:
    """Of this package and of those that predictions depend on."""
    packages = {name: metadata.version(name) for name in ("torch", "numpy", "onnxruntime")}
    own = {"cellseg_d2": __version__, "detectron2": detectron2_version}
    return {**own, **packages, "python": platform.python_version()}


def _prediction_state(model: nn.Module) -> dict[str, Any]:
    """Threshold and stretch of a semantic model; of an ensemble the mean threshold, and each member's."""
    if not hasattr(model, "threshold"):
        return {}
    members = dict(getattr(model, "members", {}))
    low, high, gamma = next(iter(members.values()), model).normalization.tolist()
    state: dict[str, Any] = {"threshold": float(model.threshold)}
    if members:
        state["thresholds"] = {name: float(member.threshold) for name, member in members.items()}
    return {**state, "normalization": {"percentiles": [round(low, 4), round(high, 4)], "gamma": round(gamma, 4)}}
