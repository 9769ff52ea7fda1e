"""Mixed precision of a training step, on a CPU or a GPU."""

import torch
from detectron2.config import CfgNode
from torch import nn

from .errors import ConfigError

__all__ = ["Precision"]

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class Precision:
    """Autocasting and, for float16, loss scaling."""

    def __init__(self, device: str = "cpu", dtype: torch.dtype | None = None) -> None:
        """
        Args:
            device: "cpu", "cuda", "cuda:1", ...
            dtype: of the autocast operations; None: full precision.
        """
        self.device_type = torch.device(device).type
        self.dtype = dtype
        if dtype is torch.float16 and self.device_type != "cuda":
            raise ConfigError(
                f"SOLVER.AMP.DTYPE float16 needs a GPU, the model is on {device}: "
                "set SOLVER.AMP.DTYPE bfloat16, or SOLVER.AMP.ENABLED False"
            )
        self.scaler = torch.amp.GradScaler(self.device_type, enabled=dtype is torch.float16)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "Precision":
        """As SOLVER.AMP and MODEL.DEVICE say."""
        if not cfg.SOLVER.AMP.ENABLED:
            return cls(cfg.MODEL.DEVICE)
        if cfg.SOLVER.AMP.DTYPE not in DTYPES:
            raise ConfigError(f"SOLVER.AMP.DTYPE is {cfg.SOLVER.AMP.DTYPE!r}: choose one of {', '.join(DTYPES)}")
        return cls(cfg.MODEL.DEVICE, DTYPES[cfg.SOLVER.AMP.DTYPE])

    def autocast(self) -> torch.autocast:
        """Context of the forward pass."""
        return torch.autocast(self.device_type, dtype=self.dtype, enabled=self.dtype is not None)

    def backward(self, loss: torch.Tensor) -> None:
        """Gradients of ``loss``, scaled where the type needs it."""
        self.scaler.scale(loss).backward()

    def gradient_norm(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> torch.Tensor:
        """Euclidean norm of all (unscaled) gradients, a scalar tensor."""
        self.scaler.unscale_(optimizer)
        return torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])

    @property
    def may_skip(self) -> bool:
        """Whether a step with infinite gradients is left out and tried again at a lower scale (float16 only)."""
        return self.scaler.is_enabled()

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Update the weights."""
        self.scaler.step(optimizer)
        self.scaler.update()
