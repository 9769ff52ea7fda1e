"""What an extension is made by, and which image each synthetic one takes its background from."""

from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ...errors import DatasetError
from .cell_bank import BankImage, CellBank
from .density import parse_density
from .patches import TURNS
from .render import Draw, Target

__all__ = ["LEAST_CELLS", "Plan", "Recipe", "alike", "draw_like"]

LEAST_CELLS = 10  # usable cells of a kind; images of fewer would repeat the same ones
_GOOD_FREE = 0.1  # share of a background that was really seen empty
_SPREAD = 0.35  # of the logarithm of density between an image and those whose cells it is made of
_ALIKE = 1.6  # largest ratio of noise, contrast and area between images whose cells may be mixed


@dataclass(frozen=True)
class Recipe:
    """What decides every byte of an extension, together with the bank.

    Attributes:
        factor: images of the extended set for each one of the original, these included where ``originals`` is set.
        density: see :data:`.density.HELP`.
        turn: one of :data:`.patches.TURNS`.
        seed: 0 or more.
        cell_types: those that are extended; empty for all.
        originals: the extended set begins with the original images.

    Raises:
        DatasetError: a value out of range.
    """

    factor: float = 5.0
    density: str = "real"
    turn: str = "free"
    seed: int = 0
    cell_types: tuple[str, ...] = ()
    originals: bool = True

    def __post_init__(self) -> None:
        parse_density(self.density)
        if not 1 < self.factor <= 10_000:
            raise DatasetError(f"a factor of {self.factor} extends nothing; give one above 1, such as 5")
        if self.turn not in TURNS:
            raise DatasetError(f"rotation {self.turn!r} is none of {', '.join(TURNS)}")
        if self.seed < 0:
            raise DatasetError(f"seed {self.seed}: give 0 or more")

    def as_dict(self, bank: CellBank) -> dict[str, Any]:
        """For JSON, with the data set that the bank was made of."""
        return {**asdict(self), "cell_types": list(self.cell_types), "json": bank.info["json"]}


class Plan:
    """For each synthetic image: where its background and its cells come from.

    Cells of one image come from images of the same cell type and of the same kind (noise, contrast and cell size within
    a factor of 1.6, grey values of the background alike), so that they could have stood together under one microscope.

    Raises:
        DatasetError: a cell type that is not there, has too few cells, or has no image with empty places.
    """

    def __init__(self, bank: CellBank, recipe: Recipe) -> None:
        self.bank, self.images = bank, bank.images
        self._known_kin: dict[int, list[int]] = {}
        self._of_type: dict[str, list[int]] = defaultdict(list)
        for place, image in enumerate(bank.images):
            self._of_type[image.cell_type].append(place)
        self._usable: dict[int, list[int]] = defaultdict(list)
        for cell in np.flatnonzero(bank.cells["usable"]).tolist():
            self._usable[int(bank.cells["image"][cell])].append(cell)
        known = {image.cell_type for image in self.images}
        unknown = set(recipe.cell_types) - known
        if unknown:
            raise DatasetError(
                f"{bank.path}: no image of cell type {', '.join(sorted(unknown))}; there is "
                f"{', '.join(sorted(known)) or 'none'}"
            )
        self.sources = [
            place for cell_type in sorted(recipe.cell_types or known) for place in self._sources_of(cell_type)
        ]
        self.sources.sort()
        self.count = round((recipe.factor - 1) * len(self.sources))
        if not self.count:
            raise DatasetError(f"a factor of {recipe.factor:g} adds no image to {len(self.sources)}; give a larger one")

    def alike(self, place: int, turn: int = 0) -> list[BankImage]:
        """The source images of the kind of one of them: itself and, in a circle, the others; from the next on in the
        next ``turn``."""
        kin = self._kin(place)
        first = kin.index(place) + turn
        return [self.images[kin[(first + k) % len(kin)]] for k in range(len(kin))]

    def cells(self, place: int) -> np.ndarray:
        """Places in the bank of all cells that may stand on the background of an image."""
        return np.array([cell for kin in self._kin(place) for cell in self._usable[kin]], np.int64)

    def draw(self, place: int, target: Target) -> Draw:
        """The cells for an image like a source image; see :func:`draw_like`."""
        return draw_like(self.bank, self.images[place], self.cells(place), target)

    def background(self, place: int, rng: np.random.Generator) -> int:
        """The image of which the background is taken: the source itself, or one of its kind that is emptier."""
        if self.images[place].background >= 0 and self.images[place].free >= _GOOD_FREE:
            return place
        kin = [other for other in self._kin(place) if self.images[other].background >= 0]
        good = [other for other in kin if self.images[other].free >= _GOOD_FREE]
        return good[int(rng.integers(len(good)))] if good else max(kin, key=lambda other: self.images[other].free)

    def _sources_of(self, cell_type: str) -> list[int]:
        """The images of a type that can be extended."""
        own = self._of_type[cell_type]
        without = "this data set" if len(self._of_type) == 1 else "the images without a cell type"
        name = f"cell type {cell_type}" if cell_type else without
        total = sum(len(self._usable[place]) for place in own)
        if total < LEAST_CELLS:
            raise DatasetError(
                f"{self.bank.path}: {name} has only {total} usable cells, and {LEAST_CELLS} are needed so that images "
                "do not repeat the same ones; add images, or leave it out (--cell-types)"
            )
        found = [place for place in own if len(self.cells(place)) >= LEAST_CELLS and self._has_background(place)]
        if not found:
            raise DatasetError(
                f"{self.bank.path}: no image of {name} shows enough empty background beside enough cells of its kind; "
                "add images with fewer cells"
            )
        return found

    def _has_background(self, place: int) -> bool:
        """An image of the same kind shows empty places."""
        return any(self.images[kin].background >= 0 for kin in self._kin(place))

    def _kin(self, place: int) -> list[int]:
        """The images whose cells may stand beside those of this one."""
        if place not in self._known_kin:
            like = self.images[place]
            own = self._of_type[like.cell_type]
            self._known_kin[place] = [k for k in own if k == place or alike(like, self.images[k])]
        return self._known_kin[place]


def draw_like(bank: CellBank, like: BankImage, cells: np.ndarray, target: Target) -> Draw:
    """Cells for an image, those of images that are as dense as the target preferred: there cells have the shapes, gaps
    and contacts that go with that density; how crowded they stood is scaled to it.

    Args:
        bank: the bank.
        like: an image of the kind that is wanted.
        cells: (N,) places in the bank that may be drawn.
        target: how dense the image is to be.
    """
    density = target.density(like.height, like.width, like.area)
    cells = cells[np.argsort(bank.cells["group"][cells], kind="stable")]
    starts = np.flatnonzero(np.diff(bank.cells["group"][cells], prepend=-1))
    sources = bank.cells["image"][cells]
    there = np.array([max(image.cells, 1) / (image.height * image.width) for image in bank.images])
    areas = np.array([image.area for image in bank.images])
    ratio = density / there[sources]
    weights = np.exp(-(np.log(ratio[starts]) ** 2) / (2 * _SPREAD**2)) + 1e-6
    return Draw(cells, starts, weights / weights.sum(), ratio * like.area / areas[sources])


def alike(one: BankImage, other: BankImage) -> bool:
    """Images that could be of one experiment, whatever their cell type: cells of one may stand in the other."""
    if one.dtype != other.dtype or not other.cells or not one.cells:
        return False
    noise = max(one.noise, other.noise, 1e-6)
    strong = max(abs(one.contrast), abs(other.contrast))
    pairs = [(one.area, other.area), (max(one.noise, 0.5), max(other.noise, 0.5))]
    if strong > 4 * noise:  # the mean of a cell in phase contrast is that of the background
        pairs.append((abs(one.contrast), abs(other.contrast)))
    if any(max(pair) > _ALIKE * max(min(pair), 1e-6) for pair in pairs):
        return False
    return abs(one.level - other.level) <= max(4 * noise, 0.25 * strong, 0.05 * abs(one.level))
