"""The picture of a scene: backgrounds stay, cells look as where they were cut out, grey values keep to their type."""

import numpy as np
import pytest
from scipy import ndimage

from cellseg_d2.data.synthesis.measuring_loops import noise_level
from cellseg_d2.data.synthesis.render import Draw, Scene, Target
from cellseg_d2.data.synthesis.units import MARGIN

SHAPE = (200, 180)


@pytest.fixture
def ground():
    """A background: a gradient and noise."""
    rows, columns = np.indices(SHAPE)
    smooth = (100 + 0.05 * rows + 0.1 * columns).astype(np.float32)
    return smooth, np.random.default_rng(0).normal(0, 1.4, SHAPE).astype(np.float32)


def usable(bank):
    """A draw from the cells that may be used."""
    cells = np.flatnonzero(bank.cells["usable"])
    return Draw(cells, np.arange(len(cells)), np.full(len(cells), 1 / len(cells)), np.ones(len(cells)))


def painted(bank, ground, count, turn="none", seed=0):
    """A scene of so many cells."""
    scene = Scene(*ground, reach=40.0)
    assert scene.fill(bank, usable(bank), Target(cells=count), turn, np.random.default_rng(seed))
    return scene


@pytest.mark.parametrize("dtype", ["|u1", "<u2", "<f4"])
def test_an_empty_scene_is_its_background(ground, dtype):
    picture = Scene(*ground, reach=40.0).picture(dtype)
    expected = ground[0] + ground[1]
    assert picture.dtype == dtype and picture.shape == SHAPE
    assert picture == pytest.approx(expected if dtype == "<f4" else np.rint(expected), abs=1e-3)


@pytest.mark.parametrize("turn", ["none", "free"])
def test_far_from_cells_the_background_stays(bank, ground, turn):
    scene = painted(bank, ground, 6, turn)
    far = ndimage.distance_transform_edt(scene.labels == 0) > 1.5 * MARGIN
    far[: 2 * MARGIN] = far[-2 * MARGIN :] = far[:, : 2 * MARGIN] = far[:, -2 * MARGIN :] = False  # cells beyond
    assert far.sum() > 1000
    assert scene.picture("<f4")[far] == pytest.approx((ground[0] + ground[1])[far], abs=0.01)


def test_a_lone_cell_is_as_it_was_cut_out(bank, ground):
    compared = 0
    for seed in range(6):
        scene = painted(bank, ground, 1, seed=seed)
        (cell,) = scene.placed
        delta, distance = bank.patch(cell.cell)
        row = bank.cells[cell.cell]
        rows, columns = np.nonzero(distance > 0)
        x, y = np.rint(cell.affine[:, 2]).astype(int)
        at = rows + row["top"] + y, columns + row["left"] + x
        seen = (at[0] >= 0) & (at[1] >= 0) & (at[0] < SHAPE[0]) & (at[1] < SHAPE[1])
        at = at[0][seen], at[1][seen]
        above = scene.picture("<f4")[at] - ground[0][at]
        inner = np.minimum(np.minimum(*at), np.minimum(SHAPE[0] - at[0], SHAPE[1] - at[1])) > 2 * MARGIN
        assert above[inner] == pytest.approx(delta[rows[seen], columns[seen]][inner], abs=0.05)
        compared += inner.sum()
        assert (scene.labels[at] == cell.label).all()
    assert compared > 300


def test_turned_cells_are_as_noisy_as_the_real_ones(bank, ground):
    """Turning takes noise away, which is put back."""
    levels = {}
    for turn in ("none", "free"):
        scenes = [painted(bank, ground, 25, turn, seed) for seed in range(2)]
        levels[turn] = np.mean([noise_level(scene.picture("<f4"), scene.labels > 0) for scene in scenes])
    assert levels["free"] == pytest.approx(levels["none"], rel=0.15)


@pytest.mark.parametrize(("level", "limit"), [(250.0, 255), (5.0, 0)])
def test_grey_values_are_cut_at_their_limits(bank, level, limit):
    smooth = np.full(SHAPE, level, np.float32)
    picture = painted(bank, (smooth, np.zeros_like(smooth)), 12).picture("|u1").astype(float)
    assert (picture == limit).sum() > 10  # rims are brighter, cells darker by more than that
    assert np.abs(picture - level).max() < 120  # nothing wraps around


def test_overlapping_cells_lie_between_each_other(bank, ground):
    """A picture of many cells has no values that none of them has."""
    scene = painted(bank, ground, 40)
    deltas = [bank.patch(cell.cell)[0] for cell in scene.placed]
    above = scene.picture("<f4") - ground[0]
    most = 5 * 1.4 + 1
    assert min(delta.min() for delta in deltas) - most < above.min()
    assert above.max() < max(delta.max() for delta in deltas) + most


def test_a_cell_that_leaves_the_image_is_cut_by_the_frame(bank, ground):
    """Cells do reach over the frame, and are annotated with what is seen of them."""
    cut = 0
    for seed in range(6):
        scene = painted(bank, ground, 15, seed=seed)
        for cell in scene.placed:
            seen = (scene.labels == cell.label).sum()
            assert 16 <= seen <= bank.cells["area"][cell.cell]
            cut += seen < 0.8 * bank.cells["area"][cell.cell]
    assert cut > 3
