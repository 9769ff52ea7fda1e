"""What an image looks like without its cells: a smooth field, and the noise and dirt of real empty places."""

from dataclasses import dataclass

import cv2
import numpy as np

__all__ = ["Background", "LEAST_FREE", "smooth_field", "split_background"]

LEAST_FREE = 0.005  # share of an image; from less of it no noise can be learnt
OUTLIER = 5.0  # robust standard deviations: dirt, or cells that nobody outlined, which must not be multiplied
_SHIFTS = 200
_GRAIN = 8.0  # pixels; what varies more slowly is no noise
_COARSE = 4  # the smooth field is computed on every fourth pixel


@dataclass(frozen=True)
class Background:
    """An image without its cells.

    Attributes:
        smooth: H x W float32, the grey value of empty places, slowly varying.
        residual: H x W float32, what a real empty place has above or below that: noise, dirt. Where cells were, it is
            that of other places of the image.
        free: share of the image that shows empty places.
        noise: standard deviation of the residual, by its median absolute deviation.
    """

    smooth: np.ndarray
    residual: np.ndarray
    free: float
    noise: float


def smooth_field(image: np.ndarray, free: np.ndarray, reach: float) -> np.ndarray:
    """Grey values of the free pixels, spread over the whole image by normalised convolution.

    f = (G_s * (m I)) / (G_s * m) with m the free pixels and G_s a Gaussian; where a small s finds no free pixel, a
    larger one does.

    Args:
        image: H x W grey values.
        free: H x W bool, at least one of them.
        reach: smallest s in pixels.

    Returns:
        H x W float32.
    """
    height, width = image.shape
    size = max(width // _COARSE, 1), max(height // _COARSE, 1)
    level = float(np.median(image[free]))  # taken off, so that rounding does not grow with the grey values
    values = cv2.resize((image.astype(np.float32) - level) * free, size, interpolation=cv2.INTER_AREA)
    weights = cv2.resize(free.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    field = np.zeros(weights.shape, np.float32)
    for factor in (16, 4, 1):  # the finest one that knows something has the last word
        blurred = [cv2.GaussianBlur(part, (0, 0), factor * reach / _COARSE) for part in (values, weights)]
        trust = np.clip(blurred[1] / 0.05, 0, 1)
        field += trust * (blurred[0] / np.maximum(blurred[1], 1e-6) - field)
    return cv2.resize(field, (width, height), interpolation=cv2.INTER_CUBIC) + np.float32(level)


def split_background(image: np.ndarray, free: np.ndarray, reach: float, rng: np.random.Generator) -> Background | None:
    """Take an image's cells away.

    Args:
        image: H x W grey values.
        free: H x W bool, pixels that neither a cell nor its halo reaches.
        reach: width in pixels below which nothing counts as background, about the size of a cell.
        rng: draws the places that holes are filled from.

    Returns:
        None where less than ``LEAST_FREE`` of the image is free.
    """
    share = float(free.mean())
    if share < LEAST_FREE:
        return None
    smooth = smooth_field(image, free, reach)
    rest = image.astype(np.float32) - smooth
    centre = float(np.median(rest[free]))
    noise = 1.4826 * float(np.median(np.abs(rest[free] - centre)))
    odd = (np.abs(rest - centre) > OUTLIER * max(noise, 0.5)) & free
    odd = cv2.dilate(odd.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    return Background(smooth, _filled(*_without_steps(rest, free), free, free & ~odd, rng), share, noise)


def _without_steps(rest: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What is known, fading to its fine grain where holes are near, so that no outline shows; and the fine grain."""
    weight = cv2.GaussianBlur(known.astype(np.float32), (0, 0), _GRAIN)
    fine = rest - cv2.GaussianBlur(np.where(known, rest, 0), (0, 0), _GRAIN) / np.maximum(weight, 1e-3)
    away = np.clip(cv2.distanceTransform(known.astype(np.uint8), cv2.DIST_L2, 3) / (3 * _GRAIN), 0, 1)
    return fine + away * (rest - fine), fine


def _filled(
    rest: np.ndarray, fine: np.ndarray, known: np.ndarray, usual: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Fill what is not known with the grain of usual places, moved by random shifts."""
    result, holes = np.where(known, rest, 0), ~known
    values = fine[usual] if usual.any() else fine[known]
    for _ in range(_SHIFTS):
        if not holes.any():
            return result
        shift = int(rng.integers(fine.shape[0])), int(rng.integers(fine.shape[1]))
        usable = holes & np.roll(usual, shift, (0, 1))
        result[usable] = np.roll(fine, shift, (0, 1))[usable]
        holes &= ~usable
    result[holes] = rng.choice(values, int(holes.sum()))
    return result
