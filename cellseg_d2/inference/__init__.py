"""Models on images."""

from .predictor import Predictor

__all__ = ["Predictor"]
