"""Layers that several parts of the models share."""

import math

import torch
from detectron2.layers import get_norm
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

__all__ = ["DeformableConv2d", "make_norm", "prior_bias"]

NORMS = ("", "BN", "SyncBN", "FrozenBN", "GN")


def make_norm(name: str, channels: int) -> nn.Module | None:
    """A norm layer by Detectron2's name; ``""`` and ``"none"`` give None.

    Group norm has 32 groups, or for widths that 32 does not divide (80 and 112 in the slim VoVNets) the largest
    number of groups below 32 that does.
    """
    if name.lower() == "none":
        return None
    if name == "GN":
        groups = max(g for g in range(1, 33) if channels % g == 0)
        return nn.GroupNorm(groups, channels)
    if name not in NORMS:
        raise ValueError(f"there is no norm {name!r}: choose FrozenBN, BN, SyncBN, GN or none")
    return get_norm(name, channels)


class DeformableConv2d(nn.Module):
    """3x3 deformable convolution (Dai et al. 2017), modulated (Zhu et al. 2019) or plain, by torchvision's operator.

    A convolution ``offset`` predicts for each of ``groups`` channel groups and each of the nine taps a shift (y, x)
    and, if modulated, a mask logit. It starts at zero: a plain convolution (half as strong if modulated).

    Args:
        in_channels, out_channels: widths.
        modulated: predict a mask as well.
        groups: number of offset groups; divides ``in_channels``.
        bias: give the convolution a bias.
    """

    def __init__(self, in_channels: int, out_channels: int, *, modulated: bool, groups: int = 1, bias: bool = False):
        super().__init__()
        self.modulated = modulated
        self.taps = groups * 9
        self.offset = nn.Conv2d(in_channels, self.taps * (3 if modulated else 2), 3, padding=1)
        nn.init.zeros_(self.offset.weight)
        nn.init.zeros_(self.offset.bias)
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, H, W)."""
        offset, mask = self.offset(x), None
        if self.modulated:
            offset, mask = torch.split(offset, [self.taps * 2, self.taps], dim=1)
            mask = mask.sigmoid().float()
        # torchvision's operator has no mixed precision on every device: float32 inside, the type of the map outside.
        weight, bias = self.conv.weight.float(), None if self.conv.bias is None else self.conv.bias.float()
        y = deform_conv2d(x.float(), offset.float(), weight, bias, padding=(1, 1), mask=mask)
        return y.to(offset.dtype)


def prior_bias(probability: float) -> float:
    """The bias b with sigmoid(b) = probability (RetinaNet's initialisation of class logits)."""
    return -math.log((1 - probability) / probability)
