"""The space of shapes: how well its codes give held-out cells back, and the shapes between two cells."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse.linalg import svds

from .alignment import align, largest_piece, pixel_masks
from .shape_vae import ShapeVAE, decode, encode

__all__ = ["Linear", "between", "fit_linear", "held_out_tracks", "interpolate", "overlap"]

HELD_OUT = 0.2  # of the tracks


@dataclass(frozen=True)
class Linear:
    """Principal components of aligned masks: the linear reference of the same number of components.

    Attributes:
        mean: (P,) mean mask, flat.
        axes: (P, K) orthonormal components, that of the largest variance first.
        shares: (K,) share of the variance that each explains.
    """

    mean: np.ndarray
    axes: np.ndarray
    shares: np.ndarray

    def rebuilt(self, images: np.ndarray) -> np.ndarray:
        """(N, H, W): what the components keep of (N, H, W) masks."""
        centred = images.reshape(len(images), -1) - self.mean
        return ((centred @ self.axes) @ self.axes.T + self.mean).reshape(images.shape)


def fit_linear(images: np.ndarray, components: int) -> Linear:
    """Principal components of (N, H, W) masks, fewer than there are masks."""
    flat = images.reshape(len(images), -1).astype(np.float64)
    mean = flat.mean(axis=0)
    centred = flat - mean
    start = np.random.default_rng(0).standard_normal(min(centred.shape))  # else a random one: other digits each time
    _, values, axes = svds(centred, components, v0=start)
    return Linear(mean, axes[::-1].T, values[::-1] ** 2 / max((centred**2).sum(), np.finfo(float).tiny))


def held_out_tracks(tracks: np.ndarray, seed: int, share: float = HELD_OUT) -> np.ndarray:
    """(N,) bool: cells of the tracks that are held out, whole tracks at a time.

    Args:
        tracks: (N,) number or name of each cell's track.

    Raises:
        ValueError: fewer than two tracks.
    """
    names, numbers = np.unique(tracks, return_inverse=True)
    if len(names) < 2:
        raise ValueError(f"{len(names)} track cannot be split into one for training and one that is held out")
    count = min(max(round(share * len(names)), 1), len(names) - 1)
    chosen = np.random.default_rng(seed).permutation(len(names))[:count]
    return np.isin(numbers, chosen)


def overlap(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(N,) intersection over union of (N, H, W) shapes, what is at least 0.5 being cell; 1 for two empty ones."""
    first, second = first >= 0.5, second >= 0.5
    union = (first | second).sum(axis=(1, 2))
    return np.where(union > 0, (first & second).sum(axis=(1, 2)) / np.maximum(union, 1), 1.0)


def interpolate(model: ShapeVAE, first: np.ndarray, second: np.ndarray, steps: int) -> np.ndarray:
    """(steps, SIDE, SIDE) bool: the shapes on the straight line between two codes, the ends included.

    What has a probability of at least 0.5 is cell, and of that the largest piece.

    Args:
        first, second: (L,) codes.
        steps: at least 2.
    """
    return largest_piece(decode(model, _line(first, second, steps)) >= 0.5)


def between(model: ShapeVAE, first: np.ndarray, second: np.ndarray, steps: int) -> list[np.ndarray]:
    """The cells between two cells, as masks in pixels of the image: shapes that can be put into new images.

    Codes go along a straight line, the square roots of the areas along a geometric one.

    Args:
        first, second: (h, w) bool masks of cells, not empty.
        steps: at least 2; the first and last are what the model makes of the two cells themselves.

    Returns:
        (h, w) bool masks, cropped, in one piece, their long axis along x.
    """
    ends = [align(first), align(second)]
    codes = encode(model, np.stack([end.image for end in ends]))
    scales = np.geomspace(ends[0].scale, ends[1].scale, steps) if steps > 1 else np.array([])
    return pixel_masks(decode(model, _line(*codes, steps)), scales.tolist())


def _line(first: np.ndarray, second: np.ndarray, steps: int) -> np.ndarray:
    """(steps, L) codes from one to the other."""
    if steps < 2:
        raise ValueError(f"{steps} steps: a line from one cell to another has two at least")
    return np.linspace(first, second, steps)
