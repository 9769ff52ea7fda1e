"""The convolutional head of FCOS, shared by all levels."""

import torch
from detectron2.config import configurable
from detectron2.layers import CycleBatchNormList, ShapeSpec, get_norm
from torch import Tensor, nn

from ..layers import DeformableConv2d, make_norm, prior_bias

__all__ = ["FCOSHead"]


class Scale(nn.Module):
    """One learned factor."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        """``scale * x``."""
        return x * self.scale


class FCOSHead(nn.Module):
    """Towers of 3x3 convolutions, and three predictors: class logits, box distances and centerness logit.

    Args:
        channels: width of the feature maps and towers.
        num_levels: number of feature maps (one regression scale, and one batch-norm statistic, each).
        num_classes: foreground classes.
        num_convs: convolutions of the class, box and shared tower.
        norm: GN, BN, SyncBN (statistics a level, affine parameters shared) or "none".
        prior_prob: probability of foreground that the class logits start with.
        use_scale: learn one factor a level on the box regression.
        deformable: make the last convolution of the class and box towers deformable.
        modulated: kind of those.
    """

    @configurable
    def __init__(
        self,
        *,
        channels: int,
        num_levels: int,
        num_classes: int,
        num_convs: tuple[int, int, int] = (4, 4, 0),
        norm: str = "GN",
        prior_prob: float = 0.01,
        use_scale: bool = True,
        deformable: bool = False,
        modulated: bool = False,
    ):
        super().__init__()
        for name, convs in zip(("cls", "bbox", "share"), num_convs):
            flags = [deformable and name != "share" and i == convs - 1 for i in range(convs)]
            layers = [layer for flag in flags for layer in _conv_unit(channels, norm, num_levels, flag, modulated)]
            self.add_module(f"{name}_tower", nn.Sequential(*layers))
        self.cls_logits = nn.Conv2d(channels, num_classes, 3, padding=1)
        self.bbox_pred = nn.Conv2d(channels, 4, 3, padding=1)
        self.ctrness = nn.Conv2d(channels, 1, 3, padding=1)
        self.scales = nn.ModuleList(Scale() for _ in range(num_levels)) if use_scale else None
        self._initialise(prior_prob)

    def _initialise(self, prior_prob: float) -> None:
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d) and not name.endswith("offset"):
                nn.init.normal_(module.weight, std=0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.constant_(self.cls_logits.bias, prior_bias(prior_prob))

    @classmethod
    def from_config(cls, cfg, input_shape: list[ShapeSpec]) -> dict:
        """Arguments from ``cfg.MODEL.FCOS``; ``input_shape`` has one entry a level, of equal width."""
        channels = {shape.channels for shape in input_shape}
        if len(channels) != 1:
            raise ValueError(f"FCOS shares one head over its levels: they must be of one width, not {sorted(channels)}")
        node = cfg.MODEL.FCOS
        return {
            "channels": channels.pop(),
            "num_levels": len(input_shape),
            "num_classes": node.NUM_CLASSES,
            "num_convs": (node.NUM_CLS_CONVS, node.NUM_BOX_CONVS, node.NUM_SHARE_CONVS),
            "norm": node.NORM,
            "prior_prob": node.PRIOR_PROB,
            "use_scale": node.USE_SCALE,
            "deformable": node.USE_DEFORMABLE,
            "modulated": cfg.MODEL.VOVNET.WITH_MODULATED_DCN,
        }

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Feature maps (N, C, H, W) -> lists over levels: class logits (N, K, H, W), distances l, t, r, b to the box
        sides in units of the stride (N, 4, H, W; not negative), centerness logits (N, 1, H, W)."""
        for module in self.modules():
            if isinstance(module, CycleBatchNormList):
                module._pos = 0  # a forward pass that was cut short leaves the cycle in the middle
        logits, distances, centerness = [], [], []
        for level, x in enumerate(features):
            x = self.share_tower(x)
            logits.append(self.cls_logits(self.cls_tower(x)))
            box = self.bbox_tower(x)
            centerness.append(self.ctrness(box))
            reg = self.bbox_pred(box)
            distances.append((self.scales[level](reg) if self.scales is not None else reg).relu())
        return logits, distances, centerness


def _conv_unit(channels: int, norm: str, num_levels: int, deformable: bool, modulated: bool) -> list[nn.Module]:
    """Convolution, norm, relu."""
    if deformable:
        conv = DeformableConv2d(channels, channels, modulated=modulated, bias=True)
    else:
        conv = nn.Conv2d(channels, channels, 3, padding=1)
    if norm in ("BN", "SyncBN"):
        layer = CycleBatchNormList(num_levels, bn_class=type(get_norm(norm, channels)), num_features=channels)
    else:
        layer = make_norm(norm, channels)
    return [conv, nn.ReLU()] if layer is None else [conv, layer, nn.ReLU()]
