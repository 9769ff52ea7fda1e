"""Backbones: VoVNetV2, alone and under a feature pyramid."""

from .fpn import build_fcos_vovnet_fpn_backbone, build_vovnet_fpn_backbone
from .vovnet import SPECS, VoVNet, VoVNetSpec, build_vovnet_backbone

__all__ = [
    "SPECS",
    "VoVNet",
    "VoVNetSpec",
    "build_fcos_vovnet_fpn_backbone",
    "build_vovnet_backbone",
    "build_vovnet_fpn_backbone",
]
