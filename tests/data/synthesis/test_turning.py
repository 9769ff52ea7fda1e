"""Cells that are turned: right angles lose nothing, other angles little, and the affine map says where all went."""

import numpy as np
import pytest
from scipy import ndimage

from cellseg_d2.data.synthesis.background import Background
from cellseg_d2.data.synthesis.cell_bank import BankImage, BankWriter, CellBank, Origin
from cellseg_d2.data.synthesis.cutout import cut_out
from cellseg_d2.data.synthesis.patches import draw_patches
from cellseg_d2.data.synthesis.units import FAR, MARGIN, NEAR, UNIT

SHAPE = (96, 120)
MIDDLE = (45.0, 62.0)  # row and column of the blob, beside the middle of its cell


def make_bank(path, mask, values):
    """A bank of one cell of these grey values (H x W, on a background of 0)."""
    rows, columns = np.nonzero(mask)
    top, left = int(rows.min()), int(columns.min())
    tight = mask[top : rows.max() + 1, left : columns.max() + 1]
    zero = np.zeros(SHAPE, np.float32)
    entry = BankImage("a.tif", 1, "", None, *SHAPE, "<f4", 1, 0.1, 0.0, 1.0, 30.0, 300.0, 0.5)
    with BankWriter(path, [], {}) as writer:
        cells = list(cut_out(values.astype(np.float32), [(tight, top, left)], zero, zero))
        writer.add(entry, Background(zero, zero, 0.5, 1.0), cells, [Origin(1, 0)])
        writer.close_tables()
    return CellBank(path)


@pytest.fixture(scope="module")
def ellipse():
    """H x W bool."""
    rows, columns = np.indices(SHAPE)
    return ((rows - 47.5) / 17) ** 2 + ((columns - 60) / 23) ** 2 <= 1


@pytest.fixture(scope="module")
def blob(tmp_path_factory, ellipse):
    """A bank of one smooth cell that is not symmetric."""
    rows, columns = np.indices(SHAPE)
    bump = np.exp(-((rows - MIDDLE[0]) ** 2 + (columns - MIDDLE[1]) ** 2) / 2 / 4**2)
    return make_bank(tmp_path_factory.mktemp("blob") / "b.bank", ellipse, 100 * bump)


@pytest.fixture(scope="module")
def noisy(tmp_path_factory, ellipse):
    """A bank of one cell of white noise of standard deviation 10."""
    noise = np.random.default_rng(0).normal(0, 10, SHAPE) * ellipse
    return make_bank(tmp_path_factory.mktemp("noisy") / "b.bank", ellipse, noise)


def drawn(bank, turn, count=40, seed=0):
    """Patches, and of each its grey values and distances."""
    patches = draw_patches(
        bank, np.zeros(count, np.int64), np.ones(count, np.int64), turn, np.random.default_rng(seed), np.ones(count)
    )
    planes = []
    for size, start in zip(patches.sizes, patches.starts):
        place = slice(start, start + size.prod())
        planes.append((patches.deltas[place].reshape(size), patches.outlines[place].reshape(size)))
    return patches, planes


def centre(plane):
    """Continuous x and y of the middle of the grey values, pixel (0, 0) having its middle at (0.5, 0.5)."""
    y, x = ndimage.center_of_mass(plane)
    return np.array([x + 0.5, y + 0.5])


def test_no_turn_is_no_change(noisy):
    patches, planes = drawn(noisy, "none", 3)
    delta, distance = noisy.patch(0)
    for affine, (turned, outline) in zip(patches.affine, planes):
        assert turned == pytest.approx(delta, abs=1e-4) and (outline == distance).all()
        corner = [noisy.cells[0]["left"], noisy.cells[0]["top"]]
        assert affine[:, :2] == pytest.approx(np.eye(2)) and affine[:, 2] == pytest.approx(np.negative(corner))


def test_right_angles_and_mirror_images_are_exact(noisy):
    """All eight occur, as NumPy turns them, and the affine map names the right one."""
    patches, planes = drawn(noisy, "right", 64)
    delta, distance = noisy.patch(0)
    seen = set()
    for affine, (turned, outline) in zip(patches.affine, planes):
        mirrored = np.linalg.det(affine[:, :2]) < 0
        upright = affine[:, :2] @ np.diag([-1 if mirrored else 1, 1])  # what comes after the mirror
        quarters = int(np.rint(np.arctan2(upright[1, 0], upright[0, 0]) / (np.pi / 2))) % 4
        seen.add((bool(mirrored), quarters))
        # x axis to y axis is clockwise on the screen, NumPy turns the other way
        for plane, ours in ((delta, turned), (distance, outline)):
            expected = np.rot90(plane[:, ::-1] if mirrored else plane, -quarters)
            assert expected.shape == ours.shape and np.abs(expected - ours).max() < 1e-4
    assert len(seen) == 8


@pytest.mark.parametrize("turn", ["none", "right", "free"])
def test_a_blob_goes_where_the_map_says(blob, turn):
    patches, planes = drawn(blob, turn)
    for affine, (turned, _) in zip(patches.affine, planes):
        expected = affine @ [MIDDLE[1] + 0.5, MIDDLE[0] + 0.5, 1]
        assert np.abs(centre(np.maximum(turned, 0)) - expected).max() < 0.15
        assert affine[:, :2] @ affine[:, :2].T == pytest.approx(np.eye(2), abs=1e-9)  # nothing is stretched


def test_free_turns_go_all_around_and_are_mirrored_half_of_the_time(blob):
    patches, _ = drawn(blob, "free", 400)
    linear = patches.affine[:, :, :2]
    sides = np.linalg.det(linear)
    angles = np.arctan2(-linear[:, 0, 1], linear[:, 1, 1])
    assert 0.4 < (sides < 0).mean() < 0.6
    counts = np.histogram(angles, 8, (-np.pi, np.pi))[0]
    assert counts.min() > 25 and counts.max() < 80


def test_outlines_turn_with_the_cell(blob, ellipse):
    """The turned mask is the ellipse seen through the map: few pixels along its outline differ."""
    patches, planes = drawn(blob, "free")
    for affine, (_, outline) in zip(patches.affine, planes):
        mask = outline > 0
        assert mask.sum() == pytest.approx(ellipse.sum(), rel=0.02)
        rows, columns = np.indices(mask.shape)
        points = np.stack([columns.ravel() + 0.5, rows.ravel() + 0.5]) - affine[:, 2:]
        x, y = np.linalg.inv(affine[:, :2]) @ points
        expected = (((y - 48) / 17) ** 2 + ((x - 60.5) / 23) ** 2 <= 1).reshape(mask.shape)
        assert (mask & expected).sum() > 0.96 * (mask | expected).sum()
        assert not mask[:MARGIN].any() and not mask[-MARGIN:].any() and not mask[:, :MARGIN].any()


@pytest.mark.parametrize("radius", [15, 42])  # the larger one is deeper than distances are kept
def test_the_area_of_a_disc_is_kept(tmp_path, paint_disc, radius):
    disc = paint_disc(SHAPE, 47, 60, radius)
    _, planes = drawn(make_bank(tmp_path / "b.bank", disc, 30.0 * disc), "free")
    areas = [int((outline > 0).sum()) for _, outline in planes]
    assert np.abs(np.array(areas) / disc.sum() - 1).max() < 0.02


def test_noise_is_not_smoothed_away(noisy):
    _, planes = drawn(noisy, "free")
    inner = [delta[outline > 8] for delta, outline in planes]
    before = noisy.patch(0)[0][noisy.patch(0)[1] > 8].var()
    assert np.mean([values.var() for values in inner]) > 0.7 * before
    assert np.mean([values.var() for values in inner]) < 1.02 * before


def test_rims_and_nearness_of_turned_cells(blob):
    patches, planes = drawn(blob, "free", 8)
    for n, (_, outline) in enumerate(planes):
        mask = outline > 0
        rim = patches.rims[patches.rim_starts[n] : patches.rim_starts[n + 1]]
        border = mask & ~ndimage.binary_erosion(mask)
        assert border[tuple(rim.T)].all() and len(rim) == pytest.approx(border.sum() / 2, rel=0.25)
        size = patches.sizes[n] + 2 * NEAR
        near = patches.nearness[patches.near_starts[n] :][: size.prod()].reshape(size) / UNIT
        true = np.minimum(ndimage.distance_transform_edt(~np.pad(mask, NEAR)), FAR)
        inner = (slice(1, -1),) * 2
        assert (np.abs(near - true) <= 0.12 * true + 0.01)[inner].all()


def test_the_same_draws_give_the_same_patches(noisy):
    (one, _), (same, _), (other, _) = (drawn(noisy, "free", 4, seed) for seed in (1, 1, 2))
    assert one.deltas.tobytes() == same.deltas.tobytes() and one.draws.tobytes() == same.draws.tobytes()
    assert one.deltas.tobytes() != other.deltas.tobytes()
