"""The cells of a label map as horizontal runs of pixels."""

from dataclasses import dataclass

import numpy as np

__all__ = ["LabelRuns"]


@dataclass(frozen=True)
class LabelRuns:
    """The cells of a label map (H x W int32) as runs, many fewer than pixels. All fields are (R,) int64 arrays.

    Attributes:
        labels: above 0.
        rows, begins, lengths: where the run begins, and its pixels.
    """

    labels: np.ndarray
    rows: np.ndarray
    begins: np.ndarray
    lengths: np.ndarray

    @classmethod
    def of(cls, labels: np.ndarray, seam: int = 0) -> "LabelRuns":
        """The runs of a label map; none goes on across column ``seam``."""
        begins_here = np.empty(labels.shape, dtype=bool)
        np.not_equal(labels[:, 1:], labels[:, :-1], out=begins_here[:, 1:])
        begins_here[:, [0, seam]] = True
        starts = np.flatnonzero(begins_here)
        values, lengths = labels.reshape(-1)[starts], np.diff(starts, append=labels.size)
        cells = values > 0
        rows, begins = np.divmod(starts[cells], labels.shape[1])
        return cls(values[cells].astype(np.int64), rows, begins, lengths[cells])

    def painted(self, labels: np.ndarray, values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        """The label map with a value (R,) for each of the chosen runs (R bool)."""
        result = labels.copy()
        places, lengths = self.pixels(labels.shape[1], chosen), self.lengths[chosen]
        result.reshape(-1)[places] = np.repeat(values[chosen], lengths)
        return result

    def pixels(self, width: int, chosen: np.ndarray | slice = slice(None)) -> np.ndarray:
        """(P,) int64, row-major places of the pixels of the (chosen) runs, run after run."""
        lengths = self.lengths[chosen]
        first = self.rows[chosen] * width + self.begins[chosen] - np.cumsum(lengths) + lengths
        return np.repeat(first, lengths) + np.arange(lengths.sum())

    def boxes(self, count: int) -> np.ndarray:
        """(count, 4) float32, x0, y0, x1, y1 around each label from 0 on; zeros where it does not occur."""
        far = np.iinfo(np.int64).max
        sides = [np.full(count, far), np.full(count, far), np.zeros(count, np.int64), np.zeros(count, np.int64)]
        np.minimum.at(sides[0], self.labels, self.begins)
        np.minimum.at(sides[1], self.labels, self.rows)
        np.maximum.at(sides[2], self.labels, self.begins + self.lengths)
        np.maximum.at(sides[3], self.labels, self.rows + 1)
        boxes = np.stack(sides, axis=1)
        return np.where(boxes[:, :1] == far, 0, boxes).astype(np.float32)

    def areas(self, count: int) -> np.ndarray:
        """(count,) float64, pixels of each label from 0 on; 0 has none."""
        return np.bincount(self.labels, self.lengths, count)
