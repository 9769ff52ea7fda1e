"""Cells that have grown together are placed together, as they lay beside each other."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from cellseg_d2.data.synthesis.background import Background
from cellseg_d2.data.synthesis.cell_bank import BankImage, BankWriter, CellBank, Origin
from cellseg_d2.data.synthesis.cutout import cut_out
from cellseg_d2.data.synthesis.groups import MOST_TOGETHER, grown_together
from cellseg_d2.data.synthesis.recipe import draw_like
from cellseg_d2.data.synthesis.render import Draw, Scene, Target
from cellseg_d2.data.synthesis.units import FAR

SHAPE = (160, 200)


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    """A bank of a disc in two halves, and a disc far from it."""
    rows, columns = np.indices(SHAPE)
    disc = (rows - 60) ** 2 + (columns - 60) ** 2 <= 20**2
    masks = []
    for mask in (disc & (columns < 58), disc & (columns >= 58), (rows - 110) ** 2 + (columns - 150) ** 2 <= 15**2):
        there = np.argwhere(mask)
        (top, left), (bottom, right) = there.min(axis=0), there.max(axis=0) + 1
        masks.append((mask[top:bottom, left:right], int(top), int(left)))
    zero = np.zeros(SHAPE, np.float32)
    entry = BankImage("a.tif", 1, "", None, *SHAPE, "<f4", 3, 0.1, 0.0, 1.0, 30.0, 600.0, 0.5)
    path = tmp_path_factory.mktemp("halves") / "b.bank"
    with BankWriter(path, [{"id": 1, "name": "cell"}], {}) as writer:
        for name in ("a.tif", "b.tif"):
            image = BankImage(**{**entry.__dict__, "file_name": name})
            cells = list(cut_out(np.where(disc, 30.0, 0.0), masks, zero, zero))
            writer.add(image, Background(zero, zero, 0.5, 1.0), cells, [Origin(k, 0) for k in range(3)])
        writer.close_tables()
    return CellBank(path)


def test_cells_that_touch_are_a_group_with_wishes_of_its_own(halves):
    one, other, alone, *second = halves.cells[["group", "gap", "outer_gap", "contact", "outer_contact"]]
    assert one["group"] == other["group"] != alone["group"]
    assert not {cell["group"] for cell in second} & {one["group"], alone["group"]}  # of another image
    assert one["gap"] == 0 and one["contact"] > 0.2 and alone["gap"] == FAR
    assert one["outer_gap"] == alone["outer_gap"] == FAR and one["outer_contact"] == alone["outer_contact"] == 0


@pytest.mark.parametrize("turn", ["free", "right"])
def test_a_group_stays_together(halves, turn):
    """Its cells have one affine map, and together they are the disc that they were cut from."""
    cells, zero = np.arange(3), np.zeros((400, 400), np.float32)
    draw = draw_like(halves, halves.images[0], cells, Target(cells=3))
    assert sorted(np.diff([*draw.starts, 3]).tolist()) == [1, 2]
    whole = 0
    for seed in range(8):
        scene = Scene(zero, zero, reach=60.0)
        assert scene.fill(halves, draw, Target(cells=6), turn, np.random.default_rng(seed))
        found = {0: [], 1: []}
        for cell in scene.placed:
            if cell.cell < 2:
                found[cell.cell].append(cell)
        for left in found[0]:
            right = [cell for cell in found[1] if np.allclose(cell.affine, left.affine, atol=1e-6)]
            mask = np.isin(scene.labels, [left.label, *(cell.label for cell in right)])
            if not right or mask[[0, -1]].any() or mask[:, [0, -1]].any():
                continue
            whole += 1
            assert mask.sum() == pytest.approx(np.pi * 20.2**2, rel=0.03)
            assert ndimage.label(mask)[1] == 1 and (ndimage.binary_fill_holes(mask) == mask).all()
    assert whole >= 6


def test_a_target_is_met_within_a_group(halves):
    draw = draw_like(halves, halves.images[0], np.arange(2), Target(cells=5))
    zero = np.zeros((240, 240), np.float32)
    scene = Scene(zero, zero, reach=60.0)
    assert scene.fill(halves, draw, Target(cells=5), "free", np.random.default_rng(0)) and len(scene.placed) == 5


@given(st.lists(st.integers(1, 20), min_size=1, max_size=12), st.integers(1, 50), st.integers(0, 2**31))
def test_groups_are_drawn_as_a_whole(sizes, most, seed):
    starts = np.cumsum([0, *sizes])
    draw = Draw(np.arange(starts[-1]), starts[:-1], np.full(len(sizes), 1 / len(sizes)), np.ones(starts[-1]))
    chosen, drawn = draw.some(most, np.random.default_rng(seed))
    assert drawn.sum() == len(chosen) and (len(chosen) <= most or len(drawn) == 1)
    for part in np.split(chosen, np.cumsum(drawn)[:-1]):
        place = int(np.searchsorted(starts, part[0]))
        assert part.tolist() == list(range(starts[place], starts[place + 1]))


def test_groups_of_known_clusters():
    middles = np.array([[0, 0], [0, 10], [0, 20], [50, 50], [80, 0], [80, 10]])
    touched = [np.array(others, int) for others in ([1], [0, 2], [], [3], [], [4])]  # of pairs, one may say it
    groups = grown_together(middles, touched)
    assert len({*groups[:3]}) == 1 and groups[4] == groups[5] and len(set(groups.tolist())) == 3
    assert grown_together(middles[:0], []).shape == (0,)


@given(st.integers(1, 120), st.integers(0, 2**31))
def test_large_clusters_are_parted_into_compact_groups(count, seed):
    rng = np.random.default_rng(seed)
    middles = rng.integers(0, 500, (count, 2))
    chain = [np.array([k + 1]) for k in range(count - 1)] + [np.zeros(0, int)]
    sizes = np.bincount(grown_together(middles, chain))
    assert sizes.sum() == count and 1 <= sizes.min() and sizes.max() <= MOST_TOGETHER
    assert count <= MOST_TOGETHER or sizes.min() >= MOST_TOGETHER // 2


def test_a_group_that_is_larger_than_the_image(tmp_path):
    """Cells that lie wholly beside the canvas write nothing."""
    rows, columns = np.indices((40, 300))
    masks = []
    for middle in range(12, 290, 17):
        disc = (rows - 20) ** 2 + (columns - middle) ** 2 <= 8**2
        masks.append((disc[12:29, middle - 8 : middle + 9], 12, middle - 8))
    zero = np.zeros(rows.shape, np.float32)
    entry = BankImage("a.tif", 1, "", None, *rows.shape, "<f4", len(masks), 0.1, 0.0, 1.0, 30.0, 200.0, 0.5)
    with BankWriter(tmp_path / "b.bank", [{"id": 1, "name": "cell"}], {}) as writer:
        cells = list(cut_out(np.full(rows.shape, 30.0), masks, zero, zero))
        writer.add(entry, Background(zero, zero, 0.5, 1.0), cells, [Origin(k, 0) for k in range(len(cells))])
        writer.close_tables()
    bank = CellBank(tmp_path / "b.bank")
    assert np.bincount(bank.cells["group"]).max() >= 8
    draw = draw_like(bank, entry, np.arange(len(cells)), Target(cells=4))
    small = np.zeros((48, 48), np.float32)
    for seed in range(20):
        scene = Scene(small, small, reach=40.0)
        scene.fill(bank, draw, Target(cells=4), "free", np.random.default_rng(seed))
        picture = scene.picture("<f4")
        assert np.abs(picture).max() < 60 and (picture[scene.labels > 0] > 5).mean() > 0.9
        assert {cell.label for cell in scene.placed} <= set(np.unique(scene.labels).tolist())
