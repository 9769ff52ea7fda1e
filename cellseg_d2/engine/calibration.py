"""The pixel threshold of a semantic model, chosen on its training images; ROC curves of these and of held-out ones."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.evaluation.evaluator import inference_context
from detectron2.utils import comm
from torch import nn

from ..data.loader import build_truth_loader
from ..evaluation.roc import PixelRoc
from ..files import finite_or_none, write_json
from ..modeling.semantic import foreground_probability
from .errors import EvaluationInterrupted, NonFinitePredictionError, config_errors

__all__ = ["calibrate", "pixel_roc"]

logger = logging.getLogger(__name__)


def calibrate(cfg: CfgNode, model: nn.Module, should_stop: Callable[[], bool] = lambda: False) -> Mapping[str, Any]:
    """Choose the foreground threshold by TEST.ROC_CHOICE on the first TEST.ROC_IMAGES images of DATASETS.TRAIN.

    The model keeps it (``model.set_threshold``), so that checkpoints have it and predictions use it. Curves of the
    training images and of as many images of each data set of DATASETS.TEST go to ``roc.json`` below OUTPUT_DIR.

    Returns:
        ``{"roc": {"threshold": ..., "AUC_train": ..., "F1_train": ..., "AUC": ..., "F1": ...}}``, areas and F1 of
        pixels in percent; without suffix on the first data set of DATASETS.TEST at the chosen threshold. The same on
        all processes.

    Raises:
        EvaluationInterrupted: in all processes, when ``should_stop()`` was true in one.
        NonFinitePredictionError: a logit is NaN or infinite.
    """
    training = sum_of(pixel_roc(cfg, model, name, should_stop) for name in cfg.DATASETS.TRAIN)
    chosen = training.choose(cfg.TEST.ROC_CHOICE)
    model.set_threshold(chosen.threshold)
    held_out = {name: pixel_roc(cfg, model, name, should_stop) for name in cfg.DATASETS.TEST}
    results = {"threshold": chosen.threshold, "AUC_train": 100 * training.auc, "F1_train": 100 * chosen.f1}
    if held_out:
        roc = next(iter(held_out.values()))
        results |= {"AUC": 100 * roc.auc, "F1": 100 * roc.at(chosen.threshold).f1}
    if comm.is_main_process():
        curves = {"training": training, **held_out}
        content = {"choice": cfg.TEST.ROC_CHOICE, "threshold": chosen.threshold}
        content["curves"] = {name: roc.to_dict() for name, roc in curves.items()}
        write_json(Path(cfg.OUTPUT_DIR) / "roc.json", finite_or_none(content))
    logger.info("Pixels: %s", ", ".join(f"{name} {value:.4g}" for name, value in results.items()))
    return {"roc": results}


def sum_of(parts: Any) -> PixelRoc:
    """All parts merged."""
    total = PixelRoc()
    for part in parts:
        total.merge(part)
    return total


@torch.no_grad()
def pixel_roc(
    cfg: CfgNode, model: nn.Module, name: str, should_stop: Callable[[], bool] = lambda: False
) -> PixelRoc:
    """Foreground logits against truth by pixel, of a data set's first TEST.ROC_IMAGES images, of all processes."""
    roc, stopped = PixelRoc(), False
    with config_errors("the loader of the ROC"):
        loader = build_truth_loader(cfg, name, cfg.TEST.ROC_IMAGES)
    with inference_context(model):
        for batch in loader:
            inputs = [{k: v for k, v in x.items() if k not in ("height", "width")} for x in batch]
            for record, logits in zip(batch, model.logits(inputs), strict=True):
                probability = foreground_probability(logits).cpu()
                if not torch.isfinite(probability).all():
                    raise NonFinitePredictionError(f"the prediction for {record['file_name']} is not finite")
                classes = record["sem_seg"][0]
                roc.update(probability.logit().numpy(), (classes > 0).numpy(), (classes != 255).numpy())
            stopped = should_stop()
            if stopped:
                break
    if any(comm.all_gather(stopped)):
        raise EvaluationInterrupted
    return sum_of(comm.all_gather(roc))
