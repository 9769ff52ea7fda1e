"""Reading images of all kinds, and refusing damaged ones."""

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from cellseg_d2.data.image_io import CorruptImageError, read_image, stretch_to_uint8

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (40, 50), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (40, 50, 3), dtype=np.uint8)
DEEP = (2048 + 8 * GREY.astype(np.uint16)).astype(np.uint16)


def _check(image: np.ndarray, expected: np.ndarray) -> None:
    assert image.dtype == np.uint8 and image.flags.c_contiguous
    assert (image == (np.repeat(expected[..., None], 3, axis=2) if expected.ndim == 2 else expected)).all()


@pytest.mark.parametrize("suffix", ["tif", "png", "bmp"])
def test_grey_and_colour_are_lossless(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    for image in (GREY, COLOUR):
        Image.fromarray(image).save(path)
        _check(read_image(path), image[:, :, ::-1] if image.ndim == 3 else image)


def test_alpha_is_dropped(tmp_path):
    path = tmp_path / "x.png"
    alpha = RNG.integers(0, 256, (40, 50, 1), dtype=np.uint8)
    Image.fromarray(np.concatenate([COLOUR, alpha], axis=2)).save(path)
    _check(read_image(path), COLOUR[:, :, ::-1])
    Image.fromarray(np.concatenate([GREY[..., None], alpha], axis=2)).save(path)
    _check(read_image(path), GREY)
    tifffile.imwrite(tmp_path / "x.tif", np.concatenate([COLOUR, alpha], axis=2), photometric="rgb")
    _check(read_image(tmp_path / "x.tif"), COLOUR[:, :, ::-1])


def test_palette_and_one_bit_png(tmp_path):
    path = tmp_path / "x.png"
    Image.fromarray(COLOUR // 64 * 64).quantize(256).save(path)
    assert read_image(path).shape == (40, 50, 3)
    Image.fromarray(GREY > 127).save(path)
    _check(read_image(path), (GREY > 127).astype(np.uint8) * 255)


def test_jpeg_is_close(tmp_path):
    path = tmp_path / "x.jpg"
    smooth = cv2.GaussianBlur(GREY, (0, 0), 4)
    Image.fromarray(smooth).save(path, quality=95)
    assert np.abs(read_image(path)[:, :, 0].astype(int) - smooth).max() < 12


def test_tiff_layouts(tmp_path):
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, COLOUR.transpose(2, 0, 1), photometric="rgb", planarconfig="separate")
    _check(read_image(path), COLOUR[:, :, ::-1])
    tifffile.imwrite(path, GREY[None, None], compression="zlib", byteorder=">")
    _check(read_image(path), GREY)
    tifffile.imwrite(path, 255 - GREY, photometric="miniswhite")
    _check(read_image(path), GREY)
    path.rename(tmp_path / "named_wrongly.png")
    _check(read_image(tmp_path / "named_wrongly.png"), GREY)


def test_deep_images_agree_between_formats(tmp_path):
    tifffile.imwrite(tmp_path / "x.tif", DEEP)
    tifffile.imwrite(tmp_path / "f.tif", DEEP.astype(np.float32) / 1000)
    cv2.imwrite(str(tmp_path / "x.png"), DEEP)
    images = [read_image(tmp_path / name) for name in ("x.tif", "x.png", "f.tif")]
    _check(images[0], stretch_to_uint8(DEEP, (0.1, 99.9)))
    _check(images[1], images[0])
    assert np.abs(images[2].astype(int) - images[0]).max() <= 1
    assert images[0].min() == 0 and images[0].max() == 255


def test_deep_colour_png_keeps_its_depth(tmp_path):
    colour = (COLOUR.astype(np.uint16) % 64) + 100  # all in the low byte, which an 8-bit reader would lose
    cv2.imwrite(str(tmp_path / "x.png"), colour[:, :, ::-1])
    assert (read_image(tmp_path / "x.png", (0, 100)) == stretch_to_uint8(colour, (0, 100))[:, :, ::-1]).all()


def test_stretch_by_known_values():
    ramp = np.linspace(1000, 2000, 256).reshape(16, 16)
    assert (stretch_to_uint8(ramp, (0, 100)).reshape(-1) == np.arange(256)).all()
    clipped = stretch_to_uint8(ramp, (25, 75)).reshape(-1)
    assert (clipped[:64] == 0).all() and (clipped[192:] == 255).all() and (np.diff(clipped.astype(int)) >= 0).all()


def test_stretch_of_eight_bits_only_when_asked(tmp_path):
    tifffile.imwrite(tmp_path / "x.tif", GREY // 4)
    _check(read_image(tmp_path / "x.tif"), GREY // 4)
    assert read_image(tmp_path / "x.tif", (0.1, 99.9)).max() == 255


@pytest.mark.parametrize("value", [0, 7, 65535])
def test_constant_images_are_zeros(tmp_path, value):
    tifffile.imwrite(tmp_path / "x.tif", np.full((20, 20), value, dtype=np.uint16))
    with np.errstate(all="raise"):
        assert not read_image(tmp_path / "x.tif").any()


def test_few_bright_pixels_are_not_lost():
    image = np.full((200, 200), 500, dtype=np.uint16)
    image[50, 50] = 900
    stretched = stretch_to_uint8(image, (0.1, 99.9))
    assert stretched[50, 50] == 255 and np.count_nonzero(stretched) == 1


def test_bad_percentiles():
    for percentiles in ((5,), (90, 10), (-1, 50), (0, 101)):
        with pytest.raises(ValueError, match="INPUT.STRETCH_PERCENTILES"):
            stretch_to_uint8(DEEP, percentiles)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "zlib.tif"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.97])
def test_truncated_files(tmp_path, suffix, share):
    path = tmp_path / f"cells.{suffix}"
    if suffix.endswith("tif"):
        tifffile.imwrite(path, GREY, compression="zlib" if "zlib" in suffix else None)
    else:
        Image.fromarray(GREY).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CorruptImageError, match=f"{path.name}: ") as caught:
        read_image(path)
    assert caught.value.file_name == str(path) and len(caught.value.reason) > 10


def test_damaged_png_and_other_files(tmp_path):
    path = tmp_path / "x.png"
    Image.fromarray(GREY).save(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(CorruptImageError):
        read_image(path)
    path.write_bytes(b"")
    with pytest.raises(CorruptImageError, match="0 bytes"):
        read_image(path)
    with pytest.raises(FileNotFoundError):
        read_image(tmp_path / "none.png")


@pytest.mark.parametrize(
    ("image", "options"),
    [
        (np.zeros((5, 20, 20), dtype=np.uint8), {"photometric": "minisblack"}),
        (np.zeros((2, 3, 20, 20), dtype=np.uint8), {"imagej": True}),
    ],
)
def test_stacks_are_refused(tmp_path, image, options):
    tifffile.imwrite(tmp_path / "x.tif", image, **options)
    with pytest.raises(CorruptImageError, match="one frame per file"):
        read_image(tmp_path / "x.tif")


def test_values_that_are_not_finite(tmp_path):
    image = GREY.astype(np.float32)
    image[3, 4:6] = np.nan, np.inf
    tifffile.imwrite(tmp_path / "x.tif", image)
    with pytest.raises(CorruptImageError, match="2 values are not finite"):
        read_image(tmp_path / "x.tif")
