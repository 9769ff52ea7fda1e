"""Pixelwise ROC of foreground logits, streamed over any number of images, and the threshold that it suggests.

>>> roc = PixelRoc()
>>> roc.update([-2.0, -1.0, 0.5, 3.0, 1.0], [False, False, False, True, True])
>>> roc.auc
1.0
>>> chosen = roc.choose("f1")
>>> 0.62 < chosen.threshold <= 0.74, chosen.f1
(True, 1.0)
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Operating", "PixelRoc", "check_choice"]

LIMIT = 20.0  # logits beyond are taken as this
BINS = 1 << 16
STORED = 1 << 10  # bins in files


@dataclass(frozen=True)
class Operating:
    """A point of the curve.

    Attributes:
        threshold: probability from which on a pixel is foreground.
        fpr, tpr: false- and true-positive rate.
        precision, f1: of foreground; NaN where nothing is found.
        how: by which rule it was chosen.
    """

    threshold: float
    fpr: float
    tpr: float
    precision: float
    f1: float
    how: str = "given"


class PixelRoc:
    """Two histograms of logits, of foreground and of background pixels.

    Bins are 40 / 65,536 = .0006 wide in logits: pixels closer than that are ties, which the area counts as halves.
    """

    def __init__(self) -> None:
        self.positives = np.zeros(BINS, np.int64)
        self.negatives = np.zeros(BINS, np.int64)

    def update(self, logits: Any, truth: Any, valid: Any = None) -> None:
        """Count the pixels of an image.

        Args:
            logits: array of any shape.
            truth: bool array of that shape, True for foreground.
            valid: bool array of that shape, the pixels that count; None: all.

        Raises:
            ValueError: shapes differ, or a logit is NaN.
        """
        logits, truth = np.asarray(logits, np.float32), np.asarray(truth, bool)
        if logits.shape != truth.shape or (valid is not None and np.shape(valid) != logits.shape):
            raise ValueError(f"logits {logits.shape}, truth {truth.shape} and valid pixels must have one shape")
        if valid is not None:
            logits, truth = logits[np.asarray(valid, bool)], truth[np.asarray(valid, bool)]
        if np.isnan(logits).any():
            raise ValueError(f"{np.isnan(logits).sum()} of {logits.size} logits are NaN")
        bins = ((np.clip(logits, -LIMIT, LIMIT) + LIMIT) * (BINS / (2 * LIMIT))).astype(np.int64)
        np.minimum(bins, BINS - 1, out=bins)
        self.positives += np.bincount(bins[truth].ravel(), minlength=BINS)
        self.negatives += np.bincount(bins[~truth].ravel(), minlength=BINS)

    def merge(self, other: "PixelRoc") -> None:
        """Add the counts of another."""
        self.positives += other.positives
        self.negatives += other.negatives

    @property
    def has_both(self) -> bool:
        """Whether there are pixels of foreground and of background, without which there is no curve."""
        return bool(self.positives.any() and self.negatives.any())

    @property
    def auc(self) -> float:
        """Area under the curve: the probability that a foreground pixel has a higher logit than a background pixel.

        Raises:
            ValueError: there is no foreground, or no background.
        """
        fpr, tpr, _ = self.curve()
        return float(np.trapezoid(tpr, fpr))

    def curve(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """False- and true-positive rates, ascending from 0 to 1, and the thresholds (probabilities) of each point.

        Raises:
            ValueError: there is no foreground, or no background.
        """
        true, false, edges = self._cumulated()
        return false / false[-1], true / true[-1], edges

    def at(self, threshold: float, how: str = "given") -> Operating:
        """The point of a threshold (probability), to the width of a bin.

        Raises:
            ValueError: there is no foreground, or no background.
        """
        true, false, edges = self._cumulated()
        # The lowest edge that is not below the threshold; equal but for rounding counts as equal
        place = len(edges) - 1 - int(np.searchsorted(edges[::-1], threshold * (1 - 1e-9), side="left"))
        return self._point(max(place, 0), true, false, edges, how)

    def choose(self, how: str) -> Operating:
        """The best point by a rule.

        Args:
            how: "youden" (highest tpr - fpr), "f1" (highest F1), or "fpr=0.01" (the highest tpr at an fpr of at most
                that). Of equal points the one in the middle, so that the threshold lies between the classes.

        Raises:
            ValueError: an unknown rule; there is no foreground, or no background.
        """
        true, false, edges = self._cumulated()
        if how == "youden":
            value = true / true[-1] - false / false[-1]
        elif how == "f1":
            value = 2 * true / (true + false + true[-1])
        else:
            value = np.where(false / false[-1] <= _limit(how), true / true[-1], -1.0)
        best = np.flatnonzero(value >= value.max() - 1e-12)
        return self._point(int(best[len(best) // 2]), true, false, edges, how)

    def to_dict(self) -> dict[str, Any]:
        """What JSON can hold: the area, and the counts in 1,024 bins of equal width in logits from -20 to 20."""
        positives, negatives = (c.reshape(STORED, -1).sum(axis=1).tolist() for c in (self.positives, self.negatives))
        return {"auc": self.auc, "positives": positives, "negatives": negatives}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "PixelRoc":
        """The curve of :meth:`to_dict`, as coarse as that."""
        roc, width = cls(), BINS // STORED
        roc.positives[width // 2 :: width] = values["positives"]
        roc.negatives[width // 2 :: width] = values["negatives"]
        return roc

    def _cumulated(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Foreground and background pixels from each threshold on, and the thresholds, from the highest down."""
        for name, counts in (("foreground", self.positives), ("background", self.negatives)):
            if not counts.any():
                raise ValueError(f"a ROC needs pixels of both kinds, and there is no {name} pixel in these images")
        true, false = (np.concatenate([[0], np.cumsum(c[::-1])]) for c in (self.positives, self.negatives))
        return true, false, 1 / (1 + np.exp(-np.linspace(LIMIT, -LIMIT, BINS + 1)))

    @staticmethod
    def _point(place: int, true: np.ndarray, false: np.ndarray, edges: np.ndarray, how: str) -> Operating:
        t, f = int(true[place]), int(false[place])
        precision = t / (t + f) if t + f else float("nan")
        f1 = 2 * t / (t + f + int(true[-1]))
        return Operating(float(edges[place]), f / int(false[-1]), t / int(true[-1]), precision, f1, how)


def check_choice(how: str) -> None:
    """Raise ValueError where ``how`` is no rule of :meth:`PixelRoc.choose`."""
    if how not in ("youden", "f1"):
        _limit(how)


def _limit(how: str) -> float:
    """The rate of "fpr=0.01"."""
    name, _, number = how.partition("=")
    try:
        rate = float(number) if name == "fpr" else -1.0
    except ValueError:
        rate = -1.0
    if not 0 < rate < 1:
        raise ValueError(f"TEST.ROC_CHOICE: {how!r} is none of 'youden', 'f1' and 'fpr=RATE' with a rate in (0, 1)")
    return rate
