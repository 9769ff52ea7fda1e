"""Images without their cells: the smooth field, the noise, and what holes are filled with."""

import numpy as np
import pytest

from cellseg_d2.data.synthesis.background import LEAST_FREE, smooth_field, split_background
from cellseg_d2.data.synthesis.cutout import free_pixels

SHAPE, NOISE = (200, 240), 3.0


@pytest.fixture
def scene(paint_disc):
    """An image of dark discs on a gradient with noise; the gradient; the cells."""
    rows, columns = np.indices(SHAPE)
    gradient = 100 + 0.1 * columns + 0.05 * rows
    cells = np.zeros(SHAPE, bool)
    for y, x in ((50, 60), (60, 150), (130, 100), (140, 190), (100, 20)):
        cells |= paint_disc(SHAPE, y, x, 14)
    image = gradient + np.random.default_rng(0).normal(0, NOISE, SHAPE) - 60 * cells
    return image, gradient, cells


def test_the_smooth_field_follows_the_gradient_under_the_cells(scene):
    image, gradient, cells = scene
    found = split_background(image, free_pixels(cells, 4), 20, np.random.default_rng(0))
    error = np.abs(found.smooth - gradient)
    assert error[cells].mean() < 1.0 and error[cells].max() < 3.0 and error.mean() < 1.0
    assert found.smooth.dtype == found.residual.dtype == np.float32
    assert np.abs(image - gradient)[cells].min() > 40  # the cells themselves are far from it


def test_where_cells_were_the_noise_is_like_elsewhere(scene):
    image, _, cells = scene
    free = free_pixels(cells, 4)
    found = split_background(image, free, 20, np.random.default_rng(0))
    assert found.noise == pytest.approx(NOISE, rel=0.1)
    assert found.free == free.mean()
    assert found.residual[cells].std() == pytest.approx(NOISE, rel=0.1)
    assert found.residual[free].std() == pytest.approx(NOISE, rel=0.1)
    assert np.abs(found.residual[cells].mean()) < 0.5
    inner = found.residual[cells]  # real grain, not one value spread over the hole
    assert len(np.unique(inner)) > 0.5 * len(inner)


def test_dirt_is_left_where_it_is_and_does_not_multiply(scene, paint_disc):
    image, _, cells = scene
    dirt = paint_disc(SHAPE, 180, 40, 3)
    found = split_background(image + 80 * dirt, free_pixels(cells, 4), 20, np.random.default_rng(0))
    assert found.residual[dirt].mean() > 50
    assert np.abs(found.residual[cells]).max() < 8 * NOISE


def test_the_same_draws_fill_alike(scene):
    image, _, cells = scene
    free = free_pixels(cells, 4)
    one, same, other = (split_background(image, free, 20, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert (one.residual == same.residual).all() and (one.residual != other.residual)[cells].mean() > 0.5
    assert (one.residual == other.residual)[free].all() and (one.smooth == other.smooth).all()


def test_an_image_without_empty_places_has_no_background():
    image, free = np.full(SHAPE, 100.0), np.zeros(SHAPE, bool)
    assert split_background(image, free, 20, np.random.default_rng(0)) is None
    free.flat[: int(LEAST_FREE * free.size) - 1] = True
    assert split_background(image, free, 20, np.random.default_rng(0)) is None
    free.flat[: int(LEAST_FREE * free.size) + 1] = True
    assert split_background(image, free, 20, np.random.default_rng(0)) is not None


def test_a_single_free_corner_is_spread_over_the_image():
    free = np.zeros(SHAPE, bool)
    free[:40, :40] = True
    image = np.where(free, 50.0, 5000.0)
    field = smooth_field(image, free, 10)
    assert np.abs(field - 50).max() < 0.01


@pytest.mark.parametrize("level", [0, 60_000])
def test_a_constant_is_found_exactly_whatever_its_grey_value(level):
    free = np.random.default_rng(0).random(SHAPE) < 0.3
    assert np.abs(smooth_field(np.full(SHAPE, level, np.uint16), free, 8) - level).max() < 1e-3


def test_free_pixels_are_so_far_from_all_cells(paint_disc):
    cells = paint_disc((61, 61), 30, 30, 5)
    rows, columns = np.indices((61, 61))
    away = np.hypot(rows - 30, columns - 30)
    free = free_pixels(cells, 10)
    assert free[away > 16.5].all() and not free[away < 14].any()
