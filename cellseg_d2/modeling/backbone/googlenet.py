"""GoogLeNet (Szegedy et al., Going Deeper with Convolutions, CVPR 2015): the nine Inception blocks as a backbone."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from detectron2.layers import FrozenBatchNorm2d, ShapeSpec
from detectron2.modeling.backbone import BACKBONE_REGISTRY, Backbone
from torch import Tensor, nn

from ..layers import make_norm

__all__ = ["BLOCKS", "STEM", "BasicConv2d", "GoogLeNet", "Inception", "InceptionWidths", "build_googlenet_backbone"]


class InceptionWidths(NamedTuple):
    """Channels of one Inception block, in the order of table 1 of the paper: reductions feed the 3x3 and 5x5."""

    one: int
    reduce3: int
    three: int
    reduce5: int
    five: int
    pool: int

    @property
    def out(self) -> int:
        """Channels of the four branches together."""
        return self.one + self.three + self.five + self.pool


# Table 1 of the paper: the three convolutions of the stem, then the blocks under torchvision's names.
STEM = (64, 64, 192)
BLOCKS = {
    "inception3a": InceptionWidths(64, 96, 128, 16, 32, 32),
    "inception3b": InceptionWidths(128, 128, 192, 32, 96, 64),
    "inception4a": InceptionWidths(192, 96, 208, 16, 48, 64),
    "inception4b": InceptionWidths(160, 112, 224, 24, 64, 64),
    "inception4c": InceptionWidths(128, 128, 256, 24, 64, 64),
    "inception4d": InceptionWidths(112, 144, 288, 32, 64, 64),
    "inception4e": InceptionWidths(256, 160, 320, 32, 128, 128),
    "inception5a": InceptionWidths(256, 160, 320, 32, 128, 128),
    "inception5b": InceptionWidths(384, 192, 384, 48, 128, 128),
}
# A 3x3 max pooling of stride 2 comes before each of these.
POOLED = {"conv2": "maxpool1", "inception3a": "maxpool2", "inception4a": "maxpool3", "inception5a": "maxpool4"}
# Of batch norm in the published weights; the framework's default is 1e-5.
BATCH_NORM_EPS = 1e-3


class BasicConv2d(nn.Module):
    """Convolution, norm (under the name ``bn``, whatever its kind) and relu; without a norm the convolution has a bias.

    Args:
        in_channels, out_channels: widths.
        norm: name for :func:`cellseg_d2.modeling.layers.make_norm`.
        kernel, stride: of the convolution, which pads by ``kernel // 2``.
    """

    def __init__(self, in_channels: int, out_channels: int, *, norm: str, kernel: int = 1, stride: int = 1):
        super().__init__()
        self.bn = make_norm(norm, out_channels)
        if isinstance(self.bn, nn.modules.batchnorm._BatchNorm | FrozenBatchNorm2d):
            self.bn.eps = BATCH_NORM_EPS
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=self.bn is None)
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu")
        if self.bn is None:
            nn.init.zeros_(self.conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, ceil(H / stride), ceil(W / stride)), not negative."""
        x = self.conv(x)
        return F.relu(x if self.bn is None else self.bn(x), inplace=True)


class Inception(nn.Module):
    """Four branches side by side: 1x1, 3x3, 5x5 (the latter two after a 1x1 reduction), and max pooling with 1x1.

    Args:
        in_channels: width of the input.
        widths: widths of the branches.
        norm: of all convolutions.
        branch_kernel: of the third branch: 5, or 3 as in torchvision.
    """

    def __init__(self, in_channels: int, widths: InceptionWidths, *, norm: str, branch_kernel: int = 5):
        super().__init__()
        self.branch1 = BasicConv2d(in_channels, widths.one, norm=norm)
        self.branch2 = nn.Sequential(
            BasicConv2d(in_channels, widths.reduce3, norm=norm),
            BasicConv2d(widths.reduce3, widths.three, norm=norm, kernel=3),
        )
        self.branch3 = nn.Sequential(
            BasicConv2d(in_channels, widths.reduce5, norm=norm),
            BasicConv2d(widths.reduce5, widths.five, norm=norm, kernel=branch_kernel),
        )
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, 1), BasicConv2d(in_channels, widths.pool, norm=norm))

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, widths.out, H, W)."""
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], dim=1)


class GoogLeNet(Backbone):
    """GoogLeNet from conv1 to inception5b, without classifiers and without the local response normalisation.

    Parameters are named as in torchvision's ``googlenet``, so that its weights load. Those are of BN, ``branch_kernel``
    3, and RGB images scaled to -1 .. 1: MODEL.PIXEL_MEAN and MODEL.PIXEL_STD half the range of the input, 0.5 or 127.5.

    Args:
        in_channels: channels of the image.
        out_features: what ``forward`` returns: conv1 (stride 2), conv2, conv3 (4), inception3a, inception3b (8),
            inception4a .. inception4e (16), inception5a, inception5b (32). Layers behind the last are not made.
        norm: BN, SyncBN, FrozenBN, GN, or "" as published (the convolutions then have biases).
        branch_kernel: 5 as published; 3 for torchvision's form, whose last pooling is 2x2 as well.
        stem, blocks: widths, the latter under the names of BLOCKS.

    Raises:
        ValueError: an unknown feature, kernel or norm.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_features: Sequence[str] = ("inception5b",),
        *,
        norm: str = "BN",
        branch_kernel: int = 5,
        stem: tuple[int, int, int] = STEM,
        blocks: Mapping[str, InceptionWidths] = BLOCKS,
    ):
        super().__init__()
        names = ["conv1", "conv2", "conv3", *blocks]
        if not out_features or not set(out_features) <= set(names):
            raise ValueError(f"MODEL.GOOGLENET.OUT_FEATURES: some of {', '.join(names)}; not {list(out_features)}")
        if branch_kernel not in (3, 5):
            raise ValueError(f"MODEL.GOOGLENET.BRANCH_KERNEL: 5 (paper) or 3 (torchvision), not {branch_kernel}")
        self._steps = names[: 1 + max(names.index(name) for name in out_features)]
        self._out_features, self._out_feature_strides, self._out_feature_channels = list(out_features), {}, {}
        width, stride = in_channels, 2
        for i, name in enumerate(self._steps):
            if name in POOLED:
                kernel = 2 if branch_kernel == 3 and name == "inception5a" else 3
                self.add_module(POOLED[name], nn.MaxPool2d(kernel, 2, ceil_mode=True))
                stride *= 2
            if i < len(stem):
                step, out = BasicConv2d(width, stem[i], norm=norm, kernel=(7, 1, 3)[i], stride=(2, 1, 1)[i]), stem[i]
            else:
                step, out = Inception(width, blocks[name], norm=norm, branch_kernel=branch_kernel), blocks[name].out
            self.add_module(name, step)
            self._out_feature_strides[name], self._out_feature_channels[name] = stride, out
            width = out

    @property
    def size_divisibility(self) -> int:
        """32: images are padded to multiples of it, on which all poolings halve exactly."""
        return 32

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, C, H, W) image, H and W multiples of 32 -> the chosen features, (N, width, H / stride, W / stride)."""
        outputs = {}
        for name in self._steps:
            if name in POOLED:
                x = getattr(self, POOLED[name])(x)
            x = outputs[name] = getattr(self, name)(x)
        return {name: outputs[name] for name in self._out_features}


@BACKBONE_REGISTRY.register()
def build_googlenet_backbone(cfg, input_shape: ShapeSpec) -> GoogLeNet:
    """GoogLeNet from ``cfg.MODEL.GOOGLENET``. All of it trains: MODEL.BACKBONE.FREEZE_AT is for VoVNet and ResNet."""
    node = cfg.MODEL.GOOGLENET
    return GoogLeNet(input_shape.channels, node.OUT_FEATURES, norm=node.NORM, branch_kernel=node.BRANCH_KERNEL)
