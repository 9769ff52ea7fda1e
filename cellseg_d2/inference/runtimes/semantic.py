"""What runs the network of a semantic model: PyTorch or ONNX Runtime."""

import copy
import logging
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from ...engine.errors import UserError
from ...files import atomic_write
from ...modeling.semantic import CellSegmentor
from ..model_folder import NETWORKS, read_record
from .folding import fold_norms
from .semantic_export import INPUT, export_network
from .winograd import one_product_one_thread, use_winograd

__all__ = [
    "RUNTIMES", "EagerNetwork", "Network", "OnnxNetwork", "RuntimeKindError", "exported_network", "faster_copy",
    "make_network",
]  # fmt: skip

logger = logging.getLogger(__name__)

RUNTIMES = ("auto", "eager", "torch", "onnx")
# Largest difference of logits between PyTorch and ONNX Runtime, in units of the largest logit (at least 1)
TOLERANCE = 1e-4
# (C, H, W) float32, stretched grey values -> (K, H, W) float32 logits
Network = Callable[[np.ndarray], Tensor]


class RuntimeKindError(UserError):
    """A runtime that cannot run this model."""


class EagerNetwork:
    """A model run by PyTorch, where it is."""

    def __init__(self, model: CellSegmentor) -> None:
        self.model = model

    @torch.inference_mode()
    def __call__(self, image: np.ndarray) -> Tensor:
        """(K, H, W) float32 logits, on the model's device, of a (C, H, W) float32 image of stretched grey values."""
        with one_product_one_thread() if self.model.device.type == "cpu" else nullcontext():
            (logits,) = self.model.logits([{"image": torch.from_numpy(image)}])
        return logits


def faster_copy(model: CellSegmentor) -> CellSegmentor:
    """A copy of a model on the CPU for inference there: norms folded, channels_last, 3x3 convolutions by Winograd's
    algorithm."""
    return use_winograd(fold_norms(copy.deepcopy(model)).to(memory_format=torch.channels_last))


class OnnxNetwork:
    """An exported network run by ONNX Runtime on the CPU, with as many threads as PyTorch has.

    Args:
        network: see :func:`.onnx_export.export_network`.
        mean: of the pixels, (C,); it fills images up to a multiple of ``divisibility``, as the model does.
    """

    def __init__(self, network: bytes, mean: np.ndarray, divisibility: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        # Threads that spin while they wait save no time that can be measured, and take it from whatever else runs
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
        self.mean, self.divisibility = np.asarray(mean, dtype=np.float32).reshape(-1, 1, 1), divisibility

    def __call__(self, image: np.ndarray) -> Tensor:
        """(K, H, W) float32 logits of a (C, H, W) float32 image of stretched grey values."""
        channels, height, width = image.shape
        padded = [-(-side // self.divisibility) * self.divisibility for side in (height, width)]
        if padded != [height, width]:
            filled = np.empty((channels, *padded), dtype=np.float32)
            filled[:] = self.mean
            filled[:, :height, :width] = image
            image = filled
        (logits,) = self.session.run(None, {INPUT: image[None]})
        return torch.from_numpy(logits[0, :, :height, :width])


def make_network(model: CellSegmentor, runtime: str = "auto", folder: Path | None = None) -> Network:
    """What runs ``model``.

    Args:
        model: in evaluation mode.
        runtime: "eager" (PyTorch, the model as it is), "torch" (PyTorch, see :func:`faster_copy`), "onnx" (ONNX
            Runtime), or "auto": "onnx" on a CPU, "eager" elsewhere.
        folder: of the model, where the exported network is kept for the next time; it is exported anew where there is
            none, or it does not give what the model gives.

    Raises:
        RuntimeKindError: an unknown runtime; ONNX Runtime for a model on a GPU, or for one that cannot be exported.
    """
    if runtime not in RUNTIMES:
        raise RuntimeKindError(f"--runtime {runtime}: this is none of {', '.join(RUNTIMES)}")
    on_cpu = model.device.type == "cpu"
    if runtime == "torch" and on_cpu:
        return EagerNetwork(faster_copy(model))
    if runtime in ("eager", "torch") or (runtime == "auto" and not on_cpu):
        return EagerNetwork(model)
    if not on_cpu:
        raise RuntimeKindError(f"--runtime onnx runs on a CPU, the model is on {model.device}: use torch, or the cpu")
    cache = None
    if folder is not None:
        cache = folder / NETWORKS.replace("*", read_record(folder)["sha256"][:16])
        network = _cached(model, cache)
        if network:
            return network
    return exported_network(model, cache)


def _cached(model: CellSegmentor, cache: Path) -> OnnxNetwork | None:
    """The network in a file, where there is one that can be used."""
    if not cache.is_file():
        return None
    try:
        network = _open(cache.read_bytes(), model)
        if _agrees(network, model):
            return network
        reason = "it differs from the model, whose configuration may have changed"
    except Exception as error:  # of a damaged file; ONNX Runtime has no common class for its errors
        reason = str(error)
    logger.warning("%s is exported again: %s", cache, reason)
    return None


def exported_network(model: CellSegmentor, cache: Path | None) -> OnnxNetwork:
    """Export the network, compare it with the model, and keep it in the file ``cache``.

    Raises:
        RuntimeKindError: it cannot be exported, or does not give what the model gives.
    """
    logger.info("Exporting the network for ONNX Runtime, which takes some seconds%s", ", once" if cache else "")
    try:
        content = export_network(model)
        network = _open(content, model)
        agrees = _agrees(network, model)
    except Exception as error:  # exporter and ONNX Runtime have no common class for their errors
        raise RuntimeKindError(f"the network cannot be exported ({_reason(error)}); use --runtime torch") from error
    if not agrees:
        raise RuntimeKindError("the exported network does not give what the model gives; use --runtime torch")
    if cache:
        try:
            atomic_write(cache, lambda stream: stream.write(content))
        except OSError as error:
            logger.warning("the exported network is not kept, as %s cannot be written: %s", cache, error.strerror)
    return network


def _reason(error: BaseException) -> str:
    """The first line of what began it: the exporter's own errors are pages of advice."""
    while error.__cause__:
        error = error.__cause__
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"


def _open(content: bytes, model: CellSegmentor) -> OnnxNetwork:
    return OnnxNetwork(content, model.pixel_mean.flatten().numpy(), model.backbone.size_divisibility)


def _agrees(network: OnnxNetwork, model: CellSegmentor) -> bool:
    """Whether both give the same logits for a small random image, of other sides than the example of the export."""
    unit = model.backbone.size_divisibility
    image = np.random.default_rng(0).random((len(model.pixel_mean), 2 * unit - 1, 2 * unit + 1), dtype=np.float32)
    ours, theirs = EagerNetwork(model)(image), network(image)
    if ours.shape != theirs.shape:
        return False
    return bool((ours - theirs).abs().max() <= TOLERANCE * max(1.0, float(ours.abs().max())))
