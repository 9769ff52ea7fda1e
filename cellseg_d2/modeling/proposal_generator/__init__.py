"""FCOS (Tian et al., ICCV 2019) as the proposal generator of CenterMask."""

from .fcos import FCOS
from .fcos_head import FCOSHead

__all__ = ["FCOS", "FCOSHead"]
