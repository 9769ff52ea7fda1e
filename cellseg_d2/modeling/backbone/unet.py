"""U-Net (Ronneberger et al., MICCAI 2015) with padded convolutions, and its deeper forms, as a backbone of stride 1."""

from collections.abc import Sequence

import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone import BACKBONE_REGISTRY, Backbone
from torch import Tensor, nn

from ..layers import make_norm

__all__ = ["VARIANTS", "UNet", "build_unet_backbone"]

# Width of each level in units of the first; with 64 channels there, 512, 1024 or 2048 at the bottom.
VARIANTS = {"unet": (1, 2, 4, 8), "expanded": (1, 2, 4, 8, 16), "deep": (1, 2, 4, 8, 16, 32)}


def double_convolution(in_channels: int, out_channels: int, norm: str) -> nn.Sequential:
    """Twice a padded 3x3 convolution, norm and relu; without a norm the convolutions have biases."""
    layers: list[nn.Module] = []
    for width in (in_channels, out_channels):
        own_norm = make_norm(norm, out_channels)
        conv = nn.Conv2d(width, out_channels, 3, padding=1, bias=own_norm is None)
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        if own_norm is None:
            nn.init.zeros_(conv.bias)
        layers += [conv, *([] if own_norm is None else [own_norm]), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class Up(nn.Module):
    """One step of the expanding path: double the size by a 2x2 transposed convolution, join the skip, convolve.

    Args:
        in_channels: of the level below.
        out_channels: of this level and of its skip.
        norm: of the 3x3 convolutions.
    """

    def __init__(self, in_channels: int, out_channels: int, norm: str):
        super().__init__()
        self.up = nn.ConvTranspose2d(in_channels, out_channels, 2, 2)
        # No relu follows: this keeps the mean square of what comes in, which is that of the skip.
        nn.init.normal_(self.up.weight, std=in_channels**-0.5)
        nn.init.zeros_(self.up.bias)
        self.conv = double_convolution(2 * out_channels, out_channels, norm)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(N, in_channels, H, W) and (N, out_channels, 2H, 2W) -> (N, out_channels, 2H, 2W)."""
        return self.conv(torch.cat([skip, self.up(x)], dim=1))


class UNet(Backbone):
    """U-Net whose only feature, "unet", has the size of the image and ``width * factors[0]`` channels.

    Args:
        in_channels: channels of the image.
        factors: widths of the levels in units of ``width``; one of :data:`VARIANTS`.
        width: channels of the first level.
        norm: BN, SyncBN, FrozenBN, GN, or "" as published.

    Raises:
        ValueError: fewer than two levels, or an unknown norm.
    """

    def __init__(
        self, in_channels: int = 1, factors: Sequence[int] = VARIANTS["unet"], width: int = 64, *, norm: str = "BN"
    ):
        super().__init__()
        if len(factors) < 2 or width < 1:
            raise ValueError(f"a U-Net has two or more levels and channels, not factors {factors} of width {width}")
        widths = [width * factor for factor in factors]
        self.down = nn.ModuleList(
            double_convolution(before, after, norm) for before, after in zip([in_channels, *widths], widths)
        )
        self.pool = nn.MaxPool2d(2)
        self.up = nn.ModuleList(Up(below, here, norm) for here, below in reversed(list(zip(widths, widths[1:]))))
        self._out_features = ["unet"]
        self._out_feature_strides, self._out_feature_channels = {"unet": 1}, {"unet": widths[0]}

    @property
    def size_divisibility(self) -> int:
        """2 to the number of poolings: images are padded to multiples of it, so that skips fit."""
        return 2 ** len(self.up)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, C, H, W) image, H and W multiples of ``size_divisibility`` -> {"unet": (N, width, H, W)}."""
        skips: list[Tensor] = []
        for i, level in enumerate(self.down):
            x = level(self.pool(x) if i else x)
            skips.append(x)
        for up, skip in zip(self.up, reversed(skips[:-1])):
            x = up(x, skip)
        return {"unet": x}


@BACKBONE_REGISTRY.register()
def build_unet_backbone(cfg, input_shape: ShapeSpec) -> UNet:
    """U-Net from ``cfg.MODEL.UNET``."""
    node = cfg.MODEL.UNET
    if node.VARIANT not in VARIANTS:
        raise ValueError(f"MODEL.UNET.VARIANT: one of {', '.join(VARIANTS)}, not {node.VARIANT!r}")
    return UNet(input_shape.channels, VARIANTS[node.VARIANT], node.WIDTH, norm=node.NORM)
