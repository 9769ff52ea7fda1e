"""How sure a score is: percentile intervals over resampled images, and paired differences of two models."""

from collections.abc import Callable

import numpy as np

__all__ = ["compare", "intervals", "resamples"]

LEVEL = 95.0  # percent
Metrics = Callable[[np.ndarray], dict[str, np.ndarray]]


def resamples(members: np.ndarray, count: int, seed: int) -> np.ndarray:
    """(count, I) float64: how often each image is drawn when as many images as there are members are drawn with return.

    Args:
        members: (I,) bool images that can be drawn.
    """
    chosen = np.flatnonzero(members)
    weights = np.zeros((count, len(members)))
    if len(chosen):
        generator = np.random.default_rng(seed)
        weights[:, chosen] = generator.multinomial(len(chosen), np.full(len(chosen), 1 / len(chosen)), size=count)
    return weights


def intervals(metrics: Metrics, members: np.ndarray, count: int, seed: int) -> dict[str, tuple[float, float]]:
    """Percentile interval (95 %) of each metric over ``count`` resamples of the images.

    NaN where there are fewer than two images, or a metric exists in none of the resamples.
    """
    if count < 1:
        return {}
    values = metrics(resamples(members, count, seed))
    if members.sum() < 2:
        return {name: (np.nan, np.nan) for name in values}
    return {name: _limits(column) for name, column in values.items()}


def compare(first: Metrics, second: Metrics, images: int, count: int, seed: int) -> dict[str, dict[str, float | list]]:
    """Metric by metric, ``first`` against ``second`` on the same images and the same resamples of them.

    Returns:
        metric -> ``first``, ``second``, ``difference`` (first - second), its ``interval``, and ``first_higher``: the
        share of resamples in which the first is higher (ties count half); NaN where there are no resamples.
    """
    once = np.ones((1, images))
    point = [metrics(once) for metrics in (first, second)]
    weights = resamples(np.ones(images, bool), count, seed)
    drawn = [metrics(weights) for metrics in (first, second)]
    table = {}
    for name in (name for name in point[0] if name in point[1]):
        a, b = (float(values[name][0]) for values in point)
        differences = drawn[0][name] - drawn[1][name]
        differences = differences[np.isfinite(differences)]
        sure = images > 1 and len(differences)
        higher = (differences > 0).mean() + (differences == 0).mean() / 2 if sure else np.nan
        table[name] = {
            "first": a,
            "second": b,
            "difference": a - b,
            "interval": list(_limits(differences)) if sure else [np.nan, np.nan],
            "first_higher": float(higher),
        }
    return table


def _limits(values: np.ndarray) -> tuple[float, float]:
    values = values[np.isfinite(values)]
    if not len(values):
        return np.nan, np.nan
    low, high = np.percentile(values, [50 - LEVEL / 2, 50 + LEVEL / 2])
    return float(low), float(high)
