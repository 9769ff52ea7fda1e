"""Read microscopy images as 8-bit with three channels, or as they are; say clearly which file is damaged and how."""

from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import tifffile
from PIL import Image, ImageOps

__all__ = [
    "IMAGE_SUFFIXES",
    "CorruptImageError",
    "check_percentiles",
    "fit_stretch",
    "read_grey",
    "read_image",
    "read_raw",
    "stretch_to_uint8",
    "to_grey",
]

# Of the files of a folder that are taken for images
IMAGE_SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp")
_TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# For images of more than 8 bits where no percentiles are given
DEFAULT_STRETCH = (0.1, 99.9)
# Shares of red, green and blue in the luminance (ITU-R BT.601)
LUMINANCE = (0.299, 0.587, 0.114)


class CorruptImageError(ValueError):
    """An image file that cannot be decoded or is not what the annotations say.

    Attributes:
        file_name: the file.
        reason: what is wrong with it.
    """

    def __init__(self, file_name: str | Path, reason: str) -> None:
        super().__init__(str(file_name), reason)
        self.file_name, self.reason = str(file_name), reason

    def __str__(self) -> str:
        return f"cannot use image {self.file_name}: {self.reason}"


def read_image(path: str | Path, stretch: Sequence[float] = ()) -> np.ndarray:
    """Read an image file (tif, png, jpg, ...) as uint8.

    Args:
        path: one frame, grey or colour, of 1 to 16 bits or floating point.
        stretch: two percentiles of the grey values that become 0 and 255. Empty: 8-bit values stay as they are, and
            deeper images are stretched by (0.1, 99.9).

    Returns:
        H x W x 3 uint8 in BGR order, three equal channels for a grey image; alpha is dropped.

    Raises:
        CorruptImageError: cut off, damaged, not an image, several frames, or not finite.
        OSError: the file is not there or may not be read.
    """
    image = read_raw(path)
    if image.dtype != np.uint8 or len(stretch):
        image = stretch_to_uint8(image, stretch or DEFAULT_STRETCH)
    if image.ndim == 2:
        return np.repeat(image[:, :, None], 3, axis=2)
    return np.ascontiguousarray(image[:, :, ::-1])


def read_raw(path: str | Path) -> np.ndarray:
    """Read an image file (tif, png, jpg, ...) with its values as they are.

    Args:
        path: one frame, grey or colour, of 1 to 16 bits or floating point.

    Returns:
        H x W, or H x W x 3 in RGB order, of the file's own type in the machine's byte order; alpha is dropped, one bit
        becomes 0 and 255 (uint8).

    Raises:
        CorruptImageError: cut off, damaged, not an image, several frames, or not finite.
        OSError: the file is not there or may not be read.
    """
    content = Path(path).read_bytes()
    try:
        image = _decode_tiff(content) if content[:4] in _TIFF_SIGNATURES else _decode_other(content)
    except Exception as error:  # decoders raise anything from struct.error to KeyError on damaged files
        raise CorruptImageError(path, f"{error} ({type(error).__name__}, {len(content)} bytes)") from error
    if image.dtype == bool:
        image = image.astype(np.uint8) * 255
    if image.dtype.kind not in "uif":
        raise CorruptImageError(path, f"values of type {image.dtype} are not grey values")
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        raise CorruptImageError(path, f"{np.count_nonzero(~np.isfinite(image))} values are not finite")
    return np.ascontiguousarray(image, dtype=image.dtype.newbyteorder("="))


def read_grey(path: str | Path) -> np.ndarray:
    """Read an image file as one channel, values as they are.

    Returns:
        H x W: a grey image, or a colour image of three equal channels, in the file's own type; of other colour images
        the luminance 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601) as float32.

    Raises:
        CorruptImageError, OSError: see :func:`read_raw`.
    """
    return to_grey(read_raw(path))


def to_grey(image: np.ndarray) -> np.ndarray:
    """One channel of an image of H x W or H x W x 3 (RGB); see :func:`read_grey`."""
    if image.ndim == 2:
        return image
    red = image[:, :, 0]
    if (image[:, :, 1] == red).all() and (image[:, :, 2] == red).all():
        return np.ascontiguousarray(red)
    return image.astype(np.float32) @ np.array(LUMINANCE, dtype=np.float32)


def check_percentiles(percentiles: Sequence[float]) -> None:
    """Raise ValueError where the percentiles are not ``0 <= low < high <= 100``."""
    if len(percentiles) != 2 or not 0 <= percentiles[0] < percentiles[1] <= 100:
        raise ValueError(f"INPUT.STRETCH_PERCENTILES: {tuple(percentiles)} is not 0 <= low < high <= 100")


def stretch_to_uint8(image: np.ndarray, percentiles: Sequence[float]) -> np.ndarray:
    """Map two grey-value percentiles to 0 and 255, all channels alike; a constant image becomes zeros.

    Where the two percentiles have the same value (a few bright spots on black), minimum and maximum take their place.

    Raises:
        ValueError: the percentiles are not ``0 <= low < high <= 100``.
    """
    return fit_stretch(image, percentiles)(image)


def fit_stretch(image: np.ndarray, percentiles: Sequence[float]) -> Callable[[np.ndarray], np.ndarray]:
    """What :func:`stretch_to_uint8` does to an image, for any part of it."""
    check_percentiles(percentiles)
    low, high = np.percentile(image, percentiles)
    if low == high:
        low, high = float(image.min()), float(image.max())

    def stretch(part: np.ndarray) -> np.ndarray:
        if low == high:
            return np.zeros(part.shape, dtype=np.uint8)
        scaled = (part.astype(np.float64) - low) * (255.0 / (high - low))
        return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)

    return stretch


def _decode_tiff(content: bytes) -> np.ndarray:
    """H x W or H x W x 3 (RGB) array of a TIFF with one frame. Colour palettes are not applied (ImageJ uses them for
    display only); black and white are swapped where the file says that 0 is white."""
    with tifffile.TiffFile(BytesIO(content)) as tif:
        if len(tif.series) != 1:
            raise ValueError(f"a TIFF with {len(tif.series)} image series; use one frame per file")
        series = tif.series[0]
        image = np.asarray(series.asarray(maxworkers=1))
        inverted = series.pages[0].photometric == tifffile.PHOTOMETRIC.MINISWHITE
        axes, shape = series.axes, series.shape
    keep = [index for index, (axis, size) in enumerate(zip(axes, shape, strict=True)) if size > 1 or axis in "YXS"]
    image, axes = image.reshape([shape[index] for index in keep]), "".join(axes[index] for index in keep)
    if axes == "SYX":
        image, axes = np.moveaxis(image, 0, 2), "YXS"
    if axes not in ("YX", "YXS"):
        raise ValueError(f"a TIFF of shape {shape} with axes {axes}; use one frame per file")
    if inverted and image.dtype.kind == "u":
        image = np.iinfo(image.dtype).max - image
    return image if axes == "YX" else _without_alpha(image)


def _decode_other(content: bytes) -> np.ndarray:
    """H x W or H x W x 3 (RGB) array of any other format. Pillow decodes all of it, as OpenCV would return half of a
    truncated JPEG; OpenCV then reads 16-bit PNG, of which Pillow keeps only 8 bits in colour."""
    with Image.open(BytesIO(content)) as image:
        if getattr(image, "n_frames", 1) > 1:
            raise ValueError(f"{image.n_frames} frames; use one frame per file")
        image.load()
        if image.format == "PNG" and content[24] == 16:
            deep = cv2.imdecode(np.frombuffer(content, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
            return deep if deep.ndim == 2 else deep[:, :, 2::-1]
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith(("I", "F")):
            return np.asarray(image)
        return np.asarray(image.convert("L" if image.mode in ("1", "L", "LA") else "RGB"))


def _without_alpha(image: np.ndarray) -> np.ndarray:
    """Drop the alpha channel of H x W x C; one colour channel becomes H x W."""
    channels = image.shape[2]
    if channels not in (1, 2, 3, 4):
        raise ValueError(f"{channels} channels in one frame; one (grey) or three (colour) are supported")
    return image[:, :, :3] if channels >= 3 else image[:, :, 0]
