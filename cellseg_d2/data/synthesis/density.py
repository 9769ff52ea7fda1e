"""How dense a synthetic image is to be: as real ones, along their growth, between two confluence levels, or a list."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.optimize import curve_fit

from ...errors import DatasetError
from .cell_bank import BankImage
from .render import Target

__all__ = ["HELP", "DensityModel", "GrowthDensity", "ListDensity", "RealDensity", "UniformDensity"]
__all__ += ["fit_growth", "parse_density"]

HELP = (
    "real: numbers of cells as in the data set; growth: along the growth curve that the images' times give; "
    "uniform:0.2:0.8: confluence between two shares of the image; list:50,200,800: these numbers of cells in turn"
)
_SPREAD = 0.15  # of drawn numbers of cells around the real ones, as a share
_LEAST_TIMES = 4


class DensityModel(Protocol):
    """Draws targets."""

    def draw(self, like: BankImage, others: Sequence[BankImage], index: int, rng: np.random.Generator) -> Target:
        """The target of the ``index``-th synthetic image, whose background is that of ``like``; ``others`` are the
        source images of its kind, itself included, that whose turn it is first."""
        ...


@dataclass(frozen=True)
class RealDensity:
    """The numbers of cells a pixel of real images of the same kind, spread by a few percent: of the first one that has
    cells, so that images that are asked for in turn are as dense as the real ones are, no image left out."""

    def draw(self, like: BankImage, others: Sequence[BankImage], index: int, rng: np.random.Generator) -> Target:
        """See :class:`DensityModel`."""
        chosen = next(image for image in others if image.cells)
        return Target(cells=_cells(chosen.cells / (chosen.height * chosen.width), like, rng))


@dataclass(frozen=True)
class GrowthDensity:
    """The number of cells a pixel at a time t drawn uniformly within the experiment, by the growth of the type:

    logistic n(t) = K / (1 + (K / n0 - 1) exp(-r t)), fitted by least squares to the real images.
    """

    def draw(self, like: BankImage, others: Sequence[BankImage], index: int, rng: np.random.Generator) -> Target:
        """See :class:`DensityModel`.

        Raises:
            DatasetError: the images' times are not known, or there are fewer than four.
        """
        curve = fit_growth(others)
        hours = [image.hours for image in others if image.hours is not None]
        return Target(cells=_cells(float(curve(rng.uniform(min(hours), max(hours)))), like, rng))


@dataclass(frozen=True)
class UniformDensity:
    """Confluence drawn uniformly from [low, high]."""

    low: float
    high: float

    def draw(self, like: BankImage, others: Sequence[BankImage], index: int, rng: np.random.Generator) -> Target:
        """See :class:`DensityModel`."""
        return Target(confluence=float(rng.uniform(self.low, self.high)))


@dataclass(frozen=True)
class ListDensity:
    """These numbers of cells an image, one after the other."""

    cells: tuple[int, ...]

    def draw(self, like: BankImage, others: Sequence[BankImage], index: int, rng: np.random.Generator) -> Target:
        """See :class:`DensityModel`."""
        return Target(cells=self.cells[index % len(self.cells)])


def fit_growth(images: Sequence[BankImage]):
    """The logistic growth curve of images of one kind: hours -> cells a pixel.

    Raises:
        DatasetError: fewer than four different times.
    """
    known = [image for image in images if image.hours is not None and image.cells]
    hours = np.array([image.hours for image in known], np.float64)
    counts = np.array([image.cells / (image.height * image.width) for image in known])
    if len(np.unique(hours)) < _LEAST_TIMES:
        raise DatasetError(
            f"density 'growth' needs images of at least {_LEAST_TIMES} times of a cell type, and there are "
            f"{len(np.unique(hours))} of {images[0].cell_type or 'this one'}: name files as LIVECell does, give image "
            "entries 'hours', or choose another density"
        )
    top, begin, scale = counts.max(), counts[hours.argmin()], max(np.ptp(hours), 1e-9)

    def logistic(t: np.ndarray, log_top: float, log_start: float, rate: float) -> np.ndarray:
        limit, start = np.exp(log_top), np.exp(log_start)
        return limit / (1 + (limit / start - 1) * np.exp(-rate * (t - hours.min()) / scale))

    guess = np.log(1.2 * top), np.log(begin), 2.0
    bounds = [np.log(top) - 1, np.log(begin) - 3, 0], [np.log(top) + 3, np.log(top), 30]
    found, _ = curve_fit(logistic, hours, counts, np.clip(guess, *bounds), bounds=bounds)
    return lambda t: logistic(t, *found)


def parse_density(text: str) -> DensityModel:
    """A density model from the command line's words, see :data:`HELP`.

    Raises:
        DatasetError: other words, or numbers that make no sense.
    """
    kind, *rest = text.split(":")
    try:
        if kind in ("real", "growth") and not rest:
            return RealDensity() if kind == "real" else GrowthDensity()
        if kind == "uniform" and len(rest) == 2:
            low, high = map(float, rest)
            if 0 < low <= high < 1:
                return UniformDensity(low, high)
        if kind == "list" and len(rest) == 1:
            cells = tuple(int(part) for part in rest[0].split(","))
            if min(cells) >= 0:
                return ListDensity(cells)
    except ValueError:
        pass  # the message below says what is understood
    raise DatasetError(f"density {text!r} is none of these. {HELP}")


def _cells(density: float, like: BankImage, rng: np.random.Generator) -> int:
    """Cells of an image of this density, spread at random."""
    return max(round(density * like.height * like.width * (1 + _SPREAD * rng.uniform(-1, 1))), 1)
