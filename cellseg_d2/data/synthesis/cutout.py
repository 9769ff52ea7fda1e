"""Cells cut out of an image: their grey values above the background, with the halo around them and a soft edge."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from scipy.spatial import cKDTree

from .groups import grown_together, middles_of
from .measuring_loops import EDGE, noise_level
from .units import CROWD, FADED, FAR, KEPT, MARGIN

__all__ = ["Cutout", "Variant", "crowd_reach", "cut_out", "free_pixels", "signed_distance", "solidity_of"]

_PRIOR = 10.0  # pixels that the usual halo counts for
_STRANGE = 4.0  # pixels outside of a cell within which a neighbour shows
_TAPER = 5.0  # pixels over which the halo fades
_TOUCH = 3.0  # pixels between the centres of border pixels of cells that touch


@dataclass(frozen=True)
class Cutout:
    """One cell without its surroundings.

    Attributes:
        top, left: place of the patch's first pixel in the image; it may lie outside.
        delta: h x w float32, grey values above the background. Around the cell they become smooth (``KEPT``, ``FADED``)
            and go to 0; where neighbours were they are those of the usual halo.
        distance: h x w int8, quarters of a pixel to the outline, positive inside.
        area: pixels of the cell.
        gap: pixels to the nearest other cell, at most ``FAR``; 0 where they overlap.
        contact: share of the outline that other cells touch.
        group: number of the cells that it is placed with, in its image; see :mod:`.groups`.
        outer_gap, outer_contact: the same as ``gap`` and ``contact`` for cells that are not of its group.
        crowding: other cells with their middle in a square of ``CROWD`` median diameters to each side, as many as
            there would be if the image did not end.
        overlapped: share of the cell that other cells claim, too.
        solidity: area over that of the convex hull.
        at_border: the cell touches the frame of the image.
        contrast: mean of ``delta`` inside.
        noise: standard deviation of the noise inside, see :func:`.measuring_loops.noise_level`; ``edge_noise``: within
            two pixels of the outline.
    """

    top: int
    left: int
    delta: np.ndarray
    distance: np.ndarray
    area: int
    gap: float
    contact: float
    group: int
    outer_gap: float
    outer_contact: float
    crowding: float
    overlapped: float
    solidity: float
    at_border: bool
    contrast: float
    noise: float
    edge_noise: float


@dataclass(frozen=True)
class Variant:
    """A cell that was made of one of an image.

    Attributes:
        cutout: it.
        cell, towards: places of the cell that it is made of, and of the one whose shape its own is between.
        share: how far it is from the one to the other.
    """

    cutout: Cutout
    cell: int
    towards: int
    share: float


def free_pixels(covered: np.ndarray, halo: int) -> np.ndarray:
    """H x W bool, pixels at least ``halo`` pixels away from all cells (``covered``, H x W bool)."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * halo + 1, 2 * halo + 1))
    return cv2.dilate(covered.astype(np.uint8), kernel) == 0


def signed_distance(mask: np.ndarray) -> np.ndarray:
    """h x w float32, pixels from each pixel's centre to the outline of a mask (h x w bool), positive inside."""
    inside = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5)
    outside = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5)
    return np.where(mask, inside - 0.5, 0.5 - outside)


def cut_out(
    image: np.ndarray, masks: Sequence[tuple[np.ndarray, int, int]], smooth: np.ndarray, residual: np.ndarray
) -> Iterator[Cutout]:
    """All cells of an image.

    Args:
        image: H x W grey values.
        masks: of each cell its tight mask (bool) and the row and column of its first pixel.
        smooth, residual: H x W float32, the image's background; see :class:`.background.Background`.

    Yields:
        One cutout a mask, in their order.
    """
    pad = MARGIN + FAR
    counts, labels = np.zeros(np.add(image.shape, 2 * pad), np.uint16), np.zeros(np.add(image.shape, 2 * pad), np.int32)
    for number, (mask, top, left) in enumerate(masks, start=1):
        counts[_window(mask, top, left, pad, 0)] += mask
        labels[_window(mask, top, left, pad, 0)][mask] = number
    delta = cv2.copyMakeBorder(image.astype(np.float32) - smooth, pad, pad, pad, pad, cv2.BORDER_REPLICATE)
    grain = cv2.copyMakeBorder(residual, pad, pad, pad, pad, cv2.BORDER_REFLECT_101)
    known = np.zeros(counts.shape, bool)
    known[pad:-pad, pad:-pad] = True
    patches = [_Patch.of(mask, top, left, counts, pad) for mask, top, left in masks]
    usual = _usual_halo(delta, known, patches)
    crowding = _crowding(masks, image.shape)
    of_group = np.concatenate([[-1], grown_together(middles_of(masks), [patch.touched(labels) for patch in patches])])
    for number, (patch, crowd) in enumerate(zip(patches, crowding.tolist(), strict=True), start=1):
        strangers = patch.others & (of_group[labels[patch.window]] != of_group[number])
        window, group = patch.window, int(of_group[number])
        yield patch.cutout(delta[window], grain[window], known[window], usual, crowd, group, strangers)


def crowd_reach(areas: np.ndarray) -> float:
    """Half the side in pixels of the square in which neighbours are counted, for cells of these areas."""
    return CROWD * float(np.sqrt(np.median(areas)))


def _crowding(masks: Sequence[tuple[np.ndarray, int, int]], shape: tuple[int, int]) -> np.ndarray:
    """(N,) neighbours of each cell; see :class:`Cutout`."""
    if not masks:
        return np.zeros(0)
    middles = middles_of(masks)
    reach = crowd_reach(np.array([mask.sum() for mask, _, _ in masks]))
    found = cKDTree(middles).query_ball_point(middles, reach, p=np.inf, return_length=True) - 1
    inside = np.minimum(middles + reach, shape) - np.maximum(middles - reach, 0)
    return found * (2 * reach) ** 2 / inside.prod(axis=1)


@dataclass(frozen=True)
class _Patch:
    """A cell in its window of the padded image, ``FAR`` wider than its cutout.

    ``distance``: float32; ``others``: bool, pixels of other cells; ``own``: bool.
    """

    top: int
    left: int
    window: tuple[slice, slice]
    own: np.ndarray
    others: np.ndarray
    distance: np.ndarray

    @classmethod
    def of(cls, mask: np.ndarray, top: int, left: int, counts: np.ndarray, pad: int) -> "_Patch":
        window = _window(mask, top, left, pad, pad)
        own = np.pad(mask, pad)
        return cls(top, left, window, own, counts[window] > own, signed_distance(own))

    @property
    def halo(self) -> np.ndarray:
        """Pixels of the cell's surroundings that are nearer to it than to any other cell, and not at the rim of one."""
        to_others = cv2.distanceTransform((~self.others).astype(np.uint8), cv2.DIST_L2, 3)
        return ~self.own & (to_others > np.maximum(2.5, -self.distance)) & (self.distance > -MARGIN)

    def cutout(
        self, delta: np.ndarray, grain: np.ndarray, known: np.ndarray, usual: np.ndarray, crowding: float, group: int,
        strangers: np.ndarray,
    ) -> Cutout:  # fmt: skip
        """The cell with its halo; ``usual`` is the halo by the distance in whole pixels, ``strangers`` (bool) the
        pixels of cells that are not of its group."""
        values = np.where(self.own, delta, self._around(delta, grain, self.halo & known, usual))
        inner = (slice(FAR, -FAR),) * 2
        quarters = np.clip(np.rint(4 * self.distance[inner]), -127, 127).astype(np.int8)
        area = int(self.own.sum())
        return Cutout(
            self.top - MARGIN, self.left - MARGIN, values[inner].astype(np.float32), quarters, area,
            *self._neighbourhood(self.others), group, *self._neighbourhood(strangers), crowding,
            float((self.own & self.others).sum() / area), solidity_of(self.own),
            not known[cv2.dilate(self.own.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)].all(),
            float(delta[self.own].mean()), noise_level(values, self.own),
            noise_level(values, np.abs(np.rint(4 * self.distance)) <= 4 * EDGE),
        )  # fmt: skip

    def _around(self, delta: np.ndarray, grain: np.ndarray, clean: np.ndarray, usual: np.ndarray) -> np.ndarray:
        """The halo: as it is, grain and all, beside the cell, then smooth, then nothing. Where neighbours are it is the
        usual one sooner, but not at once: what lies right beside the outline belongs to its picture."""
        weight = cv2.GaussianBlur(clean.astype(np.float32), (0, 0), 1.5)
        smoothed = cv2.GaussianBlur(np.where(clean, delta, 0), (0, 0), 1.5) / np.maximum(weight, 1e-6)
        trust = np.clip(weight / 0.25, 0, 1)
        fallback = np.interp(-self.distance, np.arange(len(usual)), self._own_halo(delta, clean, usual))
        smoothed = trust * smoothed + (1 - trust) * fallback
        grainy = np.clip((FADED + self.distance) / (FADED - KEPT), 0, 1)
        near = np.clip((_STRANGE + self.distance) / (_STRANGE - 1), 0, 1)
        kept = cv2.GaussianBlur(np.where(clean, grainy, near), (0, 0), 0.7)
        values = kept * delta + (1 - kept) * smoothed + np.maximum(grainy - kept, 0) * grain
        return values * np.clip((MARGIN + self.distance) / _TAPER, 0, 1)

    def _own_halo(self, delta: np.ndarray, clean: np.ndarray, usual: np.ndarray) -> np.ndarray:
        """(MARGIN + 1,) mean grey value by the distance from this cell; the usual one where it shows little."""
        step = np.clip(np.rint(-self.distance[clean]), 0, MARGIN).astype(int)
        total, count = np.bincount(step, delta[clean], MARGIN + 1), np.bincount(step, minlength=MARGIN + 1)
        return (total + _PRIOR * usual) / (count + _PRIOR)

    def touched(self, labels: np.ndarray) -> np.ndarray:
        """The places of the cells that it touches; ``labels`` (int32) has their numbers from 1 on."""
        return np.unique(labels[self.window][self.others & (self.distance > -_TOUCH)]) - 1

    def _neighbourhood(self, others: np.ndarray) -> tuple[float, float]:
        """Gap to the nearest one of other cells (their pixels, bool), and share of the outline that touches one."""
        away = -self.distance[others] - 0.5
        gap = float(np.clip(away.min(initial=FAR), 0, FAR))
        if gap >= _TOUCH:
            return gap, 0.0
        rim = self.own & (self.distance < 1)
        to_others = cv2.distanceTransform((~others).astype(np.uint8), cv2.DIST_L2, 3)
        return gap, float((to_others[rim] <= _TOUCH).mean())


def _usual_halo(delta: np.ndarray, known: np.ndarray, patches: Sequence[_Patch]) -> np.ndarray:
    """(MARGIN + 1,) median grey value above the background at 0, 1, ... pixels from the cells of an image."""
    values, steps = [], []
    for patch in patches:
        clean = patch.halo & known[patch.window]
        values.append(delta[patch.window][clean])
        steps.append(np.rint(-patch.distance[clean]).astype(int))
    value, step = np.concatenate([*values, [0.0]]), np.concatenate([*steps, [MARGIN]])
    by_step = [value[step == k] for k in range(MARGIN + 1)]
    return np.array([np.median(found) if len(found) else 0.0 for found in by_step])


def _window(mask: np.ndarray, top: int, left: int, pad: int, around: int) -> tuple[slice, slice]:
    """A mask's place, and so many pixels around it, in an image padded by ``pad``."""
    height, width = mask.shape
    first_row, first_column = top + pad - around, left + pad - around
    return (
        slice(first_row, first_row + height + 2 * around),
        slice(first_column, first_column + width + 2 * around),
    )


def solidity_of(mask: np.ndarray) -> float:
    """Area of a mask (h x w bool) over that of the hull of its pixels' corners."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    points = np.concatenate(contours)[:, 0].astype(np.float32)
    corners = np.concatenate([points + [dx, dy] for dx in (-0.5, 0.5) for dy in (-0.5, 0.5)])
    return min(int(mask.sum()) / float(cv2.contourArea(cv2.convexHull(corners.astype(np.float32)))), 1.0)
