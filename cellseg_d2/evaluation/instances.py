"""Metrics of the cells that are kept at a score threshold: their sums over each image.

Each metric is a ratio of sums (or a mean) over images, so that any set of images, and any resample of them, is scored
by adding up these columns.
"""

import numpy as np

from .matching import FALSE, TRUE
from .scoring import TaskScore

__all__ = ["best_threshold", "instance_sums", "kept_results"]

IOU = 0.5


def kept_results(score: TaskScore, threshold: float) -> np.ndarray:
    """(D,) bool: results with a score of at least ``threshold`` that do not lie in a crowd."""
    at_half = score.matching.flags[0, score.protocol.iou_index(IOU)]
    return (score.results.confidence >= threshold) & ((at_half == TRUE) | (at_half == FALSE))


def best_threshold(score: TaskScore) -> tuple[float, float]:
    """The score threshold that gives the highest instance F1 at IoU .5 over all images, and that F1 in 0..1.

    F1 = 2 TP / (results + objects). Where no cell is found at any threshold, both are NaN.
    """
    order = np.argsort(-score.results.confidence, kind="stable")
    flags, scores = score.matching.flags[0, score.protocol.iou_index(IOU)][order], score.results.confidence[order]
    objects = score.ranking.objects[0].sum()
    if not (flags == TRUE).any():
        return float("nan"), float("nan")
    true, found = np.cumsum(flags == TRUE), np.cumsum((flags == TRUE) | (flags == FALSE))
    f1 = 2 * true / (found + objects)
    last_of_ties = np.append(scores[1:] != scores[:-1], True)
    best = int(np.argmax(np.where(last_of_ties, f1, -1)))
    return float(scores[best]), float(f1[best])


def instance_sums(score: TaskScore, threshold: float) -> dict[str, np.ndarray]:
    """Columns of (I,) float64, of the results that :func:`kept_results` keeps.

    * ``objects``, ``found``: annotated and predicted cells; ``true``: those matched at IoU .5;
    * ``accuracy``: mean over the protocol's IoU thresholds of TP / (TP + FP + FN); ``accuracy_50``: at .5;
      ``scored``: 1 where the image has cells, annotated or predicted;
    * ``quality``, ``strict``: sum of IoU and number of matches with IoU > .5 (panoptic quality);
    * ``seg``: sum over annotated cells of the IoU with the result that covers more than half of it (Cell Tracking
      Challenge);
    * ``aji``: aggregated Jaccard index of the image (0 where it is not ``scored``);
    * ``count_error``, ``count_absolute``, ``count_squared``, ``objects_squared``: of found - objects.
    """
    keep = kept_results(score, threshold)
    objects = score.ranking.objects[0].astype(np.float64)
    # Per threshold: an ignored result is neither true nor false
    chosen = score.results.confidence >= threshold
    flags = score.matching.flags[0]
    true = np.array([score.per_image((f == TRUE) & chosen, score.results) for f in flags])
    false = np.array([score.per_image((f == FALSE) & chosen, score.results) for f in flags])
    accuracy = _ratio(true, objects + false)  # TP + FP + FN = objects + FP
    half = score.protocol.iou_index(IOU)
    found = true[half] + false[half]
    strict, quality = _panoptic(score, keep, half)
    return {
        "objects": objects,
        "found": found,
        "true": true[half],
        "accuracy": accuracy.mean(axis=0),
        "accuracy_50": accuracy[half],
        "scored": ((objects > 0) | (found > 0)).astype(np.float64),
        "strict": strict,
        "quality": quality,
        "seg": _seg(score, keep),
        "aji": _aji(score, keep),
        "count_error": found - objects,
        "count_absolute": np.abs(found - objects),
        "count_squared": (found - objects) ** 2,
        "objects_squared": objects**2,
    }


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, 0 where whole is 0."""
    return np.divide(part, whole, out=np.zeros(np.broadcast_shapes(part.shape, whole.shape)), where=whole > 0)


def _panoptic(score: TaskScore, keep: np.ndarray, half: int) -> tuple[np.ndarray, np.ndarray]:
    """Number and summed IoU of the matches above IoU .5 in each image."""
    pairs = score.overlaps
    partner = np.where(score.matching.flags[0, half] == TRUE, score.matching.partners[half], -1)
    matched = (partner[pairs.result] == pairs.truth) & keep[pairs.result] & (pairs.iou > IOU)
    image = score.results.image[pairs.result[matched]]
    count = len(score.results.starts) - 1
    return np.bincount(image, minlength=count).astype(float), np.bincount(image, pairs.iou[matched], minlength=count)


def _seg(score: TaskScore, keep: np.ndarray) -> np.ndarray:
    """Sum over the annotated cells of each image of max IoU over results r with |g n r| > |g| / 2."""
    pairs, sizes = score.overlaps, score.truth.sizes
    use = keep[pairs.result] & ~score.truth.crowd[pairs.truth] & (pairs.intersection > sizes[pairs.truth] / 2)
    best = np.zeros(len(score.truth))
    np.maximum.at(best, pairs.truth[use], pairs.iou[use])
    return score.per_image(best, score.truth)


def _aji(score: TaskScore, keep: np.ndarray) -> np.ndarray:
    """Aggregated Jaccard index of each image (Kumar et al. 2017).

    AJI = sum_g |g n s(g)| / (sum_g |g u s(g)| + sum of the results that no g chose), s(g) being the result of highest
    IoU with g; a cell that nothing overlaps adds its own area below.
    """
    pairs, truth_sizes, sizes = score.overlaps, score.truth.sizes, score.results.sizes
    usable = np.flatnonzero(keep[pairs.result] & ~score.truth.crowd[pairs.truth])
    order = usable[np.lexsort((-pairs.iou[usable], pairs.truth[usable]))]
    truth, first = np.unique(pairs.truth[order], return_index=True)
    chosen = order[first]
    result, common = pairs.result[chosen], pairs.intersection[chosen]
    above, below = np.zeros(len(score.truth)), np.where(score.truth.crowd, 0.0, truth_sizes)
    above[truth] = common
    below[truth] += sizes[result] - common
    unused = keep.copy()
    unused[result] = False
    union = score.per_image(below, score.truth) + score.per_image(np.where(unused, sizes, 0.0), score.results)
    return _ratio(score.per_image(above, score.truth), union)
