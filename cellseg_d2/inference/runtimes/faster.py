"""The network of a CenterMask for inference: norms folded into convolutions, mask head without intermediate images."""

import copy

import torch
from detectron2.layers import Conv2d
from detectron2.modeling.roi_heads.mask_head import MaskRCNNConvUpsampleHead
from torch import Tensor, nn

from ...modeling.proposal_generator.fcos import FCOS
from ...modeling.roi_heads import CenterROIHeads
from .detection_head import DetectionHead
from .folding import fold_norms

__all__ = ["Heads", "Trunk"]


class Trunk(nn.Module):
    """Backbone, feature pyramid and FCOS head: a copy, the model is left as it is.

    Args:
        model: a CenterMask in evaluation mode.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        generator: FCOS = model.proposal_generator
        self.backbone = fold_norms(copy.deepcopy(model.backbone))
        self.fcos_features, self.map_features = list(generator.in_features), list(model.roi_heads.mask_in_features)
        self.head = DetectionHead(generator.fcos_head, len(self.fcos_features))
        kinds = [f"{kind}_{level}" for kind in ("logits", "distances", "centerness") for level in self.fcos_features]
        self.names = [*kinds, *(f"map_{level}" for level in self.map_features)]
        self.eval()

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """(N, C, H, W) normalised and padded -> the tensors named by ``names``: of all levels class logits
        (N, K, h, w), distances (N, 4, h, w) in strides and centerness logits (N, 1, h, w); maps to pool from."""
        features = self.backbone(image)
        outputs = self.head([features[name] for name in self.fcos_features])
        return (*(x for kind in outputs for x in kind), *(features[name] for name in self.map_features))


class Heads(nn.Module):
    """Mask head and mask scoring of each cell: a copy.

    The transposed convolution of stride 2 is a 1x1 convolution to four pixels each, of which the predictor is computed
    before they are put in place: nothing but the result is ever of twice the size.

    Args:
        roi_heads: with a mask head.

    Raises:
        TypeError: the mask head is none of Mask R-CNN's kind.
    """

    def __init__(self, roi_heads: CenterROIHeads) -> None:
        super().__init__()
        if not isinstance(roi_heads.mask_head, MaskRCNNConvUpsampleHead):
            raise TypeError(f"MODEL.ROI_MASK_HEAD.NAME: {type(roi_heads.mask_head).__name__} has no faster form")
        layers = dict(fold_norms(copy.deepcopy(roi_heads.mask_head)).named_children())
        deconv, predictor = layers.pop("deconv"), layers.pop("predictor")
        del layers["deconv_relu"]
        for layer in layers.values():
            if isinstance(layer, Conv2d) and isinstance(layer.activation, nn.ReLU):
                layer.activation = nn.ReLU(inplace=True)
        self.body = nn.Sequential(*layers.values())
        self.classes = predictor.out_channels
        self.up, self.predictor = _upsampling(deconv, predictor)
        self.scoring = fold_norms(copy.deepcopy(roi_heads.maskiou_head))
        self.names = ["masks"] if self.scoring is None else ["masks", "iou"]
        self.eval()

    def forward(self, pooled: Tensor, classes: Tensor) -> tuple[Tensor, ...]:
        """ROI features (N, C, S, S) and classes (N,) int64 -> mask probabilities (N, 2 S, 2 S) of each cell's class,
        and where the model scores masks their predicted IoU (N,)."""
        y = self.predictor(self.up(self.body(pooled)).relu_())
        h, w = y.shape[2:]
        logits = y.view(-1, 2, 2, self.classes, h, w).permute(0, 3, 4, 1, 5, 2).reshape(-1, self.classes, 2 * h, 2 * w)
        masks = _of_class(logits, classes).float().sigmoid()
        if self.scoring is None:
            return (masks,)
        return masks, _of_class(self.scoring(pooled, masks), classes).float()


@torch.no_grad()
def _upsampling(deconv: nn.ConvTranspose2d, predictor: nn.Conv2d) -> tuple[nn.Conv2d, nn.Conv2d]:
    """1x1 convolutions for a transposed one (2x2, stride 2) and the 1x1 one after it: C -> 4 C' -> 4 K channels, the
    four pixels (row, column) one after the other."""
    inputs, width = deconv.in_channels, deconv.out_channels
    up = nn.Conv2d(inputs, 4 * width, 1)
    up.weight.copy_(deconv.weight.permute(2, 3, 1, 0).reshape(up.weight.shape))
    up.bias.copy_(deconv.bias.repeat(4))
    four = nn.Conv2d(4 * width, 4 * predictor.out_channels, 1, groups=4)
    four.weight.copy_(predictor.weight.repeat(4, 1, 1, 1))
    four.bias.copy_(predictor.bias.repeat(4))
    return up, four


def _of_class(per_class: Tensor, classes: Tensor) -> Tensor:
    """See :func:`..modeling.roi_heads.sag_mask.select_class`; in the form that exporters take."""
    if per_class.shape[1] == 1:
        return per_class[:, 0]
    index = classes.view(-1, *[1] * (per_class.dim() - 1)).expand(-1, 1, *per_class.shape[2:])
    return per_class.gather(1, index)[:, 0]
