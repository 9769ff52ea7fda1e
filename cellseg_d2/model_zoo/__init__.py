"""Names of models: where their configuration and weights come from, under which licence, and what is here already."""

from .catalogue import PUBLISHED, ZooEntry
from .store import ModelFiles, ModelZooError, add_model, available, cache_folder, find_model

__all__ = [
    "PUBLISHED",
    "ModelFiles",
    "ModelZooError",
    "ZooEntry",
    "add_model",
    "available",
    "cache_folder",
    "find_model",
]
