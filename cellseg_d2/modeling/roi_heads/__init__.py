"""ROI heads of CenterMask: spatial-attention-guided masks and their scores."""

from .center_heads import CenterROIHeads
from .mask_iou import MaskIoUHead
from .pooler import RatioROIPooler
from .sag_mask import SpatialAttentionMaskHead

__all__ = ["CenterROIHeads", "MaskIoUHead", "RatioROIPooler", "SpatialAttentionMaskHead"]
