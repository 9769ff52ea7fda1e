"""Classifier test, energy distance and principal components: known answers by construction."""

import numpy as np
import pandas as pd
import pytest

from cellseg_d2.analysis.energy import energy_distance
from cellseg_d2.analysis.pca import fit_components
from cellseg_d2.analysis.resampling import TwoSampleOptions, area_under_curve, random_halves, resampled, strata_of
from cellseg_d2.analysis.sample_pool import TooFewError, pool
from cellseg_d2.analysis.two_sample import classifier_test, grouped_folds, single_tests

QUICK = TwoSampleOptions(most=400, resamples=200)


def sample(seed: int, shift: float = 0.0, rows: int = 400, images: int = 20, columns: int = 4):
    """A table whose rows of one image are alike, and the images' names; ``shift`` moves the first column."""
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, images, rows)
    values = rng.normal(size=(images, columns))[groups] * 0.5 + rng.normal(size=(rows, columns))
    values[:, 0] += shift
    return pd.DataFrame(values, columns=list("abcd")[:columns]), [f"{seed}-{group}" for group in groups]


def test_alike_sets_are_not_told_apart():
    (first, own), (second, other) = sample(1), sample(2)
    found = classifier_test(first, second, own, other, QUICK)
    assert found.low < 0.5 < found.high and found.check_low < 0.5 < found.check_high
    assert found.rows == 400 and found.images == (20, 20) and found.folds == 5
    distance = energy_distance(first, second, own, other, QUICK)
    assert distance.low < 0.01 and distance.value < 2 * distance.floor_high


def test_the_column_that_differs_is_named():
    (first, own), (second, other) = sample(1), sample(2, shift=1.5)
    found = classifier_test(first, second, own, other, QUICK)
    assert found.low > 0.7 and found.check > 0.75
    assert max(found.importance, key=found.importance.get) == "a"
    single = single_tests(pool(first, second, own, other, QUICK), QUICK).set_index("descriptor")
    assert single.loc["a", "low"] > 0.5 and single.loc["a", "second"] > single.loc["a", "first"] + 1
    assert energy_distance(first, second, own, other, QUICK).low > 0.02


def test_the_same_set_twice():
    first, own = sample(1)
    found = classifier_test(first, first, own, own, QUICK)
    assert found.auc == found.check == found.low == found.high == 0.5
    assert energy_distance(first, first, own, own, QUICK).value == pytest.approx(0)


def test_the_memory_of_an_image_does_not_help():
    """Rows that are recognised by their image alone: copies share the source, and stay in one fold."""
    rng = np.random.default_rng(0)
    sources = np.repeat(np.arange(12), 30)
    marks = rng.normal(size=(12, 4))[sources] * 50
    first, second = (pd.DataFrame(marks + rng.normal(size=marks.shape)) for _ in range(2))
    found = classifier_test(first, second, sources, sources, QUICK)
    assert found.low < 0.5 < found.high


def test_folds_never_share_a_group():
    both = pool(*(t for t, _ in (sample(1), sample(2))), sample(1)[1], sample(2)[1], QUICK)
    folds = grouped_folds(both.target, both.groups, QUICK)
    assert sorted(np.concatenate([test for _, test in folds]).tolist()) == list(range(800))
    for train, test in folds:
        assert not set(both.groups[train]) & set(both.groups[test]) and set(both.target[train]) == {0, 1}


def test_sets_are_of_equal_size_and_chosen_by_the_seed():
    (first, own), (second, other) = sample(1, rows=300), sample(2, rows=90)
    both = pool(first, second, own, other, QUICK)
    assert np.bincount(both.target).tolist() == [90, 90]
    again = pool(first, second, own, other, QUICK)
    assert (again.values == both.values).all()
    assert (pool(first, second, own, other, TwoSampleOptions(seed=1)).values != both.values).any()


def test_what_is_missing_gives_nothing_away():
    (first, own), (second, other) = sample(1), sample(2)
    second.loc[:150, "a"], first.loc[:300, "b"] = np.nan, np.nan
    both = pool(first, second, own, other, QUICK)
    assert both.names == ("a", "c", "d") and np.isfinite(both.values).all()
    assert np.bincount(both.target).tolist() == [249, 249]


def test_too_few():
    (first, own), (second, other) = sample(1), sample(2)
    with pytest.raises(TooFewError, match="20 complete rows.*400 and 19 are complete"):
        classifier_test(first, second[:19], own, other[:19])
    with pytest.raises(TooFewError, match="20 and 1 source images"):
        classifier_test(first, second, own, ["x"] * 400)
    with pytest.raises(TooFewError, match="400 and 19 rows"):
        energy_distance(first, second[:19], own, other[:19])


def test_area_under_curve():
    scores, target = np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1])
    assert area_under_curve(scores, target) == 0.75
    assert area_under_curve(scores, target, np.array([1, 0, 1, 1])) == 1
    assert area_under_curve(np.zeros(4), target) == 0.5
    doubled = np.repeat(scores, 2), np.repeat(target, 2)
    assert area_under_curve(*doubled) == area_under_curve(scores, target, np.full(4, 2))


def test_images_are_drawn_again_within_their_set():
    target, groups = np.array([0, 0, 1, 1, 0, 1]), np.array([0, 1, 2, 2, 3, 3])
    strata = strata_of(groups, target, 4)
    assert strata.tolist() == [1, 1, 2, 3]
    counts = resampled(strata, 50, np.random.default_rng(0))
    assert (counts[:, :2].sum(axis=1) == 2).all() and (counts[:, 2:] == 1).all()
    halves = random_halves(np.array([1, 2, 4]), 5, 10, np.random.default_rng(0))
    assert (halves.sum(axis=1) == 1).all() and not halves[:, [0, 3]].any()


def test_principal_components():
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=500)
    table = pd.DataFrame({"a": hidden, "b": -2 * hidden + 0.1 * rng.normal(size=500), "c": rng.normal(size=500)})
    axes = fit_components(table.assign(even=7.0, hardly=np.where(np.arange(500) < 300, np.nan, 1.0)))
    assert axes.names == ("a", "b", "c")
    assert axes.explained[:2] == pytest.approx([2 / 3, 1 / 3], abs=0.01) and axes.explained.sum() == pytest.approx(1)
    loadings = axes.loadings()
    correlated = [np.corrcoef(table[name], axes.project(table)[:, 0])[0, 1] for name in axes.names]
    assert loadings["PC1"].to_numpy() == pytest.approx(correlated, abs=1e-6)
    assert axes.project(table).std(axis=0) ** 2 == pytest.approx(axes.explained * 3)
    with pytest.raises(ValueError, match="three or more complete rows"):
        fit_components(table[:2])
