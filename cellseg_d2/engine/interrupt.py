"""Ctrl-C and SIGTERM: finish the step, save, stop."""

import logging
import os
import signal
import threading
import time
from types import FrameType

__all__ = ["InterruptGuard"]

logger = logging.getLogger(__name__)
SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Ctrl-C under torchrun arrives twice, from the terminal and from torchrun: within this time it counts as one
SAME_SECONDS = 3.0


class InterruptGuard:
    """Context in which the first SIGINT or SIGTERM only sets :attr:`signum`; a later second one acts at once.

    Data workers forked inside the context ignore Ctrl-C (the terminal sends it to them too, and a dead worker would
    take the run down before it is saved) and still die by SIGTERM. Outside the main thread Python cannot set
    handlers: there the context does nothing.
    """

    def __init__(self) -> None:
        self.signum = 0
        self._owner = 0
        self._arrived = 0.0
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "InterruptGuard":
        self.signum, self._owner = 0, os.getpid()
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(self, *exc_info: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    @property
    def requested(self) -> bool:
        """Whether a signal has arrived in this process."""
        return bool(self.signum)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() != self._owner:
            if signum != signal.SIGINT:
                signal.signal(signum, signal.SIG_DFL)
                os.kill(os.getpid(), signum)
        elif not self.signum:
            self.signum, self._arrived = signum, time.monotonic()
            name = signal.Signals(signum).name
            logger.warning("%s received: saving after this step (once more, and it stops at once, unsaved)", name)
        elif time.monotonic() - self._arrived >= SAME_SECONDS:
            raise KeyboardInterrupt
