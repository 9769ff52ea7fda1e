"""Scoring of predictions against annotations."""

from typing import Any

from .protocol import LIVECELL, Protocol

__all__ = ["LIVECELL", "LIVECellEvaluator", "Protocol"]


def __getattr__(name: str) -> Any:
    """Import the evaluator when it is first asked for: all else here works without torch and Detectron2."""
    if name != "LIVECellEvaluator":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .livecell import LIVECellEvaluator

    return LIVECellEvaluator
