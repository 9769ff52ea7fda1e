"""Feature pyramids on VoVNet: Detectron2's FPN, with the top levels that FCOS or Mask R-CNN need."""

import logging

import fvcore.nn.weight_init as weight_init
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone import BACKBONE_REGISTRY, FPN
from detectron2.modeling.backbone.fpn import LastLevelMaxPool, LastLevelP6P7
from torch import Tensor, nn

from .vovnet import build_vovnet_backbone

__all__ = ["build_fcos_vovnet_fpn_backbone", "build_vovnet_fpn_backbone"]

logger = logging.getLogger(__name__)


class LastLevelP6(nn.Module):
    """P6 = 3x3 convolution of stride 2 on P5."""

    num_levels = 1
    in_feature = "p5"

    def __init__(self, channels: int):
        super().__init__()
        self.p6 = nn.Conv2d(channels, channels, 3, 2, 1)
        weight_init.c2_xavier_fill(self.p6)

    def forward(self, p5: Tensor) -> list[Tensor]:
        """(N, C, H, W) -> [(N, C, ceil(H / 2), ceil(W / 2))]."""
        return [self.p6(p5)]


def _fpn(cfg, input_shape: ShapeSpec, top_block: nn.Module | None) -> FPN:
    bottom_up = build_vovnet_backbone(cfg, input_shape)
    missing = set(cfg.MODEL.FPN.IN_FEATURES) - set(bottom_up.output_shape())
    if missing:
        raise ValueError(
            f"MODEL.FPN.IN_FEATURES names {sorted(missing)}, which MODEL.VOVNET.OUT_FEATURES "
            f"{list(cfg.MODEL.VOVNET.OUT_FEATURES)} does not; make them agree"
        )
    return FPN(
        bottom_up,
        cfg.MODEL.FPN.IN_FEATURES,
        cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=top_block,
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )


@BACKBONE_REGISTRY.register()
def build_vovnet_fpn_backbone(cfg, input_shape: ShapeSpec) -> FPN:
    """VoVNet + FPN + max-pooled top level, as Mask R-CNN uses it."""
    return _fpn(cfg, input_shape, LastLevelMaxPool())


@BACKBONE_REGISTRY.register()
def build_fcos_vovnet_fpn_backbone(cfg, input_shape: ShapeSpec) -> FPN:
    """VoVNet + FPN + MODEL.FCOS.TOP_LEVELS convolutional top levels (P6 from P5, P7 from relu(P6))."""
    channels, levels = cfg.MODEL.FPN.OUT_CHANNELS, cfg.MODEL.FCOS.TOP_LEVELS
    if levels and "stage5" not in cfg.MODEL.FPN.IN_FEATURES:
        raise ValueError("MODEL.FCOS.TOP_LEVELS above 0 continues p5: put stage5 into MODEL.FPN.IN_FEATURES")
    unused = {f"p{6 + k}" for k in range(levels)} - set(cfg.MODEL.FCOS.IN_FEATURES)
    if unused:
        logger.warning(
            "MODEL.FCOS.IN_FEATURES does not read %s: lower MODEL.FCOS.TOP_LEVELS, or training in several processes "
            "fails on parameters without a gradient",
            ", ".join(sorted(unused)),
        )
    if levels not in (0, 1, 2):
        raise ValueError(f"MODEL.FCOS.TOP_LEVELS is 0, 1 or 2, not {levels}")
    top = {0: lambda: None, 1: lambda: LastLevelP6(channels), 2: lambda: LastLevelP6P7(channels, channels, "p5")}
    return _fpn(cfg, input_shape, top[levels]())
