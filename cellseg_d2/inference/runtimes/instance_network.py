"""A CenterMask whose networks are run by something else; what is between them is the model's own."""

from collections.abc import Callable

import torch
from detectron2.structures import Instances
from torch import Tensor, nn

from ...modeling.postprocess import postprocess_rle
from ...modeling.roi_heads.center_heads import CELLS_AT_ONCE, split_instances
from .faster import Heads, Trunk
from .roi_align import pool_channels_last
from .winograd import one_product_one_thread, use_winograd

__all__ = ["InstanceNetwork", "Run", "fast"]

# The inputs of a network -> its outputs, in the order of ``names`` of Trunk and Heads, float32
Run = Callable[..., tuple[Tensor, ...]]


class InstanceNetwork:
    """Callable as ``predict_rle``: Detectron2's input dicts, and ``min_score`` -> one ``Instances`` an image.

    Args:
        model: a CenterMask on the CPU, in evaluation mode: it prepares images, selects detections and knows the limits.
        trunk: see :class:`.faster.Trunk`.
        heads: see :class:`.faster.Heads`; None for a model without masks.
    """

    def __init__(self, model: nn.Module, trunk: Run, heads: Run | None) -> None:
        self.model, self.trunk, self.heads = model, trunk, heads

    @torch.inference_mode()
    def __call__(self, batched_inputs: list[dict], min_score: float = 0.0) -> list[Instances]:
        """See :func:`..modeling.postprocess.predict_rle`."""
        images, generator = self.model.preprocess_image(batched_inputs), self.model.proposal_generator
        outputs, levels = self.trunk(images.tensor), len(generator.in_features)
        kinds = [list(outputs[k * levels : (k + 1) * levels]) for k in range(3)]
        maps = [m.contiguous(memory_format=torch.channels_last) for m in outputs[3 * levels :]]
        results = []
        detections = generator.select(images.image_sizes, *kinds, generator.test_limits)
        for i, (found, record) in enumerate(zip(detections, batched_inputs)):
            raw = found[found.scores >= min_score]
            if self.heads is not None:
                self._add_masks(raw, [m[i] for m in maps])
            height, width = (record.get(key, side) for key, side in zip(("height", "width"), raw.image_size))
            results.append(postprocess_rle(raw, height, width))
        return results

    def _add_masks(self, detected: Instances, maps: list[Tensor]) -> None:
        """What ``CenterROIHeads.forward_with_given_boxes`` adds; maps (C, H, W)."""
        pooler = self.model.roi_heads.mask_pooler
        parts = []
        for part in split_instances(detected, CELLS_AT_ONCE):
            pooled = pool_channels_last(pooler, maps, part.pred_boxes, part.image_size)
            parts.append(self.heads(pooled, part.pred_classes))
        masks, *iou = (torch.cat(values) for values in zip(*parts))
        detected.pred_masks = masks[:, None]
        if iou:
            detected.mask_scores = detected.scores * iou[0]


class _Torch:
    """A network in PyTorch, channels_last; what it returns is float32.

    Args:
        network: changed in place.
        dtype: of weights and arithmetic.
    """

    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        self.network, self.dtype = network.to(dtype).to(memory_format=torch.channels_last), dtype
        use_winograd(self.network)

    @torch.inference_mode()
    def __call__(self, first: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        first = first.to(self.dtype, memory_format=torch.channels_last)
        with one_product_one_thread():
            return tuple(output.float() for output in self.network(first, *others))


def fast(model: nn.Module, dtype: torch.dtype = torch.float32) -> InstanceNetwork:
    """A copy of a CenterMask's networks for inference by PyTorch on a CPU; ``model`` itself is left as it is.

    Norms are folded, maps are channels_last, in float32 3x3 convolutions are Winograd's; with bfloat16 all but the
    selection of detections, ROIAlign and sigmoids is in that type.

    Raises:
        TypeError: the mask head or the pooler is of a kind that is not known here.
    """
    with_masks = model.roi_heads.mask_head is not None
    return InstanceNetwork(
        model, _Torch(Trunk(model), dtype), _Torch(Heads(model.roi_heads), dtype) if with_masks else None
    )
