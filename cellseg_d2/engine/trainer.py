"""The training loop: one step, its state, and how a run starts, ends, stops and goes on."""

import logging
import math
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.engine import DefaultTrainer, TrainerBase, create_ddp_model
from detectron2.engine.hooks import LRScheduler, PeriodicWriter
from detectron2.modeling import build_model
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch import nn

from ..data.loader import build_train_loader, build_val_loss_loader
from ..modeling.checkpoint import load_weights
from .averaging import WeightAverage
from .calibration import calibrate
from .checkpoint import AtomicCheckpointer
from .errors import (
    CheckpointError,
    ConfigError,
    EvaluationInterrupted,
    StopTraining,
    TrainingInterrupted,
    config_errors,
)
from .hooks import BestTracker, Evaluate, Evaluation, PeriodicCheckpoint, Timing, broadcast_buffers
from .interrupt import InterruptGuard
from .options import TrainerOptions
from .precision import Precision
from .solver import build_optimizer, build_scheduler, refresh_learning_rate
from .step_report import check_finite, check_gradient, exchange, iteration_seed, mean_losses
from .testing import evaluate_datasets
from .validation import validation_losses
from .writers import WINDOW, ProgressBar, build_writers

__all__ = ["Trainer"]

logger = logging.getLogger(__name__)
# float16: the scale is halved at each skipped step; what is infinite at one millionth of it will stay so
MAX_SKIPPED_STEPS = 20


class Trainer(TrainerBase):
    """Trains a model that maps a batch to a dict of losses.

    A run is exactly repeatable on a CPU: each step draws its random numbers from (seed, iteration, rank) and the
    loader starts at any iteration, so that a run stopped and resumed ends with the weights of one that was not.

    Examples:
        >>> trainer = Trainer(cfg)                      # doctest: +SKIP
        >>> trainer.resume_or_load(resume=False)        # doctest: +SKIP
        >>> trainer.train()["segm/AP"]                  # doctest: +SKIP
    """

    @configurable
    def __init__(
        self,
        *,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        scheduler: torch.optim.lr_scheduler.LRScheduler,
        build_loader: Callable[..., Iterable[list[Mapping[str, Any]]]],
        options: TrainerOptions,
        precision: Precision | None = None,
        evaluations: Sequence[Evaluate] = (),
    ) -> None:
        """
        Args:
            model: on its device; wrapped in DDP here where there are several processes.
            optimizer: over the model's parameters.
            scheduler: Detectron2's ``LRMultiplier`` of the optimizer, stepped once an iteration.
            build_loader: called with ``start_iter`` and ``seed``; gives this process's endless batches from there.
            precision: None: full precision.
            evaluations: run at each evaluation; see :data:`.hooks.Evaluate`.
        """
        super().__init__()
        device = next(model.parameters()).device
        _check_sync_bn(model, device)
        device_ids = [device.index or 0] if device.type == "cuda" else None
        # An ensemble learns with the members whose cell type is in the batch
        partial_use = hasattr(model, "members")
        self.model = create_ddp_model(
            model, broadcast_buffers=False, device_ids=device_ids, find_unused_parameters=partial_use
        )
        self.model.train()
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.options = options
        self.precision = precision or Precision(device.type)
        self.interrupts = InterruptGuard()
        self.seed = options.seed
        self.max_iter = options.max_iter
        self.images_per_step = 0
        self._build_loader = build_loader
        self._stop_requested = False
        self._skipped_steps = 0
        self.checkpointer = AtomicCheckpointer(model, options.output_dir, trainer=weakref.proxy(self))
        best = BestTracker(options.best_metric, options.patience)
        self.evaluation = Evaluation(evaluations, options.eval_period, self.checkpointer, best)
        if options.ema_decay:
            with config_errors("the average of the weights"):
                averages = WeightAverage(model, options.ema_decay)
            self.checkpointer.averaged = averages.applied
            self.register_hooks([averages])
        writers = build_writers(options.output_dir, options.max_iter) if comm.is_main_process() else []
        self.register_hooks(
            [
                Timing(),
                LRScheduler(),
                PeriodicCheckpoint(self.checkpointer, options.checkpoint_period, options.checkpoints_to_keep),
                self.evaluation,
                PeriodicWriter(writers, WINDOW),
                ProgressBar(),
            ]
        )

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """The parts of a run from a config that ``setup.setup_cfg`` has checked."""
        cfg = DefaultTrainer.auto_scale_workers(cfg, comm.get_world_size())
        seed = cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed()
        torch.manual_seed(seed)
        with config_errors("the model"):
            model = build_model(cfg)
        optimizer = build_optimizer(cfg, model)
        return {
            "model": model,
            "optimizer": optimizer,
            "scheduler": build_scheduler(cfg, optimizer),
            "build_loader": partial(build_train_loader, cfg),
            "options": TrainerOptions.from_config(cfg, seed),
            "precision": Precision.from_config(cfg),
            "evaluations": _evaluations(cfg, model, cls.test),
        }

    @staticmethod
    def test(cfg: CfgNode, model: nn.Module, should_stop: Callable[[], bool] = lambda: False) -> OrderedDict:
        """Score ``model`` on DATASETS.TEST: see :func:`.testing.evaluate_datasets`."""
        return evaluate_datasets(cfg, model, should_stop)

    def resume_or_load(self, resume: bool = True) -> None:
        """Go on from the last checkpoint of the output folder, or start afresh from ``options.weights``.

        Raises:
            CheckpointError: the checkpoint is damaged or of another model or optimizer.
        """
        folder = self.options.output_dir
        if resume and self.checkpointer.has_checkpoint():
            rates = self.scheduler.base_lrs
            self.checkpointer.resume()
            self.start_iter = self.iter + 1
            self.scheduler.base_lrs = rates  # the configured ones, not those of the checkpoint
            refresh_learning_rate(self.scheduler)
            logger.info("Resuming after iteration %d of %d", self.start_iter, self.max_iter)
            return
        if resume:
            logger.info("Nothing to resume in %s: starting afresh", folder)
        elif self.checkpointer.has_checkpoint():
            logger.warning("Overwriting the checkpoints of an earlier run in %s (--resume continues it)", folder)
        if self.options.weights:
            load_weights(
                self.checkpointer.model,
                self.options.weights,
                reinit_mismatched=self.options.reinit_mismatched,
                trust=self.options.trust_weights,
            )

    def train(self) -> dict[str, float]:
        """Train to the end, evaluate and save ``model_final``.

        Returns:
            results of the last evaluation, flattened ("segm/AP"); empty where there is nothing to evaluate on.

        Raises:
            TrainingDivergedError: a loss or gradient is not finite.
            TrainingInterrupted: after a signal, when ``model_interrupted`` was saved.
        """
        logger.info("Training from iteration %d to %d, seed %d", self.start_iter, self.max_iter, self.seed)
        self.iter = self.start_iter - 1
        with EventStorage(self.start_iter) as self.storage, self.interrupts:
            try:
                self._train_and_evaluate()
            except EvaluationInterrupted:
                self._save_and_leave()
            finally:
                self.after_train()
        return self.evaluation.results

    def _train_and_evaluate(self) -> None:
        with config_errors("the training loader"):
            loader = self._build_loader(start_iter=self.start_iter, seed=self.seed)
        try:
            self.before_train()
            batches = iter(loader)
            for iteration in range(self.start_iter, self.max_iter):
                self.iter = iteration
                self.before_step()
                self.run_step(batches)
                self.after_step()
                if self._stop_requested:
                    self._save_and_leave()
        except StopTraining as stop:
            logger.info("Early stop after iteration %d: %s", self.iter + 1, stop)
        _log_skipped(loader)
        broadcast_buffers(self.checkpointer.model)
        self.checkpointer.save("model_final")
        # The writers have closed the last iteration; what comes now belongs after it
        self.storage.iter = self.iter + 1
        self.evaluation.run(self.iter)
        if hasattr(self.checkpointer.model, "set_threshold"):
            self.checkpointer.save("model_final")  # again, with the threshold that the evaluation has chosen

    def run_step(self, batches: Iterable[list[Mapping[str, Any]]]) -> None:
        """One iteration: forward, check, backward, check, update."""
        started = time.perf_counter()
        batch = next(batches)
        data_time = time.perf_counter() - started
        torch.manual_seed(iteration_seed(self.seed, self.iter, comm.get_rank()))
        with self.precision.autocast():
            losses = self.model(batch)
            total = sum(losses.values())
        reports = exchange(losses, batch, data_time, self.interrupts.requested)
        check_finite(reports, self.iter)
        self._stop_requested = any(report.stop_requested for report in reports)
        self.optimizer.zero_grad()
        self.precision.backward(total)
        norm = float(self.precision.gradient_norm(self.model, self.optimizer))
        self._skipped_steps = 0 if math.isfinite(norm) else self._skipped_steps + 1
        if not self.precision.may_skip or self._skipped_steps >= MAX_SKIPPED_STEPS:
            check_gradient(norm, reports, self.iter)
        self.precision.step(self.optimizer)

        self.images_per_step = sum(len(report.file_names) for report in reports)
        means = mean_losses(reports)
        waited = max(report.data_time for report in reports)
        self.storage.put_scalars(total_loss=sum(means.values()), data_time=waited, **means)
        if math.isfinite(norm):
            self.storage.put_scalar("grad_norm", norm)

    def after_train(self) -> None:
        """Close writers and progress bar."""
        for hook in self._hooks:
            hook.after_train()

    def state_dict(self) -> dict[str, Any]:
        """Everything beside the weights that decides how the run goes on: tensors, numbers and strings only."""
        return {
            **super().state_dict(),
            "seed": self.seed,
            "optimizer_name": type(self.optimizer).__name__,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.precision.scaler.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from :meth:`state_dict`."""
        name = type(self.optimizer).__name__
        if state["optimizer_name"] != name:
            raise CheckpointError(
                f"the checkpoint's optimizer is {state['optimizer_name']}, the configuration's is {name}: resume with "
                "the SOLVER.OPTIMIZER and SOLVER.CLIP_GRADIENTS of that run"
            )
        super().load_state_dict(state)
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"] and self.precision.may_skip:
            self.precision.scaler.load_state_dict(state["scaler"])
        if state["seed"] != self.seed:
            logger.info("The resumed run keeps the seed it began with: %d", state["seed"])
        self.seed = state["seed"]

    def _save_and_leave(self) -> None:
        """Save the state after the last finished step and raise :class:`TrainingInterrupted`, in all processes."""
        self.checkpointer.save("model_interrupted")
        comm.synchronize()
        signum = max(comm.all_gather(self.interrupts.signum))
        raise TrainingInterrupted(
            f"stopped after iteration {self.iter + 1} of {self.max_iter}; the run is saved in "
            f"{self.options.output_dir}: the same command with --resume goes on from there",
            exit_code=128 + signum,
        )


def _evaluations(cfg: CfgNode, model: nn.Module, test: Callable[..., OrderedDict]) -> list[Evaluate]:
    """What to run at an evaluation."""
    choosing = [partial(calibrate, cfg)] if hasattr(model, "set_threshold") and cfg.TEST.ROC_IMAGES else []
    if not cfg.DATASETS.TEST:
        logger.warning("DATASETS.TEST is empty: no validation, no best checkpoint")
        return choosing

    def losses(model: nn.Module, should_stop: Callable[[], bool]) -> dict[str, float]:
        with config_errors("the validation loader"):
            loader = build_val_loss_loader(cfg, cfg.DATASETS.TEST[0])
        return validation_losses(model, loader, should_stop)

    return [*([losses] if cfg.TEST.VAL_LOSS else []), *choosing, partial(test, cfg)]


def _log_skipped(loader: Iterable[list[Mapping[str, Any]]]) -> None:
    """How many samples of all processes were replaced because their image could not be used."""
    parts = comm.all_gather(list(getattr(loader, "skipped", ())))
    skipped = [name for part in parts for name in part]
    if skipped:
        files = sorted(set(skipped))
        text = "Training met images that cannot be used %d times and took others in their place; %d files: %s"
        logger.warning(text, len(skipped), len(files), ", ".join(files))


def _check_sync_bn(model: nn.Module, device: torch.device) -> None:
    """torch's SyncBatchNorm exchanges statistics on GPUs only."""
    names = [name for name, module in model.named_modules() if isinstance(module, nn.SyncBatchNorm)]
    if names and device.type == "cpu":
        raise ConfigError(
            f"SyncBN needs GPUs and the model is on the CPU ({names[0]} and {len(names) - 1} more layers): set the "
            "NORM keys that say SyncBN (MODEL.VOVNET.NORM, MODEL.FPN.NORM, MODEL.FCOS.NORM, ...) to BN or GN"
        )
