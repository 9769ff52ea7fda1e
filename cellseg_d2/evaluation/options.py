"""What an evaluation computes beside the protocol's own numbers."""

import math
from dataclasses import dataclass

from ..errors import DatasetError
from .groups import GROUPINGS

__all__ = ["TASKS", "Options", "Threshold"]

TASKS = ("segm", "bbox")


@dataclass(frozen=True)
class Threshold:
    """A score from which results are kept (``mask_score`` where results have it, else ``score``).

    Attributes:
        value: the score.
        source: where it comes from, in words.
        digest: SHA-256 of the ground truth that it was chosen on; empty where it was not chosen.
    """

    value: float = 0.5
    source: str = "the default"
    digest: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.value, bool) or not math.isfinite(self.value):
            raise DatasetError(f"score threshold {self.value} ({self.source}): give a finite number")


@dataclass(frozen=True)
class Options:
    """What to compute.

    Attributes:
        threshold: score from which results are kept for F1, PQ, counts and errors.
        by: groupings to score separately, see :mod:`.groups`; cell types always are.
        column: key of the image entries that holds the cell type; None: ``cell_type``, else LIVECell's file names.
        bootstrap: number of resamples for the 95 % intervals, at least 2; 0: none.
        seed: of the resamples.
        threads: that compute resamples.
        tasks: what to score; None: masks and boxes where both sides have masks, else boxes.

    Raises:
        DatasetError: a value makes no sense.
    """

    threshold: Threshold = Threshold()
    by: tuple[str, ...] = ("cell_type",)
    column: str | None = None
    bootstrap: int = 1000
    seed: int = 0
    threads: int = 1
    tasks: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        rules = {
            "bootstrap must be 0 or at least 2": self.bootstrap == 0 or self.bootstrap >= 2,
            "seed must not be negative": self.seed >= 0,
            "threads must be at least 1": self.threads >= 1,
            f"by must be some of {', '.join(GROUPINGS)}": set(self.by) <= set(GROUPINGS),
            f"tasks must be some of {', '.join(TASKS)}": self.tasks is None or set(self.tasks) & set(TASKS) != set(),
        }
        for rule, holds in rules.items():
            if not holds:
                raise DatasetError(f"{rule}, not {getattr(self, rule.split()[0])!r}")
