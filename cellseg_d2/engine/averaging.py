"""Exponential moving average of the weights in training."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from detectron2.engine import HookBase
from torch import Tensor, nn

__all__ = ["WeightAverage"]


class WeightAverage(HookBase):
    """Keeps the moving average of a model's weights (Polyak averaging), which evaluations and checkpoints take.

    After step t = 0, 1, ... each parameter and each running statistic of a batch norm w enters its average a by
    ``a <- d a + (1 - d) w`` with ``d = min(decay, (1 + t) / (10 + t))``, so that the first steps are soon forgotten.

    Two sets of weights exist, one in the model and the other here. Inside :meth:`applied`, and when training has ended,
    the model has the averages; a checkpoint has them under ``model``, and the others in the state of this hook.

    Args:
        model: whose weights are averaged, without DDP.
        decay: from 0 (the weights themselves) to below 1.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"SOLVER.EMA_DECAY: {decay} is not from 0 to below 1")
        self.decay = decay
        self._weights = dict(model.named_parameters())
        for name, module in model.named_modules():
            if isinstance(module, nn.modules.batchnorm._NormBase):
                statistics = {f"{name}.{key}": value for key, value in module.named_buffers(recurse=False)}
                self._weights |= {key: value for key, value in statistics.items() if value.is_floating_point()}
        self._others = {name: weight.detach().clone() for name, weight in self._weights.items()}
        self._depth = 0
        self._resumed = False

    def before_train(self) -> None:
        """Begin with the weights that were loaded, unless a resumed run has averages already."""
        if not self._resumed:
            for other, weight in zip(self._others.values(), self._weights.values(), strict=True):
                other.copy_(weight.detach())

    def after_train(self) -> None:
        """Leave the averages in the model, also after a later :meth:`applied`."""
        self._enter()

    def after_step(self) -> None:
        """Let the present weights enter."""
        step = self.trainer.iter
        decay = min(self.decay, (1 + step) / (10 + step))
        averages, weights = list(self._others.values()), [weight.detach() for weight in self._weights.values()]
        torch._foreach_lerp_(averages, weights, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model has the averages; may be nested."""
        self._enter()
        try:
            yield
        finally:
            self._depth -= 1
            if self._depth == 0:
                self._exchange()

    def state_dict(self) -> dict[str, Tensor]:
        """Inside :meth:`applied`: the weights that training goes on with."""
        return dict(self._others)

    def load_state_dict(self, weights: Mapping[str, Tensor]) -> None:
        """Go on with these weights; those that the model has by now are the averages."""
        for name, other in self._others.items():
            other.copy_(weights[name])
        self._exchange()
        self._resumed = True

    def _enter(self) -> None:
        self._depth += 1
        if self._depth == 1:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, weight in self._weights.items():
            kept = weight.detach().clone()
            weight.copy_(self._others[name])
            self._others[name].copy_(kept)
