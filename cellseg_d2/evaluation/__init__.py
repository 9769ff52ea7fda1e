"""Scoring of predictions against annotations."""

from .coco import LIVECellCOCOEvaluator
from .protocol import LIVECELL, Protocol

__all__ = ["LIVECELL", "LIVECellCOCOEvaluator", "Protocol"]
