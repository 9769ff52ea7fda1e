"""Shapes of simulated cells: one entry of ``MORPHOLOGIES`` a cell type, one outline function an entry.

An outline is a list of polygons whose union is the cell, N x 2 float arrays of (x, y) in pixels around the origin.
``draw`` turns it into a :class:`Shape`: its pixels and its optical thickness.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from .interior import Look, Shape, shape_from_mask

__all__ = ["MORPHOLOGIES", "ROUNDED", "Morphology", "draw"]

Outline = Callable[[np.random.Generator], list[np.ndarray]]
OVERSAMPLING = 2


@dataclass(frozen=True)
class Morphology:
    """A cell type: how its outline is drawn (None: taken from a tessellation), and how it looks inside.

    ``diameter`` is the typical width of the outline's body in pixels at scale 1, ``clumping`` the share of cells that
    settle against a neighbour where the user does not set it.
    """

    outline: Outline | None
    look: Look
    diameter: float
    clumping: float


def draw(morphology: Morphology, rng: np.random.Generator, scale: float = 1.0) -> Shape:
    """A new cell of this morphology, turned at random; ``scale`` multiplies its size."""
    angle = rng.uniform(0, 2 * np.pi)
    turn = scale * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    polygons = [points @ turn for points in morphology.outline(rng)]
    return shape_from_mask(_rasterise(polygons), OVERSAMPLING, morphology.look, rng, scale)


def _rasterise(polygons: list[np.ndarray]) -> np.ndarray:
    """Union of the polygons as a uint8 mask (0 or 1) at OVERSAMPLING pixels a pixel, with a margin of one pixel."""
    everything = np.concatenate(polygons)
    low = np.floor(everything.min(0)) - 1
    size = np.ceil(everything.max(0)).astype(int) + 2 - low.astype(int)
    mask = np.zeros((size[1] * OVERSAMPLING, size[0] * OVERSAMPLING), np.uint8)
    for points in polygons:
        fixed_point = np.round((points - low) * OVERSAMPLING * 16).astype(np.int32)
        cv2.fillPoly(mask, [fixed_point], 1, cv2.LINE_8, 4)
    return mask


def _wobble(rng: np.random.Generator, angles: np.ndarray, strength: float, orders: range) -> np.ndarray:
    """Smooth random function on the circle with mean 0: harmonics whose amplitude falls with their order."""
    total = np.zeros_like(angles)
    for order in orders:
        total += rng.normal(0, strength / order) * np.cos(order * angles + rng.uniform(0, 2 * np.pi))
    return total


def _blob(rng: np.random.Generator, radius: float, aspect: float, wobble: float) -> np.ndarray:
    """Ellipse of this mean radius and aspect ratio (>= 1) with an irregular edge."""
    angles = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    r = radius * np.maximum(1 + _wobble(rng, angles, wobble, range(2, 9)), 0.4)
    stretch = np.sqrt(aspect)
    return np.stack([r * np.cos(angles) * stretch, r * np.sin(angles) / stretch], 1)


def _axis(rng: np.random.Generator, start: np.ndarray, heading: float, length: float, bend: float) -> np.ndarray:
    """Smoothly wandering curve from ``start``: points 1.5 pixels apart; ``bend`` is radians over its length."""
    steps = max(int(length / 1.5), 4)
    drift = np.cumsum(rng.normal(0, 1, steps)) / np.sqrt(steps)
    headings = heading + bend * (drift + np.linspace(0, rng.normal(), steps))
    moves = np.stack([np.cos(headings), np.sin(headings)], 1) * (length / steps)
    return start + np.concatenate([np.zeros((1, 2)), np.cumsum(moves, 0)])


def _ribbon(axis: np.ndarray, half_width: np.ndarray) -> np.ndarray:
    """Polygon around ``axis`` (N x 2) that reaches ``half_width`` (N) to either side of it."""
    tangent = np.gradient(axis, axis=0)
    normal = np.stack([-tangent[:, 1], tangent[:, 0]], 1)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
    offset = normal * half_width[:, None]
    return np.concatenate([axis + offset, (axis - offset)[::-1]])


def _round_outline(rng: np.random.Generator) -> list[np.ndarray]:
    """Nearly round cell of 15 to 27 pixels, as BV2 and SkBr3."""
    return [_blob(rng, rng.uniform(7.5, 12.5), 1 + abs(rng.normal(0, 0.18)), rng.uniform(0.02, 0.09))]


def _spindle_outline(rng: np.random.Generator) -> list[np.ndarray]:
    """Elongated cell of 34 to 62 pixels with tapered ends, sometimes a fan or a third tip, as A172 and SKOV3."""
    length, width = rng.uniform(34, 62), rng.uniform(6, 10.5)
    axis = _axis(rng, np.zeros(2), 0.0, length, rng.uniform(0.1, 0.5))
    axis -= axis.mean(0)
    along = np.linspace(0, 1, len(axis))
    taper = np.sin(np.pi * np.clip(along ** rng.uniform(0.7, 1.4), 0, 1)) ** rng.uniform(0.8, 1.5)
    ripple = 1 + _wobble(rng, along * 2 * np.pi, 0.12, range(1, 7))
    polygons = [_ribbon(axis, np.maximum(width * taper * ripple, 1.6))]
    if rng.random() < 0.35:
        polygons.append(axis[-3] + _blob(rng, rng.uniform(4.5, 7.5), rng.uniform(1, 1.6), 0.25))
    if rng.random() < 0.45:
        polygons.append(_process(rng, axis[len(axis) // 2], rng.choice([-1, 1]) * rng.uniform(0.9, 2.2),
                                 rng.uniform(14, 24), rng.uniform(4.5, 7), 1.8))
    return polygons


def _neurite_outline(rng: np.random.Generator) -> list[np.ndarray]:
    """Soma of 14 to 22 pixels with two to four tapered neurites, never thinner than 3 pixels, as SH-SY5Y."""
    radius = rng.uniform(6.5, 9.5)
    polygons = [_blob(rng, radius, rng.uniform(1.1, 1.9), 0.1)]
    count = rng.choice([2, 3, 4], p=[0.5, 0.35, 0.15])
    headings = rng.normal(0, 0.35) + np.arange(count) * 2 * np.pi / count + rng.normal(0, 0.3, count)
    for heading in headings:
        start = 0.35 * radius * np.array([np.cos(heading), np.sin(heading)])
        root = rng.uniform(0.6, 0.85) * radius
        polygons.append(_process(rng, start, heading, rng.uniform(14, 34), root, rng.uniform(1.5, 1.8)))
    return polygons


def _process(rng: np.random.Generator, start: np.ndarray, heading: float, length: float, root: float,
             tip: float) -> np.ndarray:
    """Tapered arm from half width ``root`` to ``tip``, at times with a small growth cone at its end."""
    axis = _axis(rng, start, heading, length, rng.uniform(0.15, 0.55))
    along = np.linspace(0, 1, len(axis))
    cone = max(rng.uniform(-1.5, 1.5), 0.0) * np.exp(-((along - 0.92) / 0.08) ** 2)
    return _ribbon(axis, tip + (root - tip) * np.exp(-((along * rng.uniform(2.2, 4.0)) ** 1.3)) + cone)


MORPHOLOGIES = {
    "PHRound": Morphology(
        _round_outline, Look(thickness=1.35, rim=1.9, dome=0.55, grain=0.24, granules=0.012, nucleus=0.0), 20, 0.45),
    "PHSpindle": Morphology(
        _spindle_outline, Look(thickness=0.75, rim=1.8, dome=0.5, grain=0.22, granules=0.035, nucleus=0.75), 26, 0.3),
    "PHNeurite": Morphology(
        _neurite_outline, Look(thickness=0.8, rim=1.6, dome=0.6, grain=0.16, granules=0.012, nucleus=0.5), 24, 0.4),
    "PHEpithelial": Morphology(
        None, Look(thickness=0.9, rim=1.5, dome=0.3, grain=0.24, granules=0.03, nucleus=0.8), 21, 0.0),
}
# A cell that has rounded up to divide or to die stands in every population.
ROUNDED = Morphology(
    _round_outline, Look(thickness=2.2, rim=2.2, dome=0.8, grain=0.2, granules=0.01, nucleus=0.0), 18, 0.6)
