"""Densities: as real images, along a growth curve, between two levels, from a list; and words that are none."""

import numpy as np
import pytest

from cellseg_d2.data.synthesis.cell_bank import BankImage
from cellseg_d2.data.synthesis.density import GrowthDensity, fit_growth, parse_density
from cellseg_d2.errors import DatasetError

PIXELS = 500 * 400


def image(cells, hours=None, height=500, width=400):
    """A source image of so many cells."""
    return BankImage("a.tif", 1, "a172", hours, height, width, "|u1", cells, 0.1, 128, 1, 10, 200, 0.5, 32)


def draws(text, images, count=300, like=None):
    """Targets of the first images."""
    model, rng = parse_density(text), np.random.default_rng(0)
    return [model.draw(like or images[0], images, index, rng) for index in range(count)]


def logistic(hours, limit=800, start=60, rate=0.08):
    """Cells an image after so many hours."""
    return limit / (1 + (limit / start - 1) * np.exp(-rate * np.asarray(hours, float)))


def test_real_numbers_of_cells_are_those_of_the_images():
    images = [image(100), image(200), image(400), image(0)]
    found = np.array([target.cells for target in draws("real", images)])
    ratio = found[:, None] / [100, 200, 400]
    near = np.abs(ratio - 1).argmin(axis=1)
    assert np.abs(ratio[np.arange(len(found)), near] - 1).max() <= 0.15 + 0.5 / 100
    assert np.bincount(near).min() > 60 and len(set(found.tolist())) > 30  # each in turn, spread


def test_real_numbers_follow_the_size_of_the_image():
    found = [target.cells for target in draws("real", [image(100)], like=image(0, height=1000, width=800))]
    assert 340 <= min(found) and max(found) <= 460 and np.mean(found) == pytest.approx(400, rel=0.03)


def test_growth_finds_the_curve_it_was_made_of():
    rng = np.random.default_rng(0)
    hours = np.repeat(np.arange(0, 97, 8), 4)
    counts = np.rint(logistic(hours) * rng.normal(1, 0.05, len(hours))).astype(int)
    curve = fit_growth([image(int(cells), float(time)) for cells, time in zip(counts, hours)])
    times = np.linspace(0, 96, 30)
    assert curve(times) * PIXELS == pytest.approx(logistic(times), rel=0.1)


def test_growth_draws_lie_on_the_curve_from_the_first_time_to_the_last():
    images = [image(round(float(logistic(time))), float(time)) for time in range(0, 97, 8)]
    found = np.array([target.cells for target in draws("growth", images, 200)])
    low, high = logistic(0), logistic(96)
    assert found.min() >= 0.85 * low - 1 and found.max() <= 1.15 * high + 1
    assert found.min() < 1.5 * low and found.max() > 0.9 * high  # and reach both ends
    assert np.median(found) == pytest.approx(logistic(48), rel=0.3)


@pytest.mark.parametrize("times", [[0, 8, 16], [0, 8, 16, 16, 8, 0], [None] * 6])
def test_growth_needs_four_times(times):
    with pytest.raises(DatasetError, match=r"at least 4 times.*a172.*'hours'.*another density"):
        draws("growth", [image(100, time) for time in times], 1)


def test_growth_of_images_that_do_not_grow():
    """A flat curve is none to fail at."""
    images = [image(100, float(time)) for time in range(6)]
    found = [GrowthDensity().draw(images[0], images, 0, np.random.default_rng(seed)).cells for seed in range(30)]
    assert min(found) >= 84 and max(found) <= 116


def test_uniform_and_list():
    shares = [target.confluence for target in draws("uniform:0.2:0.6", [image(10)])]
    assert 0.2 <= min(shares) < 0.23 and 0.57 < max(shares) <= 0.6
    assert [target.cells for target in draws("list:50,200,8", [image(10)], 5)] == [50, 200, 8, 50, 200]
    assert {target.confluence for target in draws("list:50", [image(10)], 2)} == {None}
    assert {target.confluence for target in draws("uniform:0.3:0.3", [image(10)], 5)} == {0.3}


@pytest.mark.parametrize("text", [
    "", "dense", "real:1", "growth:2", "uniform", "uniform:0.2", "uniform:0.2:0.6:0.8", "uniform:0.6:0.2",
    "uniform:0:0.5", "uniform:0.5:1", "uniform:20:80", "uniform:a:b", "uniform:nan:nan", "list", "list:", "list:5,",
    "list:-1", "list:1.5", "list:a", "list:5:6", "Real",
])  # fmt: skip
def test_other_words_are_refused_with_those_that_are_known(text):
    with pytest.raises(DatasetError) as caught:
        parse_density(text)
    assert repr(text) in str(caught.value) and "uniform:0.2:0.8" in str(caught.value)
