"""Where cells are put: how many, how much they cover and hide, and how close to each other they lie."""

import numpy as np
import pytest
from scipy import ndimage

from cellseg_d2.data.synthesis.background import Background
from cellseg_d2.data.synthesis.cell_bank import BankImage, BankWriter, CellBank, Origin
from cellseg_d2.data.synthesis.cutout import cut_out
from cellseg_d2.data.synthesis.render import Draw, Scene, Target
from cellseg_d2.errors import DatasetError

SHAPE = (220, 260)
RADIUS = 7


@pytest.fixture(scope="module")
def disc_bank(tmp_path_factory, paint_disc):
    """``disc_bank(places)``: the bank of an image of discs."""

    def make(places, shape=(260, 320)):
        image, masks = np.zeros(shape, np.float32), []
        for y, x in places:
            full = paint_disc(shape, y, x, RADIUS)
            image += 40 * full
            top, left = y - RADIUS, x - RADIUS
            masks.append((full[top : y + RADIUS + 1, left : x + RADIUS + 1], top, left))
        zero = np.zeros(shape, np.float32)
        entry = BankImage("a.tif", 1, "", None, *shape, "<f4", len(masks), 0.1, 0, 1, 40, float(masks[0][0].sum()), 0.5)
        path = tmp_path_factory.mktemp("discs") / "b.bank"
        with BankWriter(path, [{"id": 1, "name": "cell"}], {}) as writer:
            cells = list(cut_out(image, masks, zero, zero))
            writer.add(entry, Background(zero, zero, 0.5, 1.0), cells, [Origin(k, 0) for k in range(len(cells))])
            writer.close_tables()
        return CellBank(path)

    return make


@pytest.fixture(scope="module")
def pairs(disc_bank):
    """Cells that all touch exactly one other cell."""
    middles = [(y, x) for y in range(30, 240, 60) for x in range(30, 280, 70)]
    return disc_bank([(y, x + right) for y, x in middles for right in (0, 2 * RADIUS + 1)])


@pytest.fixture(scope="module")
def loners(disc_bank):
    """Cells that keep 10 pixels away from all others."""
    step = 2 * RADIUS + 1 + 10
    return disc_bank([(y, x) for y in range(20, 240, step) for x in range(20, 300, step)])


def evenly(cells, weights=None):
    """A draw from these cells, crowded as they were."""
    count = len(cells)
    return Draw(
        cells, np.arange(count), np.full(count, 1 / max(count, 1)) if weights is None else weights, np.ones(count)
    )


def filled(bank, target, seed=0, turn="free", shape=SHAPE, **options):
    """A scene of cells of a bank, and whether the target was met."""
    zero = np.zeros(shape, np.float32)
    scene = Scene(zero, zero, reach=3 * float(np.sqrt(bank.images[0].area)), **options)
    done = scene.fill(bank, evenly(np.arange(len(bank.cells))), target, turn, np.random.default_rng(seed))
    return scene, done


def touching(labels):
    """Share of cells with a pixel of another one beside or diagonal to them."""
    found = [
        ((ndimage.grey_dilation(labels, (3, 3)) != label) & (labels == label)).any()
        or ((ndimage.grey_erosion(np.where(labels, labels, 2**30), (3, 3)) < label) & (labels == label)).any()
        for label in np.unique(labels[labels > 0])
    ]
    return float(np.mean(found))


def uniform(count, seed, disc):
    """Labels of as many discs at random places, none of which hides more than an eighth of another one."""
    rng, labels = np.random.default_rng(seed), np.zeros(SHAPE, np.int32)
    placed = 0
    while placed < count:
        mask = disc(SHAPE, rng.uniform(0, SHAPE[0]), rng.uniform(0, SHAPE[1]), RADIUS)
        if (labels[mask] > 0).sum() <= 0.12 * mask.sum():
            placed += 1
            labels[mask & (labels == 0)] = placed
    return labels


@pytest.mark.parametrize("count", [1, 3, 60])
def test_the_number_of_cells_is_met(pairs, count):
    for seed in range(5):
        scene, done = filled(pairs, Target(cells=count), seed)
        assert done and len(scene.placed) == count
        labels = {cell.label for cell in scene.placed}
        assert len(labels) == count and labels <= set(np.unique(scene.labels))


def test_no_cells_are_asked_for(pairs):
    scene, done = filled(pairs, Target(cells=0))
    assert done and not scene.placed and not scene.labels.any()


@pytest.mark.parametrize("share", [0.1, 0.4])
def test_confluence_is_met_to_one_cell(loners, share):
    for seed in range(3):
        scene, done = filled(loners, Target(confluence=share), seed)
        covered = (scene.labels > 0).sum()
        assert done and share * scene.labels.size <= covered + 0.5
        assert covered <= share * scene.labels.size + 1.05 * loners.cells["area"].max()


def test_confluence_is_met_by_cells_that_overlap(pairs):
    missing = []
    for seed in range(6):
        scene, _ = filled(pairs, Target(confluence=0.1), seed)
        missing.append(round(0.1 * scene.labels.size) - (scene.labels > 0).sum())
    assert max(missing) <= 0


@pytest.mark.parametrize("seed", range(3))
def test_no_cell_hides_much_of_another_one(pairs, seed):
    """Where cells are not turned, their whole masks are known, and so what is hidden of each."""
    scene, _ = filled(pairs, Target(cells=10_000), seed, turn="none")
    hidden = []
    for cell in scene.placed:
        row = pairs.cells[cell.cell]
        rows, columns = np.nonzero(pairs.patch(cell.cell)[1] > 0)
        x, y = np.rint(cell.affine[:, 2]).astype(int)
        rows, columns = rows + row["top"] + y, columns + row["left"] + x
        if min(rows.min(), columns.min()) >= 0 and rows.max() < SHAPE[0] and columns.max() < SHAPE[1]:
            hidden.append(1 - (scene.labels[rows, columns] == cell.label).mean())
    assert len(hidden) > 50 and 0 < max(hidden) <= 0.15  # 12 % and what the sampled outline does not see
    assert np.mean(np.array(hidden) > 0.12) < 0.03


def test_a_full_image_says_so(pairs):
    scene, done = filled(pairs, Target(cells=10_000))
    assert done is False
    assert 0.5 < (scene.labels > 0).mean() < 1
    scene, done = filled(pairs, Target(confluence=0.99))
    assert done is False


def test_cells_lie_on_the_frame_as_often_as_elsewhere(loners):
    """An image is a part of a larger one: the outermost pixels are covered as often as all others."""
    rims, inner = [], []
    for seed in range(12):
        covered = filled(loners, Target(confluence=0.15), seed)[0].labels > 0
        rims += [covered[[0, -1]].mean(), covered[:, [0, -1]].mean()]
        inner.append(covered[20:-20, 20:-20].mean())
    assert 0.5 < np.mean(rims) / np.mean(inner) < 1.6


def test_taken_pixels_stay_free(pairs):
    taken = np.zeros(SHAPE, bool)
    taken[60:150, 80:200] = True
    scene, _ = filled(pairs, Target(cells=80), taken=taken)
    assert len(scene.placed) > 40 and not scene.labels[taken].any()


def test_touching_cells_touch_again(pairs, paint_disc):
    """All cells of the bank touch another one; at random places far fewer do."""
    assert (pairs.cells["gap"] < 1).all() and (pairs.cells["contact"] > 0).all()
    for seed in range(2):
        scene, _ = filled(pairs, Target(cells=40), seed)
        ours, random = touching(scene.labels), touching(uniform(40, seed, paint_disc))
        assert abs(ours - 1) < 0.5 * abs(random - 1) and ours > 0.8


def test_cells_that_keep_apart_do_so_again(loners, paint_disc):
    assert (loners.cells["gap"] >= 9).all() and not loners.cells["contact"].any()
    for seed in range(2):
        scene, _ = filled(loners, Target(cells=40), seed)
        ours, random = touching(scene.labels), touching(uniform(40, seed, paint_disc))
        assert ours < 0.5 * random and ours < 0.15


def test_nothing_to_draw_from(pairs):
    zero, rng = np.zeros(SHAPE, np.float32), np.random.default_rng(0)
    with pytest.raises(DatasetError, match="no usable cell"):
        Scene(zero, zero, 50.0).fill(pairs, evenly(np.zeros(0, np.int64)), Target(cells=1), "free", rng)


def test_weights_choose_among_the_cells(pairs):
    zero, rng = np.zeros(SHAPE, np.float32), np.random.default_rng(0)
    scene, weights = Scene(zero, zero, 50.0), np.zeros(len(pairs.cells))
    weights[3] = 1
    assert scene.fill(pairs, evenly(np.arange(len(weights)), weights), Target(cells=5), "free", rng)
    assert {cell.cell for cell in scene.placed} == {3}


def test_a_scene_can_be_filled_further(pairs):
    scene, _ = filled(pairs, Target(cells=10))
    before = {cell.label: (scene.labels == cell.label).sum() for cell in scene.placed}
    assert scene.fill(pairs, evenly(np.arange(len(pairs.cells))), Target(cells=25), "free", np.random.default_rng(9))
    assert len(scene.placed) == 25 and set(before) <= {cell.label for cell in scene.placed}
