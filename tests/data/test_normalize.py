"""Grey values to numbers: exact percentiles, known values, and no NaN anywhere."""

import numpy as np
import pytest
import tifffile

from cellseg_d2.data.image_io import read_grey, read_image, read_raw, stretch_to_uint8
from cellseg_d2.data.normalize import CEILING, Normalization

RNG = np.random.default_rng(0)


def _as_floats(image: np.ndarray, options: Normalization) -> np.ndarray:
    """The definition, with NumPy's percentiles."""
    low, high = np.percentile(image.astype(np.float64), options.percentiles)
    return np.clip((image - low) / (high - low), 0, CEILING) ** options.gamma


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("options", [Normalization(), Normalization((0, 100), 0.5), Normalization((33.3, 71), 2)])
def test_as_defined_for_every_type(dtype, options):
    for size in (2, 3, 17, 1000):
        image = RNG.choice(250, size, replace=size > 250).astype(dtype)
        normal = options(image[None])
        assert normal.dtype == np.float32 and normal.shape == (1, size)
        assert np.allclose(normal, _as_floats(image, options), rtol=1e-5, atol=1e-6)


def test_counted_percentiles_are_those_of_sorting():
    from cellseg_d2.data.normalize import _percentiles

    for _ in range(300):
        dtype = RNG.choice([np.uint8, np.uint16])
        image = RNG.integers(0, RNG.integers(1, np.iinfo(dtype).max), (5, RNG.integers(1, 99))).astype(dtype)
        percentiles = tuple(np.sort(RNG.choice([0, 100, 50, *RNG.uniform(0, 100, 3)], 2)))
        assert _percentiles(image, percentiles) == tuple(np.percentile(image, percentiles))


def test_known_values():
    ramp = np.arange(101, dtype=np.uint16)[None] + 32768  # a camera's offset
    normal = Normalization((10, 60))(ramp)[0]
    assert (normal[:11] == 0).all() and normal[60] == 1 and normal[35] == 0.5 and normal[100] == np.float32(1.8)
    assert Normalization((10, 60), 2.0)(ramp)[0, 35] == 0.25


def test_bright_debris_is_kept_up_to_a_ceiling():
    image = np.tile(np.arange(100, dtype=np.uint16), (100, 1))
    image[50, 50], image[50, 51] = 199, 60000
    normal = Normalization((0, 99))(image)
    assert 2.0 < normal[50, 50] < 2.1 and normal[50, 51] == CEILING == normal.max()


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("value", [0, 1])
def test_constant_images_are_zeros(dtype, value):
    with np.errstate(all="raise"):
        normal = Normalization(gamma=0.5)(np.full((9, 9), value, dtype=dtype))
    assert normal.dtype == np.float32 and not normal.any()


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint16, np.float64])
def test_few_bright_pixels_are_not_lost(dtype):
    image = np.zeros((50, 50), dtype=dtype)
    image[3, 4] = 1
    normal = Normalization((1, 99))(image)
    assert normal[3, 4] == 1 and normal.sum() == 1


def test_channels_are_alike():
    image = RNG.integers(0, 99, (20, 30, 3), dtype=np.uint8)
    assert (Normalization()(image) == Normalization()(image.reshape(60, 30)).reshape(image.shape)).all()


def test_from_config(cfg):
    assert Normalization.from_config(cfg) == Normalization((1.0, 99.8), 1.0)
    cfg.INPUT.STRETCH_PERCENTILES, cfg.INPUT.GAMMA = [0.5, 99.0], 0.7
    assert Normalization.from_config(cfg) == Normalization((0.5, 99.0), 0.7)


def test_wrong_options_and_images():
    for gamma in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="INPUT.GAMMA"):
            Normalization(gamma=gamma)
    with pytest.raises(ValueError, match="INPUT.STRETCH_PERCENTILES"):
        Normalization((99, 1))
    for image in (np.full((3, 3), np.nan), np.zeros((0, 3), np.uint8), np.full((3, 3), "a")):
        with pytest.raises(ValueError, match="cannot normalise"):
            Normalization()(image)


def test_reading_keeps_values(tmp_path):
    deep = RNG.integers(0, 60000, (8, 9), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "deep.tif", deep, byteorder=">")
    raw = read_raw(tmp_path / "deep.tif")
    assert raw.dtype == np.uint16 and (raw == deep).all() and (read_grey(tmp_path / "deep.tif") == deep).all()
    assert (read_image(tmp_path / "deep.tif")[:, :, 1] == stretch_to_uint8(deep, (0.1, 99.9))).all()
    colour = RNG.integers(0, 256, (8, 9, 3), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "colour.tif", colour, photometric="rgb")
    assert (read_raw(tmp_path / "colour.tif") == colour).all()
    grey = read_grey(tmp_path / "colour.tif")
    assert grey.dtype == np.float32 and np.allclose(grey, colour @ [0.299, 0.587, 0.114], atol=1e-3)
    tifffile.imwrite(tmp_path / "equal.tif", np.repeat(deep[..., None], 3, axis=2), photometric="rgb")
    equal = read_grey(tmp_path / "equal.tif")
    assert equal.dtype == np.uint16 and (equal == deep).all()
