"""The objects of one task, boxes or masks, in the order in which pycocotools matches them."""

from dataclasses import dataclass

import numpy as np

from ..run_lengths import Runs
from .tables import ImageTable, ObjectTable

__all__ = ["Objects", "ranked"]


@dataclass(frozen=True)
class Objects:
    """The objects of one task (boxes or masks) in the order of matching: by image, then by category or score.

    Attributes:
        rows: (N,) int64 places in the table they come from.
        starts: (I + 1,) int64; the objects of image i are those from ``starts[i]`` up to ``starts[i + 1]``.
        boxes: (N, 4) float64; of masks those around the pixels, whatever boxes came with them.
        areas, crowd, confidence: as in the table, areas being those by which the task bins sizes.
        scores: by which the task ranks.
        masks: None for boxes.
    """

    rows: np.ndarray
    starts: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    crowd: np.ndarray
    scores: np.ndarray
    confidence: np.ndarray
    masks: Runs | None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def sizes(self) -> np.ndarray:
        """(N,) float64 pixels of the masks themselves (annotated areas may differ from them); of boxes, their area."""
        return self.boxes[:, 2] * self.boxes[:, 3] if self.masks is None else self.masks.areas().astype(np.float64)

    @property
    def image(self) -> np.ndarray:
        """(N,) int64 places in the image table."""
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))


def ranked(table: ObjectTable, images: ImageTable, task: str, limit: int | None = None) -> Objects:
    """The objects of one task in pycocotools' order.

    Annotations (``limit`` None): by image and category. Results: by image, then from the highest score down (masks by
    ``mask_score`` where there is one), equal scores by category; at most ``limit`` an image. Results of masks are sized
    by the mask, those of boxes by the box; annotations by their annotated area (by mask or box where they have none).
    """
    is_truth = limit is None  # results always have one
    scores = table.confidence if task == "segm" else table.scores
    keys = (table.category, table.image) if is_truth else (table.category, -scores, table.image)
    rows = np.lexsort(keys)
    counts = np.bincount(table.image, minlength=len(images))
    starts = np.concatenate([[0], np.cumsum(counts)])
    if limit is not None and counts.max(initial=0) > limit:
        rank = np.arange(len(rows)) - np.repeat(starts[:-1], counts)
        rows = rows[rank < limit]
        starts = np.concatenate([[0], np.cumsum(np.minimum(counts, limit))])
    masks = table.masks.take(rows) if task == "segm" else None
    boxes = table.boxes[rows] if masks is None else masks.boxes(images.heights[table.image[rows]])
    areas = boxes[:, 2] * boxes[:, 3] if masks is None else masks.areas().astype(np.float64)
    if is_truth:
        areas = np.where(np.isnan(table.areas[rows]), areas, table.areas[rows])
    return Objects(rows, starts, boxes, areas, table.crowd[rows], scores[rows], table.confidence[rows], masks)
