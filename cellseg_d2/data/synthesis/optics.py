"""Phase-contrast optics: from the optical phase of a scene to the grey values of a camera.

In phase contrast the light that the ring of the phase plate retards is not only the direct light but also the low
frequencies of what the cells scatter. The image is therefore, to first order, the phase minus smoothed copies of itself
(Yin, Kanade & Chen 2012, "Understanding the phase contrast optics to restore artifact-free microscopy images for
segmentation"): cells get a bright halo outside, and their thick middle fades back to the grey of the background
(shade-off).
"""

from dataclasses import dataclass

import cv2
import numpy as np

__all__ = ["Optics", "photograph"]

MEAN_GREY = 128.0
REACH = 24  # pixels of scene beyond the frame that still shape grey values inside it


@dataclass(frozen=True)
class Optics:
    """Camera and microscope.

    ``gain``: grey values a radian; ``halo``: width of the bright rim in pixels (Gaussian sigma); ``glow``: share of
    the halo that spreads three times as wide; ``shading``: peak of uneven illumination in grey values; ``texture``:
    standard deviation of the background's structure; ``noise``: that of the sensor's noise, both in grey values.
    """

    gain: float = 200.0
    halo: float = 1.4
    glow: float = 0.2
    shading: float = 3.0
    texture: float = 0.9
    noise: float = 0.8


def photograph(phase: np.ndarray, optics: Optics, rng: np.random.Generator) -> np.ndarray:
    """Image a phase map (H x W float32, radians): uint8 of the same size, mean grey about 128."""
    halo = optics.halo * rng.uniform(0.9, 1.12)
    signal = np.sin(phase)  # thick cells turn the phase beyond a quarter wave: their middle brightens
    sharp = cv2.GaussianBlur(signal, (0, 0), 0.55)
    ring = cv2.GaussianBlur(signal, (0, 0), halo)
    wide = cv2.GaussianBlur(signal, (0, 0), 3 * halo)
    contrast = (1 - optics.glow) * ring + optics.glow * wide - sharp
    grey = contrast * optics.gain * rng.uniform(0.85, 1.15)
    grey += _illumination(phase.shape, optics.shading, rng) + optics.texture * _structure(phase.shape, rng)
    grey += MEAN_GREY - grey.mean()
    grey += optics.noise * rng.standard_normal(phase.shape, dtype=np.float32)
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)


def _illumination(shape: tuple[int, int], peak: float, rng: np.random.Generator) -> np.ndarray:
    """Uneven light: a random quadratic surface whose largest deviation from its mean is at most ``peak``."""
    y = np.linspace(-1, 1, shape[0], dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, shape[1], dtype=np.float32)[None, :]
    a, b, c, d, e = rng.uniform(-1, 1, 5)
    surface = a * x + b * y + c * (x * x - 1 / 3) + d * (y * y - 1 / 3) + e * x * y
    return surface * (peak * rng.uniform(0.3, 1.0) / max(float(np.abs(surface).max()), 1e-6))


def _structure(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Background of standard deviation 1: fine isotropic mottle and faint streaks in one direction."""
    white = rng.standard_normal((2, *shape), dtype=np.float32)
    mottle = cv2.GaussianBlur(white[0], (0, 0), 0.9) - cv2.GaussianBlur(white[0], (0, 0), 3.0)
    streaks = cv2.filter2D(white[1], -1, _streak_kernel(rng.uniform(0, np.pi)))
    return 0.8 * mottle / max(float(mottle.std()), 1e-6) + 0.6 * streaks / max(float(streaks.std()), 1e-6)


def _streak_kernel(angle: float) -> np.ndarray:
    """Zero-sum 25 x 25 kernel: long along ``angle`` (radians), a second derivative across it."""
    y, x = np.mgrid[-12:13, -12:13].astype(np.float32)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    kernel = np.exp(-((along / 7) ** 2)) * (1 - (across / 1.6) ** 2) * np.exp(-((across / 1.6) ** 2) / 2)
    return kernel - kernel.mean()
