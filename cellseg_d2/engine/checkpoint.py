"""Checkpoints of a training run: written atomically, read without executing code."""

import logging
import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer

from ..files import atomic_write
from .errors import CheckpointError

__all__ = ["AtomicCheckpointer"]

logger = logging.getLogger(__name__)
NAMED_KEYS = 4
PERIODIC = re.compile(r"model_\d{7,}\.pth")


class AtomicCheckpointer(DetectionCheckpointer):
    """Detectron2's checkpointer with atomic writes, ``weights_only`` reads and no silence about what did not match.

    Attributes:
        averaged: a context in which the model has the weights that are saved and evaluated; set where they are not
            those in training.
    """

    averaged: Callable[[], AbstractContextManager[None]] = staticmethod(nullcontext)

    def save(self, name: str, *, tag: bool = True, **kwargs: Any) -> None:
        """Write ``save_dir/name.pth`` on the main process.

        Args:
            tag: make it the checkpoint that ``--resume`` takes; False for copies such as the best model.
            kwargs: extra tensors, numbers and containers of them to store.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        with self.averaged():
            state = {key: item.state_dict() for key, item in self.checkpointables.items()}
            data = {"model": self.model.state_dict(), **state, **kwargs}
            path = atomic_write(Path(self.save_dir) / f"{name}.pth", lambda stream: torch.save(data, stream))
        logger.info("Saved %s", path)
        if tag:
            self.tag_last_checkpoint(path.name)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Name the checkpoint that ``--resume`` takes, in the file ``last_checkpoint``."""
        text = last_filename_basename.encode("utf-8")
        atomic_write(Path(self.save_dir) / "last_checkpoint", lambda stream: stream.write(text))

    def prune(self, keep: int) -> None:
        """Delete all but the newest ``keep`` periodic checkpoints (0: none is deleted), on the main process.

        Only files named ``model_<iteration>.pth`` go, and never the one that ``--resume`` takes.
        """
        if keep <= 0 or not self.save_to_disk:
            return
        folder = Path(self.save_dir)
        periodic = [path for path in folder.glob("model_*.pth") if PERIODIC.fullmatch(path.name)]
        periodic.sort(key=lambda path: (path.stat().st_mtime_ns, path.name))
        resumable = Path(self.get_checkpoint_file()).name
        for path in periodic[:-keep]:
            if path.name != resumable:
                path.unlink()
                logger.info("Deleted %s (SOLVER.CHECKPOINTS_TO_KEEP %d)", path, keep)

    def resume(self) -> dict[str, Any]:
        """Load the tagged checkpoint with everything in it; returns what no checkpointable took.

        Raises:
            CheckpointError: the file is missing, damaged, or does not fit the model.
        """
        path = Path(self.get_checkpoint_file())
        if not path.is_file():
            raise CheckpointError(
                f"{path.parent / 'last_checkpoint'} names {path.name}, which does not exist. {self._alternatives(path)}"
            )
        return self.load(str(path))

    def _torch_load(self, f: str) -> dict[str, Any]:
        try:
            loaded = torch.load(f, map_location="cpu", weights_only=True)
        except Exception as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise CheckpointError(
                f"cannot read checkpoint {f}: it is truncated or was not written by this program ({reason}). "
                + self._alternatives(Path(f))
            ) from error
        if not isinstance(loaded, dict) or "model" not in loaded:
            raise CheckpointError(f"{f} holds no 'model' entry: it is no checkpoint of a training run")
        return loaded

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        incompatible = super()._load_model(checkpoint)
        problems = [f"{key}: shape {old} there, {new} here" for key, old, new in incompatible.incorrect_shapes]
        problems += [f"{key}: not in the checkpoint" for key in incompatible.missing_keys]
        problems += [f"{key}: not in this model" for key in incompatible.unexpected_keys]
        if problems:
            more = f" and {len(problems) - NAMED_KEYS} more" if len(problems) > NAMED_KEYS else ""
            raise CheckpointError(
                f"the checkpoint in {self.save_dir} is of another model ({'; '.join(problems[:NAMED_KEYS])}{more}). "
                "Resume with the configuration of that run (config.yaml beside it), or start a new run in another "
                "OUTPUT_DIR with MODEL.WEIGHTS set to it"
            )
        return incompatible

    def _alternatives(self, path: Path) -> str:
        """Which checkpoint to take instead."""
        others = sorted((p for p in path.parent.glob("*.pth") if p.name != path.name), key=lambda p: p.stat().st_mtime)
        if not others:
            return "There is no other checkpoint in that folder: start again without --resume"
        return (
            f"Other checkpoints there, oldest first: {', '.join(p.name for p in others)}. To go on from one of them, "
            f"write its name into {path.parent / 'last_checkpoint'}"
        )
