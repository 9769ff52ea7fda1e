"""Several arrays of a file as one: the positions of a microscope's stage, or the series of a TIFF."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Positions"]


@dataclass(frozen=True)
class Positions:
    """Arrays of equal shape, one for each position of the stage, as one array with the positions in front."""

    arrays: Sequence[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of positions, then the shape of each."""
        return (len(self.arrays), *self.arrays[0].shape)

    @property
    def dtype(self) -> np.dtype:
        """Type of all."""
        return self.arrays[0].dtype

    def __getitem__(self, index: tuple) -> Any:
        """Region of one position: a position's number, then the index in its array."""
        return self.arrays[index[0]][index[1:]]

    @classmethod
    def joined(cls, arrays: Sequence[Any], axes: Sequence[str]) -> tuple[Any, str]:
        """One array and its axes: the only one as it is, several with P in front.

        Raises:
            ValueError: none, or arrays of different shapes, types or axes.
        """
        kinds = {(letters, tuple(array.shape), str(array.dtype)) for letters, array in zip(axes, arrays)}
        if len(kinds) > 1:
            shapes = ", ".join(f"{letters} {shape}" for letters, shape, _ in sorted(kinds))
            raise ValueError(f"{len(arrays)} images of different kinds in one file ({shapes}); save them one by one")
        if not kinds:
            raise ValueError("no image in the file")
        return (arrays[0], axes[0]) if len(arrays) == 1 else (cls(arrays), "P" + axes[0])
