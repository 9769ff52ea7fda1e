"""Read images of any kind for prediction: frames of TIFF, PNG, JPEG, BMP, Zarr, ND2, CZI and LIF files, one by one."""

import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from ...data.image_io import CorruptImageError
from ...errors import DatasetError
from ..records import Frame
from .axes import FRAME_AXES, Layout, LazyPixels, channel_names, find_channel, resolve_axes
from .metadata import TIFF_SIGNATURES, Source, check_whole_tiff, tiff_axes, tiff_metadata
from .microscope_formats import BIOIO_READERS, open_bioio
from .other_formats import open_picture, open_zarr, optional
from .positions import Positions

__all__ = ["LARGE_IMAGE", "ImageFile", "open_image"]

# Pixels of a frame above which it stays on disk and is read region by region
LARGE_IMAGE = 64_000_000


@dataclass(frozen=True)
class ImageFile:
    """An image file that was understood but not yet read; ``print`` tells what was understood.

    Attributes:
        path: the file, or the folder of a Zarr.
        axes: letters of the axes longer than 1, and Y and X, in the file's order: P position, T time, C channel,
            Z depth, S colour.
        shape: their sizes.
        dtype: of the frames' pixels; one bit becomes 0 and 255 of uint8.
        channels: names of the frames' channels, as many as there are; "red", "green" and "blue" of colour images, ""
            where the file has no names.
        pixel_size: micrometres, width of a pixel; None where the file does not say.
        interval: seconds from frame to frame; None where the file does not say.
        channel: the one channel that was chosen; None: all.
        note: what was assumed; "" where nothing was.
    """

    path: Path
    axes: str
    shape: tuple[int, ...]
    dtype: np.dtype
    channels: tuple[str, ...]
    pixel_size: float | None
    interval: float | None
    channel: int | None
    note: str
    layout: Layout = field(repr=False)
    opener: Callable[[Path], Source] = field(repr=False)

    def __len__(self) -> int:
        """Number of frames."""
        return int(np.prod([self.layout.size(axis) for axis in FRAME_AXES]))

    def __str__(self) -> str:
        """One line: ``film.tif: 50 frames (T) of 576 x 720, uint8, 0.65 um a pixel, 600 s a frame``."""
        several = [axis for axis in FRAME_AXES if self.layout.size(axis) > 1]
        along = several if len(several) == 1 else [f"{self.layout.size(axis)} {axis}" for axis in several]
        frames = f"{len(self)} frames ({', '.join(along)})" if several else "1 frame"
        parts = [f"{frames} of {self.layout.size('Y')} x {self.layout.size('X')}", str(self.dtype)]
        names = ", ".join(filter(None, self.channels))
        if self.channel is not None:
            parts.append(f"channel {self.channel}" + (f" ({names})" if names else ""))
        elif self.layout.colour:
            parts.append("RGB")
        elif len(self.channels) > 1:
            parts.append(f"{len(self.channels)} channels" + (f" ({names})" if names else ""))
        parts += [f"{self.pixel_size:.4g} um a pixel"] if self.pixel_size else []
        parts += [f"{self.interval:.4g} s a frame"] if self.interval else []
        return f"{self.path.name}: {', '.join(parts + [self.note] * bool(self.note))}"

    def frames(self, name: str | None = None) -> Iterator[Frame]:
        """Read the frames one by one: positions, in each the times, in each the depths.

        Frames of more than ``LARGE_IMAGE`` pixels stay on disk; their pixels are read where they are sliced.

        Args:
            name: of the frames; the file's name without ending where it is None.

        Raises:
            CorruptImageError: a frame that cannot be decoded or has values that are not finite.
            OSError: the file is no longer there.
        """
        with _told(self.path):
            source = self.opener(self.path)
        size = self.layout.size("Y"), self.layout.size("X")
        shape = size if len(self.channels) == 1 else (*size, len(self.channels))
        name = self.path.stem.removesuffix(".ome") if name is None else name
        for place in self.layout.places():
            pixels = LazyPixels(shape, self.dtype, partial(self._read, source, place))
            if size[0] * size[1] <= LARGE_IMAGE:
                pixels = pixels[:, :]
            called = self.layout.frame_name(name, place)
            yield Frame(self.path, called, pixels, place, self.channels, self.pixel_size, self.interval)

    def _read(self, source: Source, place: Mapping[str, int], rows: slice, columns: slice) -> np.ndarray:
        """(h, w) or (h, w, C) of a frame's region, contiguous, in the machine's byte order."""
        where = f"frame {' '.join(f'{axis}={at}' for axis, at in place.items())}: " if place else ""
        index = self.layout.index(place, self.channel, rows, columns)
        with _told(self.path, where):
            region = self.layout.channels_last(np.asarray(source.array[index]), index)
        if source.inverted and region.dtype.kind == "u":
            region = np.iinfo(region.dtype).max - region
        if region.dtype == bool:
            region = region * np.uint8(255)
        if region.dtype.kind == "f" and not np.isfinite(region).all():
            raise CorruptImageError(self.path, f"{where}{np.count_nonzero(~np.isfinite(region))} values are not finite")
        return np.array(region, dtype=self.dtype, order="C")


def open_image(path: str | Path, *, axes: str | None = None, channel: int | str | None = None) -> ImageFile:
    """Find out what an image file holds, without reading its pixels.

    Args:
        path: TIFF (also BigTIFF, ImageJ and OME), PNG, JPEG, BMP, a Zarr folder, ND2, CZI or LIF.
        axes: letters of all its axes in order (T C Z Y X S), where the file does not say or is wrong.
        channel: number or name of the one channel to read.

    Raises:
        CorruptImageError: not readable, or axes or a channel that the file does not have.
        DatasetError: a format whose optional package is not installed.
        OSError: the file is not there.
    """
    path = Path(path)
    opener = _opener(path)
    with _told(path):
        source = opener(path)
        dtype = source.array.dtype
        if dtype.kind not in "buif":
            raise ValueError(f"values of type {dtype} are not grey values")
        layout, note = resolve_axes(source.axes, tuple(source.array.shape), axes)
        names = channel_names(layout, source.channels)
        chosen = None if channel is None else find_channel(channel, names)
    dtype = np.dtype(np.uint8) if dtype.kind == "b" else dtype.newbyteorder("=")
    names = names if chosen is None else (names[chosen],)
    chosen, size = None if layout.channels == 1 else chosen, source.pixel_size
    return ImageFile(path, *layout.shown, dtype, names, size, source.interval, chosen, note, layout, opener)


def _opener(path: Path) -> Callable[[Path], Source]:
    """What opens a file of this kind."""
    if path.is_dir():
        return open_zarr
    with path.open("rb") as file:
        signature = file.read(4)
    if not signature:
        raise CorruptImageError(path, "the file is empty; copy or export it again")
    if path.suffix.lower() in BIOIO_READERS:
        return open_bioio
    return _open_tiff if signature in TIFF_SIGNATURES else open_picture


@contextmanager
def _told(path: Path, where: str = "") -> Iterator[None]:
    """Raise the system's errors and our own as they are, any other as CorruptImageError: decoders raise anything on
    damaged files, from struct.error to KeyError, and OSError without a number of the system."""
    try:
        yield
    except (CorruptImageError, DatasetError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = str(error) if type(error) is ValueError else f"{error} ({type(error).__name__})"
        raise CorruptImageError(path, where + reason) from error


def _open_tiff(path: Path) -> Source:
    """The images of a TIFF: of a pyramid its full resolution, series of equal shape as positions."""
    check_whole_tiff(path)
    with ExitStack() as stack:
        source = _tiff_source(stack.enter_context(tifffile.TiffFile(path)), path)
        weakref.finalize(source, stack.pop_all().close)  # frames that stay on disk keep their source, and it the file
    return source


def _tiff_source(tif: tifffile.TiffFile, path: Path) -> Source:
    series = [one for one in tif.series if not one.keyframe.is_reduced] or tif.series  # without thumbnails
    promised = (tif.imagej_metadata or {}).get("images", 1)
    if tif.is_imagej and series[0].kind != "imagej" and promised > 1:
        raise ValueError(f"cut off: it says that it holds {promised} images, and they are not all there")
    arrays = [_tiff_array(tif, one, path) for one in series]
    array, axes = Positions.joined(arrays, [tiff_axes(one) for one in series])
    inverted = series[0].keyframe.photometric == tifffile.PHOTOMETRIC.MINISWHITE
    return Source(array, axes, inverted=inverted, **tiff_metadata(tif))


def _tiff_array(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries, path: Path) -> Any:
    """Pixels on disk: mapped into memory where they are one uncompressed piece, else decoded where they are sliced."""
    offset = series.dataoffset
    if offset is None or series.is_multifile:
        return optional("zarr", path).open_array(series.aszarr(level=0), mode="r")
    dtype, size = np.dtype(tif.byteorder + series.dtype.char), path.stat().st_size
    if offset + series.nbytes > size:
        raise ValueError(f"cut off in page {(size - offset) // series.keyframe.nbytes}: the file has {size} bytes")
    return np.memmap(path, dtype, mode="r", offset=offset, shape=series.shape)
