"""Backbones: VoVNetV2, alone and under a feature pyramid; GoogLeNet and the U-Nets for semantic models."""

from .fpn import build_fcos_vovnet_fpn_backbone, build_vovnet_fpn_backbone
from .googlenet import GoogLeNet, InceptionWidths, build_googlenet_backbone
from .unet import VARIANTS, UNet, build_unet_backbone
from .vovnet import SPECS, VoVNet, VoVNetSpec, build_vovnet_backbone

__all__ = [
    "SPECS",
    "VARIANTS",
    "GoogLeNet",
    "InceptionWidths",
    "UNet",
    "VoVNet",
    "VoVNetSpec",
    "build_fcos_vovnet_fpn_backbone",
    "build_googlenet_backbone",
    "build_unet_backbone",
    "build_vovnet_backbone",
    "build_vovnet_fpn_backbone",
]
