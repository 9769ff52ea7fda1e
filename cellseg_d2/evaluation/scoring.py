"""One task (boxes or masks) of a data set: from tables to matches, ready for any metric of any set of images."""

from dataclasses import dataclass

import numpy as np

from .curves import Ranking
from .matching import TRUE, Matching, match
from .objects import Objects, ranked
from .overlaps import Overlaps, overlap
from .protocol import Protocol
from .tables import ImageTable, ObjectTable

__all__ = ["TaskScore", "score_task"]


@dataclass(frozen=True)
class TaskScore:
    """What every metric of one task is computed from.

    Attributes:
        task: "segm" or "bbox".
        truth, results: the objects in the order of matching, G and D of them.
        overlaps: their pairs.
        matching: flags in the protocol's area ranges.
        ranking: all results from the best score down.
        recalled: (M, T, I) int64 objects found in each image among the best max_dets[m] results.
    """

    task: str
    protocol: Protocol
    truth: Objects
    results: Objects
    overlaps: Overlaps
    matching: Matching
    ranking: Ranking
    recalled: np.ndarray

    def average_precision(self, truth_inside: np.ndarray, result_inside: np.ndarray) -> np.ndarray:
        """(R,) AP in percent over sets of objects, as AP over area ranges: (R, G) and (R, D) bool; NaN without any."""
        matching = match(self.overlaps, self.truth.crowd, truth_inside, result_inside, self.thresholds)
        ranking = _rank(self.results, self.truth, matching)
        return 100 * ranking.average_precision(np.ones((1, ranking.objects.shape[1])))[0].mean(axis=1)

    @property
    def thresholds(self) -> np.ndarray:
        """(T,) IoU thresholds."""
        return np.array(self.protocol.iou_thresholds)

    def per_image(self, values: np.ndarray, of: Objects) -> np.ndarray:
        """(I,) float64: sums of ``values`` ((N,), one for each of the objects ``of``) over each image."""
        return np.bincount(of.image, weights=values, minlength=len(of.starts) - 1)


def score_task(
    images: ImageTable, truth_table: ObjectTable, result_table: ObjectTable, task: str, protocol: Protocol
) -> TaskScore:
    """Match the results of one task; at most the protocol's last ``max_dets`` an image take part."""
    truth = ranked(truth_table, images, task)
    results = ranked(result_table, images, task, protocol.max_dets[-1])
    overlaps = overlap(results, truth)
    inside = [_area_ranges(objects.areas, protocol) for objects in (truth, results)]
    matching = match(overlaps, truth.crowd, *inside, np.array(protocol.iou_thresholds))
    image = results.image
    rank = np.arange(len(image)) - results.starts[image]
    true = matching.flags[0] == TRUE
    recalled = np.array(
        [[np.bincount(image[hit & (rank < m)], minlength=len(images)) for hit in true] for m in protocol.max_dets]
    )
    ranking = _rank(results, truth, matching)
    return TaskScore(task, protocol, truth, results, overlaps, matching, ranking, recalled)


def _rank(results: Objects, truth: Objects, matching: Matching) -> Ranking:
    """All results of the data set, best first."""
    images, where = len(truth.starts) - 1, truth.image
    objects = np.array([np.bincount(where[inside], minlength=images) for inside in matching.counted])
    return Ranking.of(results.image, results.scores, matching.flags, objects)


def _area_ranges(areas: np.ndarray, protocol: Protocol) -> np.ndarray:
    """(ranges, N) bool: which areas lie in which range, both ends included."""
    return np.array([(areas >= low) & (areas <= high) for _, (low, high) in protocol.area_ranges])
