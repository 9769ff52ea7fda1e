"""Optimizer and learning-rate schedule from a config."""

from functools import partial

import torch
from detectron2.config import CfgNode
from detectron2.solver import build_lr_scheduler
from detectron2.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping
from torch import nn

from .errors import ConfigError

__all__ = ["build_optimizer", "build_scheduler", "refresh_learning_rate"]


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """SGD or AdamW as SOLVER says, with its decay rules and gradient clipping.

    Beside Detectron2's CLIP_TYPE "value" and "norm" (each parameter for itself), "full_model" clips the norm of all
    gradients together.
    """
    solver = cfg.SOLVER
    groups = get_default_optimizer_params(
        model,
        base_lr=solver.BASE_LR,
        weight_decay_norm=solver.WEIGHT_DECAY_NORM,
        bias_lr_factor=solver.BIAS_LR_FACTOR,
        weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
    )
    common = {"lr": solver.BASE_LR, "weight_decay": solver.WEIGHT_DECAY}
    if solver.OPTIMIZER == "SGD":
        optimizer = torch.optim.SGD(groups, momentum=solver.MOMENTUM, nesterov=solver.NESTEROV, **common)
    elif solver.OPTIMIZER == "ADAMW":
        optimizer = torch.optim.AdamW(groups, **common)
    else:
        raise ConfigError(f"SOLVER.OPTIMIZER is {solver.OPTIMIZER!r}: choose SGD or ADAMW")
    if solver.CLIP_GRADIENTS.ENABLED and solver.CLIP_GRADIENTS.CLIP_TYPE == "full_model":
        optimizer.register_step_pre_hook(partial(_clip_full_model, solver.CLIP_GRADIENTS.CLIP_VALUE))
        return optimizer
    return maybe_add_gradient_clipping(cfg, optimizer)


def _clip_full_model(limit: float, optimizer: torch.optim.Optimizer, *_: object) -> None:
    """Scale all gradients together so that their common Euclidean norm is at most ``limit``."""
    nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], limit)


def build_scheduler(cfg: CfgNode, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
    """Detectron2's schedule of SOLVER.LR_SCHEDULER_NAME, stepped once an iteration."""
    try:
        return build_lr_scheduler(cfg, optimizer)
    except (ValueError, AssertionError) as error:
        raise ConfigError(
            f"SOLVER.LR_SCHEDULER_NAME {cfg.SOLVER.LR_SCHEDULER_NAME} cannot be built: {error}. Choose "
            "WarmupMultiStepLR (SOLVER.STEPS ascending) or WarmupCosineLR (0 <= SOLVER.BASE_LR_END <= SOLVER.BASE_LR)"
        ) from error


def refresh_learning_rate(scheduler: torch.optim.lr_scheduler.LRScheduler) -> None:
    """Set the learning rates that the schedule gives for its present iteration.

    After a resume with another SOLVER.MAX_ITER the optimizer still holds the rate of the old schedule.
    """
    for group, rate in zip(scheduler.optimizer.param_groups, scheduler.get_lr(), strict=True):
        group["lr"] = rate
