"""What runs a CenterMask on a CPU: PyTorch, ONNX Runtime or OpenVINO."""

import importlib
import logging
import multiprocessing
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from detectron2.config import CfgNode
from torch import Tensor, nn

from ...modeling.roi_heads.sag_mask import select_class
from .instance_export import NETWORK_RECORD, export_instances, is_centermask, read_networks
from .instance_network import InstanceNetwork, Run, fast
from .semantic import RuntimeKindError

__all__ = ["INSTANCE_RUNTIMES", "PRECISIONS", "default_threads", "make_instance_network", "require_openvino"]

logger = logging.getLogger(__name__)

INSTANCE_RUNTIMES = ("torch", "onnx", "openvino")
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# Largest difference from PyTorch's float32, in units of the largest value (at least 1)
TOLERANCE = {"float32": 1e-4, "bfloat16": 0.1}


def make_instance_network(
    model: nn.Module,
    cfg: CfgNode,
    runtime: str,
    folder: str | Path | None = None,
    threads: int | None = None,
    dtype: str = "float32",
) -> InstanceNetwork:
    """What runs ``model``: callable with Detectron2's input dicts and ``min_score``, as ``predict_rle``.

    Args:
        model: a CenterMask in evaluation mode, on the CPU.
        cfg: its configuration.
        runtime: "torch", "onnx" (ONNX Runtime) or "openvino".
        folder: of exported networks (:func:`.instance_export.export_instances`); where it has none they are exported
            into it. None: they are exported for this time.
        threads: None: see :func:`default_threads`. PyTorch's are set for the whole process.
        dtype: "float32" or "bfloat16" (not by ONNX Runtime), of the networks; what is returned is float32.

    Raises:
        RuntimeKindError: an unknown runtime or dtype, one that is not installed or cannot run this model, or networks
            that do not give what the model gives.
        ExportError: the model cannot be exported, or the networks in ``folder`` are damaged or of another model.
    """
    _check(model, runtime, dtype)
    threads = threads or default_threads()
    torch.set_num_threads(threads)
    try:
        if runtime == "torch":
            network = fast(model, PRECISIONS[dtype])
        else:
            network = _exported(model, cfg, runtime, folder, threads, dtype)
    except TypeError as error:  # of Heads: a kind of mask head
        raise RuntimeKindError(f"--runtime {runtime}: {error}") from error
    _require_agreement(network, TOLERANCE[dtype], runtime)
    return network


def _exported(
    model: nn.Module, cfg: CfgNode, runtime: str, folder: str | Path | None, threads: int, dtype: str
) -> InstanceNetwork:
    """The networks in ``folder``, exported where there are none."""
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(folder or temporary)
        if not (place / NETWORK_RECORD).exists():
            logger.info("Exporting the networks, which takes some seconds")
            export_instances(model, cfg, place)
        files = read_networks(place, model)
        opened = {name: _open(path, runtime, threads, dtype) for name, path in files.items()}
    return InstanceNetwork(model, opened["trunk"], opened.get("heads"))


def default_threads() -> int:
    """As many as PyTorch takes by itself, one for each physical core; one in a worker process."""
    return 1 if multiprocessing.parent_process() is not None else torch.get_num_threads()


def require_openvino() -> Any:
    """The module ``openvino``.

    Raises:
        RuntimeKindError: it is not installed.
    """
    try:
        return importlib.import_module("openvino")
    except ImportError as error:
        raise RuntimeKindError(
            f"--runtime openvino needs OpenVINO ({error}): pip install 'cellseg_d2[openvino]'"
        ) from error


@cache
def _openvino_core() -> Any:
    """OpenVINO, once a process.

    A core gives its thread a stack for signals, and takes it away with itself. With two, the one that goes last puts
    back the stack of the first, which is gone: the next signal, as of Ctrl-C, then ends the process.
    """
    return require_openvino().Core()


class OnnxRun:
    """A network in a file, run by ONNX Runtime."""

    def __init__(self, path: Path, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # see runtime.OnnxNetwork
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.names = [value.name for value in self.session.get_inputs()]

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        arrays = {name: value.contiguous().numpy() for name, value in zip(self.names, inputs)}
        return tuple(torch.from_numpy(output) for output in self.session.run(None, arrays))


class OpenVinoRun:
    """A network in an ONNX file, run by OpenVINO."""

    def __init__(self, path: Path, threads: int, dtype: str) -> None:
        precision = {"float32": "f32", "bfloat16": "bf16"}[dtype]
        options = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": precision, "NUM_STREAMS": 1}
        network = _openvino_core().compile_model(str(path), "CPU", options)
        self.request, self.inputs = network.create_infer_request(), len(network.inputs)

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        if not len(inputs[0]):  # OpenVINO would leave the outputs of the last call
            one = self(*(torch.zeros(1, *value.shape[1:], dtype=value.dtype) for value in inputs))
            return tuple(output[:0] for output in one)
        arrays = {k: value.contiguous().numpy() for k, value in enumerate(inputs[: self.inputs])}
        outputs = self.request.infer(arrays, share_inputs=True)
        # The next call writes to the same memory
        return tuple(torch.from_numpy(np.array(output, dtype=np.float32)) for output in outputs.values())


def _check(model: nn.Module, runtime: str, dtype: str) -> None:
    if runtime not in INSTANCE_RUNTIMES:
        raise RuntimeKindError(f"--runtime {runtime}: this is none of {', '.join(INSTANCE_RUNTIMES)}")
    if dtype not in PRECISIONS:
        raise RuntimeKindError(f"--precision {dtype}: this is none of {', '.join(PRECISIONS)}")
    if runtime == "onnx" and dtype != "float32":
        raise RuntimeKindError(f"--runtime onnx computes in float32, not {dtype}: take torch or openvino")
    if runtime == "openvino":
        require_openvino()
    if not is_centermask(model):
        raise RuntimeKindError(f"--runtime {runtime}: {type(model).__name__} is no model with FCOS and CenterROIHeads")
    if model.device.type != "cpu":
        raise RuntimeKindError(f"--runtime {runtime} runs on a CPU, the model is on {model.device}")
    if dtype == "bfloat16" and not (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()):
        logger.warning("This processor has no arithmetic for bfloat16: float32 is faster here")


def _open(path: Path, runtime: str, threads: int, dtype: str) -> Run:
    try:
        return OnnxRun(path, threads) if runtime == "onnx" else OpenVinoRun(path, threads, dtype)
    except RuntimeError as error:  # of either; what it is about is in its first line
        raise RuntimeKindError(f"{path}: {runtime} cannot open it ({str(error).strip().splitlines()[0]})") from error


@torch.inference_mode()
def _require_agreement(network: InstanceNetwork, tolerance: float, runtime: str) -> None:
    """Compare with the model, on a small random image of other sides than the example of the export."""
    model, generator = network.model, torch.Generator().manual_seed(0)
    unit = max(model.backbone.size_divisibility, 32)
    image = torch.randn(1, len(model.pixel_mean), 2 * unit, 4 * unit, generator=generator)
    features, roi_heads = model.backbone(image), model.roi_heads
    by_kind = model.proposal_generator.fcos_head([features[name] for name in model.proposal_generator.in_features])
    maps = [features[name] for name in roi_heads.mask_in_features]
    apart = _apart(network.trunk(image), [*(x for kind in by_kind for x in kind), *maps])
    if network.heads is not None:
        pooled = torch.randn(5, maps[0].shape[1], *roi_heads.mask_pooler.output_size, generator=generator).relu()
        classes = torch.arange(5) % roi_heads.num_classes
        expected = [select_class(roi_heads.mask_head.layers(pooled), classes).sigmoid()]
        if roi_heads.maskiou_head is not None:
            expected.append(select_class(roi_heads.maskiou_head(pooled, expected[0]), classes))
        apart = max(apart, _apart(network.heads(pooled, classes), expected))
    if not apart <= tolerance:
        raise RuntimeKindError(
            f"the networks of {runtime} do not give what the model gives (apart by {apart:.1g} of the largest value, "
            f"at most {tolerance:g} is accepted); use predict_rle, or another runtime"
        )


def _apart(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
    """Largest difference in units of the largest value (at least 1) of each output; infinite for other shapes."""
    if [x.shape for x in ours] != [x.shape for x in theirs]:
        return float("inf")
    return max(float((a - b).abs().max() / b.abs().max().clamp(min=1)) for a, b in zip(ours, theirs))
