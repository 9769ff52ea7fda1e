"""Large images in overlapping tiles: where they lie, how large they are, and how probability maps come together.

>>> [(tile.x0, tile.x1) for tile in plan_tiles(512, 1200, tile=512, overlap=128)]
[(0, 512), (384, 896), (688, 1200)]
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

__all__ = ["Stitcher", "Tile", "plan_tiles", "stitch", "tile_for"]

STEP = 32  # pixels: the coarsest stride of the usual networks; tiles that keep to it see an image as the whole would
CELLS_ACROSS, OVERLAPS_ACROSS, USUAL = 2, 4, 1024  # cells in an overlap, overlaps in a tile, the usual tile's side


@dataclass(frozen=True)
class Tile:
    """A part of an image that is predicted at once.

    Attributes:
        y0, x0, y1, x1: pixels of the image, the last ones excluded.
        core: y0, x0, y1, x1 of its share of the image; the cores of all tiles part the image. The border between two
            cores runs through the middle of what both tiles see.
    """

    y0: int
    x0: int
    y1: int
    x1: int
    core: tuple[int, int, int, int]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.y1 - self.y0, self.x1 - self.x0

    @property
    def slices(self) -> tuple[slice, slice]:
        """The tile in the image: ``image[tile.slices]``."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    @property
    def core_slices(self) -> tuple[slice, slice]:
        """The core in the image."""
        y0, x0, y1, x1 = self.core
        return slice(y0, y1), slice(x0, x1)

    @property
    def core_inside(self) -> tuple[slice, slice]:
        """The core in the tile."""
        y0, x0, y1, x1 = self.core
        return slice(y0 - self.y0, y1 - self.y0), slice(x0 - self.x0, x1 - self.x0)


def plan_tiles(height: int, width: int, tile: int, overlap: int) -> list[Tile]:
    """Tiles over an image of ``height`` x ``width`` pixels, row by row.

    Args:
        tile: side in pixels. All tiles have it, the last ones moved inwards; where the image is smaller, its side.
        overlap: pixels that neighbours share at least, along each axis.

    Raises:
        ValueError: a size below 1, a negative overlap, or one that is not smaller than the tile.
    """
    if min(height, width, tile) < 1:
        raise ValueError(f"an image of {height} x {width} pixels in tiles of {tile}: each must be 1 or more")
    if not 0 <= overlap < tile:
        raise ValueError(f"tiles of {tile} pixels cannot overlap by {overlap}: choose 0 to {tile - 1}")
    rows, columns = _spans(height, tile, overlap), _spans(width, tile, overlap)
    return [
        Tile(y0, x0, y1, x1, (top, left, bottom, right))
        for y0, y1, top, bottom in rows
        for x0, x1, left, right in columns
    ]


def _spans(length: int, tile: int, overlap: int) -> list[tuple[int, int, int, int]]:
    """Begin and end of each tile along one axis, and of its core."""
    tile = min(tile, length)
    step = max(tile - overlap, 1)
    starts = [*range(0, length - tile, step), length - tile]
    middles = [(following + start + tile) // 2 for start, following in pairwise(starts)]
    return [(start, start + tile, *core) for start, core in zip(starts, pairwise([0, *middles, length]))]


def tile_for(cell_size: float, tile: int = USUAL) -> tuple[int, int]:
    """Side and overlap of tiles for cells of a size.

    Args:
        cell_size: diameter in pixels of the largest cells that are usual.
        tile: the smallest side.

    Returns:
        The side, at least 4 overlaps, and the overlap, at least 2 diameters: a cell is whole in some tile, with half
        its diameter of image around it. Both are multiples of 32 pixels.

    Raises:
        ValueError: the size is not positive and finite.

    >>> tile_for(40), tile_for(170)
    ((1024, 96), (1408, 352))
    """
    if not 0 < cell_size < float("inf"):
        raise ValueError(f"cells of {cell_size} pixels: the diameter must be positive")
    overlap = STEP * int(np.ceil(CELLS_ACROSS * cell_size / STEP))
    return STEP * int(np.ceil(max(tile, OVERLAPS_ACROSS * overlap) / STEP)), overlap


class Stitcher:
    """Puts one image's probability map together, tile by tile.

    Args:
        height, width: of the image.

    Attributes:
        probability: (H, W) float32, 0 where no tile has been added yet.
    """

    def __init__(self, height: int, width: int):
        self.probability = np.zeros((height, width), np.float32)

    def add(self, tile: Tile, probability: np.ndarray) -> None:
        """Keep the core of a tile's map, ``probability``: (h, w) numbers.

        Raises:
            ValueError: the map is not of the tile's size.
        """
        if probability.shape != tile.size:
            raise ValueError(f"a map of {probability.shape} pixels for a tile of {tile.size} (height, width)")
        self.probability[tile.core_slices] = probability[tile.core_inside]


def stitch(tiles: Sequence[Tile], probabilities: Iterable[np.ndarray]) -> np.ndarray:
    """The probability map of an image, (H, W) float32, each pixel from the tile whose core it lies in.

    Args:
        tiles: all tiles of an image.
        probabilities: (h, w) numbers for each tile; may be made one after the other.

    Raises:
        ValueError: a map is not of its tile's size, or there are not as many as tiles.
    """
    whole = Stitcher(max(tile.y1 for tile in tiles), max(tile.x1 for tile in tiles))
    for tile, probability in zip(tiles, probabilities, strict=True):
        whole.add(tile, probability)
    return whole.probability
