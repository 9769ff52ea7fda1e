"""The networks of a CenterMask as ONNX files with a record: images of any size, any number of cells."""

import hashlib
import warnings
from pathlib import Path

import onnx
import torch
from detectron2.config import CfgNode
from torch import Tensor, nn

from ...engine.errors import UserError
from ...errors import DatasetError
from ...files import atomic_write, read_json, sha256, write_json
from ...modeling.proposal_generator.fcos import FCOS
from ...modeling.roi_heads import CenterROIHeads
from ..model_folder import versions
from .faster import Heads, Trunk

__all__ = [
    "NETWORK_RECORD",
    "ExportError",
    "export_instances",
    "export_module",
    "is_centermask",
    "read_networks",
    "weights_hash",
    "write_record",
]

NETWORK_RECORD = "networks.json"
OPSET = 18  # from 21 on GroupNormalization is exported as such, and ONNX Runtime takes it apart into many steps
# Inputs of the networks, and the axes of inputs and outputs that are free
TRUNK_INPUTS, TRUNK_FREE = ("image",), {0: "batch", 2: "height", 3: "width"}
HEADS_INPUTS, HEADS_FREE = ("pooled", "classes"), {0: "cells"}


class ExportError(UserError):
    """A model that cannot be exported, or exported networks that cannot be used."""


def export_instances(model: nn.Module, cfg: CfgNode, folder: str | Path) -> Path:
    """Write ``trunk.onnx``, with masks ``heads.onnx``, and last ``networks.json`` to ``folder``, which is made.

    ``trunk.onnx``: image (N, C, H, W) float32, normalised and padded -> see :meth:`.faster.Trunk.forward`.
    ``heads.onnx``: pooled (n, C, S, S) float32, classes (n,) int64 (only where there are several) -> see
    :meth:`.faster.Heads.forward`.

    Args:
        model: a CenterMask in evaluation mode, on the CPU.
        cfg: its configuration, for the record.

    Returns:
        The folder.

    Raises:
        ExportError: it is another model, or PyTorch's exporter does not know one of its layers.
    """
    if not is_centermask(model):
        raise ExportError(f"{type(model).__name__}: only models with FCOS and CenterROIHeads are exported")
    folder = Path(folder)
    (folder / NETWORK_RECORD).unlink(missing_ok=True)
    paths = [
        atomic_write(folder / f"{name}.onnx", lambda stream, content=content: stream.write(content))
        for name, content in _networks(model).items()
    ]
    write_record(folder, model, cfg, paths)
    return folder


def is_centermask(model: nn.Module) -> bool:
    """Whether a model has the parts that are prepared here."""
    generator, roi_heads = getattr(model, "proposal_generator", None), getattr(model, "roi_heads", None)
    return isinstance(generator, FCOS) and isinstance(roi_heads, CenterROIHeads)


def write_record(folder: Path, model: nn.Module, cfg: CfgNode, paths: list[Path]) -> None:
    """Write ``networks.json``: hashes of the model's weights and of the network files, versions and configuration."""
    files = {path.name: sha256(path) for path in paths}
    record = {"weights": weights_hash(model), "files": files, "versions": versions(), "config": cfg.dump()}
    write_json(folder / NETWORK_RECORD, record, indent=2)


def read_networks(folder: str | Path, model: nn.Module) -> dict[str, Path]:
    """The files of :func:`export_instances` by name ("trunk", "heads"), made from the weights of ``model``.

    Raises:
        ExportError: a file is missing, changed or damaged, or of other weights.
    """
    folder, again = Path(folder), "; export again (tools/export.py)"
    try:
        record = read_json(folder / NETWORK_RECORD)
        weights, files = record["weights"], dict(record["files"])
    except (DatasetError, KeyError, TypeError, ValueError) as error:
        raise ExportError(f"{folder / NETWORK_RECORD} is missing or damaged: {error}{again}") from None
    if weights != weights_hash(model):
        raise ExportError(f"{folder} has networks that were exported from other weights than the model's{again}")
    for name, expected in files.items():
        if sha256(folder / name) != expected:
            raise ExportError(f"{folder / name} is missing, or was changed or damaged since the export{again}")
    return {Path(name).stem: folder / name for name in files}


def weights_hash(model: nn.Module) -> str:
    """SHA-256, in hexadecimal, of names, types, shapes and values of a model's parameters and buffers."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        value = value.detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _networks(model: nn.Module) -> dict[str, bytes]:
    unit = max(model.backbone.size_divisibility, 32)
    image = torch.zeros(2, len(model.pixel_mean), 3 * unit, 2 * unit)
    trunk = Trunk(model)
    networks = {"trunk": export_module(trunk, (image,), TRUNK_INPUTS, trunk.names, TRUNK_FREE)}
    if model.roi_heads.mask_head is not None:
        heads, shape = Heads(model.roi_heads), model.roi_heads.mask_pooler.output_size
        channels = model.backbone.output_shape()[model.roi_heads.mask_in_features[0]].channels
        example = torch.zeros(3, channels, *shape), torch.zeros(3, dtype=torch.int64)
        networks["heads"] = export_module(heads, example, HEADS_INPUTS, heads.names, HEADS_FREE)
    return networks


def export_module(
    module: nn.Module, example: tuple[Tensor, ...], inputs: tuple[str, ...], outputs: list[str], free: dict[int, str]
) -> bytes:
    """ONNX of a module; the axes ``free`` of its inputs and outputs may have any length.

    The exporter follows the first axis. No layer may know the size of the others: to reason about these takes the
    exporter minutes in a deep network, and it fails on pyramids. Whoever opens the result compares it with the model at
    other sizes.

    Raises:
        ExportError: PyTorch's exporter does not know one of its layers.
    """
    dynamic = tuple({0: torch.export.Dim.DYNAMIC} for _ in example)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of PyTorch about its own parts
        try:
            program = torch.onnx.export(
                module, example, input_names=list(inputs), output_names=outputs, opset_version=OPSET, dynamo=True,
                verbose=False, dynamic_shapes=dynamic,
            )  # fmt: skip
        except Exception as error:  # the exporter has no common class for its errors
            raise ExportError(f"the network cannot be exported ({_reason(error)}); use --runtime torch") from error
    proto: onnx.ModelProto = program.model_proto
    for value in (*proto.graph.input, *proto.graph.output):
        for axis, dimension in enumerate(value.type.tensor_type.shape.dim):
            if axis in free:
                dimension.dim_param = f"{free[axis]}_{value.name}" if axis else free[axis]
    del proto.graph.value_info[:]  # sizes in between
    return proto.SerializeToString()


def _reason(error: BaseException) -> str:
    """The first line of what began it."""
    while error.__cause__:
        error = error.__cause__
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
