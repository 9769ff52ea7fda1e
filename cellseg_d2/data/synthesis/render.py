"""Put cells of a bank on an empty background: one synthetic image with its cells."""

from dataclasses import dataclass, field

import cv2
import numpy as np

from ...errors import DatasetError
from .cell_bank import CellBank
from .measuring_loops import noise_level
from .painting_loops import paint
from .patches import Patches, draw_patches
from .placement_loops import LEAST_VISIBLE, find_places
from .units import FAR, PAD, UNIT

__all__ = ["Draw", "Placed", "Scene", "Target"]

_AT_ONCE = 48  # cells that are turned before it is seen which of them are needed
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
    """What cells are drawn from: (N,) places in the bank, their probabilities, and a factor on how crowded they stood
    where they come from."""

    cells: np.ndarray
    weights: np.ndarray
    crowding: np.ndarray


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
        self._table, self._areas, self._count = np.zeros((256, 5), np.float64), np.zeros((256, 3), np.int64), 0
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
            chosen = rng.choice(len(draw.cells), _AT_ONCE, p=draw.weights)
            patches = draw_patches(bank, draw.cells[chosen], turn, rng, draw.crowding[chosen])
            where = self._place(patches, limit)
            tried = where[where > -2]
            failed = failed + len(tried) if (tried == -1).all() else int((tried[::-1] == -1).argmin())
            if failed > max(_PATIENCE, self._count / 2):
                return False
        return True

    def picture(self, dtype: str) -> np.ndarray:
        """H x W image of grey values of a type, rounded and cut at its limits."""
        canvas = cv2.copyMakeBorder(self.smooth, PAD, PAD, PAD, PAD, cv2.BORDER_REPLICATE)
        noise = cv2.copyMakeBorder(self.residual, PAD, PAD, PAD, PAD, cv2.BORDER_REFLECT_101)
        mixed, kept, weights = np.zeros((3, *canvas.shape), np.float32)
        grain = _grain(noise)
        for patches, where in self._parts:
            paint(
                mixed, kept, weights, grain, patches.lost, patches.sizes, patches.starts, patches.deltas,
                patches.outlines, where, self._table,
            )  # fmt: skip
        weights = np.maximum(weights, 1e-12)
        canvas += mixed / weights + (1 - kept / weights) * noise
        inner = canvas[PAD:-PAD, PAD:-PAD]
        kind = np.dtype(dtype)
        if kind.kind == "f":
            return inner.astype(kind)
        limits = np.iinfo(kind)
        return np.clip(np.rint(inner), limits.min, limits.max).astype(kind)

    @property
    def labels(self) -> np.ndarray:
        """H x W int32, the visible cells: those of :attr:`placed`, 0 elsewhere."""
        return self._labels[PAD:-PAD, PAD:-PAD]

    @property
    def placed(self) -> list[Placed]:
        """The cells of which enough is seen in the image, in the order in which they were placed."""
        result = []
        for patches, where in self._parts:
            for n in np.flatnonzero(where >= 0).tolist():
                index = int(where[n])
                if self._areas[index, 2] >= LEAST_VISIBLE:
                    affine = patches.affine[n].copy()
                    affine[:, 2] += self._table[index, 1::-1] - PAD
                    result.append(Placed(int(patches.cells[n]), index + 1, affine))
        return result

    def _place(self, patches: Patches, limit: np.ndarray) -> np.ndarray:
        """Find places for patches; their indices as of :func:`.placement_loops.find_places`."""
        if self._count + len(patches.cells) > len(self._table):
            self._table = np.concatenate([self._table, np.zeros_like(self._table)])
            self._areas = np.concatenate([self._areas, np.zeros_like(self._areas)])
        where, self._count, inside, seen = find_places(
            self._labels, self._away, self._nearest, patches.sizes, patches.starts, patches.outlines, patches.rims,
            patches.rim_starts, patches.nearness, patches.near_starts, patches.wishes, patches.draws, self._table,
            self._areas, limit, self._count, float(self.reach),
        )  # fmt: skip
        self.seen = int(inside), int(seen)
        self._parts.append((patches, where))
        return where


def _grain(noise: np.ndarray) -> np.ndarray:
    """The finest grain of noise, without dirt, scaled to a noise level of 1."""
    few = noise[::5, ::5]
    usual = np.clip(noise, *(np.median(few) + np.array([-3, 3]) * 1.4826 * np.median(np.abs(few))))
    fine = usual - cv2.GaussianBlur(usual, (0, 0), 0.6)
    part = np.ascontiguousarray(fine[:_SAMPLE, :_SAMPLE])
    return fine / np.float32(max(noise_level(part, np.ones(part.shape, bool)), 1e-3))
