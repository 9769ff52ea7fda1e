"""Descriptors of cells and images: known answers on discs, squares, painted rings and lattices."""

import numpy as np
import pytest

from cellseg_d2.analysis.cell_layout import clark_evans
from cellseg_d2.analysis.cell_regions import regions_of
from cellseg_d2.analysis.descriptors import (
    CELL_NAMES,
    IMAGE_NAMES,
    cell_descriptors,
    image_descriptors,
    spectrum_slope,
)

SIZE = 120, 160


def disc(labels: np.ndarray, x: float, y: float, radius: float, name: int) -> np.ndarray:
    """Paint a disc; returns the distance of each pixel from its centre."""
    rows, columns = np.mgrid[: labels.shape[0], : labels.shape[1]]
    away = np.hypot(columns - x, rows - y)
    labels[away <= radius] = name
    return away


@pytest.fixture
def labels() -> np.ndarray:
    return np.zeros(SIZE, dtype=np.int32)


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(0).normal(100, 5, SIZE)


def only(labels, image=None):
    cells = cell_descriptors(labels, np.zeros(SIZE) if image is None else image)
    assert len(cells) == 1
    return cells.iloc[0]


def test_a_disc(labels):
    disc(labels, 60, 50, 20, 3)
    cell = only(labels)
    assert cell["label"] == 3 and not cell["at_border"] and (cell["x"], cell["y"]) == (60, 50)
    assert cell["area"] == np.count_nonzero(labels) == pytest.approx(np.pi * 400, rel=0.01)
    assert cell["perimeter"] == pytest.approx(2 * np.pi * 20, rel=0.04)
    assert cell["eccentricity"] == pytest.approx(0, abs=0.05) and cell["aspect_ratio"] == pytest.approx(1, abs=0.01)
    assert cell["form_factor"] == pytest.approx(1, abs=0.08) and cell["extent"] == pytest.approx(np.pi / 4, rel=0.06)


def test_a_rectangle(labels):
    labels[30:50, 40:100] = 1
    cell = only(labels)
    assert cell["area"] == 1200 and cell["extent"] == cell["solidity"] == 1
    assert cell["aspect_ratio"] == pytest.approx(3, rel=0.01)
    assert cell["eccentricity"] == pytest.approx((1 - 1 / 9) ** 0.5, abs=0.01)


def test_a_cell_at_the_frame_has_no_shape_but_grey_values(labels, noise):
    labels[0:20, 40:60] = 1
    cell = only(labels, noise)
    assert cell["at_border"] and np.isnan([cell["area"], cell["solidity"], cell["extent"]]).all()
    assert cell["mean_grey"] == pytest.approx(noise[0:20, 40:60].mean(), rel=1e-5)


def test_a_painted_halo_is_found_in_its_ring(labels):
    away, image = disc(labels, 80, 60, 20, 1), np.full(SIZE, 50.0)
    image[labels == 1] = 40
    distance = regions_of(labels).distance
    image[(distance > 2.5) & (distance <= 5.5)] = 90  # 3-5 px outside
    image[(distance < 0) & (distance >= -2.5)] = 70  # 1-2 px inside
    cell = only(labels, image)
    halo = {key: cell[f"halo_{key}"] for key in ("out_near", "out_mid", "out_far", "in_near", "in_mid", "in_far")}
    assert halo == {"out_near": 0, "out_mid": 40, "out_far": 0, "in_near": 20, "in_mid": -10, "in_far": -10}
    assert cell["edge_step"] == -20 and cell["contrast"] > -40
    assert away[(distance > 0) & (distance <= 2.5)].max() < 23.2


def test_halo_and_contrast_are_relative(labels, noise):
    disc(labels, 80, 60, 20, 1)
    before, after = only(labels, noise), only(labels, noise + 30)
    same = [name for name in CELL_NAMES if name != "mean_grey"]
    assert after[same].to_numpy(float) == pytest.approx(before[same].to_numpy(float), abs=1e-3, nan_ok=True)
    assert after["mean_grey"] == pytest.approx(before["mean_grey"] + 30, abs=1e-3)


def test_texture(labels, noise):
    labels[20:100, 20:140] = 1
    white, smooth = only(labels, noise), only(labels, np.add.outer(np.zeros(120), np.arange(160.0)))
    assert white["noise"] == pytest.approx(5, rel=0.05) and white["noise_ratio"] == pytest.approx(1, rel=0.06)
    assert white["glcm_contrast"] == pytest.approx(2 * 25, rel=0.05)
    assert white["glcm_correlation"] == pytest.approx(0, abs=0.03)
    assert smooth["noise"] == 0 and smooth["glcm_contrast"] == pytest.approx(0.5, abs=0.01)  # 1 across, 0 down
    assert smooth["gradient_fine"] == pytest.approx(1, rel=0.01) and smooth["glcm_correlation"] > 0.99


def test_resampling_shows_in_the_noise(labels, noise):
    labels[20:100, 20:140] = 1
    halfway = (noise + np.roll(noise, 1, axis=1)) / 2  # moved by half a pixel, linear
    before, after = only(labels, noise), only(labels, halfway)
    assert after["noise"] < 0.9 * before["noise"]
    assert after["noise_correlation"] > before["noise_correlation"] + 0.05


def test_neighbours(labels):
    labels[10:20, 10:20], labels[10:20, 20:30], labels[10:20, 31:41], labels[60:70, 60:70] = 1, 2, 3, 9
    cells = cell_descriptors(labels, np.zeros(SIZE)).set_index("label")
    assert cells["touching"].to_dict() == {1: 1, 2: 2, 3: 1, 9: 0}  # a gap of one pixel is drawn
    assert cells.loc[[1, 2, 3], "nearest_outline"].tolist() == [0, 0, 1]
    assert cells.loc[9, "nearest_outline"] == pytest.approx(np.hypot(20, 41) - 1, abs=1.5)
    assert cells.loc[[1, 3], "nearest_centre"].tolist() == [10, 11]
    assert cells["local_density"].isna().all()  # fewer than six cells


def test_density_of_neighbours(labels):
    for x in range(5, 160, 10):
        for y in range(5, 120, 10):
            disc(labels, x, y, 3, labels.max() + 1)
    cells = cell_descriptors(labels, np.zeros(SIZE))
    assert cells["local_density"].median() == pytest.approx(5 / (np.pi * 200) * 1e6)
    found = image_descriptors(labels, np.zeros(SIZE), cells)
    assert found["density"] == pytest.approx(1e4) and found["touching_share"] == 0
    assert found["clark_evans"] > 1.5 and found["confluence"] == pytest.approx(29 / 100)
    assert found["mean_area"] == 29 and tuple(found) == IMAGE_NAMES


def test_clark_evans():
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[5:200:10, 5:300:10]
    lattice = np.stack([columns.ravel(), rows.ravel()], axis=1)
    chance = rng.uniform((0, 0), (300, 200), (len(lattice), 2))
    clusters = np.repeat(rng.uniform((20, 20), (280, 180), (20, 2)), 30, axis=0) + rng.normal(0, 4, (600, 2))
    assert clark_evans(lattice, 200, 300) > 1.5
    assert clark_evans(chance, 200, 300) == pytest.approx(1, abs=0.06)
    assert clark_evans(clusters, 200, 300) < 0.7
    assert np.isnan(clark_evans(lattice[:1], 200, 300))


def test_ignored_regions_are_neither_cells_nor_background(labels, noise):
    disc(labels, 40, 60, 12, 1)
    before = only(labels, noise)
    spoilt, crowd = noise.copy(), labels.copy()
    spoilt[:, 100:], crowd[:, 100:] = 255, -1
    after = cell_descriptors(crowd, spoilt)
    assert after["label"].tolist() == [1]
    assert after.iloc[0]["contrast"] == pytest.approx(before["contrast"])
    assert after.iloc[0]["halo_out_near"] == pytest.approx(before["halo_out_near"], abs=1)


def test_spectrum(noise):
    assert spectrum_slope(noise) == pytest.approx(0, abs=0.3)
    assert spectrum_slope(noise.cumsum(axis=0).cumsum(axis=1)) < -1.5
    assert np.isnan(spectrum_slope(np.zeros(SIZE)))


def test_no_cell_a_pixel_and_wrong_arrays(labels, noise):
    empty = cell_descriptors(labels, noise)
    assert not len(empty) and set(CELL_NAMES) < set(empty.columns)
    assert image_descriptors(labels, noise, empty)["density"] == 0
    labels[50, 50] = 4
    assert only(labels, noise)["area"] == 1
    with pytest.raises(ValueError, match="120, 160.*120, 161"):
        cell_descriptors(labels, np.zeros((120, 161)))
    with pytest.raises(ValueError, match="label map is .* integers"):
        cell_descriptors(labels.astype(float), noise)
