"""The dish: cells settle on it one by one, later cells lying over earlier ones.

Ground truth is what can be seen: where two cells overlap, the pixel belongs to the upper one. A cell is refused where
it, or a cell below it, would keep too little of itself, fall into two parts or get a hole; so every cell that lies on
the dish has one visible, simply connected region inside the frame.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from .interior import Shape, is_simple
from .optics import REACH

__all__ = ["Dish"]

TRANSPARENCY = 0.3  # share of the phase of a covered cell that shows through the cell above it
SMALLEST_CUT = 0.2  # a cell that leaves the frame keeps at least this share of its area inside


@dataclass(frozen=True)
class _Patch:
    """A shape at its place: the canvas window (two slices) and the mask and phase inside it."""

    window: tuple[slice, slice]
    mask: np.ndarray
    phase: np.ndarray


class Dish:
    """Canvas of labels (int32, 0 is background, 1.. in the order of placement) and phase, with a margin of REACH pixels
    around the frame so that cells may leave it."""

    def __init__(self, height: int, width: int, overlap: float) -> None:
        self.frame = (slice(REACH, REACH + height), slice(REACH, REACH + width))
        shape = (height + 2 * REACH, width + 2 * REACH)
        self.labels = np.zeros(shape, np.int32)
        self.phase = np.zeros(shape, np.float32)
        self.overlap = overlap
        self.count = 0
        self._areas = [0]
        self._windows: list[tuple[slice, slice]] = [(slice(0, 0), slice(0, 0))]
        self._measure_room()

    def place(self, shape: Shape, y: float, x: float) -> bool:
        """Lay ``shape`` with its middle at canvas position (y, x); False, and nothing changed, where it cannot lie."""
        patch = self._patch(shape, y, x)
        if patch is None or not self._fits(patch):
            self._refusals += 1
            return False
        self.count += 1
        self.labels[patch.window][patch.mask] = self.count
        below = self.phase[patch.window]
        self.phase[patch.window] = np.where(patch.mask, patch.phase + TRANSPARENCY * below, below)
        self._areas.append(int(patch.mask.sum()))
        self._windows.append(patch.window)
        return True

    def free_spot(self, radius: float, rng: np.random.Generator) -> tuple[float, float] | None:
        """Random canvas position in or near the frame that is about ``radius`` pixels from any cell; None if none is
        left. The table of free positions is renewed now and then, not after every cell: place() has the last word."""
        if self._refusals >= 12 or self.count >= self._room_count * 1.03 + 4:
            self._measure_room()
        distances, positions = self._room
        first = int(np.searchsorted(distances, radius * (1 - self.overlap) * 0.85))
        if first == len(distances):
            return None
        flat = positions[rng.integers(first, len(distances))]
        y, x = np.unravel_index(flat, self._room_shape)
        return float(2 * y + rng.integers(0, 2)), float(2 * x + rng.integers(0, 2))

    def beside(self, shape: Shape, rng: np.random.Generator) -> tuple[float, float]:
        """Position at which ``shape`` touches, or slightly overlaps, a random cell that already lies on the dish."""
        window = self._windows[rng.integers(1, self.count + 1)]
        middle = np.array([(s.start + s.stop - 1) / 2 for s in window])
        angle = rng.uniform(0, 2 * np.pi)
        direction = np.array([np.sin(angle), np.cos(angle)])
        reach = (max(shape.mask.shape) + max(s.stop - s.start for s in window)) * 0.75
        position = middle + direction * reach
        for step in np.arange(reach, 0, -1.0):
            nearer = middle + direction * step
            patch = self._patch(shape, *nearer)
            if patch is not None and self.labels[patch.window][patch.mask].any():
                break
            position = nearer
        push = rng.uniform(0, 2 * self.overlap) * shape.radius if rng.random() < 0.5 else 0.0
        return tuple(position - direction * push)

    def litter(self, density: float, rng: np.random.Generator) -> None:
        """Scatter debris: ``density`` specks per 10,000 pixels, one in six a cluster of blebs."""
        spots = np.zeros((3, *self.phase.shape), np.float32)
        for _ in range(rng.poisson(density * self.phase.size / 1e4)):
            middle = rng.uniform(0, 1, 2) * self.phase.shape
            blebs = rng.integers(3, 7) if rng.random() < 1 / 6 else 1
            at = np.rint(middle + rng.normal(0, 1.8, (blebs, 2)) * (blebs > 1)).astype(int)
            at = np.clip(at, 0, np.array(self.phase.shape) - 1)
            strength = rng.uniform(0.15, 0.9, blebs) * rng.choice([-0.5, 1, 1])
            spots[rng.integers(0, 3, blebs), at[:, 0], at[:, 1]] = strength
        for layer, sigma in zip(spots, (0.7, 1.0, 1.4), strict=True):
            self.phase += cv2.GaussianBlur(layer, (0, 0), sigma) * (2 * np.pi * sigma**2)

    def _patch(self, shape: Shape, y: float, x: float) -> _Patch | None:
        """The part of ``shape`` on the canvas, or None where none of it is."""
        h, w = shape.mask.shape
        top, left = int(round(y - h / 2)), int(round(x - w / 2))
        y0, x0 = max(top, 0), max(left, 0)
        y1, x1 = min(top + h, self.labels.shape[0]), min(left + w, self.labels.shape[1])
        if y1 <= y0 or x1 <= x0:
            return None
        part = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
        return _Patch((slice(y0, y1), slice(x0, x1)), shape.mask[part], shape.phase[part])

    def _fits(self, patch: _Patch) -> bool:
        """Whether this cell and all below it would keep a single, large enough region inside the frame."""
        area = int(patch.mask.sum())
        inner = patch.mask[_intersect(patch.window, self.frame)]
        if inner.sum() < max(SMALLEST_CUT * area, 12) or not is_simple(inner):
            return False
        below, hidden = np.unique(self.labels[patch.window][patch.mask], return_counts=True)
        if hidden[below > 0].sum() > self.overlap * area:
            return False
        return all(self._stays_whole(label, patch) for label in below if label > 0)

    def _stays_whole(self, label: int, patch: _Patch) -> bool:
        """Whether cell ``label`` would remain one region that is still mostly visible under ``patch``."""
        window = self._windows[label]
        visible = self.labels[window] == label
        visible[_intersect(window, patch.window)] &= ~patch.mask[_intersect(patch.window, window)]
        if visible.sum() < (1 - self.overlap) * self._areas[label]:
            return False
        inner = visible[_intersect(window, self.frame)]
        return inner.sum() >= 12 and is_simple(inner)

    def _measure_room(self) -> None:
        """Distance to the nearest cell of every second canvas position in each direction, sorted."""
        free = (self.labels[::2, ::2] == 0).astype(np.uint8)
        free[:, [0, -1]] = free[[0, -1], :] = 0
        distance = 2 * cv2.distanceTransform(free, cv2.DIST_L2, 3)
        order = np.argsort(distance, axis=None, kind="stable")
        self._room = (distance.ravel()[order], order)
        self._room_shape, self._room_count, self._refusals = free.shape, self.count, 0


def _intersect(window: tuple[slice, slice], other: tuple[slice, slice]) -> tuple[slice, slice]:
    """The part of ``window`` that lies in ``other``, in coordinates of ``window``."""
    return tuple(slice(max(b.start - a.start, 0), max(min(b.stop, a.stop) - a.start, 0))
                 for a, b in zip(window, other, strict=True))
