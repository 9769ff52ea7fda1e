"""Reading TIFF, PNG and JPEG for prediction: axes, metadata, frames one by one, large images, damaged files."""

import tracemalloc

import numpy as np
import pytest
import tifffile
from PIL import Image

from cellseg_d2.data.datasets import roots
from cellseg_d2.data.image_io import CorruptImageError, read_raw
from cellseg_d2.inference.reading import reader
from cellseg_d2.inference.reading.axes import LazyPixels
from cellseg_d2.inference.reading.reader import open_image

RNG = np.random.default_rng(0)
STACK = RNG.integers(0, 256, (6, 3, 2, 30, 40), dtype=np.uint8)  # T Z C Y X
FILM = np.ascontiguousarray(STACK[:, 0, 0])
GREY = FILM[0]
COLOUR = RNG.integers(0, 256, (30, 40, 3), dtype=np.uint8)


def _frames(path, name="film", **options) -> dict[str, np.ndarray]:
    return {frame.name: frame.pixels for frame in open_image(path, **options).frames(name)}


def _imagej(path, image, axes, **options):
    metadata = {"axes": axes, "unit": "um", "finterval": 600.0}
    tifffile.imwrite(path, image, imagej=True, resolution=(1 / 0.65, 1 / 0.65), metadata=metadata, **options)


def _ome(path, image, axes, **options):
    metadata = {"axes": axes, "PhysicalSizeX": 650, "PhysicalSizeXUnit": "nm", "TimeIncrement": 10}
    metadata |= {"TimeIncrementUnit": "min", "Channel": {"Name": ["phase", "GFP"]} if "C" in axes else {}}
    tifffile.imwrite(path, image, ome=True, metadata=metadata, **options)


# What a file says of itself


@pytest.mark.parametrize("write", [_imagej, _ome])
@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
def test_stacks_with_metadata(tmp_path, write, compression):
    path = tmp_path / "film.tif"
    write(path, STACK, "TZCYX", compression=compression)
    file = open_image(path)
    assert (file.axes, file.shape, file.dtype, len(file)) == ("TZCYX", STACK.shape, np.uint8, 18)
    assert file.pixel_size == pytest.approx(0.65) and file.interval == 600
    frames = list(file.frames("film"))
    assert [frame.name for frame in frames][:4] == ["film_t000_z00", "film_t000_z01", "film_t000_z02", "film_t001_z00"]
    for frame in frames:
        assert frame.path == path and frame.size == (30, 40) and frame.interval == 600
        assert (frame.pixels == np.moveaxis(STACK[frame.place["t"], frame.place["z"]], 0, 2)).all()
        assert frame.pixels.flags.c_contiguous and frame.pixels.flags.writeable
        assert frame.channels == (("phase", "GFP") if write is _ome else ("", ""))


def test_one_line_says_what_was_understood(tmp_path):
    path = tmp_path / "film.tif"
    _imagej(path, FILM, "TYX")
    assert str(open_image(path)) == "film.tif: 6 frames (T) of 30 x 40, uint8, 0.65 um a pixel, 600 s a frame"
    _ome(path, STACK, "TZCYX")
    assert "18 frames (6 T, 3 Z) of 30 x 40, uint8, 2 channels (phase, GFP), 0.65" in str(open_image(path))
    assert "uint8, channel 1 (GFP), 0.65" in str(open_image(path, channel="gfp"))
    Image.fromarray(COLOUR).save(tmp_path / "x.png")
    assert str(open_image(tmp_path / "x.png")) == "x.png: 1 frame of 30 x 40, uint8, RGB"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32, np.float64])
@pytest.mark.parametrize(
    "options", [{}, {"byteorder": ">"}, {"bigtiff": True}, {"compression": "zlib", "byteorder": ">"}]
)
def test_values_stay_as_they_are(tmp_path, dtype, options):
    tifffile.imwrite(tmp_path / "x.tif", (16 * FILM.astype(int)).astype(dtype), metadata={"axes": "TYX"}, **options)
    for image, expected in zip(_frames(tmp_path / "x.tif").values(), FILM, strict=True):
        assert image.dtype == dtype and image.dtype.isnative
        assert (image == (16 * expected.astype(int)).astype(dtype)).all()


def test_twelve_bits_and_one_bit(tmp_path):
    even, odd = 16 * GREY[:, ::2].astype(np.uint16), 16 * GREY[:, 1::2].astype(np.uint16) + 5
    packed = np.stack([even >> 4, (even & 15) << 4 | odd >> 8, odd & 255], axis=2).reshape(30, 60).astype(np.uint8)
    tifffile.imwrite(tmp_path / "x.tif", packed, metadata=None)
    with tifffile.TiffFile(tmp_path / "x.tif", mode="r+") as tif:
        tif.pages[0].tags["BitsPerSample"].overwrite(12)
        tif.pages[0].tags["ImageWidth"].overwrite(40)
    (frame,) = open_image(tmp_path / "x.tif").frames()
    assert (frame.pixels[:, ::2] == even).all() and (frame.pixels[:, 1::2] == odd).all()
    tifffile.imwrite(tmp_path / "b.tif", GREY > 100, photometric="minisblack")
    file = open_image(tmp_path / "b.tif")
    (frame,) = file.frames()
    assert file.dtype == frame.pixels.dtype == np.uint8 and (frame.pixels == 255 * (GREY > 100)).all()


def test_black_is_max(tmp_path):
    for compression in (None, "zlib"):
        tifffile.imwrite(tmp_path / "x.tif", 255 - FILM, photometric="miniswhite", compression=compression)
        assert (np.stack(list(_frames(tmp_path / "x.tif").values())) == FILM).all()


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("samples", [3, 4])
def test_colour(tmp_path, planar, samples):
    image = np.concatenate([COLOUR, COLOUR[..., :1]], axis=2)[..., :samples]
    written = image if planar == "contig" else image.transpose(2, 0, 1)
    tifffile.imwrite(tmp_path / "x.tif", written, photometric="rgb", planarconfig=planar, compression="zlib")
    (frame,) = open_image(tmp_path / "x.tif").frames()
    assert (frame.pixels == COLOUR).all() and frame.channels == ("red", "green", "blue")
    (frame,) = open_image(tmp_path / "x.tif", channel=2).frames()
    assert (frame.pixels == COLOUR[..., 2]).all() and frame.channels == ("blue",)


def test_samples_that_are_no_colour_are_channels(tmp_path):
    image = RNG.integers(0, 256, (30, 40, 5), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "x.tif", image, photometric="minisblack", planarconfig="contig")
    file = open_image(tmp_path / "x.tif")
    assert file.axes == "YXC" and (next(file.frames()).pixels == image).all()


@pytest.mark.parametrize(
    ("unit", "per_unit", "expected"),
    [("um", 2, 0.5), ("micron", 1.6, 0.625), ("\\u00B5m", 4, 0.25), ("nm", 0.004, 0.25), ("mm", 800, 1.25)]
    + [("inch", 25400, 1), ("inch", 72, None), ("cm", 8000, 1.25)]
    + [("pixel", 1, None), ("", 1, None), ("furlong", 1, None)],
)
def test_units_of_imagej(tmp_path, unit, per_unit, expected):
    tifffile.imwrite(tmp_path / "x.tif", GREY, imagej=True, resolution=(per_unit, per_unit), metadata={"unit": unit})
    assert open_image(tmp_path / "x.tif").pixel_size == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("unit", "per_unit", "expected"),
    [
        ("CENTIMETER", 10000, 1),
        ("INCH", 25400, 1),
        ("NONE", 10000, None),
        ("INCH", 300, None),
        ("CENTIMETER", 28, None),
    ],
)
def test_resolution_tags_of_a_printer_are_no_pixel_size(tmp_path, unit, per_unit, expected):
    tifffile.imwrite(tmp_path / "x.tif", GREY, resolution=(per_unit, per_unit), resolutionunit=unit, metadata=None)
    assert open_image(tmp_path / "x.tif").pixel_size == (expected and pytest.approx(expected))


def test_interval_from_the_times_of_planes(tmp_path):
    metadata = {"axes": "TYX", "Plane": {"DeltaT": [0, 31, 60, 90, 119, 151], "DeltaTUnit": ["s"] * 6}}
    tifffile.imwrite(tmp_path / "x.ome.tif", FILM, metadata=metadata)
    file = open_image(tmp_path / "x.ome.tif")
    assert file.interval == 30 and file.pixel_size is None
    assert next(file.frames()).name == "x_t000"


# Axes and channels that the user gives


@pytest.mark.parametrize("metadata", [{}, None])
def test_pages_without_metadata_are_taken_as_time(tmp_path, metadata):
    tifffile.imwrite(tmp_path / "film.tif", FILM, metadata=metadata)
    file = open_image(tmp_path / "film.tif")
    assert file.axes == "TYX" and "pages taken as time" in str(file)
    file = open_image(tmp_path / "film.tif", axes="zyx")
    assert file.axes == "ZYX" and "taken" not in str(file)
    assert list(_frames(tmp_path / "film.tif", axes="ZYX"))[5] == "film_z05"


def test_names_have_digits_enough(tmp_path):
    tifffile.imwrite(tmp_path / "x.tif", np.zeros((1002, 2, 3), np.uint8), metadata={"axes": "TYX"})
    names = [frame.name for frame in open_image(tmp_path / "x.tif").frames("a")]
    assert names[0] == "a_t0000" and names[-1] == "a_t1001" and names == sorted(names)


def test_several_unknown_axes_are_asked_for(tmp_path):
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, STACK)
    with pytest.raises(CorruptImageError, match=r"\(6, 3, 2, 30, 40\) are; .*--axes TCZYX"):
        open_image(path)
    file = open_image(path, axes="TZCYX", channel=1)
    assert (file.axes, len(file)) == ("TZCYX", 18)
    for frame in file.frames():
        assert (frame.pixels == STACK[frame.place["t"], frame.place["z"], 1]).all()
    tifffile.imwrite(path, STACK[:, 0])
    with pytest.raises(CorruptImageError, match="--axes TCYX"):
        open_image(path)


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ("TCYX", "4 axes and the image has 3"),
        ("TYY", "each once"),
        ("TCY", "Y and X"),
        ("TYW", "TCZYXS"),
        ("", "TCZYXS"),
    ],
)
def test_axes_that_do_not_fit(tmp_path, axes, message):
    tifffile.imwrite(tmp_path / "x.tif", FILM)
    with pytest.raises(CorruptImageError, match=message):
        open_image(tmp_path / "x.tif", axes=axes)


def test_axes_in_another_order(tmp_path):
    tifffile.imwrite(tmp_path / "x.tif", np.moveaxis(STACK[:, 0], (0, 1, 2, 3), (2, 3, 1, 0)))
    frames = list(open_image(tmp_path / "x.tif", axes="XYTC").frames("x"))
    assert len(frames) == 6 and (frames[4].pixels == np.moveaxis(STACK[4, 0], 0, 2)).all()


@pytest.mark.parametrize("channel", [1, "1", "GFP", " gfp "])
def test_a_channel(tmp_path, channel):
    _ome(tmp_path / "x.tif", STACK, "TZCYX")
    (frame, *_) = open_image(tmp_path / "x.tif", channel=channel).frames()
    assert (frame.pixels == STACK[0, 0, 1]).all() and frame.channels == ("GFP",)


@pytest.mark.parametrize("channel", [2, -1, "DAPI"])
def test_a_channel_that_is_not_there(tmp_path, channel):
    _ome(tmp_path / "x.tif", STACK, "TZCYX")
    with pytest.raises(CorruptImageError, match="no channels are .*choose one of: 0 phase, 1 GFP"):
        open_image(tmp_path / "x.tif", channel=channel)


def test_the_only_channel_of_a_grey_image(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "x.png")
    assert (next(open_image(tmp_path / "x.png", channel=0).frames()).pixels == GREY).all()
    with pytest.raises(CorruptImageError, match="choose one of: 0"):
        open_image(tmp_path / "x.png", channel=1)


# Several images in a file


def test_series_of_equal_shape_are_positions(tmp_path):
    with tifffile.TiffWriter(tmp_path / "x.ome.tif") as writer:
        for place in range(3):
            writer.write(STACK[:, place, 0], metadata={"axes": "TYX"})
    file = open_image(tmp_path / "x.ome.tif")
    assert file.axes == "PTYX" and len(file) == 18
    frames = list(file.frames("x"))
    assert frames[7].name == "x_p01_t001" and frames[7].place == {"p": 1, "t": 1}
    assert (frames[7].pixels == STACK[1, 1, 0]).all()
    assert open_image(tmp_path / "x.ome.tif", axes="ZYX").axes == "PZYX"


def test_series_of_different_shapes_are_refused(tmp_path):
    with tifffile.TiffWriter(tmp_path / "x.tif") as writer:
        writer.write(GREY)
        writer.write(GREY[:20])
    with pytest.raises(CorruptImageError, match="2 images of different kinds .*save them one by one"):
        open_image(tmp_path / "x.tif")


def test_of_a_pyramid_the_full_resolution(tmp_path):
    image = np.kron(GREY, np.ones((8, 8), np.uint8))
    with tifffile.TiffWriter(tmp_path / "x.ome.tif") as writer:
        writer.write(image, subifds=1, tile=(64, 64), metadata={"axes": "YX"})
        writer.write(image[::2, ::2], subfiletype=1, tile=(64, 64))
    (frame,) = open_image(tmp_path / "x.ome.tif").frames()
    assert (frame.pixels == image).all()


# Large images


@pytest.mark.parametrize("options", [{}, {"tile": (256, 256), "compression": "zlib"}, {"compression": "lzw"}])
@pytest.mark.parametrize("colour", [False, True])
def test_large_images_stay_on_disk(tmp_path, monkeypatch, options, colour):
    monkeypatch.setattr(reader, "LARGE_IMAGE", 100_000)
    shape = (600, 700, 3) if colour else (600, 700)
    image = RNG.integers(0, 60000, shape, dtype=np.uint16)
    tifffile.imwrite(tmp_path / "x.tif", image, photometric="rgb" if colour else "minisblack", **options)
    tracemalloc.start()
    (frame,) = open_image(tmp_path / "x.tif").frames()
    assert isinstance(frame.pixels, LazyPixels) and frame.pixels.shape == shape and frame.size == shape[:2]
    region = frame.pixels[200:300, 500:690]
    assert tracemalloc.get_traced_memory()[1] < image.nbytes
    tracemalloc.stop()
    assert (region == image[200:300, 500:690]).all() and region.dtype == np.uint16
    assert (frame.pixels[:, 5:9] == image[:, 5:9]).all() and (frame.pixels[::50] == image[::50]).all()
    with pytest.raises(TypeError, match="pixels"):
        frame.pixels[3]


def test_large_frames_of_a_stack_outlive_their_iteration(tmp_path, monkeypatch):
    monkeypatch.setattr(reader, "LARGE_IMAGE", 100)
    _ome(tmp_path / "x.tif", STACK, "TZCYX", compression="zlib")
    frames = list(open_image(tmp_path / "x.tif", channel="GFP").frames())
    for frame in frames:
        assert (frame.pixels[3:9, 4:] == STACK[frame.place["t"], frame.place["z"], 1, 3:9, 4:]).all()


def test_twenty_thousand_pixels_square(tmp_path):
    path = tmp_path / "x.tif"
    image = tifffile.memmap(path, shape=(20000, 20000), dtype=np.uint8)  # a file with a hole: no disk is used
    image[15000:15010, 19990:] = 7
    image.flush()
    tracemalloc.start()
    (frame,) = open_image(path).frames()
    assert frame.pixels[14990:15010, 19980:].sum() == 7 * 100
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


# Other formats, damaged files


@pytest.mark.parametrize("suffix", ["png", "bmp", "jpg"])
@pytest.mark.parametrize("image", [GREY, COLOUR], ids=["grey", "colour"])
def test_pictures(tmp_path, suffix, image):
    Image.fromarray(image).save(tmp_path / f"x.{suffix}")
    file = open_image(tmp_path / f"x.{suffix}")
    (frame,) = file.frames()
    assert frame.name == "x" and frame.place == {} and file.shape == image.shape
    assert (frame.pixels == read_raw(tmp_path / f"x.{suffix}")).all()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGBA", "P", "I;16"])
def test_modes_of_png(tmp_path, mode):
    picture = Image.fromarray(GREY.astype(np.uint16) * 200) if mode == "I;16" else Image.fromarray(COLOUR).convert(mode)
    picture.save(tmp_path / "x.png")
    file = open_image(tmp_path / "x.png")
    (frame,) = file.frames()
    expected = read_raw(tmp_path / "x.png")
    assert frame.pixels.dtype == file.dtype == expected.dtype and (frame.pixels == expected).all()


def test_a_picture_that_lies_on_its_side(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(GREY).save(tmp_path / "x.jpg", exif=exif)
    file = open_image(tmp_path / "x.jpg")
    assert file.shape == (40, 30) == next(file.frames()).size


def test_one_pixel(tmp_path):
    for name in ("x.png", "x.bmp"):
        Image.fromarray(GREY[:1, :1]).save(tmp_path / name)
    tifffile.imwrite(tmp_path / "x.tif", GREY[:1, :1])
    for name in ("x.png", "x.bmp", "x.tif"):
        assert next(open_image(tmp_path / name).frames()).pixels.tolist() == [[GREY[0, 0]]]


def _plain(path, image, axes, **options):
    tifffile.imwrite(path, image, metadata=None, **options)


@pytest.mark.parametrize("write", [_imagej, _ome, _plain])
@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
@pytest.mark.parametrize("share", [0.01, 0.3, 0.7, 0.95])
def test_truncated_stacks(tmp_path, write, compression, share):
    path = tmp_path / "film.tif"
    write(path, FILM, "TYX", compression=compression)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CorruptImageError, match="film.tif: .*(cut off|frame t=|IFD|struct|unpack|header)"):
        for _ in open_image(path).frames():
            pass


def test_a_truncated_stack_names_its_frame(tmp_path):
    _plain(tmp_path / "x.tif", FILM, "TYX", compression="zlib")
    with tifffile.TiffFile(tmp_path / "x.tif") as tif:
        start = tif.pages[4].dataoffsets[0]
    content = bytearray((tmp_path / "x.tif").read_bytes())
    content[start : start + 300] = bytes(300)
    (tmp_path / "x.tif").write_bytes(content)
    frames = open_image(tmp_path / "x.tif").frames()
    assert [next(frames).place["t"] for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(CorruptImageError, match="frame t=4: "):
        next(frames)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite(tmp_path, monkeypatch, value):
    film = FILM.astype(np.float32)
    film[3, 20, 30] = value
    tifffile.imwrite(tmp_path / "x.tif", film, metadata={"axes": "TYX"})
    with pytest.raises(CorruptImageError, match="frame t=3: 1 values are not finite"):
        list(open_image(tmp_path / "x.tif").frames())
    monkeypatch.setattr(reader, "LARGE_IMAGE", 10)
    frame = list(open_image(tmp_path / "x.tif").frames())[3]
    assert frame.pixels[:10, :10].shape == (10, 10)
    with pytest.raises(CorruptImageError, match="frame t=3: 1 values are not finite"):
        frame.pixels[10:, 10:]


@pytest.mark.parametrize("name", ["x.png", "x.tif", "x.jpg", "x.txt"])
@pytest.mark.parametrize("content", [b"", b"II*\0", b"II*\0\x08\0\0\0\0\0", b"hello, this is not an image at all"])
def test_what_is_no_image(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorruptImageError, match=name):
        open_image(tmp_path / name)


def test_what_is_not_there_and_folders(tmp_path):
    with pytest.raises(FileNotFoundError):
        open_image(tmp_path / "none.tif")
    with pytest.raises(CorruptImageError, match="give the images in it"):
        open_image(tmp_path)


def test_complex_values_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "x.tif", GREY.astype(np.complex64))
    with pytest.raises(CorruptImageError, match="complex64"):
        open_image(tmp_path / "x.tif")


def test_real_film_as_stack(tmp_path):
    folder = roots.find("psc_phase_ctc")
    if folder is None:
        pytest.skip(f"psc_phase_ctc is in none of {', '.join(map(str, roots.searched()))} (set {roots.ENV_NAME})")
    images = [read_raw(path) for path in sorted(folder.glob("02/*.tif"))[:5]]
    _imagej(tmp_path / "film.tif", np.stack(images), "TYX")
    for frame, image in zip(open_image(tmp_path / "film.tif").frames(), images, strict=True):
        assert (frame.pixels == image).all()


@pytest.mark.parametrize("name", ["livecell", "hela_n2dl", "mes_gowt1", "dsb2018", "nih3t3_hoechst", "sartorius_demo"])
def test_real_images_are_as_image_io_reads_them(name):
    folder = roots.find(name)
    if folder is None:
        pytest.skip(f"{name} is in none of {', '.join(map(str, roots.searched()))} (set {roots.ENV_NAME})")
    paths = sorted(path for path in folder.rglob("*") if path.suffix in (".tif", ".png"))
    for path in paths[:: max(1, len(paths) // 4)]:
        file = open_image(path)
        (frame,) = file.frames()
        expected = read_raw(path)
        assert frame.pixels.dtype == file.dtype == expected.dtype and (frame.pixels == expected).all()
