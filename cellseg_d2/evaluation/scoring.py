"""One task (boxes or masks) of a data set: from tables to matches, ready for any metric of any set of images."""

from dataclasses import dataclass

import numpy as np

from .curves import Ranking
from .density import density_bins, local_confluence
from .matching import TRUE, Matching, match
from .overlaps import Overlaps, overlap
from .protocol import Protocol
from .tables import ImageTable, Objects, ObjectTable, ranked

__all__ = ["TaskScore", "score_task"]


@dataclass(frozen=True)
class TaskScore:
    """What every metric of one task is computed from.

    Attributes:
        task: "segm" or "bbox".
        truth, results: the objects in the order of matching, G and D of them.
        overlaps: their pairs.
        matching: flags in ranges: the protocol's area ranges, then the density bins.
        ranking: all results from the best score down.
        recalled: (M, T, I) int64 objects found in each image among the best max_dets[m] results.
        truth_density, result_density: (G,), (D,) local confluence.
    """

    task: str
    protocol: Protocol
    truth: Objects
    results: Objects
    overlaps: Overlaps
    matching: Matching
    ranking: Ranking
    recalled: np.ndarray
    truth_density: np.ndarray
    result_density: np.ndarray

    @property
    def rank(self) -> np.ndarray:
        """(D,) int64: 0 for the best result of its image."""
        return np.arange(len(self.results)) - self.results.starts[self.results.image]

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
    densities = [local_confluence(images, truth, objects) for objects in (truth, results)]
    truth_inside, result_inside = (
        np.concatenate([_area_ranges(objects.areas, protocol), density_bins(confluence)])
        for objects, confluence in zip((truth, results), densities)
    )
    matching = match(overlaps, truth.crowd, truth_inside, result_inside, np.array(protocol.iou_thresholds))
    objects = np.array([np.bincount(truth.image[inside], minlength=len(images)) for inside in matching.counted])
    image = results.image
    rank = np.arange(len(image)) - results.starts[image]
    true = matching.flags[0] == TRUE
    recalled = np.array(
        [[np.bincount(image[hit & (rank < m)], minlength=len(images)) for hit in true] for m in protocol.max_dets]
    )
    ranking = Ranking.of(image, results.scores, matching.flags, objects)
    return TaskScore(task, protocol, truth, results, overlaps, matching, ranking, recalled, *densities)


def _area_ranges(areas: np.ndarray, protocol: Protocol) -> np.ndarray:
    """(ranges, N) bool: which areas lie in which range, both ends included."""
    return np.array([(areas >= low) & (areas <= high) for _, (low, high) in protocol.area_ranges])
