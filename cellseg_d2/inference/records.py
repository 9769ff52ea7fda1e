"""What passes between reading, predicting, tracking, measuring and writing: frames, and the cells found in them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Frame", "FrameCells"]


@dataclass(frozen=True)
class Frame:
    """One image of a file.

    Attributes:
        path: the file.
        name: of its outputs, without ending; of a stack's frame with its place behind it, "film_t003".
        pixels: (H, W), or (H, W, C) channels, of the file's own type: an array, or what gives one when it is sliced
            as ``pixels[y0:y1, x0:x1]`` and has ``shape`` and ``dtype`` (a large image that stays on disk).
        place: place from 0 on each axis of the file along which there are several frames: {"t": 3, "z": 0}.
        channels: names of the channels, as many as there are; "" where the file has none.
        pixel_size: micrometres, width of a pixel; None where the file does not say.
        interval: seconds from frame to frame; None where the file does not say.
    """

    path: Path
    name: str
    pixels: Any
    place: Mapping[str, int] = field(default_factory=dict)
    channels: tuple[str, ...] = ("",)
    pixel_size: float | None = None
    interval: float | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.pixels.shape[:2]
        return int(height), int(width)


@dataclass(frozen=True)
class FrameCells:
    """The cells of one frame.

    Attributes:
        frame: where they were found.
        cells: COCO results, best first: ``category_id`` (from 0), ``bbox`` [x, y, w, h] in pixels, ``score``,
            ``mask_score`` where the model scores masks, ``segmentation`` (run lengths {"size": [H, W], "counts": str})
            and, after tracking, ``track_id`` (from 1, the same in all frames).
        classes: names of the categories.
        probability: (H, W) float32 of foreground, of models that predict it.
        seconds: spent on each step.
        notes: what a user should know, such as a limit that was reached.
    """

    frame: Frame
    cells: Sequence[Mapping[str, Any]]
    classes: tuple[str, ...] = ("cell",)
    probability: np.ndarray | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
