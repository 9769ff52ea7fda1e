"""The area is Mann and Whitney's U, points of the curve are counts, and thresholds part what they are chosen on."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from cellseg_d2.evaluation.roc import BINS, LIMIT, PixelRoc

WIDTH = 2 * LIMIT / BINS  # of a bin


def filled(logits, truth, valid=None) -> PixelRoc:
    roc = PixelRoc()
    roc.update(logits, truth, valid)
    return roc


def overlapping(seed, pixels=4000):
    """Logits of two normal distributions and the truth."""
    generator = np.random.default_rng(seed)
    truth = generator.random(pixels) < 0.3
    return generator.normal(np.where(truth, 1.5, -1.0), 1.7).astype(np.float32), truth


def rates(logits, truth, threshold):
    """Counted: tpr, fpr, precision and F1 of ``probability >= threshold``."""
    found = 1 / (1 + np.exp(-logits.astype(np.float64))) >= threshold
    tp, fp, fn = (found & truth).sum(), (found & ~truth).sum(), (~found & truth).sum()
    return tp / truth.sum(), fp / (~truth).sum(), tp / (tp + fp), 2 * tp / (2 * tp + fp + fn)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(-25, 25), st.booleans()), min_size=2, max_size=80))
def test_area_is_mann_whitney_s_u_with_ties_as_halves(pixels):
    logits, truth = np.array([p[0] for p in pixels], np.float32), np.array([p[1] for p in pixels])
    if truth.all() or not truth.any():
        with pytest.raises(ValueError, match="no (foreground|background) pixel"):
            filled(logits, truth).curve()
        return
    clipped = logits.clip(-LIMIT, LIMIT)
    u = mannwhitneyu(clipped[truth], clipped[~truth]).statistic
    pairs = clipped[truth][:, None] - clipped[~truth][None]
    assert u == (pairs > 0).sum() + (pairs == 0).sum() / 2
    assert filled(logits, truth).auc == pytest.approx(u / pairs.size, abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_area_of_continuous_logits(seed):
    logits, truth = overlapping(seed)
    u = mannwhitneyu(logits[truth], logits[~truth]).statistic
    assert filled(logits, truth).auc == pytest.approx(u / (truth.sum() * (~truth).sum()), abs=1e-5)


def test_curve_rises_from_0_to_1_while_thresholds_fall():
    fpr, tpr, thresholds = filled(*overlapping(0)).curve()
    assert len(fpr) == len(tpr) == len(thresholds) == BINS + 1
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
    assert (np.diff(fpr) >= 0).all() and (np.diff(tpr) >= 0).all() and (np.diff(thresholds) < 0).all()
    assert 0 < thresholds[-1] and thresholds[0] < 1


@pytest.mark.parametrize("threshold", [0.001, 0.3, 0.5, 0.9, 0.999])
def test_a_point_is_what_is_counted_at_its_threshold(threshold):
    logits, truth = overlapping(1)
    point = filled(logits, truth).at(threshold)
    assert abs(np.log(point.threshold / (1 - point.threshold)) - np.log(threshold / (1 - threshold))) <= WIDTH
    expected = rates(logits, truth, point.threshold)
    assert (point.tpr, point.fpr, point.precision, point.f1) == pytest.approx(expected, abs=1e-3)
    assert filled(logits, truth).at(point.threshold) == point


def test_chosen_points_are_the_best_of_all():
    logits, truth = overlapping(2, pixels=400)
    roc, every = filled(logits, truth), 1 / (1 + np.exp(-np.sort(logits).astype(np.float64) + 1e-9))
    counted = np.array([rates(logits, truth, threshold) for threshold in every])
    youden, f1 = roc.choose("youden"), roc.choose("f1")
    assert youden.tpr - youden.fpr == pytest.approx((counted[:, 0] - counted[:, 1]).max(), abs=1e-9)
    assert f1.f1 == pytest.approx(counted[:, 3].max(), abs=1e-9)
    assert (youden.how, f1.how) == ("youden", "f1")
    for limit in (0.003, 0.01, 0.2):
        point = roc.choose(f"fpr={limit}")
        assert point.fpr <= limit
        assert point.tpr == pytest.approx(counted[counted[:, 1] <= limit, 0].max(initial=0), abs=1e-9)
        assert point.how == f"fpr={limit}"


@pytest.mark.parametrize("how", ["youden", "f1", "fpr=0.01"])
def test_a_gap_between_the_classes_is_cut_in_the_middle(how):
    assert filled([-3.0, -1.0, 2.0, 4.0], [False, False, True, True]).choose(how).tpr == 1
    threshold = filled([-3.0, -1.0, 2.0, 4.0], [False, False, True, True]).choose(how).threshold
    assert np.log(threshold / (1 - threshold)) == pytest.approx(0.5, abs=2 * WIDTH)


@pytest.mark.parametrize("how", ["best", "fpr=", "fpr=0", "fpr=2", "tpr=0.5", "fpr=x"])
def test_unknown_rules(how):
    with pytest.raises(ValueError, match="TEST.ROC_CHOICE: .*youden.*f1.*fpr="):
        filled([0.0, 1.0], [False, True]).choose(how)


def test_parts_merged_are_the_whole():
    logits, truth = overlapping(3)
    whole, merged = filled(logits, truth), PixelRoc()
    for part in np.array_split(np.arange(len(logits)), 7):
        merged.merge(filled(logits[part], truth[part]))
    assert (merged.positives == whole.positives).all() and (merged.negatives == whole.negatives).all()
    assert merged.choose("f1") == whole.choose("f1")


def test_pixels_that_do_not_count():
    logits, truth = overlapping(4)
    valid = np.random.default_rng(0).random(len(logits)) < 0.5
    left_out = np.where(valid, logits, np.nan)
    shape = (40, -1)
    some = filled(left_out.reshape(shape), truth.reshape(shape), valid.reshape(shape))
    assert some.auc == filled(logits[valid], truth[valid]).auc
    assert some.positives.sum() == (truth & valid).sum()


def test_certain_pixels_are_clipped():
    roc = filled([-np.inf, -1e9, np.inf, 50.0], [False, False, True, True])
    assert roc.auc == 1 and 0 < roc.choose("f1").threshold < 1


def test_errors():
    with pytest.raises(ValueError, match="1 of 2 logits are NaN"):
        filled([np.nan, 1.0], [True, False])
    with pytest.raises(ValueError, match="one shape"):
        filled([0.0, 1.0], [True])
    with pytest.raises(ValueError, match="one shape"):
        filled([0.0, 1.0], [True, False], [True])


@pytest.mark.parametrize(("truth", "kind"), [([True, True], "background"), ([False, False], "foreground"), ([], "f")])
def test_pixels_of_one_kind_have_no_curve(truth, kind):
    roc = filled([0.0, 1.0][: len(truth)], truth)
    for call in (roc.curve, lambda: roc.auc, lambda: roc.choose("f1"), lambda: roc.at(0.5), roc.to_dict):
        with pytest.raises(ValueError, match=f"there is no {kind}"):
            call()


@pytest.mark.parametrize("seed", range(2))
def test_through_json_and_back(seed):
    """Files keep bins of 40 / 1,024 in logits: area and rates stay, to that resolution."""
    roc = filled(*overlapping(seed, 20000))
    text = json.dumps(roc.to_dict(), allow_nan=False)
    back = PixelRoc.from_dict(json.loads(text))
    assert len(text) < 20000
    assert back.positives.sum() == roc.positives.sum() and back.negatives.sum() == roc.negatives.sum()
    assert json.loads(text)["auc"] == roc.auc
    assert back.auc == pytest.approx(roc.auc, abs=1e-4)
    chosen = roc.choose("f1")
    assert back.at(chosen.threshold).f1 == pytest.approx(chosen.f1, abs=5e-3)
    assert back.to_dict() == {**roc.to_dict(), "auc": back.auc}
