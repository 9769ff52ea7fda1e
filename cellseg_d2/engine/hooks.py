"""Hooks of a training run: timing, checkpoints, evaluation with the best model and early stopping."""

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from detectron2.engine import HookBase
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.utils import comm
from torch import nn

from .checkpoint import AtomicCheckpointer
from .errors import ConfigError, StopTraining

__all__ = ["BestTracker", "Evaluate", "Evaluation", "PeriodicCheckpoint", "Timing", "broadcast_buffers"]

logger = logging.getLogger(__name__)

# (model without DDP, should_stop) -> nested dict of numbers, the same in all processes or empty on all but the first.
# should_stop() turns true in a process that received a signal; the function then raises EvaluationInterrupted in all.
Evaluate = Callable[[nn.Module, Callable[[], bool]], Mapping[str, Any]]

LOWER_IS_BETTER = ("AFNR", "_loss")


def broadcast_buffers(model: nn.Module) -> None:
    """Give all processes the running statistics of rank 0, which are those that it saves."""
    for buffer in model.buffers() if comm.get_world_size() > 1 else ():
        torch.distributed.broadcast(buffer, 0)


class Timing(HookBase):
    """Seconds an iteration, images a second and seconds left, hooks not counted."""

    def __init__(self) -> None:
        self._started = self._step_started = time.perf_counter()

    def before_train(self) -> None:
        self._started = time.perf_counter()

    def before_step(self) -> None:
        self._step_started = time.perf_counter()

    def after_step(self) -> None:
        trainer, seconds = self.trainer, time.perf_counter() - self._step_started
        trainer.storage.put_scalars(time=seconds, images_per_second=trainer.images_per_step / seconds)
        left = (trainer.max_iter - trainer.iter - 1) * trainer.storage.history("time").median(100)
        trainer.storage.put_scalar("eta_seconds", left, smoothing_hint=False)

    def after_train(self) -> None:
        logger.info("Training took %.0f s, evaluations included", time.perf_counter() - self._started)


class PeriodicCheckpoint(HookBase):
    """Save ``model_<iteration>`` every ``period`` iterations (0: never); the trainer saves ``model_final``.

    The newest ``keep`` of them stay (0: all).
    """

    def __init__(self, checkpointer: AtomicCheckpointer, period: int, keep: int = 0) -> None:
        self._checkpointer = checkpointer
        self._period = period
        self._keep = keep

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if self._period > 0 and done % self._period == 0 and done != self.trainer.max_iter:
            self._checkpointer.save(f"model_{self.trainer.iter:07d}")
            self._checkpointer.prune(self._keep)


class BestTracker:
    """The best value of a metric so far, and for how many evaluations it has stood.

    >>> tracker = BestTracker("segm/AP")
    >>> [tracker.update(value, step) for step, value in enumerate([10.0, 12.0, 11.0])], tracker.stale
    ([True, True, False], 1)
    """

    def __init__(self, metric: str, patience: int = 0) -> None:
        """
        Args:
            metric: name in the flattened results; names that end in AFNR or _loss are better when lower.
            patience: evaluations without a better value after which :attr:`exhausted` is true; 0: never.
        """
        self.metric = metric
        self.patience = patience
        self.best: float | None = None
        self.best_iteration = -1
        self.stale = 0

    def update(self, value: float, iteration: int) -> bool:
        """Take a new value (NaN is never better); returns whether it is the best so far."""
        sign = -1 if self.metric.endswith(LOWER_IS_BETTER) else 1
        better = math.isfinite(value) and (self.best is None or sign * value > sign * self.best)
        if better:
            self.best, self.best_iteration, self.stale = float(value), iteration, 0
        else:
            self.stale += 1
        return better

    @property
    def exhausted(self) -> bool:
        """Whether the patience is at its end."""
        return 0 < self.patience <= self.stale

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"best": self.best, "best_iteration": self.best_iteration, "stale": self.stale}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a checkpoint."""
        self.best, self.best_iteration, self.stale = state["best"], state["best_iteration"], state["stale"]


class Evaluation(HookBase):
    """Evaluate periodically and at the end; keep ``model_best``; stop when the metric no longer improves.

    A run that is resumed at an iteration whose evaluation was lost (it stopped in between) catches up on it first, so
    that best model and early stop are those of a run that never stopped. A run that had stopped early stops at once.
    """

    def __init__(
        self, functions: Sequence[Evaluate], period: int, checkpointer: AtomicCheckpointer, best: BestTracker
    ) -> None:
        """
        Args:
            functions: called one after the other; their results are merged, flattened to "a/b" names.
            period: in iterations; 0: only at the end.
            checkpointer: saves ``model_best``.
            best: watches one metric.
        """
        self._functions = tuple(functions)
        self._period = period
        self._checkpointer = checkpointer
        self._best = best
        self.last_iteration = -1
        self.results: dict[str, float] = {}

    def before_train(self) -> None:
        done = self.trainer.start_iter
        if done > 0 and self._due(done) and self.last_iteration != done - 1:
            logger.info("The evaluation after iteration %d was not finished before the interruption: now", done)
            self.run(done - 1)
        if done > 0:
            self._stop_if_exhausted()

    def after_step(self) -> None:
        if self._due(self.trainer.iter + 1):
            self.run(self.trainer.iter)
            self._stop_if_exhausted()

    def run(self, iteration: int) -> None:
        """Evaluate the present weights (or their average), unless that was already done at this iteration."""
        if iteration == self.last_iteration or not self._functions:
            return
        self.results = {}
        with self._checkpointer.averaged():
            for function in self._functions:
                self.results |= flatten_results_dict(self._run_everywhere(function))
        finite = {name: value for name, value in self.results.items() if math.isfinite(value)}
        self.trainer.storage.put_scalars(**finite, smoothing_hint=False)
        self.last_iteration = iteration
        self._track(iteration)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"last_iteration": self.last_iteration, "best": self._best.state_dict(), "results": self.results}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a checkpoint."""
        self.last_iteration = state["last_iteration"]
        self.results = state.get("results", {})
        self._best.load_state_dict(state["best"])

    def _due(self, done: int) -> bool:
        return self._period > 0 and done % self._period == 0 and done < self.trainer.max_iter

    def _run_everywhere(self, function: Evaluate) -> Mapping[str, Any]:
        """Results of the main process, on all of them."""
        model = self._checkpointer.model
        training = model.training
        broadcast_buffers(model)  # the statistics that are saved are those that are evaluated
        try:
            results = function(model, lambda: self.trainer.interrupts.requested)
        finally:
            model.train(training)
        return comm.all_gather(results)[0]

    def _track(self, iteration: int) -> None:
        """Update the best value and save the model where it is one."""
        best = self._best
        if not best.metric:  # nothing is held out
            return
        if best.metric not in self.results:
            known = ", ".join(sorted(self.results))
            raise ConfigError(f"TEST.BEST_METRIC: no {best.metric!r} among the results; there are: {known}")
        value = self.results[best.metric]
        if best.update(value, iteration):
            self._checkpointer.save("model_best", tag=False)
            logger.info("%s is %.3f after iteration %d: the best so far", best.metric, value, iteration + 1)
        elif best.best is not None:
            text = "%s is %.3f after iteration %d, not better than %.3f after %d (evaluations since: %d)"
            logger.info(text, best.metric, value, iteration + 1, best.best, best.best_iteration + 1, best.stale)

    def _stop_if_exhausted(self) -> None:
        best = self._best
        if best.exhausted:
            reached = "never a number" if best.best is None else f"{best.best:.3f} after {best.best_iteration + 1}"
            raise StopTraining(
                f"{best.metric} has not improved in {best.stale} evaluations (best: {reached}; "
                "TEST.EARLY_STOP_PATIENCE)"
            )
