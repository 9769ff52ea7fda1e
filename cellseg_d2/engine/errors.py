"""What can end a run, as exceptions that say what to do."""

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = [
    "CheckpointError",
    "ConfigError",
    "EvaluationInterrupted",
    "LaunchError",
    "NonFinitePredictionError",
    "OutputError",
    "StopTraining",
    "TrainingDivergedError",
    "TrainingInterrupted",
    "UserError",
    "config_errors",
]


class UserError(Exception):
    """Something the user can put right: the message is all that needs to be shown."""


class ConfigError(UserError):
    """The configuration contradicts itself, the code or the machine."""


class LaunchError(UserError):
    """The processes cannot be started as asked."""


class OutputError(UserError):
    """The output folder cannot be used."""


class CheckpointError(UserError):
    """A checkpoint is missing, damaged or of another model."""


class TrainingDivergedError(UserError, FloatingPointError):
    """A loss or a gradient became NaN or infinite; raised before the weights change."""


class NonFinitePredictionError(UserError, FloatingPointError):
    """The model predicts a box or a score that is NaN or infinite."""


class TrainingInterrupted(Exception):
    """A signal stopped the run after its state was saved.

    Attributes:
        exit_code: 128 + the signal's number, as shells report it.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class StopTraining(Exception):
    """Raised by a hook, in all processes at the same iteration, to end training early and in order."""


class EvaluationInterrupted(Exception):
    """Raised out of an evaluation, in all processes, when one of them received a signal."""


@contextmanager
def config_errors(part: str) -> Iterator[None]:
    """Context that builds ``part`` of a run from the config: a value that it refuses becomes a :class:`ConfigError`.

    Only plain ValueError and KeyError are taken; their subclasses have a meaning of their own.
    """
    try:
        yield
    except (ValueError, KeyError) as error:
        if type(error) not in (ValueError, KeyError):
            raise
        text = str(error.args[0]) if error.args else repr(error)
        raise ConfigError(f"cannot build {part} from this configuration: {text.splitlines()[0]}") from error
