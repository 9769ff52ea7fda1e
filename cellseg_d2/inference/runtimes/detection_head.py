"""The head of FCOS for inference: norms folded, and one convolution for all that is predicted from the box tower."""

import copy

import torch
from detectron2.layers import CycleBatchNormList
from torch import Tensor, nn

from ...modeling.proposal_generator.fcos_head import FCOSHead
from .folding import fold_norms

__all__ = ["DetectionHead"]


class DetectionHead(nn.Module):
    """A copy of an FCOS head; batch norms that have statistics of each level become one network a level.

    Args:
        head: in evaluation mode.
        levels: number of feature maps.
    """

    def __init__(self, head: FCOSHead, levels: int) -> None:
        super().__init__()
        by_level = any(isinstance(module, CycleBatchNormList) for module in head.modules())
        networks = [_Level(fold_norms(_of_level(head, k))) for k in range(levels if by_level else 1)]
        self.networks = nn.ModuleList(networks if by_level else networks * levels)
        self.scales = copy.deepcopy(head.scales)

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """See :meth:`...modeling.proposal_generator.fcos_head.FCOSHead.forward`."""
        logits, distances, centerness = [], [], []
        for level, (network, x) in enumerate(zip(self.networks, features, strict=True)):
            of_class, box = network(x)
            logits.append(of_class)
            reg = box[:, :4]
            distances.append((reg if self.scales is None else self.scales[level](reg)).relu())
            centerness.append(box[:, 4:])
        return logits, distances, centerness


class _Level(nn.Module):
    """Towers and predictors of one level: feature map (N, C, H, W) -> class logits (N, K, H, W), and together box
    distances and centerness (N, 5, H, W)."""

    def __init__(self, head: FCOSHead) -> None:
        super().__init__()
        self.share, self.of_class = head.share_tower, nn.Sequential(head.cls_tower, head.cls_logits)
        self.box = nn.Sequential(head.bbox_tower, _joined(head.bbox_pred, head.ctrness))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.share(x)
        return self.of_class(x), self.box(x)


def _of_level(head: FCOSHead, level: int) -> FCOSHead:
    """A copy with the batch norms of one level."""
    own = copy.deepcopy(head)
    for tower in (own.share_tower, own.cls_tower, own.bbox_tower):
        for name, layer in tower.named_children():
            if isinstance(layer, CycleBatchNormList):
                norm = tower._modules[name] = layer[level]
                norm.weight, norm.bias = layer.weight, layer.bias
    return own


@torch.no_grad()
def _joined(*convs: nn.Conv2d) -> nn.Conv2d:
    """A convolution for several of the same input and form: their outputs one after the other."""
    first = convs[0]
    joined = nn.Conv2d(
        first.in_channels, sum(conv.out_channels for conv in convs), first.kernel_size, padding=first.padding
    )
    joined.weight.copy_(torch.cat([conv.weight for conv in convs]))
    joined.bias.copy_(torch.cat([conv.bias for conv in convs]))
    return joined
