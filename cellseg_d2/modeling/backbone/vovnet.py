"""VoVNetV2 (Lee & Park, CenterMask, CVPR 2020; Lee et al., VoVNet, CVPRW 2019): one-shot aggregation with eSE."""

import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from detectron2.layers import FrozenBatchNorm2d, ShapeSpec
from detectron2.modeling.backbone import BACKBONE_REGISTRY, Backbone
from torch import Tensor, nn

from ..layers import DeformableConv2d, make_norm

__all__ = ["SPECS", "ESE", "OSABlock", "VoVNet", "VoVNetSpec", "build_vovnet_backbone"]

logger = logging.getLogger(__name__)

STAGES = ("stage2", "stage3", "stage4", "stage5")


@dataclass(frozen=True)
class VoVNetSpec:
    """One variant: widths of the stem, of the convolutions and outputs of stage2..5, and depths."""

    stem: tuple[int, int, int]
    conv: tuple[int, int, int, int]
    out: tuple[int, int, int, int]
    layers: int
    blocks: tuple[int, int, int, int]
    depthwise: bool = False


_CONV, _OUT = (128, 160, 192, 224), (256, 512, 768, 1024)
_SLIM_CONV, _SLIM_OUT = (64, 80, 96, 112), (112, 256, 384, 512)
SPECS = {
    "V-19-slim-dw-eSE": VoVNetSpec((64, 64, 64), _SLIM_CONV, _SLIM_OUT, 3, (1, 1, 1, 1), depthwise=True),
    "V-19-dw-eSE": VoVNetSpec((64, 64, 64), _CONV, _OUT, 3, (1, 1, 1, 1), depthwise=True),
    "V-19-slim-eSE": VoVNetSpec((64, 64, 128), _SLIM_CONV, _SLIM_OUT, 3, (1, 1, 1, 1)),
    "V-19-eSE": VoVNetSpec((64, 64, 128), _CONV, _OUT, 3, (1, 1, 1, 1)),
    "V-39-eSE": VoVNetSpec((64, 64, 128), _CONV, _OUT, 5, (1, 1, 2, 2)),
    "V-57-eSE": VoVNetSpec((64, 64, 128), _CONV, _OUT, 5, (1, 1, 4, 3)),
    "V-99-eSE": VoVNetSpec((64, 64, 128), _CONV, _OUT, 5, (1, 3, 9, 3)),
}


@dataclass(frozen=True)
class Unit:
    """What all convolution units of a network share: kind of norm, and of the 3x3 convolutions."""

    norm: str = "FrozenBN"
    depthwise: bool = False
    deformable: bool = False
    modulated: bool = False
    deformable_groups: int = 1

    def conv(self, name: str, in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
        """Dense convolution, norm, relu, under ``{name}/conv`` and ``{name}/norm``."""
        conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False)
        return self._sequence({f"{name}/conv": conv, f"{name}/norm": make_norm(self.norm, out_channels)})

    def layer(self, name: str, in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
        """The 3x3 unit of this network: dense, depthwise separable or deformable."""
        if self.deformable and self.depthwise:
            raise ValueError("MODEL.VOVNET.STAGE_WITH_DCN: depthwise bodies have no deformable form")
        if self.deformable:
            conv = DeformableConv2d(
                in_channels, out_channels, modulated=self.modulated, groups=self.deformable_groups
            )
            return self._sequence({f"{name}/conv": conv, f"{name}/norm": make_norm(self.norm, out_channels)})
        if not self.depthwise:
            return self.conv(name, in_channels, out_channels, stride=stride)
        depthwise = nn.Conv2d(in_channels, out_channels, 3, stride, 1, groups=out_channels, bias=False)
        pointwise = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        norm = make_norm(self.norm, out_channels)
        return self._sequence(
            {f"{name}/dw_conv3x3": depthwise, f"{name}/pw_conv1x1": pointwise, f"{name}/pw_norm": norm}
        )

    @staticmethod
    def _sequence(modules: dict[str, nn.Module | None]) -> nn.Sequential:
        named = OrderedDict((name, module) for name, module in modules.items() if module is not None)
        return nn.Sequential(OrderedDict(named, relu=nn.ReLU(inplace=True)))


class ESE(nn.Module):
    """Effective squeeze-and-excitation: ``x * hsigmoid(fc(mean(x)))``, hsigmoid(v) = relu6(v + 3) / 6."""

    def __init__(self, channels: int):
        super().__init__()
        self.fc = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        return x * F.hardsigmoid(self.fc(x.mean((2, 3), keepdim=True)))


class OSABlock(nn.Module):
    """One-shot aggregation: a chain of 3x3 layers; its input and every layer's output are concatenated once.

    ``y = eSE(conv1x1([x, h1, ..., hL]))``, plus ``x`` where ``identity``. A depthwise block brings its input to the
    layers' width by a 1x1 convolution first where the two differ; the concatenation takes the input as it came.
    """

    def __init__(
        self, name: str, unit: Unit, in_channels: int, channels: int, out_channels: int, layers: int, identity: bool
    ):
        super().__init__()
        self.identity = identity
        reduce = unit.depthwise and in_channels != channels
        widths = [channels if reduce else in_channels] + [channels] * layers
        self.layers = nn.ModuleList(
            unit.layer(f"{name}_{i}", widths[i], widths[i + 1]) for i in range(layers)
        )
        if reduce:
            self.conv_reduction = unit.conv(f"{name}_reduction_0", in_channels, channels, kernel=1)
        self.concat = unit.conv(f"{name}_concat", in_channels + layers * channels, out_channels, kernel=1)
        self.ese = ESE(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, H, W)."""
        outputs = [x]
        h = self.conv_reduction(x) if hasattr(self, "conv_reduction") else x
        for layer in self.layers:
            h = layer(h)
            outputs.append(h)
        y = self.ese(self.concat(torch.cat(outputs, dim=1)))
        return y + x if self.identity else y


class VoVNet(Backbone):
    """VoVNetV2 backbone: a stem of stride 4 and four stages of one-shot aggregation blocks (strides 4, 8, 16, 32).

    Args:
        spec: widths and depths, one of :data:`SPECS`.
        in_channels: channels of the image.
        out_features: what ``forward`` returns, of "stem", "stage2" ... "stage5".
        norm: FrozenBN, BN, SyncBN, GN or "".
        deformable: use deformable 3x3 convolutions in stage2 .. stage5.
        modulated, deformable_groups: kind of those.
    """

    def __init__(
        self,
        spec: VoVNetSpec,
        in_channels: int = 3,
        out_features: Sequence[str] = ("stage3", "stage4", "stage5"),
        *,
        norm: str = "FrozenBN",
        deformable: Sequence[bool] = (False, False, False, False),
        modulated: bool = False,
        deformable_groups: int = 1,
    ):
        super().__init__()
        unknown = set(out_features) - {"stem", *STAGES}
        if unknown or not out_features:
            raise ValueError(f"MODEL.VOVNET.OUT_FEATURES: stem, {', '.join(STAGES)}, or some; not {list(out_features)}")
        plain = Unit(norm, spec.depthwise)
        a, b, c = spec.stem
        self.stem = nn.Sequential()
        for unit in (plain.conv("stem_1", in_channels, a, stride=2), plain.layer("stem_2", a, b),
                     plain.layer("stem_3", b, c, stride=2)):  # fmt: skip
            for name, module in unit.named_children():
                self.stem.add_module(name if name != "relu" else f"relu_{len(self.stem)}", module)
        self._out_feature_strides, self._out_feature_channels = {"stem": 4}, {"stem": c}
        width = c
        for i, stage in enumerate(STAGES):
            unit = Unit(norm, spec.depthwise, bool(deformable[i]), modulated, deformable_groups)
            self.add_module(stage, _make_stage(i + 2, unit, spec, width))
            width = spec.out[i]
            self._out_feature_strides[stage] = 4 * 2**i
            self._out_feature_channels[stage] = width
        self._out_features = list(out_features)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.weight.any():  # zero offsets of deformable layers stay zero
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def freeze(self, freeze_at: int) -> "VoVNet":
        """Freeze the stem (1), and stage2 .. stage5 (2 .. 5) up to ``freeze_at``; 0 freezes nothing."""
        for name in ["stem", *STAGES][: max(freeze_at, 0)]:
            module = getattr(self, name)
            module.requires_grad_(False)
            setattr(self, name, FrozenBatchNorm2d.convert_frozen_batchnorm(module))
        return self

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, C, H, W) image -> the chosen features; stage k has size ceil(H / 2^k) but for rounding in the stem."""
        outputs = {"stem": self.stem(x)}
        x = outputs["stem"]
        for name in STAGES:
            x = outputs[name] = getattr(self, name)(x)
        return {name: outputs[name] for name in self._out_features}


def _make_stage(number: int, unit: Unit, spec: VoVNetSpec, in_channels: int) -> nn.Sequential:
    """Stage ``number`` (2 .. 5): halve the resolution (but in stage 2), then one-shot aggregation blocks."""
    i, stage = number - 2, nn.Sequential()
    if number > 2:
        stage.add_module("Pooling", nn.MaxPool2d(3, 2, ceil_mode=True))
    for block in range(spec.blocks[i]):
        name = f"OSA{number}_{block + 1}"
        width = in_channels if block == 0 else spec.out[i]
        stage.add_module(name, OSABlock(name, unit, width, spec.conv[i], spec.out[i], spec.layers, block > 0))
    return stage


@BACKBONE_REGISTRY.register()
def build_vovnet_backbone(cfg, input_shape: ShapeSpec) -> VoVNet:
    """VoVNet from ``cfg.MODEL.VOVNET``, frozen up to ``cfg.MODEL.BACKBONE.FREEZE_AT``."""
    node = cfg.MODEL.VOVNET
    if node.CONV_BODY not in SPECS:
        raise KeyError(f"MODEL.VOVNET.CONV_BODY: no variant {node.CONV_BODY!r}; choose from {', '.join(SPECS)}")
    if node.NORM == "FrozenBN" and not cfg.MODEL.WEIGHTS:
        logger.warning(
            "MODEL.VOVNET.NORM is FrozenBN and MODEL.WEIGHTS is empty: nothing normalises this network. To train from "
            "scratch set MODEL.VOVNET.NORM to BN or GN."
        )
    model = VoVNet(
        SPECS[node.CONV_BODY],
        input_shape.channels,
        node.OUT_FEATURES,
        norm=node.NORM,
        deformable=node.STAGE_WITH_DCN,
        modulated=node.WITH_MODULATED_DCN,
        deformable_groups=node.DEFORMABLE_GROUPS,
    )
    return model.freeze(cfg.MODEL.BACKBONE.FREEZE_AT)
