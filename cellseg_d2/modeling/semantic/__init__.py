"""Semantic models of cells: GoogLeNet-FCN and U-Nets with their heads, and from probabilities to instances."""

from .branch import CenterMaskSemantic, SemanticBranch
from .cells import CellOptions, label_cells, labels_to_instances
from .ensemble import CellTypeEnsemble
from .heads import PixelHead, SemanticHead, TransposedConvHead
from .losses import SemanticLoss
from .probability import foreground_logit, foreground_probability
from .segmentor import CellSegmentor, label_logits

__all__ = [
    "CellOptions",
    "CellSegmentor",
    "CellTypeEnsemble",
    "CenterMaskSemantic",
    "PixelHead",
    "SemanticBranch",
    "SemanticHead",
    "SemanticLoss",
    "TransposedConvHead",
    "foreground_logit",
    "foreground_probability",
    "label_cells",
    "label_logits",
    "labels_to_instances",
]
