"""What the processes tell each other in each training step."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from detectron2.utils import comm

from .errors import TrainingDivergedError

__all__ = ["StepReport", "check_finite", "check_gradient", "exchange", "iteration_seed", "mean_losses"]

REMEDIES = (
    "The weights were not changed by this step and checkpoints written before are intact. Try a lower SOLVER.BASE_LR, "
    "a longer SOLVER.WARMUP_ITERS, SOLVER.CLIP_GRADIENTS.ENABLED True, SOLVER.AMP.ENABLED False, and look at these "
    "images and their annotations; --resume goes on from the last checkpoint"
)


@dataclass(frozen=True)
class StepReport:
    """One process's part of a step: its losses, seconds spent waiting for data, images, and whether it shall stop."""

    losses: dict[str, float]
    data_time: float
    file_names: tuple[str, ...]
    stop_requested: bool

    @property
    def finite(self) -> bool:
        """Whether all losses are finite."""
        return all(math.isfinite(value) for value in self.losses.values())


def exchange(
    losses: Mapping[str, torch.Tensor], batch: Sequence[Mapping[str, Any]], data_time: float, stop_requested: bool
) -> list[StepReport]:
    """The reports of all processes, by rank: every process then takes the same decision about this step."""
    values = torch.stack([loss.detach().float() for loss in losses.values()]).tolist()
    names = tuple(str(record.get("file_name", "?")) for record in batch)
    report = StepReport(dict(zip(losses, values, strict=True)), data_time, names, stop_requested)
    return comm.all_gather(report)


def check_finite(reports: Sequence[StepReport], iteration: int) -> None:
    """Raise :class:`TrainingDivergedError` in all processes when one of them has a loss that is NaN or infinite."""
    for rank, report in enumerate(reports):
        if not report.finite:
            where = f" on rank {rank}" if len(reports) > 1 else ""
            losses = ", ".join(f"{name}={value:.6g}" for name, value in report.losses.items())
            raise TrainingDivergedError(
                f"loss is NaN or infinite at iteration {iteration}{where}: {losses}. "
                f"Images: {', '.join(report.file_names)}. {REMEDIES}"
            )


def check_gradient(norm: float, reports: Sequence[StepReport], iteration: int) -> None:
    """Raise :class:`TrainingDivergedError` when the gradients' norm is not finite although the losses are."""
    if not math.isfinite(norm):
        losses = ", ".join(f"{name}={value:.6g}" for name, value in mean_losses(reports).items())
        images = ", ".join(name for report in reports for name in report.file_names)
        raise TrainingDivergedError(
            f"gradient is NaN or infinite at iteration {iteration} (losses: {losses}). Images: {images}. {REMEDIES}"
        )


def mean_losses(reports: Sequence[StepReport]) -> dict[str, float]:
    """Each loss, averaged over the processes."""
    return {name: float(np.mean([report.losses[name] for report in reports])) for name in reports[0].losses}


def iteration_seed(seed: int, iteration: int, rank: int) -> int:
    """Seed of one step's random numbers: the same in a resumed run, different in each step and process.

    >>> iteration_seed(1, 5, 0) == iteration_seed(1, 5, 0) != iteration_seed(1, 5, 1)
    True
    """
    words = np.random.SeedSequence((seed, iteration, rank)).generate_state(1, np.uint64)
    return int(words[0] >> 1)
