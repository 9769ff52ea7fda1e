"""Can a classifier tell two sets of cells apart? The classifier two-sample test of Lopez-Paz & Oquab (2017).

A classifier is trained to name the set that a cell comes from, and judged on images that it has not seen. The area
under its ROC curve is .5 where the sets are alike and 1 where every cell gives its set away.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from .resampling import TwoSampleOptions, area_under_curve, interval
from .sample_pool import Pool, TooFewError, pool

__all__ = ["TwoSample", "classifier_test", "grouped_folds", "single_tests"]

BINS = 32
DEFAULTS = TwoSampleOptions()


@dataclass(frozen=True)
class TwoSample:
    """Result of :func:`classifier_test`.

    Attributes:
        auc, low, high: area under the ROC curve of gradient boosting on images it has not seen, and its 95 % interval
            (bootstrap by source image of the out-of-fold scores; the fitted classifiers stay as they are).
        check, check_low, check_high: the same of logistic regression.
        rows: of each set.
        images: source images of the first and of the second set.
        folds: of the cross-validation.
        names: descriptors that were compared.
        importance: descriptor -> fall of ``auc`` when its values are shuffled among unseen images.
    """

    auc: float
    low: float
    high: float
    check: float
    check_low: float
    check_high: float
    rows: int
    images: tuple[int, int]
    folds: int
    names: tuple[str, ...]
    importance: dict[str, float]


def classifier_test(
    first: pd.DataFrame,
    second: pd.DataFrame,
    first_groups: Sequence,
    second_groups: Sequence,
    options: TwoSampleOptions = DEFAULTS,
) -> TwoSample:
    """Test whether rows of two tables can be told apart.

    Args:
        first, second: a row a cell, a column a descriptor; columns of the same names. See :func:`.sample_pool.pool`.
        first_groups, second_groups: the source image of each row, any hashable values; rows of one source never are in
            training and test at once, so a copy of a cell must have the name of the image that it was cut out of.

    Raises:
        TooFewError: fewer than 20 complete rows, or fewer than two source images, in a set.
    """
    both = pool(first, second, first_groups, second_groups, options)
    folds = grouped_folds(both.target, both.groups, options)
    weights = both.resamples(options.resamples, options.seed)
    coarse = replace(both, values=_coarse(both.values))
    scores, models = _out_of_fold(lambda: _boosting(options.seed), coarse, folds)
    checks, _ = _out_of_fold(_logistic, both, folds)
    auc = area_under_curve(scores, both.target)
    counts = tuple(len(np.unique(both.groups[both.target == side])) for side in (0, 1))
    return TwoSample(
        auc, *interval(scores, both.target, weights), area_under_curve(checks, both.target),
        *interval(checks, both.target, weights), len(both.target) // 2, counts, len(folds), both.names,
        _importance(coarse, folds, models, auc, options.seed),
    )  # fmt: skip


def grouped_folds(
    target: np.ndarray, groups: np.ndarray, options: TwoSampleOptions = DEFAULTS
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows for training and for test of each fold; no group is in both, and both sets are in every training.

    Args:
        target, groups: (N,) as in :class:`.sample_pool.Pool`.

    Raises:
        TooFewError: a set has fewer than two groups.
    """
    sources = [len(np.unique(groups[target == side])) for side in (0, 1)]
    if min(sources) < 2:
        raise TooFewError(
            f"the sets have {sources[0]} and {sources[1]} source images; a classifier is judged on images that it has "
            "not seen, so each set needs two or more"
        )
    folds = StratifiedGroupKFold(min(options.folds, *sources), shuffle=True, random_state=options.seed)
    return [
        (train, test)
        for train, test in folds.split(np.zeros((len(target), 1)), target, groups)
        if len(np.unique(target[train])) == 2
    ]


def single_tests(both: Pool, options: TwoSampleOptions = DEFAULTS) -> pd.DataFrame:
    """How far each descriptor alone tells two sets apart.

    Returns:
        A row a descriptor: ``descriptor``, ``auc`` (probability that a cell of the second set has the larger value;
        .5 alike), its 95 % interval ``low`` and ``high`` (bootstrap by source image), medians ``first`` and ``second``.
    """
    weights, rows = both.resamples(min(options.resamples, 200), options.seed), []
    for name, values in zip(both.names, both.values.T):
        middle = [float(np.median(values[both.target == side])) for side in (0, 1)]
        area = area_under_curve(values, both.target)
        rows.append((name, area, *interval(values, both.target, weights), *middle))
    return pd.DataFrame(rows, columns=["descriptor", "auc", "low", "high", "first", "second"])


def _boosting(seed: int) -> HistGradientBoostingClassifier:
    return HistGradientBoostingClassifier(
        max_iter=60, learning_rate=0.15, max_leaf_nodes=8, min_samples_leaf=10, max_bins=BINS, early_stopping=False,
        class_weight="balanced", random_state=seed,
    )  # fmt: skip


def _coarse(values: np.ndarray) -> np.ndarray:
    """(N, D) quantile, 0..31, of each value among both sets together.

    Trees split by order alone, and 32 steps are as good on some thousand rows as the usual 255 at a fraction of the
    time. scikit-learn's own quantiles, which weigh the rows, take longer than its trees.
    """
    edges = np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1], axis=0)
    columns = [np.searchsorted(own, column) for own, column in zip(edges.T, values.T)]
    return np.stack(columns, axis=1).astype(np.float64)


def _logistic():
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, class_weight="balanced"))


def _out_of_fold(make: Callable, both: Pool, folds: list) -> tuple[np.ndarray, list]:
    """(N,) probability of the second set of each row by the model that has not seen its source image; the models.

    Classes are balanced in training: else a fold with more of one set would leave less of it to learn from, and pooled
    scores would be worse than chance where the sets are alike.
    """
    scores, models = np.full(len(both.target), np.nan), []
    for train, test in folds:
        model = make().fit(both.values[train], both.target[train])
        scores[test] = model.predict_proba(both.values[test])[:, 1]
        models.append(model)
    return scores, models


def _importance(both: Pool, folds: list, models: list, auc: float, seed: int) -> dict[str, float]:
    """Descriptor -> fall of the area when its values are shuffled within the test rows of each fold."""
    rng, found = np.random.default_rng(seed), {}
    for column, name in enumerate(both.names):
        scores = np.empty(len(both.target))
        for (_, test), model in zip(folds, models):
            values = both.values[test]
            values[:, column] = rng.permutation(values[:, column])
            scores[test] = model.predict_proba(values)[:, 1]
        found[name] = auc - area_under_curve(scores, both.target)
    return found
