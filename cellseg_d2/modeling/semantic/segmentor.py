"""Semantic models of cells: a foreground probability for each pixel, and from it the cells as instances."""

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, SemanticSegmentor
from detectron2.structures import Instances
from torch import Tensor, nn

from ...config import SEMANTIC_STRETCH
from .cells import CellOptions, label_cells, labels_to_instances, with_masks
from .probability import foreground_probability

__all__ = ["CellSegmentor", "label_logits"]

logger = logging.getLogger(__name__)


def label_logits(logits: Tensor, options: CellOptions) -> tuple[np.ndarray, np.ndarray]:
    """(H, W) int32 labels of cells and (H, W) float32 foreground probability of (K, H, W) logits."""
    probability = foreground_probability(logits).cpu().numpy()
    edge = logits.float().softmax(0)[2].cpu().numpy() if options.split == "classes" else None
    return label_cells(probability, options, edge), probability


@META_ARCH_REGISTRY.register()
class CellSegmentor(SemanticSegmentor):
    """Detectron2's SemanticSegmentor whose predictions are also cells.

    Two things that a prediction needs travel with the weights, as buffers: ``threshold``, the foreground probability
    from which on a pixel is cell (chosen on data, see :mod:`cellseg_d2.evaluation.roc`), and ``normalization``, how
    grey values were stretched in training (low and high percentile, exponent). Weights that were trained on another
    stretch than the configuration's are met with a warning.

    Args:
        backbone, sem_seg_head, pixel_mean, pixel_std: as in Detectron2.
        cells: how probabilities become cells; its threshold is the first value of ``threshold``.
        normalization: percentiles and exponent of the inputs.
    """

    @configurable
    def __init__(
        self,
        *,
        backbone: nn.Module,
        sem_seg_head: nn.Module,
        pixel_mean: tuple[float, ...],
        pixel_std: tuple[float, ...],
        cells: CellOptions | None = None,
        normalization: tuple[float, float, float] = (*SEMANTIC_STRETCH, 1.0),
    ) -> None:
        super().__init__(backbone=backbone, sem_seg_head=sem_seg_head, pixel_mean=pixel_mean, pixel_std=pixel_std)
        self.cells = cells or CellOptions()
        self.register_buffer("threshold", torch.tensor(float(self.cells.threshold)))
        self.register_buffer("normalization", torch.tensor(normalization, dtype=torch.float32))
        self.to(memory_format=torch.channels_last)  # nearly twice as fast on a CPU

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Detectron2's parts, MODEL.SEMANTIC's cells, INPUT's stretch."""
        cells = CellOptions.from_config(cfg)
        if cells.split == "classes" and cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES != 3:
            raise ValueError(
                "MODEL.SEMANTIC.SPLIT classes parts cells between their interiors, which this model does not tell from "
                "edges: take none or distance, or set MODEL.SEM_SEG_HEAD.NUM_CLASSES 3"
            )
        return {
            **super().from_config(cfg),
            "cells": cells,
            "normalization": (*(cfg.INPUT.STRETCH_PERCENTILES or SEMANTIC_STRETCH), cfg.INPUT.GAMMA),
        }

    def set_threshold(self, threshold: float) -> None:
        """Pixels of at least this foreground probability (above 0, up to 1) are cells from now on."""
        self.threshold.fill_(replace(self.cells, threshold=threshold).threshold)

    def forward(self, batched_inputs: list[dict[str, Any]]) -> dict[str, Tensor] | list[dict[str, Any]]:
        """Losses in training; else one dict an image, see :meth:`assemble`.

        Args:
            batched_inputs: dicts with ``image`` (C, H, W), in training ``sem_seg`` (see :class:`.heads.SemanticHead`),
                and optionally ``height`` and ``width`` of the output.
        """
        if self.training:
            return super().forward(batched_inputs)
        return [self.assemble(logits) for logits in self.logits(batched_inputs)]

    def logits(self, batched_inputs: list[dict[str, Any]]) -> list[Tensor]:
        """(K, H, W) logits of each image at output size; the model is in evaluation mode."""
        return [output["sem_seg"] for output in super().forward(batched_inputs)]

    def assemble(self, logits: Tensor) -> dict[str, Any]:
        """What Detectron2's evaluators and writers take, of one image's (K, H, W) logits.

        Returns:
            ``sem_seg`` (the logits), ``probability`` ((H, W) float32 of foreground) and ``instances`` (``pred_boxes``,
            ``scores`` = mean probability, ``pred_classes``, ``pred_masks`` (N, H, W) bool).
        """
        labels, probability = self._labels(logits)
        instances = with_masks(labels_to_instances(labels, probability))
        return {"sem_seg": logits, "probability": foreground_probability(logits), "instances": instances}

    def predict_rle(self, batched_inputs: list[dict[str, Any]]) -> list[Instances]:
        """The cells of each image with ``pred_rles`` in the place of ``pred_masks``, on the CPU: no stack of masks."""
        return [labels_to_instances(*self._labels(logits)) for logits in self.logits(batched_inputs)]

    def _labels(self, logits: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """(H, W) int32 labels and float32 probability of (K, H, W) logits."""
        return label_logits(logits, replace(self.cells, threshold=float(self.threshold)))

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        """Keep the configuration's stretch, and say so where the weights were trained on another."""
        key = f"{prefix}normalization"
        theirs = state_dict.get(key)
        if theirs is not None and not torch.allclose(theirs.to(self.normalization), self.normalization, rtol=1e-4):
            logger.warning(
                "the weights were trained on grey values stretched by percentiles and exponent %s, the configuration "
                "says %s: set INPUT.STRETCH_PERCENTILES and INPUT.GAMMA to theirs unless you train on",
                [round(v, 4) for v in theirs.tolist()], [round(v, 4) for v in self.normalization.tolist()],
            )  # fmt: skip
            state_dict[key] = self.normalization.clone()
        super()._load_from_state_dict(state_dict, prefix, *args)
