"""The ROI heads of CenterMask: no box head, the boxes of FCOS are final; masks and their scores are predicted."""

import logging

import numpy as np
import torch
from detectron2.config import configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.proposal_generator.proposal_utils import add_ground_truth_to_proposals
from detectron2.modeling.roi_heads import ROI_HEADS_REGISTRY, ROIHeads, build_mask_head
from detectron2.structures import Boxes, Instances, pairwise_iou
from detectron2.utils.events import get_event_storage
from torch import Tensor, nn

from .mask_iou import ROI_MASKIOU_HEAD_REGISTRY, covered_share, mask_iou_loss, mask_iou_targets
from .pooler import RatioROIPooler
from .sag_mask import crop_gt_masks, mask_loss, select_class

__all__ = ["CELLS_AT_ONCE", "CenterROIHeads", "split_instances"]

logger = logging.getLogger(__name__)

PAIRS_AT_ONCE = 1 << 22  # box pairs of which the IoU is computed together: 16 MiB each of a few temporaries
# Cells in the mask heads together at inference: of V-99 2 MB each. What they leave behind stays in a processor's cache;
# a GPU, which is not filled by so few, takes more of them.
CELLS_AT_ONCE, CELLS_AT_ONCE_GPU = 64, 512


@ROI_HEADS_REGISTRY.register()
class CenterROIHeads(ROIHeads):
    """Masks for boxes of FCOS, and scores for the masks.

    Args:
        mask_in_features: feature maps to pool from; empty without a mask head.
        mask_pooler: ``ROIPooler`` ("area") or ``RatioROIPooler`` ("ratio").
        mask_head: module with ``layers``: (N, C, S, S) -> logits (N, classes, 2 S, 2 S); None: boxes only.
        maskiou_head: module: ROI features, mask probabilities -> (N, classes); None: no ``mask_scores``.
        maskiou_weight: weight of the mask-scoring loss.
        kwargs: of ``ROIHeads``.
    """

    @configurable
    def __init__(
        self,
        *,
        mask_in_features: list[str] = (),
        mask_pooler: ROIPooler | None = None,
        mask_head: nn.Module | None = None,
        maskiou_head: nn.Module | None = None,
        maskiou_weight: float = 1.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.mask_in_features = list(mask_in_features)
        self.mask_pooler, self.mask_head, self.maskiou_head = mask_pooler, mask_head, maskiou_head
        self.maskiou_weight = maskiou_weight

    @classmethod
    def from_config(cls, cfg, input_shape: dict[str, ShapeSpec]) -> dict:
        """Arguments from ``cfg.MODEL.ROI_HEADS``, ``ROI_MASK_HEAD`` and ``ROI_MASKIOU_HEAD``."""
        if cfg.MODEL.ROI_HEADS.NUM_CLASSES != cfg.MODEL.FCOS.NUM_CLASSES:
            raise ValueError(
                f"MODEL.FCOS.NUM_CLASSES = {cfg.MODEL.FCOS.NUM_CLASSES} but MODEL.ROI_HEADS.NUM_CLASSES = "
                f"{cfg.MODEL.ROI_HEADS.NUM_CLASSES}: set both to the number of classes of the data"
            )
        arguments = super().from_config(cfg)
        if cfg.MODEL.MASKIOU_ON and not cfg.MODEL.MASK_ON:
            logger.warning("MODEL.MASKIOU_ON has no effect: there are no masks to score with MODEL.MASK_ON False")
        return arguments | (_mask_modules(cfg, input_shape) if cfg.MODEL.MASK_ON else {})

    def forward(self, images, features, proposals, targets=None) -> tuple[list[Instances], dict[str, Tensor]]:
        """See ``ROIHeads.forward``: in training (proposals, losses), in inference (detections with masks, {})."""
        if not self.training:
            return self.forward_with_given_boxes(features, proposals), {}
        if self.mask_head is None:
            return proposals, {}
        foreground = self.label_and_sample_proposals(proposals, targets)
        return foreground, self._mask_losses(features, foreground)

    def forward_with_given_boxes(self, features: dict[str, Tensor], instances: list[Instances]) -> list[Instances]:
        """Add ``pred_masks`` (N, 1, 2 S, 2 S), probabilities, and with a scoring head ``mask_scores`` (N,) =
        scores * predicted IoU, to instances that have ``pred_boxes``, ``pred_classes`` and ``scores``."""
        if self.mask_head is None:
            return instances
        maps = [features[f] for f in self.mask_in_features]
        step = CELLS_AT_ONCE if maps[0].device.type == "cpu" else CELLS_AT_ONCE_GPU
        for i, detected in enumerate(instances):
            image_maps = [m[i : i + 1] for m in maps]
            parts = [self._predict_masks(image_maps, part) for part in split_instances(detected, step)]
            masks, scores = zip(*parts)
            detected.pred_masks = torch.cat(masks)
            if self.maskiou_head is not None:
                detected.mask_scores = torch.cat(scores)
        return instances

    def _predict_masks(self, maps: list[Tensor], detected: Instances) -> tuple[Tensor, Tensor | None]:
        """Mask probabilities (n, 1, 2 S, 2 S) and mask scores (n,) of cells of one image."""
        pooled = self._pool(maps, [detected.pred_boxes], [detected.image_size])
        masks = select_class(self.mask_head.layers(pooled), detected.pred_classes).float().sigmoid()
        if self.maskiou_head is None:
            return masks[:, None], None
        iou = select_class(self.maskiou_head(pooled, masks), detected.pred_classes).float()
        return masks[:, None], detected.scores * iou

    def _mask_losses(self, features: dict[str, Tensor], instances: list[Instances]) -> dict[str, Tensor]:
        """Losses of masks and mask scores on foreground proposals."""
        maps = [features[f] for f in self.mask_in_features]
        pooled = self._pool(maps, [i.proposal_boxes for i in instances], [i.image_size for i in instances])
        classes = torch.cat([i.gt_classes for i in instances])
        logits = select_class(self.mask_head.layers(pooled), classes)
        truth = crop_gt_masks(instances, logits.shape[-1], logits.device)
        losses = {"loss_mask": mask_loss(logits, truth) * self.mask_head.loss_weight}
        if self.maskiou_head is not None:
            share = torch.cat([covered_share(i) for i in instances if len(i)] or [torch.zeros(0)])
            target = mask_iou_targets(logits.detach(), truth, share.to(logits.device))
            # The gradient reaches the mask head through the probabilities: they are not detached, as published.
            iou = select_class(self.maskiou_head(pooled, logits.sigmoid()), classes)
            losses["loss_maskiou"] = mask_iou_loss(iou, target) * self.maskiou_weight
        return losses

    def _pool(self, maps: list[Tensor], boxes: list[Boxes], sizes: list[tuple[int, int]]) -> Tensor:
        # ROIAlign casts boxes to the type of the maps: bfloat16 would round them to 4 pixels beyond 512.
        maps = [m.float() for m in maps]
        if isinstance(self.mask_pooler, RatioROIPooler):
            return self.mask_pooler(maps, boxes, sizes)
        return self.mask_pooler(maps, boxes)

    @torch.no_grad()
    def label_and_sample_proposals(self, proposals: list[Instances], targets: list[Instances]) -> list[Instances]:
        """As Detectron2's, but only foreground is returned, and memory does not grow with proposals times cells: IoUs
        are computed in chunks, and masks of the ground truth are copied for foreground only."""
        if self.proposal_append_gt:
            proposals = add_ground_truth_to_proposals(targets, proposals)
        sampled, counts = [], []
        for candidates, truth in zip(proposals, targets):
            matched, labels = self._match(truth.gt_boxes, candidates.proposal_boxes)
            index, classes = self._sample_proposals(matched, labels, truth.gt_classes)
            is_foreground = classes != self.num_classes
            counts.append((int(is_foreground.sum()), int((~is_foreground).sum())))
            index, classes = index[is_foreground], classes[is_foreground]
            chosen = Instances(candidates.image_size, proposal_boxes=candidates.proposal_boxes[index])
            chosen.gt_classes = classes
            if len(truth):  # Detectron2's mapper gives images without cells no masks
                chosen.gt_masks = truth.gt_masks[matched[index]]
            sampled.append(chosen)
        storage = get_event_storage()
        for name, count in zip(("fg", "bg"), np.mean(counts, axis=0)):
            storage.put_scalar(f"roi_head/num_{name}_samples", float(count))
        return sampled

    def _match(self, truth: Boxes, candidates: Boxes) -> tuple[Tensor, Tensor]:
        """Best ground truth and matcher's label of each candidate: two (N,) vectors."""
        step = max(PAIRS_AT_ONCE // max(len(truth), 1), 1)
        parts = [
            self.proposal_matcher(pairwise_iou(truth, candidates[i : i + step]))
            for i in range(0, max(len(candidates), 1), step)
        ]
        matched, labels = zip(*parts)
        return torch.cat(matched), torch.cat(labels)


def split_instances(instances: Instances, size: int) -> list[Instances]:
    """Instances in parts of ``size``, at least one part."""
    return [instances[i : i + size] for i in range(0, max(len(instances), 1), size)]


def _mask_modules(cfg, input_shape: dict[str, ShapeSpec]) -> dict:
    """Pooler, mask head and scoring head."""
    node, names = cfg.MODEL.ROI_MASK_HEAD, list(cfg.MODEL.ROI_HEADS.IN_FEATURES)
    missing = [n for n in names if n not in input_shape]
    if missing:
        raise ValueError(f"MODEL.ROI_HEADS.IN_FEATURES: the backbone has no {missing}, only {sorted(input_shape)}")
    poolers = {"area": ROIPooler, "ratio": RatioROIPooler}
    if node.ASSIGN_CRITERION not in poolers:
        raise ValueError(f"MODEL.ROI_MASK_HEAD.ASSIGN_CRITERION is area or ratio, not {node.ASSIGN_CRITERION!r}")
    pooler = poolers[node.ASSIGN_CRITERION](
        output_size=node.POOLER_RESOLUTION,
        scales=[1.0 / input_shape[n].stride for n in names],
        sampling_ratio=node.POOLER_SAMPLING_RATIO,
        pooler_type=node.POOLER_TYPE,
    )
    side = node.POOLER_RESOLUTION
    shape = ShapeSpec(channels=input_shape[names[0]].channels, height=side, width=side)
    modules = {"mask_in_features": names, "mask_pooler": pooler, "mask_head": build_mask_head(cfg, shape)}
    if cfg.MODEL.MASKIOU_ON:
        modules["maskiou_head"] = ROI_MASKIOU_HEAD_REGISTRY.get(cfg.MODEL.ROI_MASKIOU_HEAD.NAME)(cfg, shape)
        modules["maskiou_weight"] = cfg.MODEL.MASKIOU_LOSS_WEIGHT
    return modules
