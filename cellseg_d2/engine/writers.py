"""What a training run shows and writes: log lines, a progress bar, metrics.json and TensorBoard."""

import datetime
import logging
import os
import sys
from contextlib import ExitStack

import torch
from detectron2.engine import HookBase
from detectron2.utils import comm
from detectron2.utils.events import EventStorage, EventWriter, JSONWriter, TensorboardXWriter, get_event_storage
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

__all__ = ["LogWriter", "ProgressBar", "build_writers"]

logger = logging.getLogger(__name__)
WINDOW = 20


class LogWriter(EventWriter):
    """One log line: iteration, losses, learning rate, speed, time left, memory."""

    def __init__(self, max_iter: int) -> None:
        self._max_iter = max_iter
        self._last = -1

    def write(self) -> None:
        storage = get_event_storage()
        latest = storage.latest()
        if "total_loss" not in latest or latest["total_loss"][1] <= self._last:
            return
        self._last = latest["total_loss"][1]
        names = ["total_loss"] + [n for n in latest if n.startswith("loss")]
        parts = [f"iteration {self._last + 1}/{self._max_iter}"]
        parts += [f"{name} {_median(storage, name):.4g}" for name in names]
        parts += [f"{name} {latest[name][0]:.4g}" for name in ("lr", "grad_norm") if name in latest]
        if "time" in latest:
            parts.append(f"{_median(storage, 'time'):.3f} s/iteration (data {_median(storage, 'data_time'):.3f})")
            parts.append(f"{_median(storage, 'images_per_second'):.1f} images/s")
            parts.append(f"ETA {datetime.timedelta(seconds=int(latest['eta_seconds'][0]))}")
        if torch.cuda.is_available():
            parts.append(f"memory {torch.cuda.max_memory_allocated() / 2**20:.0f} MiB")
        logger.info("  ".join(parts))


class ProgressBar(HookBase):
    """A bar on the terminal, on the main process; nothing where stderr is no terminal (the log lines are there)."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._bar: tqdm | None = None

    def before_train(self) -> None:
        if not (comm.is_main_process() and sys.stderr.isatty()):
            return
        # Only those that write by themselves: tqdm would make the others write a second time
        loggers = [logging.getLogger(name) for name in ("", "cellseg_d2", "detectron2", "fvcore")]
        self._stack.enter_context(logging_redirect_tqdm([log for log in loggers if log.handlers]))
        total, done = self.trainer.max_iter, self.trainer.start_iter
        self._bar = self._stack.enter_context(tqdm(total=total, initial=done, unit="it", dynamic_ncols=True))

    def after_step(self) -> None:
        if self._bar is not None:
            loss = self.trainer.storage.history("total_loss").latest()
            self._bar.set_postfix(loss=f"{loss:.3g}", refresh=False)
            self._bar.update()

    def after_train(self) -> None:
        self._stack.close()


def build_writers(output_dir: str, max_iter: int) -> list[EventWriter]:
    """Log lines, ``metrics.json`` (one JSON object a line) and TensorBoard events in ``output_dir``."""
    return [LogWriter(max_iter), JSONWriter(os.path.join(output_dir, "metrics.json")), TensorboardXWriter(output_dir)]


def _median(storage: EventStorage, name: str) -> float:
    """Median of the last values of a scalar."""
    return storage.history(name).median(storage.count_samples(name, WINDOW))
