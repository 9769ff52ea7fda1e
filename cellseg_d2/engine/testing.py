"""Evaluation of a model on the data sets of a config."""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.evaluation import DatasetEvaluator, verify_results
from detectron2.evaluation.evaluator import inference_context
from detectron2.modeling import build_model
from detectron2.structures import Instances
from detectron2.utils import comm
from torch import nn

from ..data.image_io import read_image
from ..data.loader import CellLoader, build_test_loader
from ..evaluation import LIVECellEvaluator
from ..evaluation.livecell import IN_TRAINING
from ..evaluation.options import Threshold
from ..evaluation.overlay import write_overlay
from ..evaluation.records import to_rle
from ..files import read_json, write_json
from ..modeling.checkpoint import load_weights
from ..modeling.postprocess import predict_rle
from .checkpoint import AtomicCheckpointer
from .errors import ConfigError, EvaluationInterrupted, NonFinitePredictionError, config_errors

__all__ = ["OverlayWriter", "evaluate_datasets", "evaluate_only", "run_inference"]

logger = logging.getLogger(__name__)
LOG_SECONDS = 5.0
SEMANTIC = replace(IN_TRAINING, threshold=Threshold(0.0, "all cells of a semantic model"))

Predict = Callable[[nn.Module, list[Mapping[str, Any]]], list[Instances]]
Consumer = Callable[[Mapping[str, Any], Instances], None]


def evaluate_datasets(cfg: CfgNode, model: nn.Module, should_stop: Callable[[], bool] = lambda: False) -> OrderedDict:
    """Score ``model`` on each data set of DATASETS.TEST.

    Writes ``coco_instances_results.json``, ``metrics.json`` (all scores, and how many images were evaluated and
    skipped), ``per_image.csv`` and ``threshold.json`` to ``inference/<data set>`` below OUTPUT_DIR, and overlays of the
    first TEST.OVERLAYS images to ``overlays/<data set>``.

    Returns:
        ``{"bbox": {...}, "segm": {...}}`` in percent, one level deeper by data set where there are several; on rank 0
        only (empty on the others).
    """
    tasks = ("bbox", "segm") if cfg.MODEL.MASK_ON else ("bbox",)
    # A semantic model has decided already what is a cell: all of its cells count
    decided = hasattr(model, "set_threshold")
    options, min_score = (SEMANTIC, 0.0) if decided else (IN_TRAINING, cfg.TEST.OVERLAYS_MIN_SCORE)
    if decided:
        logger.info("Pixels of a foreground probability of at least %.4g are cells", float(model.threshold))
    results = OrderedDict()
    for name in cfg.DATASETS.TEST:
        folder = Path(cfg.OUTPUT_DIR) / "inference" / name
        evaluator = LIVECellEvaluator.from_dataset(name, tasks=tasks, output_dir=folder, options=options)
        pictures = Path(cfg.OUTPUT_DIR) / "overlays" / name
        overlays = OverlayWriter(
            name, pictures, cfg.TEST.OVERLAYS, min_score, cfg.INPUT.STRETCH_PERCENTILES
        )
        logger.info("Evaluating on %s", name)
        with config_errors("the test loader"):
            loader = build_test_loader(cfg, name)
        results[name] = run_inference(model, loader, evaluator, predict_rle, [overlays], should_stop)
        _note_skipped(folder, loader)
    if len(results) == 1:
        results = next(iter(results.values()))
    if comm.is_main_process():
        verify_results(cfg, results)
        return results
    return OrderedDict()


def _note_skipped(folder: Path, loader: CellLoader) -> None:
    """Add to the evaluator's ``metrics.json`` how many images counted, of all processes; log those that did not."""
    parts = comm.all_gather((len(loader), loader.skipped))  # one image a batch
    skipped = [name for _, names in parts for name in names]
    images = sum(count for count, _ in parts) - len(skipped)
    if skipped:
        logger.warning("The scores are of %d images; %d were skipped: %s", images, len(skipped), ", ".join(skipped))
    if comm.is_main_process():
        content = read_json(folder / "metrics.json")
        write_json(folder / "metrics.json", {**content, "images": images, "skipped": len(skipped)}, indent=2)


def evaluate_only(cfg: CfgNode, resume: bool = False) -> OrderedDict:
    """Build the model, load MODEL.WEIGHTS (or, with ``resume``, the last checkpoint of OUTPUT_DIR) and score it.

    Raises:
        ConfigError: there are no weights to load, or no such model can be built.
        WeightsError: they cannot be read or do not fill the whole model.
    """
    with config_errors("the model"):
        model = build_model(cfg)
    checkpointer = AtomicCheckpointer(model, cfg.OUTPUT_DIR)
    path = checkpointer.get_checkpoint_file() if resume and checkpointer.has_checkpoint() else cfg.MODEL.WEIGHTS
    if not path:
        raise ConfigError(
            "--eval-only needs weights: set MODEL.WEIGHTS to a checkpoint, or add --resume to take the last one of "
            f"OUTPUT_DIR ({cfg.OUTPUT_DIR})"
        )
    load_weights(model, path, complete=True, trust=cfg.MODEL.TRUST_WEIGHTS)
    return evaluate_datasets(cfg, model)


def run_inference(
    model: nn.Module,
    loader: Iterable[list[Mapping[str, Any]]],
    evaluator: DatasetEvaluator,
    predict: Predict,
    consumers: Iterable[Consumer] = (),
    should_stop: Callable[[], bool] = lambda: False,
) -> Mapping[str, Any]:
    """Predict this process's share of a data set, then score that of all.

    Args:
        model: set to eval mode for the time of the call.
        loader: this process's batches; must have a length.
        predict: (model, batch) -> one ``Instances`` an image.
        consumers: each is called with (input record, instances) of every image.
        should_stop: asked after each batch.

    Returns:
        what ``evaluator.evaluate()`` gives.

    Raises:
        EvaluationInterrupted: in all processes, when ``should_stop()`` was true in one.
        NonFinitePredictionError: a prediction is NaN or infinite.
    """
    evaluator.reset()
    started = reported = time.perf_counter()
    stopped, images = False, 0
    with inference_context(model), torch.inference_mode():
        for done, batch in enumerate(loader, start=1):
            outputs = predict(model, batch)
            try:
                evaluator.process(batch, outputs)
            except FloatingPointError as error:
                raise NonFinitePredictionError(str(error)) from error
            images += len(batch)
            for record, instances in zip(batch, outputs, strict=True):
                for consume in consumers:
                    consume(record, instances)
            now = time.perf_counter()
            if now - reported > LOG_SECONDS:
                _log_progress(done, len(loader), now - started)
                reported = now
            stopped = should_stop()
            if stopped:
                break
    if any(comm.all_gather(stopped)):
        raise EvaluationInterrupted
    seconds = time.perf_counter() - started
    logger.info("Predicted %d images in %.1f s (%.2f images/s)", images, seconds, images / seconds)
    return evaluator.evaluate()


def _log_progress(done: int, total: int, seconds: float) -> None:
    """One line: share done, speed, seconds left."""
    left = seconds / done * (total - done)
    logger.info("Predicted %d of %d batches, %.2f s each, %.0f s left", done, total, seconds / done, left)


class OverlayWriter:
    """Writes pictures of the first images of a data set with predicted and annotated outlines."""

    def __init__(
        self, dataset: str, folder: Path, count: int, min_score: float = 0.0, stretch: Sequence[float] = ()
    ) -> None:
        records = DatasetCatalog.get(dataset)[:count] if count > 0 else []
        self._records = {record["image_id"]: record for record in records}
        self._folder = folder
        self._min_score = min_score
        self._stretch = stretch

    def __call__(self, record: Mapping[str, Any], instances: Instances) -> None:
        """Write the picture of one image, if it is among the first and the model makes masks."""
        truth = self._records.get(record["image_id"])
        if truth is None or not instances.has("pred_rles"):
            return
        size = truth["height"], truth["width"]
        cells = [a for a in truth.get("annotations", ()) if not a.get("iscrowd", 0)]
        masks = [cell["segmentation"] for cell in cells if cell.get("segmentation")]
        path = self._folder / f"{Path(truth['file_name']).stem}.png"
        image = read_image(truth["file_name"], self._stretch)[:, :, ::-1]
        scores = instances.scores.tolist()
        found = [rle for rle, score in zip(instances.pred_rles, scores, strict=True) if score >= self._min_score]
        write_overlay(path, image, found, (to_rle(mask, *size) for mask in masks))
