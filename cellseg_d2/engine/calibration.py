"""The pixel threshold of a semantic model, chosen on its training images; ROC curves of these and of held-out ones."""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
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
from ..modeling.semantic import foreground_logit
from .errors import ConfigError, EvaluationInterrupted, NonFinitePredictionError, config_errors

__all__ = ["calibrate", "pixel_rocs"]

logger = logging.getLogger(__name__)
Rocs = dict[str, PixelRoc]  # by cell type; "" where a data set does not say


def calibrate(cfg: CfgNode, model: nn.Module, should_stop: Callable[[], bool] = lambda: False) -> Mapping[str, Any]:
    """Choose the foreground threshold by TEST.ROC_CHOICE on TEST.ROC_IMAGES images of each set of DATASETS.TRAIN.

    The model keeps it (``model.set_threshold``), so that checkpoints have it and predictions use it; each member of an
    ensemble keeps that of its own cell type. Curves of the training images and of as many images of each data set of
    DATASETS.TEST, all cell types together, go to ``roc.json`` below OUTPUT_DIR.

    Returns:
        ``{"roc": {"threshold": ..., "AUC_train": ..., "F1_train": ..., "AUC": ..., "F1": ...}}``, areas and F1 of
        pixels in percent; without suffix on the first data set of DATASETS.TEST at the chosen threshold. NaN where
        the images have no cell, or nothing else; of an ensemble the areas alone. The same on all processes.

    Raises:
        ConfigError: the training images have no cell.
        EvaluationInterrupted: in all processes, when ``should_stop()`` was true in one.
        NonFinitePredictionError: a logit is NaN or infinite.
    """
    by_type = _merged(pixel_rocs(cfg, model, name, should_stop) for name in cfg.DATASETS.TRAIN)
    training = _total(by_type)
    if not training.has_both:
        raise ConfigError(
            f"the {cfg.TEST.ROC_IMAGES} images of DATASETS.TRAIN that are to choose the threshold have no cell, or no "
            "background: outline cells in them, take more with TEST.ROC_IMAGES, or set it to 0 for no choice"
        )
    chosen = training.choose(cfg.TEST.ROC_CHOICE)
    model.set_threshold(chosen.threshold)
    for name, member in getattr(model, "members", {}).items():
        if name in by_type and by_type[name].has_both:
            member.set_threshold(by_type[name].choose(cfg.TEST.ROC_CHOICE).threshold)
    held_out = {name: _total(pixel_rocs(cfg, model, name, should_stop)) for name in cfg.DATASETS.TEST}
    results = {"threshold": chosen.threshold, "AUC_train": 100 * training.auc, "F1_train": 100 * chosen.f1}
    for roc in list(held_out.values())[:1]:
        results["AUC"] = 100 * roc.auc if roc.has_both else float("nan")
        results["F1"] = 100 * roc.at(chosen.threshold).f1 if roc.has_both else float("nan")
    if hasattr(model, "members"):  # no one threshold is that of all
        results = {name: value for name, value in results.items() if name.startswith("AUC")}
    if comm.is_main_process():
        curves = {"training": training, **held_out}
        content = {"choice": cfg.TEST.ROC_CHOICE, "threshold": chosen.threshold}
        content["curves"] = {name: roc.to_dict() for name, roc in curves.items() if roc.has_both}
        write_json(Path(cfg.OUTPUT_DIR) / "roc.json", finite_or_none(content))
    logger.info("Pixels: %s", ", ".join(f"{name} {value:.4g}" for name, value in results.items()))
    return {"roc": results}


@torch.no_grad()
def pixel_rocs(
    cfg: CfgNode, model: nn.Module, name: str, should_stop: Callable[[], bool] = lambda: False
) -> Rocs:
    """Foreground logits against truth by pixel, of TEST.ROC_IMAGES images of a data set, of all processes."""
    rocs: Rocs = defaultdict(PixelRoc)
    stopped = False
    with config_errors("the loader of the ROC"):
        loader = build_truth_loader(cfg, name, cfg.TEST.ROC_IMAGES)
    with inference_context(model):
        for batch in loader:
            inputs = [{k: v for k, v in x.items() if k not in ("height", "width")} for x in batch]
            for record, output in zip(batch, model.logits(inputs), strict=True):
                logits, classes = foreground_logit(output).cpu(), record["sem_seg"][0]
                if not torch.isfinite(logits).all():
                    raise NonFinitePredictionError(f"the prediction for {record['file_name']} is not finite")
                roc = rocs[str(record.get("cell_type") or "").lower()]
                roc.update(logits.numpy(), (classes > 0).numpy(), (classes != 255).numpy())
            stopped = should_stop()
            if stopped:
                break
    if any(comm.all_gather(stopped)):
        raise EvaluationInterrupted
    return _merged(comm.all_gather(dict(rocs)))


def _merged(parts: Iterable[Rocs]) -> Rocs:
    """Curves of the same cell type put together."""
    merged: Rocs = defaultdict(PixelRoc)
    for part in parts:
        for name, roc in part.items():
            merged[name].merge(roc)
    return dict(merged)


def _total(rocs: Rocs) -> PixelRoc:
    """All cell types together."""
    total = PixelRoc()
    for roc in rocs.values():
        total.merge(roc)
    return total
