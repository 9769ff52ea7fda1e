"""What is inside a simulated cell: thickness profile, nucleus, granules and cytoplasm, as optical phase."""

from dataclasses import dataclass

import cv2
import numpy as np

__all__ = ["Look", "Shape", "is_simple", "shape_from_mask"]


@dataclass(frozen=True)
class Shape:
    """One cell before it stands anywhere.

    ``mask``: h x w bool, one part without holes; ``phase``: h x w float32, radians, 0 outside the mask; ``radius``:
    that of the largest disc inside, in pixels.
    """

    mask: np.ndarray
    phase: np.ndarray
    radius: float


@dataclass(frozen=True)
class Look:
    """How a cell type looks inside.

    ``thickness``: phase in radians of the plateau; ``rim``: pixels over which it rises at the edge; ``dome``: 0 flat,
    1 half a lens; ``grain``: cytoplasm texture as a share of the thickness; ``granules``: vesicles a pixel;
    ``nucleus``: radius as a share of the largest inscribed disc, 0 for none to be seen.
    """

    thickness: float
    rim: float
    dome: float
    grain: float
    granules: float
    nucleus: float


def is_simple(mask: np.ndarray) -> bool:
    """Whether ``mask`` (h x w bool) is a single 8-connected part without a hole, so that one polygon describes it."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    return len(contours) == 1


def shape_from_mask(fine: np.ndarray, factor: int, look: Look, rng: np.random.Generator, scale: float) -> Shape:
    """Build a cell from a mask drawn at ``factor`` times the resolution (uint8, 0 or 1, with an empty margin)."""
    size = (fine.shape[1] // factor, fine.shape[0] // factor)
    distance = cv2.distanceTransform(fine, cv2.DIST_L2, 5) / factor
    cover = cv2.resize(fine.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    distance = cv2.resize(distance, size, interpolation=cv2.INTER_AREA)
    mask = _one_piece(cover >= 0.5)
    phase = _profile(distance, look, rng, scale) * (1 + _grain(distance.shape, rng) * look.grain)
    _add_granules(phase, distance, look, rng)
    if look.nucleus > 0:
        _add_nucleus(phase, distance, look, rng)
    return Shape(mask, np.where(mask, phase * np.minimum(1.0, cover), 0).astype(np.float32), float(distance.max()))


def _one_piece(mask: np.ndarray) -> np.ndarray:
    """The largest part of ``mask`` with its holes filled."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros(mask.shape, np.uint8)
    cv2.drawContours(filled, [max(contours, key=len)], -1, 1, cv2.FILLED)
    return filled.astype(bool)


def _profile(distance: np.ndarray, look: Look, rng: np.random.Generator, scale: float) -> np.ndarray:
    """Thickness as a function of the distance to the edge: a steep rim, then a plateau with a dome on it."""
    rim = look.rim * min(scale, 1.0) * rng.uniform(0.8, 1.3)
    depth = distance / max(float(distance.max()), 1e-6)
    lens = np.sqrt(np.clip(1 - (1 - depth) ** 2, 0, 1))
    plateau = 1 - np.exp(-distance / rim)
    return look.thickness * rng.uniform(0.75, 1.3) * plateau * (1 - look.dome + look.dome * lens)


def _grain(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Two octaves of smooth noise of standard deviation 1."""
    white = rng.standard_normal((2, *shape), dtype=np.float32)
    mix = cv2.GaussianBlur(white[0], (0, 0), 0.7) * 2.5 + cv2.GaussianBlur(white[1], (0, 0), 2.0) * 7.0
    return mix / np.sqrt(2)


def _add_granules(phase: np.ndarray, distance: np.ndarray, look: Look, rng: np.random.Generator) -> None:
    """Vesicles: small dense spots, and droplets that shine, more of them where the cell is thick."""
    inside = np.flatnonzero(distance > 1.8)
    count = rng.poisson(look.granules * len(inside) * rng.uniform(0.3, 1.8))
    if count == 0 or len(inside) == 0:
        return
    where = rng.choice(inside, count)
    spots = np.zeros(phase.shape, np.float32)
    strength = rng.choice([-1.3, 1.0], count, p=[0.35, 0.65]) * rng.uniform(0.3, 1.1, count)
    spots.flat[where] = strength * min(look.thickness, 1.0)
    phase += cv2.GaussianBlur(spots, (0, 0), 0.75) * (2 * np.pi * 0.75**2)


def _add_nucleus(phase: np.ndarray, distance: np.ndarray, look: Look, rng: np.random.Generator) -> None:
    """A smoother ellipse with a faint edge and one to four dense nucleoli, near the thickest point."""
    thick = np.flatnonzero(distance >= 0.85 * distance.max())
    centre = np.unravel_index(rng.choice(thick), distance.shape)
    radius = look.nucleus * float(distance.max())
    angle, aspect = rng.uniform(0, np.pi), rng.uniform(1.0, 1.5)
    y, x = np.ogrid[: phase.shape[0], : phase.shape[1]]
    u = (x - centre[1]) * np.cos(angle) + (y - centre[0]) * np.sin(angle)
    v = (y - centre[0]) * np.cos(angle) - (x - centre[1]) * np.sin(angle)
    r = np.sqrt((u / aspect) ** 2 + v**2) / max(radius, 1e-6)
    inside = 1 / (1 + np.exp((r - 1) * 6))
    smooth = cv2.GaussianBlur(phase, (0, 0), 1.5)
    phase += inside * 0.6 * (smooth - phase)
    phase += look.thickness * (0.12 * inside + 0.22 * np.exp(-(((r - 1) * radius) ** 2) / 0.8))
    spots = np.zeros(phase.shape, np.float32)
    core = np.flatnonzero((r < 0.65) & (distance > 2))
    if len(core):
        spots.flat[rng.choice(core, rng.integers(1, 5))] = look.thickness * rng.uniform(0.5, 1.0)
    phase += cv2.GaussianBlur(spots, (0, 0), 1.1) * (2 * np.pi * 1.1**2)
