"""Adaptation of grey values: properties that hold by construction, and real images of several microscopes."""

import tracemalloc

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from cellseg_d2.data.datasets import roots
from cellseg_d2.inference.reading.adaptation import LIVECELL_PIXEL_SIZE, LIVECELL_SPREAD, Adaptation, magnification
from cellseg_d2.inference.reading.reader import open_image


def _cells(height: int = 300, width: int = 400, seed: int = 0) -> np.ndarray:
    """float64 of about 0: blobs with dark rims on a flat background, and some noise, like phase contrast."""
    rng = np.random.default_rng(seed)
    spots = np.zeros((height, width))
    spots[rng.integers(0, height, 150), rng.integers(0, width, 150)] = 1
    blobs = gaussian_filter(spots, 3) - 0.9 * gaussian_filter(spots, 6)
    return 300 * blobs / blobs.max() + rng.normal(0, 10, spots.shape)


CELLS = _cells()
ROWS, COLUMNS = (np.arange(length)[:, None] / length for length in CELLS.shape)


@pytest.mark.parametrize(("dtype", "gain", "offset"), [(np.uint8, 0.3, 120), (np.uint16, 20, 9000), (np.float32, 1, 0)])
def test_median_and_spread_are_livecells(dtype, gain, offset):
    adapted = Adaptation()((gain * CELLS + offset).astype(dtype))
    assert adapted.dtype == np.uint8 and adapted.shape == CELLS.shape
    assert abs(np.median(adapted) - 128) <= 1
    assert adapted.std() == pytest.approx(LIVECELL_SPREAD, rel=0.05)


@pytest.mark.parametrize(("gain", "offset"), [(7.5, 0), (1, 5000), (0.01, -3), (1e6, 1e8)])
def test_gain_and_offset_of_the_camera_do_not_matter(gain, offset):
    difference = Adaptation()(gain * CELLS + offset).astype(int) - Adaptation()(CELLS)
    assert np.abs(difference).max() <= 1 and np.count_nonzero(difference) < 0.001 * CELLS.size


@pytest.mark.parametrize(
    "shade",
    [
        ROWS - COLUMNS.T,
        (ROWS - 0.4) ** 2 + (COLUMNS.T - 0.6) ** 2,
        ROWS * COLUMNS.T**2,
        0.2 * np.sin(3 * ROWS + 4 * COLUMNS.T),
    ],
    ids=["gradient", "vignette", "corner", "wave"],
)
def test_uneven_light_is_removed(shade):
    adapted = Adaptation()(CELLS + 500 * shade).astype(float)
    flat = Adaptation()(CELLS).astype(float)
    assert np.corrcoef(adapted.ravel(), flat.ravel())[0, 1] > 0.98
    smooth = gaussian_filter(adapted, 40)
    assert smooth.max() - smooth.min() < 5  # several hundred before


def test_a_plain_gradient_is_removed_to_its_borders():
    assert (Adaptation()(5000 + 3000 * (ROWS + 2 * COLUMNS.T)) == 128).all()


@pytest.mark.parametrize("value", [0, 1, 200, 65535])
@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_constant_images_become_128(value, dtype):
    with np.errstate(all="raise"):
        assert (Adaptation()(np.full((60, 70), value, dtype=dtype)) == 128).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 1), (2, 3), (16, 16)])
def test_small_images(size):
    image = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    with np.errstate(all="raise"):
        assert Adaptation()(image).shape == size


def test_noise_alone_is_not_blown_up():
    rng = np.random.default_rng(0)
    for image in (rng.poisson(3, (300, 300)).astype(np.uint8), rng.normal(0, 1e-3, (300, 300))):
        assert 2 < Adaptation()(image).std() < 4
    rounding = 10 + (rng.random((300, 300)) < 0.02).astype(
        np.uint8
    )  # of 12 bits kept in 8: one grey level here and there
    assert np.ptp(Adaptation()(rounding).astype(int)) <= 11


def test_dark_fluorescence_keeps_its_background_quiet():
    rng = np.random.default_rng(0)
    nuclei = np.zeros((400, 400))
    nuclei[rng.integers(20, 380, 12), rng.integers(20, 380, 12)] = 1
    nuclei = gaussian_filter(nuclei, 6)
    adapted = Adaptation()(rng.poisson(2 + 60 * nuclei / nuclei.max()).astype(np.uint16))
    assert adapted[nuclei < 1e-4 * nuclei.max()].std() < 4
    assert adapted[nuclei > 0.5 * nuclei.max()].mean() > 170


def test_hot_pixels_do_not_rule():
    image = CELLS.copy()
    image[::100, ::100] = 1e6
    changed = Adaptation()(image).astype(int) - Adaptation()(CELLS)
    assert np.median(np.abs(changed)) == 0 and np.percentile(np.abs(changed), 99) <= 2


@pytest.mark.parametrize("size", [(300, 400), (1100, 1300)])
def test_tiles_are_adapted_as_the_whole(size):
    image = (500 + _cells(*size) + 200 * np.linspace(0, 1, size[1])).astype(np.uint16)
    whole, fitted = Adaptation()(image), Adaptation().fit(image)
    assert abs(np.median(whole) - 128) <= 1
    for top, left in ((0, 0), (100, 37), (size[0] - 64, size[1] - 64), (250, 0)):
        part = slice(top, top + 128), slice(left, left + 128)
        assert np.abs(fitted(image[part], (top, left)).astype(int) - whole[part]).max() <= 1


def test_an_image_on_disk_is_read_in_bands():
    class OnDisk:
        shape, dtype = (6000, 4000), np.dtype(np.uint16)

        def __getitem__(self, region):
            rows, columns = (np.arange(length)[part] for part, length in zip(region, self.shape))
            return tile[rows[:, None] % 300, columns % 400]

    tile = (500 + CELLS).astype(np.uint16)
    tracemalloc.start()
    fitted = Adaptation().fit(OnDisk())
    assert tracemalloc.get_traced_memory()[1] < 80e6  # 192e6 as float64
    tracemalloc.stop()
    adapted = fitted(OnDisk()[300:900, 400:1200], (300, 400))
    assert abs(np.median(adapted) - 128) <= 1 and adapted.std() == pytest.approx(LIVECELL_SPREAD, rel=0.05)


def test_colour_is_adapted_as_grey():
    grey = (120 + 0.3 * CELLS).astype(np.uint8)
    assert (Adaptation()(np.repeat(grey[:, :, None], 3, axis=2)) == Adaptation()(grey)).all()
    tinted = np.stack([grey, grey // 2, grey // 4], axis=2)
    assert np.corrcoef(Adaptation()(tinted).ravel(), Adaptation()(grey).ravel())[0, 1] > 0.99


@pytest.mark.parametrize(
    "image", [np.zeros((8, 8, 2), np.uint8), np.zeros((2, 8, 8, 3)), np.zeros((8, 8), complex), np.zeros((0, 8))]
)
def test_what_cannot_be_adapted(image):
    with pytest.raises(ValueError, match="cannot adapt"):
        Adaptation()(image)


@pytest.mark.parametrize("sigma", [0, -1, np.nan, np.inf])
def test_bad_sigma(sigma):
    with pytest.raises(ValueError, match="sigma"):
        Adaptation(sigma)


def test_sigma_in_pixels_is_that_share_of_the_image():
    assert (Adaptation(30)(CELLS) == Adaptation(0.1)(CELLS)).all()


def test_magnification():
    assert magnification(LIVECELL_PIXEL_SIZE) == 1
    assert magnification(0.62) == pytest.approx(0.5)  # 20x becomes 10x
    assert magnification(0.65, target=0.325) == pytest.approx(2)
    for wrong in (0, -1, np.nan, np.inf):
        with pytest.raises(ValueError, match="micrometres"):
            magnification(wrong)


REAL = {
    "livecell": "**/*.tif",
    "psc_phase_ctc": "02/*.tif",
    "t98g_phase_usiigaci": "**/*.png",
    "sartorius_demo": "*.png",
    "mes_gowt1": "images/*.tif",
    "hela_n2dl": "images/*.tif",
    "stardist_demo2d": "img2d.tif",
}


@pytest.mark.parametrize("name", REAL)
def test_real_images(name):
    folder = roots.find(name)
    if folder is None:
        pytest.skip(f"{name} is in none of {', '.join(map(str, roots.searched()))} (set {roots.ENV_NAME})")
    paths = sorted(path for path in folder.glob(REAL[name]) if "mask" not in path.name)
    assert paths
    for path in paths[:: len(paths) // 2 + 1]:
        (frame,) = open_image(path).frames()
        adapted = Adaptation()(frame.pixels)
        assert adapted.shape == frame.size and abs(np.median(adapted) - 128) <= 1
        assert 8 < adapted.std() < 13
        assert np.isin(adapted, (0, 255)).mean() < 0.01
