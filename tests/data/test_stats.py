"""Measures of the cells of an image: known answers on discs and squares, and what changes nothing."""

from math import nan, pi

import numpy as np
import pandas as pd
import pytest

from cellseg_d2.crops import encode_crop
from cellseg_d2.data.stats import Tables, measure_image, summarise
from cellseg_d2.data.stats.cells import RING_SHARE

SIZE = 60, 80


def square(x: int, y: int, side: int) -> dict:
    """Run lengths of a square whose upper left pixel is x, y."""
    return encode_crop(np.ones((side, side), dtype=bool), [x, y], *SIZE)


def disc(x: int, y: int, radius: int) -> dict:
    rows, columns = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return encode_crop(rows**2 + columns**2 <= radius**2, [x - radius, y - radius], *SIZE)


def test_size_place_and_distance():
    found = measure_image(np.zeros(SIZE), [square(10, 20, 4), square(13, 24, 4), square(60, 20, 9)])
    cells, image = found.cells, found.image
    assert cells["area"].tolist() == [16, 16, 81] and cells["area"].dtype == np.int64
    assert cells["diameter"] == pytest.approx(np.sqrt(4 * np.array([16, 16, 81]) / pi))
    assert cells["x"].tolist() == [12, 15, 64.5] and cells["y"].tolist() == [22, 26, 24.5]
    assert cells["nearest"] == pytest.approx([5, 5, np.hypot(49.5, 1.5)])
    assert cells["nearest_diameters"] == pytest.approx(cells["nearest"] / cells["diameter"])
    assert image["cells"] == 3 and image["density"] == pytest.approx(3 / 4800 * 1e6)
    assert image["confluence"] == pytest.approx(113 / 4800)


def test_confluence_counts_pixels_of_several_cells_once():
    assert measure_image(np.zeros(SIZE), [square(10, 10, 10), square(15, 10, 10)]).image["confluence"] == 150 / 4800


@pytest.mark.parametrize(("x", "y", "cut"), [(0, 9, True), (9, 0, True), (70, 9, True), (9, 50, True), (1, 49, False)])
def test_cells_at_the_frame(x, y, cut):
    assert measure_image(np.zeros(SIZE), [square(x, y, 10)]).cells["at_border"].tolist() == [cut]


@pytest.mark.parametrize(("dtype", "offset"), [(np.uint8, 0), (np.uint16, 32768), (np.float32, 0)])
def test_contrast_is_that_of_the_cell_and_its_ring(dtype, offset):
    """Cells of 130 on a ground of 100 left and 110 right, noise of 2 up and down: the ring is local, noise is not."""
    image = np.full(SIZE, 100.0)
    image[:, 40:] = 110
    image[::2] += 2
    image[1::2] -= 2
    image[10:30, 10:30] = image[10:30, 50:70] = 130
    found = measure_image((image + offset).astype(dtype), [square(10, 10, 20), square(50, 10, 20)])
    assert found.cells["foreground"] == pytest.approx([130 + offset] * 2)
    assert found.cells["foreground_sd"] == pytest.approx([0, 0])
    assert found.cells["contrast"] == pytest.approx([30, 20], abs=0.2)
    noise = np.sqrt(5**2 + 2**2)
    assert found.image["background"] == pytest.approx(105 + offset)
    assert found.image["background_sd"] == pytest.approx(noise)
    assert found.cells["contrast_to_noise"] == pytest.approx(found.cells["contrast"] / noise)
    assert found.image["contrast"] == pytest.approx(25)


def test_a_ring_is_as_wide_as_its_share_of_the_diameter():
    """Grey values that are the distance from the centre: their mean between two radii is known."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    image = np.hypot(rows - 30, columns - 40)
    inner, outer = 16.0, 16.0 * (1 + 2 * RING_SHARE)
    expected = 2 / 3 * (outer**3 - inner**3) / (outer**2 - inner**2)
    assert measure_image(image, [disc(40, 30, 16)]).cells["ring"] == pytest.approx([expected], abs=0.5)


def test_neighbours_and_crowds_are_no_background():
    image = np.full(SIZE, 10, dtype=np.uint8)
    image[20:30, 20:30], image[20:30, 30:40], image[20:30, 10:20] = 50, 200, 90
    found = measure_image(image, [square(20, 20, 10), square(30, 20, 10)], [square(10, 20, 10)])
    assert found.cells["ring"].tolist() == [10, 10] and found.cells["contrast"].tolist() == [40, 190]
    assert found.image["background"] == 10 and found.image["confluence"] == 200 / 4800
    assert np.isnan(found.image["contrast_to_noise"])  # no noise


def test_an_enclosed_cell_has_no_ring_and_a_lone_one_no_neighbour():
    found = measure_image(np.ones(SIZE), [square(20, 20, 6), square(10, 10, 30)])
    assert np.isnan(found.cells["ring"]).tolist() == [True, False]
    assert np.isnan(measure_image(np.ones(SIZE), [square(0, 0, 5)]).cells["nearest"]).all()


def test_an_image_without_cells():
    found = measure_image(np.full(SIZE, 7, dtype=np.uint8), [])
    assert {len(column) for column in found.cells.values()} == {0}
    assert found.image["cells"] == found.image["confluence"] == 0 and found.image["background"] == 7
    assert np.isnan([found.image["foreground"], found.image["diameter"]]).all()


def test_a_shift_moves_the_centres_and_changes_nothing_else():
    rng = np.random.default_rng(0)
    image, places = rng.integers(0, 255, SIZE, dtype=np.uint8), [(15, 16), (25, 30), (40, 20)]
    before = measure_image(image, [disc(x, y, 5) for x, y in places]).cells
    moved = np.roll(image, (7, 11), axis=(0, 1))
    after = measure_image(moved, [disc(x + 11, y + 7, 5) for x, y in places]).cells
    assert after["x"] == pytest.approx(before["x"] + 11) and after["y"] == pytest.approx(before["y"] + 7)
    for key in before.keys() - {"x", "y"}:
        assert after[key] == pytest.approx(before[key]), key


def test_run_lengths_of_another_size():
    with pytest.raises(ValueError, match="60, 80"):
        measure_image(np.zeros((60, 81)), [square(0, 0, 5)])


def test_limits_of_size_belong_to_medium_cells():
    found = measure_image(np.zeros(SIZE), [square(0, 0, 17), square(20, 0, 18), square(40, 0, 31), square(0, 20, 32)])
    groups = {"cell_type": [nan], "well": [nan], "time": [nan]}
    tables = Tables(pd.DataFrame(found.cells), pd.DataFrame([found.image]).assign(**groups), 0)
    overall = summarise(tables)["overall"]
    assert overall["sizes"] == {"small": 0.25, "medium": 0.5, "large": 0.25}
    assert overall["area"]["median"] == (18**2 + 31**2) / 2 and overall["area"]["count"] == 4
    assert overall["area"]["min"] == 17**2 and overall["area"]["max"] == 32**2
    assert overall["cells_an_image"] == dict.fromkeys(overall["cells_an_image"], 4.0) | {"count": 1, "sd": 0.0}
