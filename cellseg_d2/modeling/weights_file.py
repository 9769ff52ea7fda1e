"""Reading weight files of others safely: .pth (torch) and .pkl (Detectron2's model zoo)."""

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import torch
from detectron2.utils.file_io import PathManager
from numpy._core import multiarray
from torch import Tensor

__all__ = ["WeightsError", "read_weights"]


class WeightsError(RuntimeError):
    """A weight file cannot be used: which one, why, and what to do."""


# What NumPy arrays and scalars are made of in a pickle, under the names of NumPy 1 and 2.
_NUMPY_GLOBALS = {
    (module, name): getattr(multiarray, name)
    for module in ("numpy.core.multiarray", "numpy._core.multiarray")
    for name in ("_reconstruct", "scalar")
} | {("numpy", "ndarray"): np.ndarray, ("numpy", "dtype"): np.dtype}


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickles containers, numbers, strings and NumPy arrays, and refuses all else: no code of the file runs."""

    def find_class(self, module: str, name: str):
        if (module, name) in _NUMPY_GLOBALS:
            return _NUMPY_GLOBALS[module, name]
        if (module, name) in {("collections", "OrderedDict"), ("_codecs", "encode")}:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"the file asks for {module}.{name}")


def read_weights(path: str, *, trust: bool = False) -> dict[str, Tensor]:
    """The state dict in a weight file.

    Args:
        path: .pth / .pt (a state dict, or a dict with the state dict under "model" or "state_dict") or .pkl
            (Detectron2's model zoo: NumPy arrays under "model"); a local path or an address that Detectron2's
            PathManager understands.
        trust: read files that are more than tensors and arrays; that runs code out of the file.

    Raises:
        WeightsError: missing, truncated, of another kind, or refused.
    """
    local = _local_path(path)
    try:
        content = _read(local, trust)
    except (pickle.UnpicklingError, AttributeError, ImportError) as error:
        raise WeightsError(
            f"{path} was refused: it is truncated, no weight file, or holds Python objects ({_first_line(error)}). "
            "Only if you know who made it, set MODEL.TRUST_WEIGHTS True"
        ) from error
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{path} cannot be read: truncated or no weight file. ({_first_line(error)})") from error
    return _state_dict(content, path)


def _local_path(path: str) -> Path:
    try:
        local = Path(PathManager.get_local_path(path))
    except Exception as error:  # whatever the network layer raises: the user needs to know the address and the reason
        raise WeightsError(
            f"{path} could not be fetched ({_first_line(error)}). Download it yourself and set MODEL.WEIGHTS to the "
            'file, or to "" for random weights'
        ) from error
    if not local.is_file():
        raise WeightsError(f"MODEL.WEIGHTS: there is no file {local}")
    return local


def _read(path: Path, trust: bool) -> object:
    if path.suffix == ".pkl":
        unpickler = pickle.Unpickler if trust else _ArrayUnpickler
        return unpickler(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    dtypes = [type(np.dtype(code)) for code in ("f4", "f8", "i4", "i8", "u1", "?")]
    allowed = [(f, f"{module}.{name}") for (module, name), f in _NUMPY_GLOBALS.items()]
    with torch.serialization.safe_globals([*allowed, *dtypes]):
        return torch.load(path, map_location="cpu", weights_only=not trust)


def _state_dict(content: object, path: str) -> dict[str, Tensor]:
    for key in ("model", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict):
        raise WeightsError(f"{path} holds a {type(content).__name__}, not a dict of weights")
    state = {}
    for name, value in content.items():
        if isinstance(value, np.ndarray):
            value = torch.from_numpy(np.ascontiguousarray(value))
        if isinstance(value, Tensor):
            state[str(name)] = value
    if not state:
        raise WeightsError(f"{path} holds no weights; its keys are {sorted(map(str, content))[:8]}")
    return state


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
