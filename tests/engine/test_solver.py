"""RMSprop and the annealed rates."""

import pytest
import torch
from torch import nn

from cellseg_d2.engine import ConfigError
from cellseg_d2.engine.setup import load_config
from cellseg_d2.engine.solver import build_optimizer, build_scheduler


def rates(iterations: int, *options: object) -> list[float]:
    """Learning rate of each iteration."""
    warm_up = ["SOLVER.WARMUP_ITERS", 0, "SOLVER.BASE_LR", 0.1]
    cfg = load_config("", [str(word) for word in (*warm_up, "SOLVER.MAX_ITER", iterations, *options)])
    optimizer = build_optimizer(cfg, nn.Linear(2, 2))
    scheduler = build_scheduler(cfg, optimizer)
    result = []
    for _ in range(iterations):
        result.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return [*result, optimizer.param_groups[0]["lr"]]


def test_exponential_rate_falls_by_one_factor():
    values = torch.tensor(rates(10, "SOLVER.LR_SCHEDULER_NAME", "WarmupExponentialLR", "SOLVER.BASE_LR_END", 0.001))
    torch.testing.assert_close(values[1:] / values[:-1], torch.full((10,), 0.01 ** (1 / 10)))
    assert values[0] == pytest.approx(0.1) and values[-1] == pytest.approx(0.001)


def test_exponential_rate_warms_up():
    schedule = ["SOLVER.LR_SCHEDULER_NAME", "WarmupExponentialLR", "SOLVER.BASE_LR_END", 0.001]
    values = rates(10, *schedule, "SOLVER.WARMUP_ITERS", 4, "SOLVER.WARMUP_FACTOR", 0.1)
    assert values[0] == pytest.approx(0.01) and values[0] < values[1] < values[3]
    assert values[4:] == pytest.approx(rates(10, *schedule)[4:])


def test_step_and_cosine_rates():
    steps = rates(10, "SOLVER.LR_SCHEDULER_NAME", "WarmupMultiStepLR", "SOLVER.STEPS", "(5,)", "SOLVER.GAMMA", 0.1)
    assert steps == pytest.approx([0.1] * 5 + [0.01] * 6)
    cosine = rates(10, "SOLVER.LR_SCHEDULER_NAME", "WarmupCosineLR")
    assert cosine[5] == pytest.approx(0.05) and cosine[10] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("end", ["0.0", "0.2"])
def test_exponential_rate_without_a_sensible_end_is_refused(end):
    with pytest.raises(ConfigError, match="WarmupExponentialLR.*BASE_LR_END"):
        rates(3, "SOLVER.LR_SCHEDULER_NAME", "WarmupExponentialLR", "SOLVER.BASE_LR_END", end)


def test_rmsprop_takes_its_values_from_the_config():
    words = ["SOLVER.OPTIMIZER", "RMSPROP", "SOLVER.MOMENTUM", "0.5", "SOLVER.RMSPROP_ALPHA", "0.75"]
    cfg = load_config("", [*words, "SOLVER.BASE_LR", "0.1", "SOLVER.WEIGHT_DECAY", "0.0"])
    optimizer = build_optimizer(cfg, nn.Linear(1, 1))
    group = optimizer.param_groups[0]
    assert isinstance(optimizer, torch.optim.RMSprop) and group["momentum"] == 0.5
    # first step of a gradient g: v = (1 - alpha) g^2, so the weight moves by lr * g / sqrt(v) = lr / sqrt(1 - alpha)
    weight = group["params"][0]
    before = weight.detach().clone()
    weight.grad = torch.full_like(weight, 3.0)
    optimizer.step()
    torch.testing.assert_close(before - weight.detach(), torch.full_like(weight, 0.1 / 0.25**0.5), rtol=1e-4, atol=0)
