"""Mask scoring (Huang et al., Mask Scoring R-CNN, CVPR 2019): how good is a predicted mask?"""

import fvcore.nn.weight_init as weight_init
import numpy as np
import pycocotools.mask as mask_util
import torch
import torch.nn.functional as F
from detectron2.config import configurable
from detectron2.layers import ShapeSpec
from detectron2.structures import BitMasks, Instances, PolygonMasks
from detectron2.utils.registry import Registry
from torch import Tensor, nn

__all__ = ["ROI_MASKIOU_HEAD_REGISTRY", "MaskIoUHead", "covered_share", "mask_iou_loss", "mask_iou_targets"]

ROI_MASKIOU_HEAD_REGISTRY = Registry("ROI_MASKIOU_HEAD")
ROI_MASKIOU_HEAD_REGISTRY.__doc__ = "Heads that predict the IoU of a mask, named by MODEL.ROI_MASKIOU_HEAD.NAME."


@ROI_MASKIOU_HEAD_REGISTRY.register()
class MaskIoUHead(nn.Module):
    """Predicts one IoU a class from an ROI's feature and its predicted mask.

    Args:
        input_shape: width and (square) size of the ROI feature; the mask has twice that size.
        num_classes: foreground classes.
        conv_dim, num_conv: 3x3 convolutions, the last of stride 2.
    """

    @configurable
    def __init__(self, input_shape: ShapeSpec, *, num_classes: int, conv_dim: int, num_conv: int):
        super().__init__()
        if num_conv < 1:
            raise ValueError(f"MODEL.ROI_MASKIOU_HEAD.NUM_CONV must be at least 1, not {num_conv}")
        self.convs = []
        for k in range(num_conv):
            conv = nn.Conv2d(input_shape.channels + 1 if k == 0 else conv_dim, conv_dim, 3, 1 + (k == num_conv - 1), 1)
            weight_init.c2_msra_fill(conv)
            self.add_module(f"maskiou_fcn{k + 1}", conv)
            self.convs.append(conv)
        side = (input_shape.height + 1) // 2
        self.maskiou_fc1 = nn.Linear(conv_dim * side * side, 1024)
        self.maskiou_fc2 = nn.Linear(1024, 1024)
        for layer in (self.maskiou_fc1, self.maskiou_fc2):
            weight_init.c2_xavier_fill(layer)
        self.maskiou = nn.Linear(1024, num_classes)
        nn.init.normal_(self.maskiou.weight, std=0.01)
        nn.init.zeros_(self.maskiou.bias)

    @classmethod
    def from_config(cls, cfg, input_shape: ShapeSpec) -> dict:
        """Arguments from ``cfg.MODEL.ROI_MASKIOU_HEAD``."""
        node = cfg.MODEL.ROI_MASKIOU_HEAD
        return {
            "input_shape": input_shape,
            "num_classes": cfg.MODEL.ROI_HEADS.NUM_CLASSES,
            "conv_dim": node.CONV_DIM,
            "num_conv": node.NUM_CONV,
        }

    def forward(self, features: Tensor, masks: Tensor) -> Tensor:
        """ROI features (N, C, S, S) and mask probabilities (N, 2 S, 2 S) -> IoUs (N, classes)."""
        x = torch.cat([features, F.max_pool2d(masks[:, None], 2).to(features.dtype)], dim=1)
        for conv in self.convs:
            x = conv(x).relu()
        x = self.maskiou_fc1(x.flatten(1)).relu()
        return self.maskiou(self.maskiou_fc2(x).relu())


def mask_iou_targets(logits: Tensor, truth: Tensor, share: Tensor) -> Tensor:
    """IoU of predicted masks (logit > 0) with whole objects, from what the mask grid shows of both: (N,).

    IoU = overlap / (predicted + full - overlap), full = true area in the grid / share of the object that the
    proposal covers.

    Args:
        logits, truth: (N, side, side) predicted logits and true 0/1 mask.
        share: (N,) from :func:`covered_share`.
    """
    predicted = (logits > 0).float()
    overlap = (predicted * truth).sum((1, 2))
    seen = truth.sum((1, 2))
    full = torch.where(share > 0, seen / share.clamp(min=torch.finfo(share.dtype).tiny), seen)
    union = predicted.sum((1, 2)) + full - overlap
    return torch.where(union > 0, overlap / union.clamp(min=1e-6), torch.zeros_like(union))


def mask_iou_loss(pred: Tensor, target: Tensor) -> Tensor:
    """Mean of (pred - target)^2 / 2 over instances with a target above 0: scalar; zero without any."""
    counted = target > 0
    if not counted.any():
        return pred.float().sum() * 0
    return 0.5 * (pred[counted].float() - target[counted]).square().mean()


def covered_share(instances: Instances) -> Tensor:
    """Share (0 .. 1) of each object's area that its proposal box covers: (N,) float32 on the CPU.

    The object is drawn on a canvas of int(h) x int(w) pixels at the proposal's corner (never on a whole image) and
    its pixels are divided by the object's area.

    Args:
        instances: with ``proposal_boxes`` and ``gt_masks``, polygons or bitmasks.
    """
    boxes = instances.proposal_boxes.tensor.detach().cpu().double().numpy()
    masks = instances.gt_masks
    if isinstance(masks, PolygonMasks):
        inside = np.array([_polygon_pixels(p, box) for p, box in zip(masks.polygons, boxes)])
        area = masks.area().double().cpu().numpy()
    elif isinstance(masks, BitMasks):
        inside = np.array([_bitmask_pixels(m, box) for m, box in zip(masks.tensor, boxes)])
        area = masks.tensor.sum((1, 2)).double().cpu().numpy()
    else:
        raise TypeError(f"gt_masks must be PolygonMasks or BitMasks, not {type(masks).__name__}")
    return torch.from_numpy(np.minimum(inside / np.maximum(area, 1e-12), 1.0).reshape(-1)).float()


def _polygon_pixels(polygons: list[np.ndarray], box: np.ndarray) -> int:
    """Pixels of an object of several polygons inside a box."""
    height, width = int(box[3] - box[1]), int(box[2] - box[0])
    if height < 1 or width < 1:
        return 0
    shifted = [p - np.tile(box[:2], len(p) // 2) for p in polygons]
    return int(mask_util.area(mask_util.merge(mask_util.frPyObjects(shifted, height, width))))


def _bitmask_pixels(mask: Tensor, box: np.ndarray) -> int:
    """Pixels of a bitmask (H, W) inside a box."""
    x0, y0, x1, y1 = np.clip(box.round().astype(int), 0, [*mask.shape[::-1], *mask.shape[::-1]])
    return int(mask[y0:y1, x0:x1].sum())
