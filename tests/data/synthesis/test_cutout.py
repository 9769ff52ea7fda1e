"""Cells cut out: grey values above the background, outlines, halos, and how far the neighbours are."""

import numpy as np
import pytest

from cellseg_d2.data.synthesis.cutout import cut_out, signed_distance
from cellseg_d2.data.synthesis.units import FAR, MARGIN

SHAPE = (140, 180)


@pytest.fixture
def cut(paint_disc):
    """``cut(places, radius)``: cutouts of discs 40 above a background of 100, with a halo of 25 up to 3 pixels off."""

    def run(places, radius=10, halo=0.0):
        image = np.full(SHAPE, 100.0, np.float32)
        masks, rings = [], np.zeros(SHAPE, bool)
        for y, x in places:
            full = paint_disc(SHAPE, y, x, radius)
            rings |= paint_disc(SHAPE, y, x, radius + 3)
            rows, columns = np.nonzero(full)
            top, left = rows.min(), columns.min()
            masks.append((full[top : rows.max() + 1, left : columns.max() + 1], int(top), int(left)))
        image += halo * rings
        for mask, top, left in masks:
            image[top : top + mask.shape[0], left : left + mask.shape[1]][mask] = 140
        return list(cut_out(image, masks, np.full(SHAPE, 100, np.float32), np.zeros(SHAPE, np.float32)))

    return run


def test_a_disc_is_its_brightness_above_the_background(cut, paint_disc):
    (cell,) = cut([(70, 90)])
    assert (cell.top, cell.left) == (60 - MARGIN, 80 - MARGIN)
    assert cell.delta.shape == cell.distance.shape == (21 + 2 * MARGIN,) * 2
    inside = cell.distance > 0
    assert (inside == paint_disc(inside.shape, 10 + MARGIN, 10 + MARGIN, 10)).all()
    assert cell.area == inside.sum()
    assert cell.delta[inside] == pytest.approx(40) and cell.contrast == pytest.approx(40)
    assert np.abs(cell.delta[cell.distance < -4]).max() < 0.5
    assert 0.9 < cell.solidity <= 1
    assert (cell.gap, cell.contact, cell.overlapped, cell.crowding, cell.at_border) == (FAR, 0, 0, 0, False)


def test_distances_are_right_to_half_a_pixel(paint_disc):
    rows, columns = np.indices((61, 61))
    found = signed_distance(paint_disc((61, 61), 30, 30, 15))
    assert np.abs(found - (15 - np.hypot(rows - 30, columns - 30)))[1:-1, 1:-1].max() < 0.75
    half = np.zeros((9, 20), bool)
    half[:, :8] = True  # the outline is the line x = 8; pixel k has its middle at k + 0.5
    assert signed_distance(half) == pytest.approx(np.broadcast_to(8 - np.arange(20) - 0.5, (9, 20)), abs=0.02)


def test_the_halo_is_kept_and_ends_softly(cut):
    (cell,) = cut([(70, 90)], halo=25.0)
    away = -cell.distance / 4
    assert cell.delta[(away > 0) & (away < 1.5)] == pytest.approx(25, abs=3)
    assert np.abs(cell.delta[away > 8]).max() < 1
    assert np.abs(cell.delta[[0, -1]]).max() < 1e-3 and np.abs(cell.delta[:, [0, -1]]).max() < 1e-3


@pytest.mark.parametrize("apart", [2, 5, 12])
def test_the_gap_of_two_discs(cut, apart):
    """Discs of radius 10 in a row: columns 80..100, and the other one begins ``apart`` columns later."""
    one, other = cut([(70, 90), (70, 90 + 21 + apart)])
    assert one.gap == pytest.approx(apart, abs=0.5) and other.gap == pytest.approx(apart, abs=0.5)
    assert one.crowding == other.crowding == 1
    assert one.overlapped == other.overlapped == 0
    assert (one.contact > 0) == (apart <= 2)


def test_neighbours_beyond_reach_are_none(cut):
    one, other = cut([(70, 30), (70, 150)])
    assert one.gap == other.gap == FAR and one.crowding == other.crowding == 0


def test_discs_that_touch_and_that_overlap(cut):
    touching = cut([(70, 80), (70, 101)])
    assert all(cell.gap < 0.5 and 0.02 < cell.contact < 0.4 and cell.overlapped == 0 for cell in touching)
    surrounded, *_ = cut([(70, 90), (70, 111), (70, 69), (49, 90), (91, 90)])
    assert surrounded.contact > 3 * touching[0].contact and surrounded.crowding == 4
    overlapping = cut([(70, 80), (70, 92)])
    rows, columns = np.indices(SHAPE)
    both = (np.hypot(rows - 70, columns - 80) <= 10) & (np.hypot(rows - 70, columns - 92) <= 10)
    for cell in overlapping:
        assert cell.gap == 0 and cell.overlapped == pytest.approx(both.sum() / cell.area)


def test_nothing_of_a_neighbour_is_cut_out_with_a_cell(cut):
    cell, _ = cut([(70, 90), (70, 90 + 21 + 5)])
    assert np.abs(cell.delta[cell.distance < -16]).max() < 12  # the neighbour is 40 above the background


@pytest.mark.parametrize(("y", "x", "flag"), [(10, 90, True), (11, 90, False), (70, 10, True), (70, 169, True),
                                              (70, 168, False), (129, 90, True), (128, 90, False)])
def test_cells_at_the_frame_are_flagged(cut, y, x, flag):
    (cell,) = cut([(y, x)])
    assert bool(cell.at_border) is flag


def test_neighbours_are_counted_as_if_the_image_went_on(cut):
    """A cell in the corner sees a quarter of its square; the others there count four times."""
    corner = cut([(12, 12), (12, 40)], radius=10)[0].crowding
    middle = cut([(70, 90), (70, 118)], radius=10)[0].crowding
    assert middle == 1 and 2 < corner < 4


def test_no_cells():
    assert list(cut_out(np.zeros(SHAPE), [], np.zeros(SHAPE, np.float32), np.zeros(SHAPE, np.float32))) == []
