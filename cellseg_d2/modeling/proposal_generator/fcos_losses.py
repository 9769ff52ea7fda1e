"""Losses of FCOS."""

import torch
import torch.nn.functional as F
from detectron2.utils import comm
from fvcore.nn import sigmoid_focal_loss
from torch import Tensor

from .fcos_targets import centerness_targets

__all__ = ["LOC_LOSSES", "box_loss", "fcos_losses"]

LOC_LOSSES = ("iou", "linear_iou", "giou")


def box_loss(pred: Tensor, target: Tensor, kind: str) -> Tensor:
    """Loss of boxes given as distances l, t, r, b (P, 4) from a common location: (P,).

    With IoU = (intersection + 1) / (union + 1): ``iou`` is -log IoU, ``linear_iou`` 1 - IoU, and ``giou``
    1 - IoU + (hull - union) / hull, hull being the smallest box around both (Rezatofighi et al. 2019).
    """
    if kind not in LOC_LOSSES:
        raise ValueError(f"MODEL.FCOS.LOC_LOSS_TYPE is one of {', '.join(LOC_LOSSES)}, not {kind!r}")
    areas = [(b[:, 0] + b[:, 2]) * (b[:, 1] + b[:, 3]) for b in (pred, target)]
    inner, outer = torch.minimum(pred, target), torch.maximum(pred, target)
    intersection = (inner[:, 0] + inner[:, 2]) * (inner[:, 1] + inner[:, 3])
    union = areas[0] + areas[1] - intersection
    iou = (intersection + 1) / (union + 1)
    if kind == "iou":
        return -iou.log()
    if kind == "linear_iou":
        return 1 - iou
    hull = (outer[:, 0] + outer[:, 2]) * (outer[:, 1] + outer[:, 3])
    return 1 - (iou - (hull - union) / hull)


def _mean_over_workers(value: Tensor) -> Tensor:
    """Average of a detached scalar over all workers."""
    if comm.get_world_size() > 1:
        value = value.clone()
        torch.distributed.all_reduce(value)
        value = value / comm.get_world_size()
    return value


def fcos_losses(
    logits: Tensor,
    distances: Tensor,
    centerness: Tensor,
    labels: Tensor,
    targets: Tensor,
    *,
    alpha: float,
    gamma: float,
    loc_loss: str,
) -> dict[str, Tensor]:
    """The three losses over P locations, each a scalar.

    Args:
        logits: (P, K) class logits.
        distances, targets: (P, 4) predicted and true l, t, r, b in strides.
        centerness: (P,) logits.
        labels: (P,) int64, K for background.
        alpha, gamma: of the focal loss, sum over classes and locations / number of positives.
        loc_loss: kind of :func:`box_loss`, weighted by the true centerness / sum of that centerness.

    The centerness loss is the binary cross entropy of positives. The normalisers are averaged over workers.
    """
    positive = (labels != logits.shape[1]).nonzero()[:, 0]
    num_positive = _mean_over_workers(logits.new_tensor(float(len(positive)))).clamp(min=1.0)
    one_hot = torch.zeros_like(logits)
    one_hot[positive, labels[positive]] = 1
    loss_cls = sigmoid_focal_loss(logits, one_hot, alpha=alpha, gamma=gamma, reduction="sum") / num_positive

    pred, target, ctr = distances[positive], targets[positive], centerness[positive]
    weight = centerness_targets(target)
    total_weight = _mean_over_workers(weight.sum()).clamp(min=1e-6)
    # Without positives both sums are over nothing: zero, still connected to the network.
    loss_loc = (box_loss(pred, target, loc_loss) * weight).sum() / total_weight
    loss_ctr = F.binary_cross_entropy_with_logits(ctr, weight, reduction="sum") / num_positive
    return {"loss_fcos_cls": loss_cls, "loss_fcos_loc": loss_loc, "loss_fcos_ctr": loss_ctr}
