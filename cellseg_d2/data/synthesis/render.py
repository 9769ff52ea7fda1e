"""Put cells of a bank on an empty background: one synthetic image with its cells."""

from dataclasses import dataclass, field

import cv2
import numpy as np

from ...errors import DatasetError
from .cell_bank import CellBank
from .measuring_loops import noise_level
from .painting_loops import compose, paint
from .patches import Patches, draw_patches
from .placement_loops import LEAST_VISIBLE, PLACED, find_places
from .units import FAR, PAD, UNIT

__all__ = ["Draw", "Placed", "Scene", "Target"]

_AT_ONCE = 48  # cells that are turned before it is seen which of them are needed
_SPARE = 8  # cells more than are needed, as some find no place
_SAMPLE = 256  # pixels
_PATIENCE = 60  # cells in a row, or half as many as lie there, that find no place: the image is full


@dataclass(frozen=True)
class Target:
    """How dense an image is to be: a number of cells, or the share that they cover (confluence), not both."""

    cells: int | None = None
    confluence: float | None = None

    def limit(self, height: int, width: int) -> np.ndarray:
        """Cells and covered pixels at which an image is complete."""
        most = np.iinfo(np.int64).max
        pixels = most if self.confluence is None else round(self.confluence * height * width)
        return np.array([most if self.cells is None else self.cells, pixels], np.int64)

    def density(self, height: int, width: int, area: float) -> float:
        """Cells a pixel, for cells of this area."""
        return self.confluence / area if self.cells is None else max(self.cells, 1) / (height * width)


@dataclass(frozen=True)
class Draw:
    """What cells are drawn from.

    Attributes:
        cells: (N,) places in the bank, group after group.
        starts: (G,) where the cells of each group begin.
        weights: (G,) probabilities of the groups.
        crowding: (N,) a factor on how crowded they stood where they come from.
    """

    cells: np.ndarray
    starts: np.ndarray
    weights: np.ndarray
    crowding: np.ndarray

    def some(self, most: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Some groups, together of at most so many cells, unless it is one: (M,) places in ``cells``, and the number
        of cells of each group."""
        sizes = np.diff(self.starts, append=len(self.cells))
        drawn = rng.choice(len(self.starts), most, p=self.weights)
        drawn = drawn[: max(int(np.searchsorted(np.cumsum(sizes[drawn]), most, side="right")), 1)]
        chosen = np.concatenate([np.arange(self.starts[k], self.starts[k] + sizes[k]) for k in drawn.tolist()])
        return chosen, sizes[drawn]


@dataclass(frozen=True)
class Placed:
    """A cell in a synthetic image: its place in the bank, the label, and the affine map (2 x 3) from the source image,
    both in continuous pixel coordinates."""

    cell: int
    label: int
    affine: np.ndarray


@dataclass
class Scene:
    """An image that is being filled with cells.

    Attributes:
        smooth: H x W float32, the slowly varying background.
        residual: H x W float32, what is above or below it: noise, dirt.
        reach: half the side in pixels of the square in which neighbours are counted, see :func:`.crowd_reach`.
        taken: H x W bool, pixels on which no cell may lie.
    """

    smooth: np.ndarray
    residual: np.ndarray
    reach: float
    taken: np.ndarray | None = None
    seen: tuple[int, int] = (0, 0)
    _parts: list[tuple[Patches, np.ndarray]] = field(default_factory=list)

    def __post_init__(self) -> None:
        height, width = self.smooth.shape
        shape = height + 2 * PAD, width + 2 * PAD
        self._labels, self._nearest = np.zeros((2, *shape), np.int32)
        self._away = np.full(shape, UNIT * FAR, np.uint8)
        self._table, self._areas, self._count = np.zeros((PLACED, 256), np.float64), np.zeros((256, 3), np.int64), 0
        if self.taken is not None:
            away = np.minimum(cv2.distanceTransform((~self.taken).astype(np.uint8), cv2.DIST_L2, 3), FAR)
            self._away[PAD:-PAD, PAD:-PAD] = cv2.convertScaleAbs(away, alpha=UNIT)

    def fill(self, bank: CellBank, draw: Draw, target: Target, turn: str, rng: np.random.Generator) -> bool:
        """Place cells of a bank until the target is met; False where it is full before.

        Raises:
            DatasetError: there is no cell to draw from.
        """
        if not len(draw.cells):
            raise DatasetError(f"{bank.path}: no usable cell to place; choose another cell type, or make a larger bank")
        limit, failed = target.limit(*self.smooth.shape), 0
        while self.seen[0] < limit[0] and self.seen[1] < limit[1]:
            chosen, groups = draw.some(min(_AT_ONCE, int(limit[0]) - self.seen[0] + _SPARE), rng)
            patches = draw_patches(bank, draw.cells[chosen], groups, turn, rng, draw.crowding[chosen])
            where = self._place(patches, limit)
            tried = where[where > -2]
            failed = failed + len(tried) if (tried == -1).all() else int((tried[::-1] == -1).argmin())
            if failed > max(_PATIENCE, self._count / 2):
                return False
        return True

    def picture(self, dtype: str) -> np.ndarray:
        """H x W image of grey values of a type, rounded and cut at its limits."""
        fine, level = _grain(self.residual)
        grain = cv2.copyMakeBorder(fine, PAD, PAD, PAD, PAD, cv2.BORDER_REFLECT_101)
        mixed, kept, weights = np.zeros((3, *grain.shape), np.float32)
        for patches, where in self._parts:
            paint(
                mixed, kept, weights, grain, patches.lost / level, patches.sizes, patches.starts, patches.deltas,
                patches.outlines, where, self._table,
            )  # fmt: skip
        inner = np.empty_like(self.smooth)
        compose(self.smooth, self.residual, mixed, kept, weights, inner)
        kind = np.dtype(dtype)
        if kind.kind == "f":
            return inner.astype(kind)
        limits = np.iinfo(kind)
        return np.clip(np.rint(inner, out=inner), limits.min, limits.max, out=inner).astype(kind)

    @property
    def labels(self) -> np.ndarray:
        """H x W int32, the visible cells: those of :attr:`placed`, 0 elsewhere."""
        return self._labels[PAD:-PAD, PAD:-PAD]

    @property
    def placed(self) -> list[Placed]:
        """The cells of which enough is seen in the image, in the order in which they were placed."""
        result = []
        for patches, where in self._parts:
            shown = np.flatnonzero((where >= 0) & (self._areas[where, 2] >= LEAST_VISIBLE))
            indices, affine = where[shown], patches.affine[shown]
            affine[:, :, 2] += self._table[1::-1, indices].T - PAD
            result += map(Placed, patches.cells[shown].tolist(), (indices + 1).tolist(), affine)
        return result

    def _place(self, patches: Patches, limit: np.ndarray) -> np.ndarray:
        """Find places for patches; their indices as of :func:`.placement_loops.find_places`."""
        if self._count + len(patches.cells) > len(self._areas):
            self._table = np.concatenate([self._table, np.zeros_like(self._table)], axis=1)
            self._areas = np.concatenate([self._areas, np.zeros_like(self._areas)])
        where, self._count, inside, seen = find_places(
            self._labels, self._away, self._nearest, patches, self._table, self._areas, limit, self._count,
            float(self.reach),
        )  # fmt: skip
        self.seen = int(inside), int(seen)
        self._parts.append((patches, where))
        return where


def _grain(noise: np.ndarray) -> tuple[np.ndarray, np.float32]:
    """The finest grain of noise (float32), without dirt, and its noise level."""
    few = noise[::5, ::5]
    usual = np.clip(noise, *(np.median(few) + np.array([-3, 3], np.float32) * 1.4826 * np.median(np.abs(few))))
    fine = usual - cv2.GaussianBlur(usual, (3, 3), 0.6)
    part = np.ascontiguousarray(fine[:_SAMPLE, :_SAMPLE])
    return fine, np.float32(max(noise_level(part, np.ones(part.shape, bool)), 1e-3))
