"""Heads that turn one feature map into logits at the size of the input."""

import math

import torch
import torch.nn.functional as F
from detectron2.config import configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling.meta_arch.semantic_seg import SEM_SEG_HEADS_REGISTRY
from torch import Tensor, nn

from ..layers import prior_bias
from .losses import SemanticLoss

__all__ = ["PixelHead", "SemanticHead", "TransposedConvHead"]


class SemanticHead(nn.Module):
    """One linear layer on one feature map, and the loss; the kinds differ in the layer, :meth:`make_predictor`.

    Args:
        in_feature: name of the feature map.
        input_shape: its channels and stride.
        loss: from (N, K, H, W) logits and targets to a scalar; it says which class is ignored.
        num_classes: 1 (one logit: foreground) or 3 (background, interior, edge).
        loss_weight: factor on the loss.
        prior: probability of foreground at the start of training.
    """

    @configurable
    def __init__(
        self,
        *,
        in_feature: str,
        input_shape: ShapeSpec,
        loss: SemanticLoss,
        num_classes: int = 1,
        loss_weight: float = 1.0,
        prior: float = 0.25,
    ):
        super().__init__()
        if num_classes not in (1, 3):
            raise ValueError(
                "MODEL.SEM_SEG_HEAD.NUM_CLASSES: 1 (foreground) or 3 (background, interior and edge of cells), "
                f"not {num_classes}"
            )
        self.in_feature = in_feature
        self.loss = loss
        self.loss_weight = loss_weight
        self.predictor = self.make_predictor(input_shape, num_classes)
        _start_at(self.predictor.bias, prior)

    @classmethod
    def from_config(cls, cfg, input_shape: dict[str, ShapeSpec]) -> dict:
        """Arguments from ``cfg.MODEL.SEM_SEG_HEAD`` and ``cfg.MODEL.SEMANTIC`` for a backbone's features."""
        node, weights = cfg.MODEL.SEM_SEG_HEAD, cfg.MODEL.SEMANTIC
        names = list(node.IN_FEATURES)
        if len(names) != 1 or names[0] not in input_shape:
            raise ValueError(
                f"MODEL.SEM_SEG_HEAD.IN_FEATURES: {node.NAME} takes one feature of the backbone, which has "
                f"{', '.join(input_shape)}; not {names}"
            )
        loss = SemanticLoss(
            cross_entropy=weights.CROSS_ENTROPY,
            dice=weights.DICE,
            focal=weights.FOCAL,
            focal_gamma=weights.FOCAL_GAMMA,
            num_classes=node.NUM_CLASSES,
            ignore_value=node.IGNORE_VALUE,
        )
        return {
            "in_feature": names[0],
            "input_shape": input_shape[names[0]],
            "loss": loss,
            "num_classes": node.NUM_CLASSES,
            "loss_weight": node.LOSS_WEIGHT,
        }

    @property
    def ignore_value(self) -> int:
        """Class of pixels that do not count, with which Detectron2 pads targets."""
        return self.loss.ignore_value

    def make_predictor(self, input_shape: ShapeSpec, num_classes: int) -> nn.Module:
        """The layer, with a bias, from (N, C, H / stride, W / stride) to (N, num_classes, H, W)."""
        raise NotImplementedError

    def layers(self, features: dict[str, Tensor]) -> Tensor:
        """Features -> (N, K, H, W) logits at the size of the padded input, float32 whatever the precision outside."""
        return self.predictor(features[self.in_feature]).float()

    def forward(
        self, features: dict[str, Tensor], targets: Tensor | None = None
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """Training: None and the losses; evaluation: (N, K, H, W) float32 logits and no losses.

        Args:
            features: of the backbone.
            targets: (N, 2, H, W) or (N, H, W), see :meth:`SemanticLoss.forward`; training needs them.
        """
        logits = self.layers(features)
        if not self.training:
            return logits, {}
        if targets is None:
            raise ValueError('training needs the truth of each image under "sem_seg" in the input')
        return None, {"loss_sem_seg": self.loss(logits, targets) * self.loss_weight}


class TransposedConv(nn.ConvTranspose2d):
    """Transposed convolution of stride s, kernel 2s and padding s / 2, computed as one matrix product.

    The parameters and (but for rounding) the numbers are those of ``nn.ConvTranspose2d``, whose CPU code for such large
    strides is many times slower and, on channels-last maps, asks for tens of gigabytes. Each position of the input
    gives a patch of 2s x 2s; neighbours lie s apart, so each half of a patch is added to the other half of the next.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__(in_channels, out_channels, 2 * stride, stride, stride // 2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, H s, W s)."""
        s = self.stride[0]
        patches = x.permute(0, 2, 3, 1) @ self.weight.flatten(1)  # (N, H, W, out_channels * 2s * 2s)
        patches = patches.unflatten(3, (self.out_channels, 2, s, 2, s))
        rows = _overlap_add(patches.permute(4, 0, 3, 2, 6, 7, 1, 5), s)  # (N, out_channels, W, 2, s, H s)
        return _overlap_add(rows.permute(3, 0, 1, 5, 2, 4), s) + self.bias[:, None, None]


def _overlap_add(halves: Tensor, stride: int) -> Tensor:
    """(2, ..., L, stride) first and second halves of L pieces -> their sum at L * stride places, margins cut off."""
    first, second = halves.flatten(-2).unbind(0)
    total = F.pad(first, (0, stride)) + F.pad(second, (stride, 0))
    return total[..., stride // 2 : stride // 2 + first.shape[-1]]


@SEM_SEG_HEADS_REGISTRY.register()
class TransposedConvHead(SemanticHead):
    """Fully convolutional head (FCN-32s, Long et al. 2015): one learned transposed convolution up to the input's size.

    For a feature of stride s its kernel is 2s, its stride s and its padding s / 2: each output pixel sees the four
    nearest positions of the feature.
    """

    def make_predictor(self, input_shape: ShapeSpec, num_classes: int) -> nn.Module:
        """Transposed convolution, its weights drawn so that the logits vary a tenth as much as the feature.

        Without a norm features are several units high, and as noisy logits would be far from ``prior``.
        """
        channels, stride = input_shape.channels, input_shape.stride
        if stride < 2 or stride % 2:
            raise ValueError(
                f"MODEL.SEM_SEG_HEAD: TransposedConvHead needs a feature of even stride, {self.in_feature} has "
                f"{stride}; PixelHead is for stride 1"
            )
        layer = TransposedConv(channels, num_classes, stride)
        nn.init.normal_(layer.weight, std=0.1 * (4 * channels) ** -0.5)
        return layer


@SEM_SEG_HEADS_REGISTRY.register()
class PixelHead(SemanticHead):
    """1x1 convolution on a feature that already has the size of the input."""

    def make_predictor(self, input_shape: ShapeSpec, num_classes: int) -> nn.Module:
        """1x1 convolution, its weights drawn so that the logits vary as the feature does."""
        if input_shape.stride != 1:
            raise ValueError(
                f"MODEL.SEM_SEG_HEAD: PixelHead needs a feature of stride 1, {self.in_feature} has "
                f"{input_shape.stride}; TransposedConvHead is for others"
            )
        layer = nn.Conv2d(input_shape.channels, num_classes, 1)
        nn.init.normal_(layer.weight, std=input_shape.channels**-0.5)
        return layer


@torch.no_grad()
def _start_at(bias: Tensor, prior: float) -> None:
    """Set the bias so that zero weights would give foreground the probability ``prior``, equal among its classes."""
    if len(bias) == 1:
        bias.fill_(prior_bias(prior))
    else:
        bias.fill_(math.log(prior / (len(bias) - 1)))
        bias[0] = math.log(1 - prior)
