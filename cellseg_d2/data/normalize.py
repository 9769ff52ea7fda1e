"""Grey values of any camera to the numbers that a network takes: float32, about 0 to 1."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from detectron2.config import CfgNode

from ..config import SEMANTIC_STRETCH
from .image_io import check_percentiles

__all__ = ["CEILING", "Normalization"]

# Values above the upper percentile are kept, as cells that are brighter than the rest of their image are still cells;
# but debris and hot pixels, a hundred times as bright, would rule every average that they enter.
CEILING = 4.0


@dataclass(frozen=True)
class Normalization:
    """Callable that maps two percentiles of an image's values to 0 and 1, followed by a power.

    ``min(max((x - low) / (high - low), 0), 4) ** gamma``, in the same way in training and in use. Where the two
    percentiles have the same value (a few bright spots on black), minimum and maximum take their place; a constant
    image becomes zeros.

    Attributes:
        percentiles: low and high, in percent.
        gamma: the power; below 1 it lifts dim cells.
    """

    percentiles: tuple[float, float] = SEMANTIC_STRETCH
    gamma: float = 1.0

    def __post_init__(self) -> None:
        """Raise ValueError where an option is out of range."""
        check_percentiles(self.percentiles)
        if not (self.gamma > 0 and np.isfinite(self.gamma)):
            raise ValueError(f"INPUT.GAMMA: {self.gamma} is not a finite number above 0")

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "Normalization":
        """From ``INPUT.STRETCH_PERCENTILES`` (empty: 1 and 99.8) and ``INPUT.GAMMA``."""
        percentiles = tuple(cfg.INPUT.STRETCH_PERCENTILES)
        return cls(percentiles or cls.percentiles, cfg.INPUT.GAMMA)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Normalise an image, all channels alike.

        Args:
            image: H x W or H x W x C of bool, integers or floats.

        Returns:
            A float32 array of the same shape.

        Raises:
            ValueError: not numbers, no pixel at all, or values that are not finite.
        """
        return self.fit(image)(image)

    def fit(self, image: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """What normalises an image, or any part of it, by the percentiles of ``image``; errors as in calling.

        Args:
            image: the whole image, or enough of its pixels.
        """
        if image.dtype.kind not in "buif" or not image.size:
            raise ValueError(f"cannot normalise an image of type {image.dtype} and shape {image.shape}")
        values = image.view(np.uint8) if image.dtype == bool else image
        low, high = _percentiles(values, self.percentiles)
        if low == high:
            low, high = float(values.min()), float(values.max())
        if not np.isfinite([low, high]).all():
            raise ValueError("cannot normalise an image with values that are not finite")
        return partial(self._apply, low=low, high=high)

    def _apply(self, image: np.ndarray, low: float, high: float) -> np.ndarray:
        """Values between two that become 0 and 1; zeros where the two are one."""
        if low == high:
            return np.zeros(image.shape, dtype=np.float32)
        if image.dtype == bool:
            image = image.view(np.uint8)
        if image.dtype in (np.uint8, np.uint16):  # a table of all values is exact, and far faster with a power
            return self._scaled(np.arange(np.iinfo(image.dtype).max + 1), low, high)[image]
        return self._scaled(image, low, high)

    def _scaled(self, values: np.ndarray, low: float, high: float) -> np.ndarray:
        """float32 of ``values`` with ``low`` at 0 and ``high`` at 1; float64 on the way, as cameras have offsets."""
        scaled = values.astype(np.float64)
        scaled -= low
        scaled /= high - low
        np.clip(scaled, 0, CEILING, out=scaled)
        return scaled.astype(np.float32) if self.gamma == 1 else np.power(scaled.astype(np.float32), self.gamma)


def _percentiles(image: np.ndarray, percentiles: tuple[float, float]) -> tuple[float, float]:
    """What ``np.percentile`` returns, for 8 and 16 bits from a count of the values instead of sorting them."""
    if image.dtype not in (np.uint8, np.uint16):
        low, high = np.percentile(image, percentiles)
        return float(low), float(high)
    ranks = np.cumsum(np.bincount(image.reshape(-1)))  # number of pixels up to each value
    return tuple(_between_ranks(ranks, percent / 100 * (image.size - 1)) for percent in percentiles)


def _between_ranks(ranks: np.ndarray, place: float) -> float:
    """The value at a place among the sorted pixels, interpolated linearly and rounded as NumPy does."""
    first = int(place)
    low, high = np.searchsorted(ranks, [first, min(first + 1, ranks[-1] - 1)], side="right").tolist()
    share = place - first
    return low + (high - low) * share if share < 0.5 else high - (high - low) * (1 - share)
