"""Principal components of descriptors, fitted on one set and applied to others."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..errors import DatasetError

__all__ = ["Components", "fit_components"]

MISSING = 0.25  # share of rows that may lack a descriptor


@dataclass(frozen=True)
class Components:
    """Standardisation and axes of a fitted set.

    Attributes:
        names: (D,) descriptors.
        mean, scale: (D,) float64, of the fitted set.
        axes: (K, D) float64, unit vectors, the one of the largest variance first; the largest entry is positive.
        explained: (K,) share of the fitted set's variance.
    """

    names: tuple[str, ...]
    mean: np.ndarray
    scale: np.ndarray
    axes: np.ndarray
    explained: np.ndarray

    def complete(self, table: pd.DataFrame) -> np.ndarray:
        """(N,) bool: the rows of a table that have all descriptors."""
        return table[list(self.names)].notna().all(axis=1).to_numpy()

    def standardised(self, table: pd.DataFrame) -> np.ndarray:
        """(N, D) values of complete rows in standard deviations of the fitted set."""
        return (table[list(self.names)].to_numpy(dtype=np.float64) - self.mean) / self.scale

    def project(self, table: pd.DataFrame) -> np.ndarray:
        """(N, K) places of complete rows along the axes."""
        return self.standardised(table) @ self.axes.T

    def loadings(self) -> pd.DataFrame:
        """(D, K): correlation of each descriptor with each axis, in the fitted set."""
        columns = [f"PC{k + 1}" for k in range(len(self.axes))]
        lengths = np.sqrt(self.explained * len(self.names))
        return pd.DataFrame(self.axes.T * lengths, index=list(self.names), columns=columns)


def fit_components(table: pd.DataFrame, most: int = 5, missing: float = MISSING) -> Components:
    """Principal components of the standardised columns of a table.

    Columns that more than ``missing`` of the rows lack, or that do not vary, are left out; then rows that lack any.

    Args:
        table: a row a cell or an image, a column a descriptor.
        most: axes that are kept.

    Raises:
        DatasetError: fewer than three complete rows or fewer than two columns are left.
    """
    named = [name for name in table.columns if table[name].isna().mean() <= missing]
    whole = table[named].dropna()
    mean, scale = whole.mean().to_numpy(dtype=np.float64), whole.std(ddof=0).to_numpy(dtype=np.float64)
    varies = scale > 1e-9 * np.maximum(np.abs(mean), 1e-9)
    if len(whole) < 3 or varies.sum() < 2:
        raise DatasetError(
            f"principal components take three or more complete rows of two descriptors that vary; of {len(table)} rows "
            f"{len(whole)} are complete, and {int(varies.sum())} descriptors vary: give more images"
        )
    values = (whole.to_numpy(dtype=np.float64)[:, varies] - mean[varies]) / scale[varies]
    _, sizes, axes = np.linalg.svd(values, full_matrices=False)
    axes = axes[:most] * np.sign(axes[np.arange(len(axes[:most])), np.abs(axes[:most]).argmax(axis=1)])[:, None]
    names = tuple(name for name, keep in zip(named, varies) if keep)
    return Components(names, mean[varies], scale[varies], axes, (sizes**2 / (sizes**2).sum())[:most])
