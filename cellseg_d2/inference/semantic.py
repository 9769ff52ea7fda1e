"""From an image, or the path of one, to the cells that a semantic model finds in it."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from detectron2.modeling.postprocessing import sem_seg_postprocess
from torch import Tensor, nn

from ..data.image_io import read_grey, read_raw, to_grey
from ..data.normalize import Normalization
from ..data.transforms import build_augmentations
from ..engine.errors import UserError
from ..evaluation.records import instances_to_results
from ..modeling.semantic import (
    CellOptions,
    CellSegmentor,
    CellTypeEnsemble,
    label_logits,
    labels_to_instances,
)
from ..modeling.semantic.ensemble import AverageSegmentor
from .model_folder import load_model
from .runtimes.semantic import EagerNetwork, Network, RuntimeKindError, faster_copy, make_network

__all__ = ["CellPrediction", "SemanticPredictor", "scaling"]


@dataclass(frozen=True)
class CellPrediction:
    """What a model found in one image of H x W pixels.

    Attributes:
        name: file name; "" for an array.
        labels: (H, W) int32: 0 background, 1..N the cells.
        probability: (H, W) float32 of foreground, 0 to 1.
        steps: seconds of "read", "normalise", "network" and "label".
    """

    name: str
    labels: np.ndarray
    probability: np.ndarray
    steps: Mapping[str, float]

    @property
    def seconds(self) -> float:
        """From the file (or array) to the labels."""
        return sum(self.steps.values())

    @cached_property
    def cells(self) -> list[dict[str, Any]]:
        """COCO results, best first: ``image_id`` (the name), ``category_id`` 0, ``bbox``, ``score`` (mean probability
        inside) and ``segmentation`` (RLE). Made when first asked for."""
        return instances_to_results(labels_to_instances(self.labels, self.probability), self.name, self.name)


@dataclass(frozen=True)
class Member:
    """A model with what runs it and how its probabilities become cells."""

    network: Network
    options: CellOptions


class SemanticPredictor:
    """Callable that finds the cells of one image at a time, as ``predict_rle`` of the model on its mapper's input.

    Images smaller than the network's stride are padded, predicted and cut back. A frame of one grey value (black, say)
    becomes zeros, as in training; the prediction is what the network makes of these.

    Args:
        model: a ``CellSegmentor``, or a ``CellTypeEnsemble``, whose members PyTorch runs.
        cfg: the configuration that it was built with: stretch, channels and test size come from there.
        runtime, folder: see :func:`.runtimes.semantic.make_network`.
        cells: attributes of the models' ``CellOptions`` that are other for this predictor: ``{"min_area": 50}``. Its
            "threshold" takes the place of what was saved with the weights.

    Raises:
        UserError: another kind of model, or a runtime that cannot run it.
        ValueError: a value in ``cells`` is out of its range.

    Examples:
        >>> predictor = SemanticPredictor.from_folder("output/mes-demo/model")       # doctest: +SKIP
        >>> found = predictor("frame.tif")                                           # doctest: +SKIP
        >>> found.labels.max(), found.probability.mean(), found.cells[0]["bbox"]     # doctest: +SKIP
    """

    def __init__(
        self,
        model: nn.Module,
        cfg: CfgNode,
        *,
        runtime: str = "auto",
        folder: Path | None = None,
        cells: Mapping[str, Any] | None = None,
    ) -> None:
        model.eval()
        changes = cells or {}
        if isinstance(model, CellTypeEnsemble):
            if runtime == "onnx":
                raise RuntimeKindError("--runtime onnx runs one network; an ensemble needs torch")
            models: dict[str | None, CellSegmentor] = dict(model.members)
            if runtime != "eager" and model.device.type == "cpu":
                models = {name: faster_copy(each) for name, each in models.items()}
            if model.unknown == "average":
                models[None] = AverageSegmentor(models.values())
            networks = {name: EagerNetwork(each) for name, each in models.items()}
        elif isinstance(model, CellSegmentor):
            models, networks = {None: model}, {None: make_network(model, runtime, folder)}
        else:
            raise UserError(f"{type(model).__name__} is no semantic model, but CellSegmentor and CellTypeEnsemble are")
        self.members = {name: Member(networks[name], _options(each, changes)) for name, each in models.items()}
        splits = {member.options.split for member in self.members.values()}
        if "classes" in splits and cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES != 3:
            raise ValueError(
                "split classes parts cells between their interiors, which this model does not tell from edges: take "
                "none or distance, or a model with MODEL.SEM_SEG_HEAD.NUM_CLASSES 3"
            )
        self.normalization = Normalization.from_config(cfg)
        self.channels = len(cfg.MODEL.PIXEL_MEAN)
        self.augmentations = T.AugmentationList(build_augmentations(cfg, is_train=False))
        self.scale = cfg.INPUT.MIN_SIZE_TEST / cfg.INPUT.FRAME_SIDE if cfg.INPUT.MIN_SIZE_TEST else 1.0

    @classmethod
    def from_folder(
        cls,
        folder: str | Path,
        runtime: str = "auto",
        device: str = "cpu",
        threshold: float | None = None,
        cells: Mapping[str, Any] | None = None,
    ) -> "SemanticPredictor":
        """Load a folder that :func:`.model_folder.save_model` wrote.

        Args:
            runtime: "eager" or "torch" (PyTorch, as it is or faster on a CPU), "onnx" (ONNX Runtime; a first time
                exports the network into the folder), or "auto": on a CPU "onnx", and "torch" for ensembles.
            device: "cpu", "cuda" or "cuda:N".
            threshold: pixels of at least this probability are cells; None: the one that was saved with the weights.
            cells: further options, as of the class.

        Raises:
            ModelFolderError, ConfigError, WeightsError: see :func:`.model_folder.load_model`; and as the class.
        """
        cfg, model = load_model(folder, device)
        changes = {**(cells or {}), **({} if threshold is None else {"threshold": threshold})}
        return cls(model, cfg, runtime=runtime, folder=Path(folder), cells=changes)

    def __call__(self, image: str | Path | np.ndarray, cell_type: str | None = None) -> CellPrediction:
        """Find the cells of an image.

        Args:
            image: a path, or an array (H, W) or (H, W, 3) (RGB) of bool, integers or finite floats.
            cell_type: of the image; only an ensemble asks for it.

        Raises:
            CorruptImageError: the file cannot be decoded, or holds values that are not finite.
            OSError: the file is not there or may not be read.
            ValueError: the array is no image, the ensemble has no model for the cell type, or the network's output is
                not finite.
        """
        member = self.member(cell_type)
        clock = Clock()
        raw = self._from_array(image) if isinstance(image, np.ndarray) else self._read(image)
        clock.done("read")
        grey = self.normalization(raw)
        clock.done("normalise")
        logits = self.logits(member.network, grey)
        clock.done("network")
        labels, probability = label_logits(logits, member.options)
        clock.done("label")
        name = "" if isinstance(image, np.ndarray) else Path(image).name
        return CellPrediction(name, labels, probability, clock.steps)

    def member(self, cell_type: str | None = None) -> Member:
        """What predicts images of a cell type.

        Raises:
            ValueError: an ensemble without a model for it.
        """
        name = str(cell_type or "").lower()
        found = self.members.get(name) or self.members.get(None)
        if found is None:
            given = f"the cell type {name} is unknown" if name else "the cell type is not given"
            raise ValueError(f"{given}; this ensemble has models for {', '.join(map(str, self.members))}: name one")
        return found

    @torch.inference_mode()
    def logits(self, network: Network, grey: np.ndarray, scale: float | None = None) -> Tensor:
        """(K, H, W) logits, on the CPU, of (H, W) or (H, W, C) stretched grey values.

        The network sees them enlarged by ``scale``; None: to the test size of the configuration.
        """
        height, width = grey.shape[:2]
        if grey.ndim == 2:
            grey = np.repeat(grey[:, :, None], self.channels, axis=2) if self.channels > 1 else grey[:, :, None]
        moved = T.AugInput(grey)
        steps = self.augmentations if scale is None else T.AugmentationList(scaling(height, width, scale))
        steps(moved)
        logits = network(np.ascontiguousarray(moved.image.transpose(2, 0, 1), dtype=np.float32))
        if logits.shape[1:] != (height, width):
            logits = sem_seg_postprocess(logits, logits.shape[1:], height, width)
        return logits.float().cpu()

    def _read(self, path: str | Path) -> np.ndarray:
        return read_grey(path) if self.channels == 1 else read_raw(path)

    def _from_array(self, image: np.ndarray) -> np.ndarray:
        """An array by the rules for files."""
        if image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)) or image.dtype.kind not in "buif":
            raise ValueError(f"an image is a numeric array (H, W) or (H, W, 3), not {image.shape} of {image.dtype}")
        if image.dtype.kind == "f" and not np.isfinite(image).all():
            raise ValueError(f"{np.count_nonzero(~np.isfinite(image))} values of the image are not finite")
        return to_grey(image) if self.channels == 1 else image


def scaling(height: int, width: int, scale: float) -> list[T.Transform]:
    """What resizes images of this size by a factor, sides rounded as ``ResizeShortestEdge`` does; nothing for 1."""
    sides = [max(1, int(side * scale + 0.5)) for side in (height, width)]
    return [T.ResizeTransform(height, width, *sides)] if sides != [height, width] else []


class Clock:
    """Seconds of steps that follow each other."""

    def __init__(self) -> None:
        self.steps: dict[str, float] = {}
        self._last = time.perf_counter()

    def done(self, step: str) -> None:
        """``step`` ends now."""
        now = time.perf_counter()
        self.steps[step], self._last = now - self._last, now


def _options(model: CellSegmentor, changes: Mapping[str, Any]) -> CellOptions:
    """The model's way from probabilities to cells, with its threshold, and with changes."""
    return replace(model.cells, **{"threshold": float(model.threshold), **changes})
