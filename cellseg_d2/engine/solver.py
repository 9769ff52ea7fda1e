"""Optimizer and learning-rate schedule from a config."""

from functools import partial

import torch
from detectron2.config import CfgNode
from detectron2.solver import LRMultiplier, build_lr_scheduler
from detectron2.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping
from detectron2.solver.lr_scheduler import WarmupParamScheduler
from fvcore.common.param_scheduler import ExponentialParamScheduler
from torch import nn

from .errors import ConfigError

__all__ = ["build_optimizer", "build_scheduler", "refresh_learning_rate"]


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """SGD, AdamW or RMSprop as SOLVER says, with its decay rules and gradient clipping.

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
        optimizer = torch.optim.AdamW(groups, fused=True, **common)
    elif solver.OPTIMIZER == "RMSPROP":
        optimizer = torch.optim.RMSprop(groups, alpha=solver.RMSPROP_ALPHA, momentum=solver.MOMENTUM, **common)
    else:
        raise ConfigError(f"SOLVER.OPTIMIZER is {solver.OPTIMIZER!r}: choose SGD, ADAMW or RMSPROP")
    if solver.CLIP_GRADIENTS.ENABLED and solver.CLIP_GRADIENTS.CLIP_TYPE == "full_model":
        optimizer.register_step_pre_hook(partial(_clip_full_model, solver.CLIP_GRADIENTS.CLIP_VALUE))
        return optimizer
    return maybe_add_gradient_clipping(cfg, optimizer)


def _clip_full_model(limit: float, optimizer: torch.optim.Optimizer, *_: object) -> None:
    """Scale all gradients together so that their common Euclidean norm is at most ``limit``."""
    nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], limit)


def build_scheduler(cfg: CfgNode, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
    """The schedule of SOLVER.LR_SCHEDULER_NAME, stepped once an iteration.

    Detectron2's ``WarmupMultiStepLR`` and ``WarmupCosineLR``, and ``WarmupExponentialLR``: the rate falls by the same
    factor at each iteration, from BASE_LR to BASE_LR_END.
    """
    try:
        if cfg.SOLVER.LR_SCHEDULER_NAME == "WarmupExponentialLR":
            return _exponential(cfg.SOLVER, optimizer)
        return build_lr_scheduler(cfg, optimizer)
    except (ValueError, AssertionError) as error:
        raise ConfigError(
            f"SOLVER.LR_SCHEDULER_NAME {cfg.SOLVER.LR_SCHEDULER_NAME} cannot be built: {error}. Choose "
            "WarmupMultiStepLR (SOLVER.STEPS ascending), WarmupCosineLR (0 <= SOLVER.BASE_LR_END <= SOLVER.BASE_LR) or "
            "WarmupExponentialLR (0 < SOLVER.BASE_LR_END <= SOLVER.BASE_LR)"
        ) from error


def _exponential(solver: CfgNode, optimizer: torch.optim.Optimizer) -> LRMultiplier:
    """rate(t) = BASE_LR * (BASE_LR_END / BASE_LR) ** (t / MAX_ITER), after the warm-up of the other schedules."""
    if not 0 < solver.BASE_LR_END <= solver.BASE_LR:
        raise ValueError(f"SOLVER.BASE_LR_END is {solver.BASE_LR_END}, SOLVER.BASE_LR {solver.BASE_LR}")
    schedule = WarmupParamScheduler(
        ExponentialParamScheduler(1.0, solver.BASE_LR_END / solver.BASE_LR),
        solver.WARMUP_FACTOR,
        min(solver.WARMUP_ITERS / solver.MAX_ITER, 1.0),
        solver.WARMUP_METHOD,
        solver.RESCALE_INTERVAL,
    )
    return LRMultiplier(optimizer, schedule, solver.MAX_ITER)


def refresh_learning_rate(scheduler: torch.optim.lr_scheduler.LRScheduler) -> None:
    """Set the learning rates that the schedule gives for its present iteration.

    After a resume with another SOLVER.MAX_ITER the optimizer still holds the rate of the old schedule.
    """
    for group, rate in zip(scheduler.optimizer.param_groups, scheduler.get_lr(), strict=True):
        group["lr"] = rate
