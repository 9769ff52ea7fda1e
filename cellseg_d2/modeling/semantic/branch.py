"""A semantic branch with a trunk of its own beside CenterMask: instances and a foreground probability at once."""

from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, META_ARCH_REGISTRY, GeneralizedRCNN
from detectron2.modeling.meta_arch.semantic_seg import build_sem_seg_head
from detectron2.modeling.postprocessing import sem_seg_postprocess
from detectron2.structures import ImageList
from torch import Tensor, nn

from .probability import foreground_probability

__all__ = ["CenterMaskSemantic", "SemanticBranch"]


class SemanticBranch(nn.Module):
    """A backbone and a semantic head on images that are normalised already.

    Args:
        backbone: one of Detectron2's, such as GoogLeNet or U-Net.
        head: see :class:`.heads.SemanticHead`.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "SemanticBranch":
        """MODEL.SEMANTIC.BRANCH, which names a backbone, and MODEL.SEM_SEG_HEAD.

        Raises:
            ValueError: no backbone is named.
        """
        name = cfg.MODEL.SEMANTIC.BRANCH
        if not name:
            raise ValueError(
                "MODEL.META_ARCHITECTURE CenterMaskSemantic needs the backbone of its semantic branch: set "
                "MODEL.SEMANTIC.BRANCH to build_googlenet_backbone or build_unet_backbone"
            )
        backbone = BACKBONE_REGISTRY.get(name)(cfg, ShapeSpec(channels=len(cfg.MODEL.PIXEL_MEAN)))
        return cls(backbone, build_sem_seg_head(cfg, backbone.output_shape()))

    def forward(self, images: ImageList, targets: list[Tensor] | None = None) -> Any:
        """Losses where there are targets, else (N, K, H, W) logits at the padded size.

        Args:
            images: normalised, of any padding.
            targets: one an image, (2, H, W) or (H, W); see :class:`.heads.SemanticHead`.
        """
        divisibility = self.backbone.size_divisibility
        padded = ImageList.from_tensors(list(images), divisibility)
        truth = None
        if targets is not None:
            truth = ImageList.from_tensors(targets, divisibility, self.head.ignore_value).tensor
        logits, losses = self.head(self.backbone(padded.tensor), truth)
        return losses if self.training else logits


@META_ARCH_REGISTRY.register()
class CenterMaskSemantic(GeneralizedRCNN):
    """CenterMask with a :class:`SemanticBranch`.

    Training takes ``sem_seg`` beside ``instances`` in each input and adds ``loss_sem_seg``; predictions have
    ``sem_seg`` ((K, H, W) logits) and ``probability`` ((H, W), of foreground) beside ``instances``.
    """

    @configurable
    def __init__(self, *, semantic: SemanticBranch, **parts: Any) -> None:
        super().__init__(**parts)
        self.semantic = semantic

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """GeneralizedRCNN's parts and the branch."""
        return {**super().from_config(cfg), "semantic": SemanticBranch.from_config(cfg)}

    def forward(self, batched_inputs: list[dict[str, Any]]) -> dict[str, Tensor] | list[dict[str, Any]]:
        """Losses in training, else one dict an image."""
        if not self.training:
            return self.inference(batched_inputs)
        targets = [x["sem_seg"].to(self.device) for x in batched_inputs]
        semantic = self.semantic(self.preprocess_image(batched_inputs), targets)
        return {**super().forward(batched_inputs), **semantic}

    def inference(
        self,
        batched_inputs: list[dict[str, Any]],
        detected_instances: list[Any] | None = None,
        do_postprocess: bool = True,
    ) -> list[Any]:
        """As GeneralizedRCNN; with ``do_postprocess`` each output also has ``sem_seg`` and ``probability``."""
        outputs = super().inference(batched_inputs, detected_instances, do_postprocess)
        if not do_postprocess:
            return outputs
        images = self.preprocess_image(batched_inputs)
        logits = self.semantic(images)
        for output, record, own, size in zip(outputs, batched_inputs, logits, images.image_sizes, strict=True):
            height, width = record.get("height", size[0]), record.get("width", size[1])
            output["sem_seg"] = sem_seg_postprocess(own, size, height, width)
            output["probability"] = foreground_probability(output["sem_seg"])
        return outputs
