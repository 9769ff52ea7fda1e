"""From a model's name or files to a detector that is ready."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.structures import Instances
from torch import nn

from ..data.datasets.catalog import SEMANTIC_ONLY
from ..engine.errors import UserError
from ..model_zoo import ModelFiles, cache_folder, find_model
from ..modeling.postprocess import predict_rle
from .detectors import Detector, InstanceDetector, Network, SemanticDetector, Trunk
from .model_folder import build_loaded, load_model
from .runtimes.instance import make_instance_network
from .semantic import SemanticPredictor

__all__ = ["ModelOptions", "load_detector", "load_files", "networks_folder"]


@dataclass(frozen=True)
class ModelOptions:
    """What is chosen of a model when it is loaded; picklable, so that other processes can load the same.

    Attributes:
        model, weights: see :func:`cellseg_d2.model_zoo.find_model`.
        device: "cpu", "cuda" or "cuda:N"; None: a GPU where there is one.
        runtime: "torch", "onnx", "openvino", or "auto" (onnx for semantic models on a CPU, else torch).
        precision: "float32" or "bfloat16" (instance models).
        threads: of a CPU; None: as many as there are cores.
        min_score: instance models: cells of a lower score are left out.
        max_cells: instance models: cells a region at most; None: as configured.
        threshold, min_area, split, cell_type: semantic models, see ``SemanticPredictor``; None: the model's own.
        trust: read weight files that hold more than tensors, which runs code out of them.
    """

    model: str
    weights: str | None = None
    device: str | None = None
    runtime: str = "auto"
    precision: str = "float32"
    threads: int | None = None
    min_score: float = 0.5
    max_cells: int | None = None
    threshold: float | None = None
    min_area: int | None = None
    split: str | None = None
    cell_type: str | None = None
    trust: bool = False

    def __post_init__(self) -> None:
        """Raise UserError for values out of range."""
        if self.threads is not None and self.threads < 1:
            raise UserError(f"--threads {self.threads}: give a number above 0")
        if not 0 <= self.min_score <= 1:
            raise UserError(f"--min-score {self.min_score}: scores lie in 0..1")
        if self.max_cells is not None and self.max_cells < 1:
            raise UserError(f"--max-cells {self.max_cells}: give a number above 0")
        if self.device is not None and not re.fullmatch(r"cpu|cuda(:\d+)?", self.device):
            raise UserError(f"--device {self.device}: give cpu, cuda or cuda:N")


def load_detector(options: ModelOptions, files: ModelFiles | None = None) -> Detector:
    """Load a model.

    Args:
        files: where :func:`find_model` found it; None: it is asked.

    Raises:
        UserError: no such model, unfit weights, an option that the model has not, no such device.
    """
    files = files or find_model(options.model, options.weights)
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"--device {device}: torch sees no GPU here; use --device cpu")
    if options.threads:
        torch.set_num_threads(options.threads)
    changes = [] if options.max_cells is None else _cap(options.max_cells)
    cfg, model = load_files(files, device, changes, options.trust)
    if cfg.MODEL.META_ARCHITECTURE in SEMANTIC_ONLY:
        return _semantic(cfg, model, files.folder, options)
    _refuse(options, ("threshold", "min_area", "split", "cell_type"), "a semantic model; this one finds instances")
    network, trunk = _network(cfg, model, files, options)
    return InstanceDetector(cfg, network, trunk, _classes(cfg), options.min_score)


def _network(cfg: CfgNode, model: nn.Module, files: ModelFiles, options: ModelOptions) -> tuple[Network, Trunk | None]:
    """What runs a model that finds instances: on a GPU PyTorch as it is, on a CPU see :mod:`.instance_runtime`."""
    if model.device.type == "cpu":
        runtime = "torch" if options.runtime == "auto" else options.runtime
        folder = None if runtime == "torch" else networks_folder(files)
        network = make_instance_network(model, cfg, runtime, folder, options.threads, options.precision)
        _let_go(model)
        layers = getattr(network.trunk, "network", None)  # those of other runtimes are out of reach
        run = lambda inputs: network.trunk(model.preprocess_image(inputs).tensor)  # noqa: E731
        return network, None if layers is None else Trunk(layers, run)
    if options.runtime not in ("auto", "torch"):
        raise UserError(f"--runtime {options.runtime} is for CPUs: use --device cpu, or leave it out")
    cast = partial(torch.autocast, "cuda", torch.bfloat16, enabled=options.precision == "bfloat16")

    def network_on_gpu(batched_inputs: list[dict], min_score: float) -> list[Instances]:
        with cast():
            return predict_rle(model, batched_inputs, min_score=min_score)

    def trunk_on_gpu(batched_inputs: list[dict]) -> None:
        images = model.preprocess_image(batched_inputs)
        with cast():
            model.proposal_generator(images, model.backbone(images.tensor), None)

    return network_on_gpu, Trunk(nn.ModuleList([model.backbone, model.proposal_generator]), trunk_on_gpu)


def _let_go(model: nn.Module) -> None:
    """Free the weights of networks that something else runs now; what is between the networks stays as it is."""
    heads = model.roi_heads
    for part in (model.backbone, model.proposal_generator.fcos_head, heads.mask_head, heads.maskiou_head):
        if part is not None:
            part.to("meta")


def load_files(
    files: ModelFiles, device: str = "cpu", changes: Sequence[Any] = (), trust: bool = False
) -> tuple[CfgNode, nn.Module]:
    """The configuration (frozen), with ``KEY, VALUE, ...`` changed, and the model in evaluation mode.

    Raises:
        ConfigError, WeightsError, ModelFolderError: they do not fit together, or not this version.
    """
    if files.folder:
        return load_model(files.folder, device, changes)
    return build_loaded(files.config, files.weights, device, changes, trust or None)


def networks_folder(files: ModelFiles) -> Path:
    """Where exported networks of a model are kept: in its folder, else in the cache folder by its weights' hash."""
    return files.folder or cache_folder() / "exported" / files.sha256[:16]


def _cap(cells: int) -> list:
    """Options for at most so many cells a region, of some more candidates on each level."""
    return ["MODEL.FCOS.POST_NMS_TOPK_TEST", cells, "MODEL.FCOS.PRE_NMS_TOPK_TEST", max(1000, 2 * cells)]


def _semantic(cfg: CfgNode, model: nn.Module, folder: Path | None, options: ModelOptions) -> SemanticDetector:
    _refuse(options, ("max_cells",), "a model that finds instances; this one is semantic")
    if options.precision != "float32":
        raise UserError(f"--precision {options.precision} is for models that find instances; this one is semantic")
    if options.runtime == "openvino":
        raise UserError("--runtime openvino is for models that find instances; use onnx, torch or auto for this one")
    names = ("threshold", "min_area", "split")
    cells = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    predictor = SemanticPredictor(model, cfg, runtime=options.runtime, folder=folder, cells=cells)
    if options.cell_type and set(predictor.members) == {None}:
        raise UserError(f"--cell-type {options.cell_type}: {options.model} is one model for all types; leave it out")
    return SemanticDetector(predictor, options.cell_type)


def _refuse(options: ModelOptions, names: tuple[str, ...], needed: str) -> None:
    given = [name for name in names if getattr(options, name) is not None]
    if given:
        raise UserError(f"--{given[0].replace('_', '-')} is for {needed}")


def _classes(cfg: CfgNode) -> tuple[str, ...]:
    """Names of the classes: those of the training data, where the configuration has them."""
    count = cfg.MODEL.FCOS.NUM_CLASSES
    if len(cfg.DATASETS.CLASSES) == count:
        return tuple(cfg.DATASETS.CLASSES)
    return ("cell",) if count == 1 else tuple(f"class {number}" for number in range(1, count + 1))
