"""Adapter between the unit fixtures and cellseg_d2's functions: NumPy in, tensors out."""

import torch
from detectron2.modeling.poolers import assign_boxes_to_levels
from detectron2.structures import Boxes, Instances, PolygonMasks

from cellseg_d2.modeling.backbone.vovnet import ESE
from cellseg_d2.modeling.proposal_generator import fcos_losses as losses
from cellseg_d2.modeling.proposal_generator import fcos_targets as targets
from cellseg_d2.modeling.roi_heads.mask_iou import covered_share, mask_iou_loss, mask_iou_targets
from cellseg_d2.modeling.roi_heads.pooler import levels_by_ratio
from cellseg_d2.modeling.roi_heads.sag_mask import SpatialAttention, crop_gt_masks, mask_loss, select_class

T = torch.as_tensor


def fcos_locations(level_hw, strides):
    return torch.cat([targets.level_locations(int(h), int(w), int(s)) for (h, w), s in zip(level_hw, strides)])


def fcos_targets(level_hw, boxes, classes, *, strides, sizes_of_interest, num_classes, center_sample, radius):
    hw = [(int(h), int(w)) for h, w in level_hw]
    t = targets.assign_targets(
        hw,
        T(boxes),
        T(classes),
        strides=strides,
        sizes_of_interest=sizes_of_interest,
        num_classes=num_classes,
        radius=radius if center_sample else None,
    )
    positive = t.labels != num_classes
    centerness = torch.zeros(len(t.labels))
    centerness[positive] = targets.centerness_targets(t.distances[positive])
    return t.labels, t.distances, centerness


def roi_levels_ratio(boxes, image_size, *, min_level, max_level):
    return levels_by_ratio(T(boxes), float(image_size[0] * image_size[1]), min_level, max_level)


def roi_levels_area(boxes, *, min_level, max_level):
    return assign_boxes_to_levels([Boxes(T(boxes))], min_level, max_level, 224, 4)


def iou_loss(pred, target, weight, *, kind):
    pred = T(pred).requires_grad_()
    loss = (losses.box_loss(pred, T(target), kind) * T(weight)).sum()
    loss.backward()
    return loss.detach(), pred.grad


def spatial_attention(weight, x):
    module = SpatialAttention()
    module.load_state_dict({"conv.weight": T(weight)})
    return module(T(x)).detach()


def ese(weight, bias, x):
    module = ESE(x.shape[1])
    module.load_state_dict({"fc.weight": T(weight), "fc.bias": T(bias)})
    return module(T(x)).detach()


def maskiou_targets(logits, polygons, boxes, *, image_size):
    instances = Instances(tuple(image_size), proposal_boxes=Boxes(T(boxes)))
    instances.gt_masks = PolygonMasks([[p] for p in polygons])
    logits = T(logits)[:, 0]
    truth = crop_gt_masks([instances], logits.shape[-1], logits.device)
    return mask_loss(logits, truth), mask_iou_targets(logits, truth, covered_share(instances))


def maskiou_loss(pred, labels, target, *, weight):
    return mask_iou_loss(select_class(T(pred), T(labels)), T(target)) * weight
