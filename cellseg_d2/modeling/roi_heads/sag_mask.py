"""SAG-Mask: the spatial-attention-guided mask head of CenterMask (section 3.2)."""

import torch
import torch.nn.functional as F
from detectron2.config import configurable
from detectron2.modeling.roi_heads.mask_head import ROI_MASK_HEAD_REGISTRY, MaskRCNNConvUpsampleHead
from detectron2.structures import Instances
from torch import Tensor, nn

__all__ = ["SpatialAttention", "SpatialAttentionMaskHead", "crop_gt_masks", "mask_loss", "select_class"]

STEP = 64  # masks cropped together: Detectron2 makes float32 of bitmasks at the size of the image


class SpatialAttention(nn.Module):
    """``x * sigmoid(conv3x3([mean over channels, max over channels]))``."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(self.conv.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        pooled = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], dim=1)
        return x * self.conv(pooled).sigmoid()


@ROI_MASK_HEAD_REGISTRY.register()
class SpatialAttentionMaskHead(MaskRCNNConvUpsampleHead):
    """Mask R-CNN's head with spatial attention between the convolutions and the upsampling.

    Takes the arguments of ``MaskRCNNConvUpsampleHead``; (N, C, 14, 14) features give (N, classes, 28, 28) logits.
    """

    @configurable
    def __init__(self, input_shape, *, num_classes: int, conv_dims: list[int], conv_norm="", **kwargs):
        super().__init__(input_shape, num_classes=num_classes, conv_dims=conv_dims, conv_norm=conv_norm, **kwargs)
        # The head is an nn.Sequential: what follows the attention is taken off and put on again behind it.
        tail = [(name, self._modules.pop(name)) for name in ("deconv", "deconv_relu", "predictor")]
        for name, module in [("spatialAtt", SpatialAttention()), *tail]:
            self.add_module(name, module)


def select_class(per_class: Tensor, classes: Tensor) -> Tensor:
    """The map or value of each instance's own class: (N, K, ...) -> (N, ...); K = 1 is class-agnostic."""
    if per_class.shape[1] == 1:
        return per_class[:, 0]
    return per_class[torch.arange(len(classes), device=per_class.device), classes]


def crop_gt_masks(instances: list[Instances], side: int, device: torch.device) -> Tensor:
    """Ground truth of foreground proposals on the mask grid: (N, side, side) float32 of 0 and 1."""
    crops = [
        i.gt_masks[k : k + STEP].crop_and_resize(i.proposal_boxes.tensor[k : k + STEP], side).to(device, torch.float32)
        for i in instances
        for k in range(0, len(i), STEP)
    ]
    return torch.cat(crops) if crops else torch.zeros(0, side, side, device=device)


def mask_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Mean binary cross entropy of (N, side, side) logits; zero for N = 0, still connected to the network."""
    if not len(logits):
        return logits.float().sum() * 0
    return F.binary_cross_entropy_with_logits(logits.float(), truth)
