"""FCOS as a proposal generator of Detectron2: losses and proposals in training, detections in inference."""

import logging
from dataclasses import dataclass

import torch
from detectron2.config import configurable
from detectron2.layers import ShapeSpec, batched_nms, cat
from detectron2.modeling.proposal_generator import PROPOSAL_GENERATOR_REGISTRY
from detectron2.structures import Boxes, ImageList, Instances
from torch import Tensor, nn

from .fcos_head import FCOSHead
from .fcos_losses import LOC_LOSSES, fcos_losses
from .fcos_targets import assign_targets, level_locations

__all__ = ["FCOS", "SelectionLimits"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SelectionLimits:
    """What survives on the way from locations to detections (``post_nms_topk`` 0: no limit)."""

    score_threshold: float
    pre_nms_topk: int
    post_nms_topk: int
    nms_threshold: float = 0.6
    threshold_with_centerness: bool = False


@PROPOSAL_GENERATOR_REGISTRY.register()
class FCOS(nn.Module):
    """Fully convolutional one-stage detector.

    Args:
        head: :class:`FCOSHead`.
        in_features: names of the feature maps.
        strides: their strides.
        num_classes: foreground classes.
        sizes_of_interest: upper ends of the levels' size ranges in pixels, one fewer than levels.
        radius: radius of the centre region in strides; None: positives anywhere in a box.
        focal_alpha, focal_gamma, loc_loss: see :func:`fcos_losses.fcos_losses`.
        train_limits, test_limits: selection of proposals in training and of detections in inference.
    """

    @configurable
    def __init__(
        self,
        *,
        head: nn.Module,
        in_features: list[str],
        strides: list[int],
        num_classes: int,
        sizes_of_interest: list[float],
        radius: float | None,
        focal_alpha: float,
        focal_gamma: float,
        loc_loss: str,
        train_limits: SelectionLimits,
        test_limits: SelectionLimits,
    ):
        super().__init__()
        _check(in_features, strides, sizes_of_interest, loc_loss)
        self.fcos_head = head
        self.in_features, self.strides, self.num_classes = list(in_features), list(strides), num_classes
        self.sizes_of_interest, self.radius = list(sizes_of_interest), radius
        self.loss_options = {"alpha": focal_alpha, "gamma": focal_gamma, "loc_loss": loc_loss}
        self.train_limits, self.test_limits = train_limits, test_limits

    @classmethod
    def from_config(cls, cfg, input_shape: dict[str, ShapeSpec]) -> dict:
        """Arguments from ``cfg.MODEL.FCOS`` and the backbone's output shapes."""
        node = cfg.MODEL.FCOS
        missing = [f for f in node.IN_FEATURES if f not in input_shape]
        if missing:
            raise ValueError(f"MODEL.FCOS.IN_FEATURES: the backbone has no {missing}, only {sorted(input_shape)}")
        shapes = [input_shape[f] for f in node.IN_FEATURES]
        if [s.stride for s in shapes] != list(node.FPN_STRIDES):
            raise ValueError(
                f"MODEL.FCOS.FPN_STRIDES {list(node.FPN_STRIDES)} are not those of {list(node.IN_FEATURES)}: "
                f"{[s.stride for s in shapes]}"
            )
        _warn_about_detections_per_image(cfg)
        common = {"nms_threshold": node.NMS_TH, "threshold_with_centerness": node.THRESH_WITH_CTR}
        return {
            "head": FCOSHead(cfg, shapes),
            "in_features": node.IN_FEATURES,
            "strides": node.FPN_STRIDES,
            "num_classes": node.NUM_CLASSES,
            "sizes_of_interest": node.SIZES_OF_INTEREST,
            "radius": node.POS_RADIUS if node.CENTER_SAMPLE else None,
            "focal_alpha": node.LOSS_ALPHA,
            "focal_gamma": node.LOSS_GAMMA,
            "loc_loss": node.LOC_LOSS_TYPE,
            "train_limits": SelectionLimits(
                node.INFERENCE_TH_TRAIN, node.PRE_NMS_TOPK_TRAIN, node.POST_NMS_TOPK_TRAIN, **common
            ),
            "test_limits": SelectionLimits(
                node.INFERENCE_TH_TEST, node.PRE_NMS_TOPK_TEST, node.POST_NMS_TOPK_TEST, **common
            ),
        }

    def forward(
        self, images: ImageList, features: dict[str, Tensor], gt_instances: list[Instances] | None = None
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """Proposals or detections of each image, and losses (none in inference).

        In training the instances have ``proposal_boxes`` and ``objectness_logits``, in inference ``pred_boxes``,
        ``scores`` and ``pred_classes``, sorted by score. Boxes are in pixels of the network input, not clipped.
        """
        maps = [features[f] for f in self.in_features]
        # Losses and box arithmetic stay in float32 under mixed precision.
        logits, distances, centerness = ([x.float() for x in outputs] for outputs in self.fcos_head(maps))
        if not self.training:
            return self.select(images.image_sizes, logits, distances, centerness, self.test_limits), {}
        losses = self._losses(logits, distances, centerness, gt_instances)
        with torch.no_grad():
            found = self.select(images.image_sizes, logits, distances, centerness, self.train_limits)
        return [_as_proposals(instances) for instances in found], losses

    def _losses(self, logits, distances, centerness, gt_instances) -> dict[str, Tensor]:
        level_hw = [tuple(x.shape[2:]) for x in logits]
        targets = [
            assign_targets(
                level_hw,
                gt.gt_boxes.tensor,
                gt.gt_classes,
                strides=self.strides,
                sizes_of_interest=self.sizes_of_interest,
                num_classes=self.num_classes,
                radius=self.radius,
            )
            for gt in gt_instances
        ]
        return fcos_losses(
            _flatten(logits).flatten(0, 1),
            _flatten(distances).flatten(0, 1),
            _flatten(centerness).flatten(),
            cat([t.labels for t in targets]),
            cat([t.distances for t in targets]),
            **self.loss_options,
        )

    @torch.no_grad()
    def select(self, image_sizes, logits, distances, centerness, limits: SelectionLimits) -> list[Instances]:
        """Candidates of all levels of each image, from the head's outputs in float32 -> NMS -> the best ones."""
        results = []
        for i, size in enumerate(image_sizes):
            levels = [
                _level_candidates(cls[i], reg[i], ctr[i], stride, limits)
                for cls, reg, ctr, stride in zip(logits, distances, centerness, self.strides)
            ]
            boxes, scores, classes = (torch.cat(parts) for parts in zip(*levels))
            keep = batched_nms(boxes, scores, classes, limits.nms_threshold)
            if 0 < limits.post_nms_topk < len(keep):  # keep is sorted by score; ties at the cut stay
                keep = keep[scores[keep] >= scores[keep[limits.post_nms_topk - 1]]]
            results.append(
                Instances(size, pred_boxes=Boxes(boxes[keep]), scores=scores[keep], pred_classes=classes[keep])
            )
        return results


def _level_candidates(
    logits: Tensor, distances: Tensor, centerness: Tensor, stride: int, limits: SelectionLimits
) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes (n, 4), scores (n,) and classes (n,) of one level of one image, from maps (C, H, W)."""
    ctr = centerness.sigmoid().flatten()
    prob = logits.sigmoid().flatten(1).t()  # locations x classes
    product = prob * ctr[:, None]
    above = (product if limits.threshold_with_centerness else prob) > limits.score_threshold
    location, classes = above.nonzero(as_tuple=True)
    scores = product[location, classes]
    if len(scores) > limits.pre_nms_topk:
        scores, best = scores.topk(limits.pre_nms_topk, sorted=False)
        location, classes = location[best], classes[best]
    xy = level_locations(*logits.shape[1:], stride, logits.device)[location]
    ltrb = distances.flatten(1).t()[location] * stride
    boxes = torch.cat([xy - ltrb[:, :2], xy + ltrb[:, 2:]], dim=1)
    return boxes, scores.sqrt(), classes


def _flatten(maps: list[Tensor]) -> Tensor:
    """[(N, C, H, W) of each level] -> (N, sum of H * W, C)."""
    return torch.cat([x.flatten(2).transpose(1, 2) for x in maps], dim=1)


def _as_proposals(found: Instances) -> Instances:
    """The fields that ROI heads expect of proposals."""
    logits = found.scores.clamp(1e-10, 1 - 1e-6).logit()
    return Instances(found.image_size, proposal_boxes=found.pred_boxes, objectness_logits=logits)


def _check(in_features: list[str], strides: list[int], sizes: list[float], loc_loss: str) -> None:
    if len(in_features) != len(strides):
        raise ValueError(f"MODEL.FCOS.FPN_STRIDES needs a stride for each of {list(in_features)}, got {list(strides)}")
    if len(sizes) != len(strides) - 1 or sorted(sizes) != list(sizes):
        raise ValueError(
            f"MODEL.FCOS.SIZES_OF_INTEREST needs {len(strides) - 1} rising sizes for {len(strides)} levels, "
            f"got {list(sizes)}"
        )
    if loc_loss not in LOC_LOSSES:
        raise ValueError(f"MODEL.FCOS.LOC_LOSS_TYPE is one of {', '.join(LOC_LOSSES)}, not {loc_loss!r}")


def _warn_about_detections_per_image(cfg) -> None:
    if cfg.TEST.DETECTIONS_PER_IMAGE < cfg.MODEL.FCOS.POST_NMS_TOPK_TEST:
        logger.warning(
            "TEST.DETECTIONS_PER_IMAGE = %d has no effect on this model, as in published CenterMask: detections an "
            "image are limited by MODEL.FCOS.POST_NMS_TOPK_TEST = %d only.",
            cfg.TEST.DETECTIONS_PER_IMAGE,
            cfg.MODEL.FCOS.POST_NMS_TOPK_TEST,
        )
