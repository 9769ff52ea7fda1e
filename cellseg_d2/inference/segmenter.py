"""One call from an image, of any size, to its cells."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from ..data.image_io import CorruptImageError
from ..engine.errors import UserError
from .detectors import Detector, Found, Prepare
from .loading import ModelOptions, load_detector
from .reading.adaptation import Adaptation, AdaptedRegion, magnification
from .reading.grey import View, view_of
from .reading.image_options import ImageOptions, frame_of
from .reading.reader import open_image
from .records import Frame
from .result import SegmentedImage
from .tiles.merging import merge_tiles
from .tiles.tiling import Stitcher, Tile, plan_tiles, tile_for

__all__ = ["CellSegmenter", "ImageOptions"]

MAGNIFIED = 20  # times, largest change of size by adaptation
STITCHED = 1 << 26  # pixels, of the largest image whose probability map is kept


@dataclass
class _Pending:
    """A frame whose regions are on their way."""

    frame: Frame
    tiles: list[Tile]
    scale: float
    found: list[Found | None]
    maps: Stitcher | None
    seconds: dict[str, float] = field(default_factory=lambda: {"read": 0.0, "network": 0.0, "merge": 0.0})


class CellSegmenter:
    """Finds the cells of images.

    Args:
        detector: the model.
        options: how images are taken.
        tell: called after each region with its frame, how many of its regions are done, and how many there are.

    Examples:
        >>> segmenter = CellSegmenter.from_pretrained("output/mine", min_score=0.4)  # doctest: +SKIP
        >>> result = segmenter("plate/well_A1.tif")                                  # doctest: +SKIP
        >>> len(result.cells), result.labels().max(), result.table()["area"].mean()  # doctest: +SKIP
    """

    def __init__(
        self,
        detector: Detector,
        options: ImageOptions | None = None,
        tell: Callable[[Frame, int, int], None] = lambda frame, done, total: None,
    ) -> None:
        self.detector, self.options, self.tell = detector, options or ImageOptions(), tell

    @classmethod
    def from_pretrained(
        cls, name_or_path: str | Path, weights: str | Path | None = None, **options: Any
    ) -> "CellSegmenter":
        """Load a model.

        Args:
            name_or_path: a name of ``cellseg_d2.model_zoo``, a model folder, an output folder of training, or a
                configuration with ``weights``.
            options: of :class:`.loading.ModelOptions` and :class:`ImageOptions`.

        Raises:
            UserError, DatasetError: see :func:`.loading.load_detector`.
            TypeError: an option that neither has.
        """
        of_images = {key: options.pop(key) for key in list(options) if key in ImageOptions.__dataclass_fields__}
        model = ModelOptions(str(name_or_path), None if weights is None else str(weights), **options)
        return cls(load_detector(model), ImageOptions(**of_images))

    def __call__(self, image: Any) -> SegmentedImage | list[SegmentedImage]:
        """Find the cells of an image, or of several.

        Args:
            image: (H, W), or (H, W, 3) RGB, or with ``channel`` (H, W, C) array of real numbers; a path (see
                :func:`.reader.open_image`); or a list or tuple of these.

        Returns:
            The cells; a list for a list, and for a file of several frames.

        Raises:
            CorruptImageError: an image that cannot be used.
            ValueError: an array that is no image; of a list, before any cells are looked for.
            OSError: a file is not there or may not be read.
        """
        if isinstance(image, list | tuple):
            return list(self.segment(chain.from_iterable([self._frames(each, n) for n, each in enumerate(image)])))
        results = list(self.segment(self._frames(image)))
        return results[0] if len(results) == 1 else results

    def segment(self, frames: Iterable[Frame]) -> Iterator[SegmentedImage]:
        """The cells of frames, in their order; regions of one size go through the network together, also of several
        frames. Frames are taken one by one, as they are needed."""
        waiting: deque[_Pending] = deque()
        batch: list[tuple[_Pending, int, np.ndarray]] = []
        for frame in frames:
            pending, read = self._plan(frame)
            waiting.append(pending)
            if len(pending.tiles) > 1:  # what its tiles share must not reach other frames
                self._detect(batch)
                self._share(pending, read)
            else:
                self._collect(pending, read, batch)
            while waiting and all(waiting[0].found):
                yield self._finished(waiting.popleft())
        self._detect(batch)
        while waiting:
            yield self._finished(waiting.popleft())

    def _share(self, pending: _Pending, read: Callable[[Tile], np.ndarray]) -> None:
        """Find the cells of all tiles of a frame, which look at the whole frame where layers do."""
        began, batch = time.perf_counter(), []
        with self.detector.shared(pending.tiles, read, pending.scale):
            pending.seconds["network"] += time.perf_counter() - began
            self._collect(pending, read, batch)
            self._detect(batch)

    def _collect(
        self, pending: _Pending, read: Callable[[Tile], np.ndarray], batch: list[tuple[_Pending, int, np.ndarray]]
    ) -> None:
        """Read the regions of a frame; the network runs each time that a batch is full, or sizes change."""
        for number, tile in enumerate(pending.tiles):
            began = time.perf_counter()
            region = read(tile)
            pending.seconds["read"] += time.perf_counter() - began
            if batch and (region.shape, pending.scale) != (batch[0][2].shape, batch[0][0].scale):
                self._detect(batch)
            batch.append((pending, number, region))
            if len(batch) == self.options.batch:
                self._detect(batch)

    def frames_of(self, path: str | Path, name: str = "") -> Iterator[Frame]:
        """The frames of a file, with the options' pixel size and interval.

        Raises:
            CorruptImageError, OSError: see :func:`.reader.open_image`.
        """
        options = self.options
        given = {key: getattr(options, key) for key in ("pixel_size", "interval") if getattr(options, key) is not None}
        for frame in open_image(path, axes=options.axes).frames(name or Path(path).stem):
            yield replace(frame, **given)

    def _frames(self, image: Any, place: int | None = None) -> Iterator[Frame]:
        """Of a path or an array, which has a place where it is one of a list."""
        if isinstance(image, str | Path):
            return self.frames_of(image)
        try:
            return iter([frame_of(np.asarray(image), self.options)])
        except ValueError as error:
            raise error if place is None else ValueError(f"image {place} of the list: {error}") from None

    def _plan(self, frame: Frame) -> tuple[_Pending, Callable[[Tile], np.ndarray]]:
        """The tiles of a frame, and what reads the prepared grey values of one."""
        view = view_of(frame, self.options.channel, grey=self.options.adapt)
        scale, prepare = self.detector.scale, None
        if self.options.adapt:
            adapted = Adaptation().fit(view if not view.in_memory else view[:, :])
            scale *= _magnification(frame)
            prepare = self.detector.fit(np.zeros((1, 1), dtype=np.uint8))
        else:
            adapted, prepare = None, self.detector.fit(view.sample())
        tiles = self._tiles(view, scale / self.detector.scale)
        stitched = self.detector.has_probability and len(tiles) > 1 and view.size[0] * view.size[1] <= STITCHED
        maps = Stitcher(*view.size) if stitched else None
        return _Pending(frame, tiles, scale, [None] * len(tiles), maps), partial(_region, view, adapted, prepare)

    def _tiles(self, view: View, magnification: float) -> list[Tile]:
        """Where the network looks; an image of up to half as much again as a tile has is taken in one piece."""
        height, width = view.size
        tile, detector = self.options.tile, self.detector
        if tile == "off" or (tile == "auto" and height * width * magnification**2 <= detector.whole):
            return plan_tiles(height, width, max(height, width), 0)
        wanted = int(detector.side / magnification) if tile == "auto" else int(tile)
        side, overlap = tile_for(detector.cell_size / magnification, wanted)
        side, overlap = (side, overlap) if tile == "auto" else (wanted, min(overlap, wanted // 2))
        overlap = overlap if self.options.overlap is None else self.options.overlap
        if not 0 <= overlap < side:
            raise UserError(f"--overlap {overlap}: it has to be smaller than the tiles of {side} pixels")
        return plan_tiles(height, width, side, overlap)

    def _detect(self, batch: list[tuple[_Pending, int, np.ndarray]]) -> None:
        """Run the network on regions of one size, if there are any, and empty the list."""
        if not batch:
            return
        began = time.perf_counter()
        results = self.detector([region for _, _, region in batch], batch[0][0].scale)
        share = (time.perf_counter() - began) / len(batch)
        for (pending, number, _), found in zip(batch, results, strict=True):
            if pending.maps and found.probability is not None:
                pending.maps.add(pending.tiles[number], found.probability)
            # or the maps of all tiles of a large image would be kept
            pending.found[number] = found if len(pending.tiles) == 1 else replace(found, probability=None)
            pending.seconds["network"] += share
            self.tell(pending.frame, number + 1, len(pending.tiles))
        batch.clear()

    def _finished(self, pending: _Pending) -> SegmentedImage:
        """The cells of a frame from those of its tiles."""
        began, found = time.perf_counter(), pending.found
        height, width = pending.frame.size
        if len(pending.tiles) == 1:
            cells, probability = found[0].cells, found[0].probability
        else:
            cells = merge_tiles(pending.tiles, [each.cells for each in found], height, width)
            probability = pending.maps.probability if pending.maps else None
        pending.seconds["merge"] += time.perf_counter() - began
        notes = _notes(pending, self.detector.cap)
        return SegmentedImage(pending.frame, cells, self.detector.classes, probability, pending.seconds, notes)


def _notes(pending: _Pending, cap: int | None) -> tuple[str, ...]:
    capped = sum(found.capped for found in pending.found)
    if not capped:
        return ()
    where = "it has" if len(pending.tiles) == 1 else f"{capped} of its {len(pending.tiles)} tiles have"
    return (f"{where} {cap} cells, as many as the model gives at most: there may be more, raise it with --max-cells",)


def _magnification(frame: Frame) -> float:
    """What a frame is resized by to look as at LIVECell's magnification; 1 where its pixel size is not known."""
    factor = magnification(frame.pixel_size) if frame.pixel_size else 1.0
    if not 1 / MAGNIFIED <= factor <= MAGNIFIED:
        raise CorruptImageError(
            frame.path,
            f"--adapt would resize pixels of {frame.pixel_size:g} um by {factor:g}; give the right --pixel-size",
        )
    return factor


def _region(view: View, adapted: AdaptedRegion | None, prepare: Prepare, tile: Tile) -> np.ndarray:
    """The input of the network for a tile, before it is scaled."""
    region = view[tile.y0 : tile.y1, tile.x0 : tile.x1]
    return prepare(region if adapted is None else adapted(region, (tile.y0, tile.x0)))
