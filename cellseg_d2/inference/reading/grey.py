"""What a model sees of a frame: one channel or RGB, in memory or on disk, and the sample that it is stretched by."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...data.image_io import CorruptImageError, to_grey
from ..records import Frame
from .axes import RGB, find_channel

__all__ = ["View", "view_of"]

_NAMED = 12  # channels in a message
_BLOCKS, _BLOCK = 5, 1024  # of the sample of an image on disk: so many in each direction, pixels of their sides


@dataclass(frozen=True)
class View:
    """One channel, or RGB, of pixels of (H, W) or (H, W, C).

    Attributes:
        pixels: see :class:`.records.Frame`.
        channel: the one that is taken; None: all.
        grey: colour becomes luminance.
    """

    pixels: Any
    channel: int | None = None
    grey: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        height, width = self.pixels.shape[:2]
        return int(height), int(width)

    @property
    def shape(self) -> tuple[int, ...]:
        """(H, W), or (H, W, 3)."""
        return self.size if self.grey or self.channel is not None else tuple(self.pixels.shape)

    @property
    def dtype(self) -> np.dtype:
        """Of the values, before colour becomes luminance."""
        return self.pixels.dtype

    @property
    def in_memory(self) -> bool:
        """The pixels are an array of the process, not on disk."""
        return type(self.pixels) is np.ndarray

    def __getitem__(self, place: tuple[slice, slice]) -> np.ndarray:
        """A region, (h, w) or (h, w, 3)."""
        region = np.asarray(self.pixels[place])
        if self.channel is not None:
            region = region[..., self.channel]
        return to_grey(region) if self.grey else region

    def sample(self) -> np.ndarray:
        """The whole image where it is in memory; else blocks of it, evenly spread, one below the other."""
        height, width = self.size
        if self.in_memory or height * width <= (_BLOCKS * _BLOCK) ** 2:
            return self[:, :]
        tops, lefts = (np.linspace(0, max(0, side - _BLOCK), _BLOCKS).astype(int).tolist() for side in (height, width))
        blocks = [self[y : y + _BLOCK, x : x + _BLOCK] for y in tops for x in lefts]
        return np.concatenate([block.reshape(-1, 1, *block.shape[2:]) for block in blocks])


def view_of(frame: Frame, channel: str | int | None = None, grey: bool = False) -> View:
    """What a model takes of a frame.

    Args:
        channel: place from 0, or name; None: the only one, or RGB.
        grey: RGB becomes luminance.

    Raises:
        CorruptImageError: no such channel, several ones of which none was chosen, or no pixel at all.
    """
    pixels = frame.pixels
    if 0 in pixels.shape:
        raise CorruptImageError(frame.path, f"it has no pixels, its shape is {tuple(pixels.shape)}")
    place = None if channel is None else _place(frame, channel)
    if len(pixels.shape) == 2:
        return View(pixels)
    count = pixels.shape[2]
    if place is not None or count == 1:
        return View(pixels, place or 0)
    if tuple(frame.channels) == RGB:
        return View(pixels, grey=grey)
    named = ", ".join(f"{at} {name}".strip() for at, name in enumerate(frame.channels[:_NAMED]))
    named += ", ..." if count > _NAMED else ""
    raise CorruptImageError(
        frame.path, f"it has {count} channels; choose the one to find cells in with --channel: {named}"
    )


def _place(frame: Frame, channel: str | int) -> int:
    """Place of a channel from 0."""
    try:
        return find_channel(channel, frame.channels)
    except ValueError as error:
        raise CorruptImageError(frame.path, str(error)) from error
