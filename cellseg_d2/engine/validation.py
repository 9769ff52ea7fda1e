"""Training losses on data that the model does not learn from."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch import nn

from .errors import EvaluationInterrupted
from .step_report import iteration_seed

__all__ = ["validation_losses"]

logger = logging.getLogger(__name__)
NORMS = (nn.modules.batchnorm._NormBase,)  # BatchNorm, SyncBatchNorm and InstanceNorm of all dimensions


def validation_losses(
    model: nn.Module,
    loader: Iterable[list[Mapping[str, Any]]],
    should_stop: Callable[[], bool] = lambda: False,
    seed: int = 0,
) -> dict[str, float]:
    """Mean loss an image over ``loader``, of all processes.

    The model runs in training mode (else it gives no losses) without gradients; its norm layers use and keep their
    running statistics, and each batch has its own fixed seed, so that the value depends on weights and data only.

    Args:
        model: without DDP. Its forward pass may average over processes.
        loader: this process's batches, with annotations; as many of them as every other process has.
        should_stop: asked before each batch.

    Returns:
        ``{"val/<loss>": ..., "val/total_loss": ...}``; empty, with a warning, where there is no image.

    Raises:
        EvaluationInterrupted: in all processes, when ``should_stop()`` was true in one.
    """
    sums: dict[str, float] = {}
    images = 0
    # The model writes its training statistics to the current storage: keep them out of the run's
    with torch.no_grad(), _norms_in_eval(model), EventStorage():
        for index, batch in enumerate(loader):
            if any(comm.all_gather(should_stop())):
                raise EvaluationInterrupted
            torch.manual_seed(iteration_seed(seed, index, comm.get_rank()))  # training seeds each step anew
            images += len(batch)
            for name, value in model(batch).items():
                sums[name] = sums.get(name, 0.0) + float(value) * len(batch)
    parts = comm.all_gather((sums, images))
    total = sum(count for _, count in parts)
    if not total:
        logger.warning("No image to compute the validation loss on")
        return {}
    means = {f"val/{name}": sum(part[name] for part, _ in parts) / total for name in sums}
    means["val/total_loss"] = sum(means.values())
    logger.info("Validation on %d images: %s", total, "  ".join(f"{k} {v:.4g}" for k, v in means.items()))
    return means


@contextmanager
def _norms_in_eval(model: nn.Module) -> Iterator[None]:
    """Training mode, except for layers that would update their running statistics; the old modes come back."""
    modes = [(module, module.training) for module in model.modules()]
    model.train()
    for module in model.modules():
        if isinstance(module, NORMS):
            module.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
