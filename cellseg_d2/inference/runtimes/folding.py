"""Batch norms folded into the convolutions before them."""

from itertools import pairwise

import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from ...modeling.backbone.googlenet import BasicConv2d

__all__ = ["fold_norms"]

_NORMS = (nn.modules.batchnorm._BatchNorm, FrozenBatchNorm2d)


def fold_norms(module: nn.Module | None) -> nn.Module | None:
    """Fold batch norms (in evaluation mode, frozen or not) into the convolutions before them, in place; returned."""
    for part in [] if module is None else list(module.modules()):
        if isinstance(part, nn.Sequential):
            for name, following in pairwise(list(part._modules)):
                conv, norm = part._modules[name], part._modules[following]
                if type(conv) is nn.Conv2d and isinstance(norm, _NORMS):
                    _fold(conv, norm)
                    part._modules[following] = nn.Identity()
        elif isinstance(part, Conv2d) and isinstance(part.norm, _NORMS):
            _fold(part, part.norm)
            part.norm = None
        elif isinstance(part, BasicConv2d) and isinstance(part.bn, _NORMS):
            _fold(part.conv, part.bn)
            part.bn = None
    return module


@torch.no_grad()
def _fold(conv: nn.Conv2d, norm: nn.Module) -> None:
    statistics = norm.running_mean, norm.running_var, norm.eps
    conv.weight, conv.bias = fuse_conv_bn_weights(conv.weight, conv.bias, *statistics, norm.weight, norm.bias)
