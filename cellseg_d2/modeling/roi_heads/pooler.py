"""ROI pooling with CenterMask's scale-adaptive choice of the feature level."""

import torch
from detectron2.layers import cat
from detectron2.modeling.poolers import ROIPooler, convert_boxes_to_pooler_format
from detectron2.structures import Boxes
from torch import Tensor

__all__ = ["RatioROIPooler", "levels_by_ratio"]


def levels_by_ratio(boxes: Tensor, image_area: Tensor | float, min_level: int, max_level: int) -> Tensor:
    """clamp(ceil(max_level - log2(image area / box area))) - min_level (CenterMask, equation 2).

    Args:
        boxes: (N, 4) in pixels.
        image_area: area of the unpadded network input, one number or (N,).
        min_level, max_level: pyramid levels, e.g. 3 and 5.

    Returns:
        (N,) int64, counted from ``min_level``; boxes without area go to the lowest level.
    """
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    level = torch.ceil(max_level - torch.log2(image_area / area.clamp(min=0)))
    return level.clamp(min=min_level, max=max_level).to(torch.int64) - min_level


class RatioROIPooler(ROIPooler):
    """Detectron2's ROIPooler with the level chosen by :func:`levels_by_ratio`."""

    def forward(self, x: list[Tensor], box_lists: list[Boxes], image_sizes: list[tuple[int, int]]) -> Tensor:
        """Feature maps, boxes of each image and image sizes (h, w) -> (M, C, output_size, output_size)."""
        rois = convert_boxes_to_pooler_format(box_lists)
        area = rois.new_tensor([float(h * w) for h, w in image_sizes])[rois[:, 0].long()]
        levels = levels_by_ratio(cat([b.tensor for b in box_lists]), area, self.min_level, self.max_level)
        output = x[0].new_zeros(len(rois), x[0].shape[1], *self.output_size)
        for level, pooler in enumerate(self.level_poolers):
            index = (levels == level).nonzero()[:, 0]
            output.index_put_((index,), pooler(x[level], rois[index]).to(output.dtype))
        return output
