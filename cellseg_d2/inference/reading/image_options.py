"""How images are taken, and a frame of an array."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...engine.errors import UserError
from ..records import Frame
from .axes import RGB

__all__ = ["ImageOptions", "frame_of"]


@dataclass(frozen=True)
class ImageOptions:
    """How images are taken; picklable.

    Attributes:
        tile: "auto" (large images in tiles), "off", or the side of tiles in pixels.
        overlap: of tiles, in pixels; None: twice the size of cells.
        batch: regions that go through the network together.
        channel: place from 0 or name, of images of several channels.
        axes: of image files, where they do not say them, see :func:`.reader.open_image`.
        pixel_size: micrometres, where files do not say it, or in the place of what they say.
        interval: seconds from frame to frame, likewise.
        adapt: adapt grey values and magnification to LIVECell's microscope, see :class:`.adaptation.Adaptation`.
    """

    tile: str | int = "auto"
    overlap: int | None = None
    batch: int = 1
    channel: str | int | None = None
    axes: str | None = None
    pixel_size: float | None = None
    interval: float | None = None
    adapt: bool = False

    def __post_init__(self) -> None:
        """Raise UserError for values out of range."""
        if self.tile not in ("auto", "off") and not (str(self.tile).isdecimal() and int(self.tile) >= 64):
            raise UserError(f"--tile {self.tile}: give auto, off, or a side of at least 64 pixels")
        if self.batch < 1:
            raise UserError(f"--batch {self.batch}: give a number above 0")
        if self.overlap is not None and self.overlap < 0:
            raise UserError(f"--overlap {self.overlap}: give a number of pixels, 0 or more")
        for name in ("pixel_size", "interval"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise UserError(f"--{name.replace('_', '-')} {value}: give a number above 0")


def frame_of(image: np.ndarray, options: ImageOptions) -> Frame:
    """A frame of an array (H, W), (H, W, 3) in RGB or (H, W, C).

    Raises:
        ValueError: it is no image, or has values that are not finite.
    """
    if image.ndim not in (2, 3) or image.dtype.kind not in "buif":
        raise ValueError(f"an image is a numeric array (H, W) or (H, W, C), not {image.shape} of {image.dtype}")
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        raise ValueError(f"{np.count_nonzero(~np.isfinite(image))} values of the image are not finite")
    if image.ndim == 3 and image.shape[2] not in (1, 3) and options.channel is None:
        raise ValueError(
            f"an array of {image.shape} has {image.shape[2]} channels: choose the one to find cells in with channel=, "
            "take image[..., :3] of RGBA, or give the images of a stack as a list"
        )
    image = image.astype(np.uint8) * 255 if image.dtype == bool else image
    channels = ("",) if image.ndim == 2 else RGB if image.shape[2] == 3 else ("",) * image.shape[2]
    return Frame(Path(), "", image, {}, channels, options.pixel_size, options.interval)
