"""Training and evaluation runs."""

from .errors import (
    CheckpointError,
    ConfigError,
    LaunchError,
    OutputError,
    TrainingDivergedError,
    TrainingInterrupted,
    UserError,
)
from .options import TrainerOptions
from .trainer import Trainer

__all__ = [
    "CheckpointError",
    "ConfigError",
    "LaunchError",
    "OutputError",
    "Trainer",
    "TrainerOptions",
    "TrainingDivergedError",
    "TrainingInterrupted",
    "UserError",
]
