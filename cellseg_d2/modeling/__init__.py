"""The models. Importing this package registers them in Detectron2's registries."""

from .backbone import VoVNet, build_fcos_vovnet_fpn_backbone, build_vovnet_backbone, build_vovnet_fpn_backbone
from .proposal_generator import FCOS
from .roi_heads import CenterROIHeads, MaskIoUHead, SpatialAttentionMaskHead
from .semantic import CellSegmentor, CellTypeEnsemble, CenterMaskSemantic

__all__ = [
    "FCOS",
    "CellSegmentor",
    "CellTypeEnsemble",
    "CenterMaskSemantic",
    "CenterROIHeads",
    "MaskIoUHead",
    "SpatialAttentionMaskHead",
    "VoVNet",
    "build_fcos_vovnet_fpn_backbone",
    "build_vovnet_backbone",
    "build_vovnet_fpn_backbone",
]
