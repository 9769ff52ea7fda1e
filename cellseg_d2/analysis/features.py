"""Shape descriptors of cells: numbers of the outline that do not depend on place and direction."""

from math import pi

import cv2
import numpy as np
import pandas as pd
from skimage.measure import perimeter_crofton

from .alignment import Aligned, align
from .film import Film, Track
from .surroundings import at_border, densities, track_ages

__all__ = ["DESCRIPTORS", "HARMONICS", "radial_harmonics", "radial_outline", "shape_descriptors", "shape_table"]

HARMONICS = 6  # of the radial outline
RAYS = 128
LEAST_HU = 1e-12  # logarithms of invariants below it are rounding; a disc's are 0

DESCRIPTORS = (
    "area", "perimeter", "aspect_ratio", "eccentricity", "solidity", "form_factor", "extent",
    *(f"hu{k}" for k in range(1, 8)), *(f"fourier{k}" for k in range(1, HARMONICS + 1)),
)  # fmt: skip


def shape_descriptors(mask: np.ndarray) -> dict[str, float]:
    """The shape of one cell in numbers.

    Args:
        mask: (h, w) bool or 0/1, one piece without holes, not empty.

    Returns:
        :data:`DESCRIPTORS`: ``area`` A (pixels); ``perimeter`` P (pixels, Crofton's formula in four directions);
        ``aspect_ratio`` sqrt(l1 / l2) and ``eccentricity`` sqrt(1 - l2 / l1), l1 >= l2 being the second central moments
        of the pixels' squares along the main axes; ``solidity`` A / area of the convex hull; ``form_factor``
        4 pi A / P^2, 1 for a disc (up to 1.03 for small ones, by the pixels); ``extent`` A / area of the smallest
        rectangle around the cell, turned as it likes; ``hu1`` .. ``hu7`` log10 of the size of Hu's seven invariants
        (Hu 1962; the seventh's sign, which tells mirror images apart, is dropped); ``fourier1`` .. see
        :func:`radial_harmonics`.
    """
    if mask.ndim != 2 or not mask.any():
        raise ValueError(f"a mask is (h, w) with at least one pixel, this one has the shape {mask.shape}")
    mask = np.pad(mask.astype(np.uint8), 2)
    area, perimeter = int(mask.sum()), float(perimeter_crofton(mask, 4))
    rows, columns = np.nonzero(mask)
    points = np.stack([columns - columns.mean(), rows - rows.mean()])
    small, large = np.linalg.eigvalsh(points @ points.T / area + np.eye(2) / 12)  # a pixel's own moment is 1/12
    corners = np.concatenate([np.stack([columns + dx, rows + dy], axis=1) for dx in (0, 1) for dy in (0, 1)])
    hull = cv2.convexHull(corners.astype(np.float32))
    sides = cv2.minAreaRect(hull)[1]
    hu = cv2.HuMoments(cv2.moments(mask, binaryImage=True)).ravel()
    values = (
        area, perimeter, (large / small) ** 0.5, (1 - small / large) ** 0.5, area / cv2.contourArea(hull),
        4 * pi * area / perimeter**2, area / (sides[0] * sides[1]),
        *np.log10(np.maximum(np.abs(hu), LEAST_HU)), *radial_harmonics(radial_outline(mask)),
    )  # fmt: skip
    return dict(zip(DESCRIPTORS, map(float, values), strict=True))


def radial_outline(mask: np.ndarray) -> np.ndarray:
    """(RAYS,) float64 distance in pixels from the centroid to the outermost crossing of the outline on each ray.

    Rays start along x and turn towards y; 0 where a ray meets no cell, as the centroid of a crescent lies outside.
    """
    mask = np.pad(mask.astype(np.float32), 2)
    rows, columns = np.nonzero(mask)
    x, y = columns.mean(), rows.mean()
    radii = np.arange(0, np.hypot(columns - x, rows - y).max() + 2, 0.25)
    angles = np.arange(RAYS) * 2 * pi / RAYS
    places = np.cos(angles)[:, None] * radii + x, np.sin(angles)[:, None] * radii + y
    values = cv2.remap(mask, *(place.astype(np.float32) for place in places), cv2.INTER_LINEAR)
    inside = values >= 0.5
    last = len(radii) - 1 - np.argmax(inside[:, ::-1], axis=1)
    rays = np.flatnonzero(inside.any(axis=1))
    last, outline = np.minimum(last[rays], len(radii) - 2), np.zeros(RAYS)
    here, beyond = values[rays, last], values[rays, last + 1]
    outline[rays] = radii[last] + 0.25 * (here - 0.5) / np.maximum(here - beyond, 1e-6)
    return outline


def radial_harmonics(outline: np.ndarray, count: int = HARMONICS) -> np.ndarray:
    """(count,) float64 |F_k| / |F_0| of F_k = sum over rays j of r_j exp(-2 pi i j k / rays), k = 1 .. count.

    1: off centre, 2: elongated, 3: triangular; a turn of the outline changes only the phases, which are left out.
    """
    amplitudes = np.abs(np.fft.rfft(outline))
    return amplitudes[1 : count + 1] / amplitudes[0]


def shape_table(film: Film, track: Track = iter) -> tuple[pd.DataFrame, list[Aligned]]:
    """A row a cell and frame, in time's order, and the aligned masks in the same order.

    Columns: ``track`` (its name), ``cell`` (id of the annotation), ``image`` (file name), ``frame`` (place of the time
    among all times, 0, 1, ...), ``time`` (in the film's unit), ``age`` (time since the track's start where that lies
    inside the film, see :func:`.surroundings.track_ages`), ``density`` (see :func:`.surroundings.densities`),
    ``at_border`` (bool: it touches the frame of the image, which may cut it), ``scale``, ``angle`` and ``inside`` (see
    :class:`.alignment.Aligned`), and :data:`DESCRIPTORS`.
    """
    rows, aligned = [], []
    instants = np.unique(film.times)
    for cell in track(film.cells):
        aligned.append(align(cell.mask))
        time = film.times[cell.image]
        rows.append(
            {
                "track": film.tracks[cell.track],
                "cell": cell.cell,
                "image": film.images[cell.image]["file_name"],
                "frame": int(np.searchsorted(instants, time)),
                "time": float(time),
                "scale": aligned[-1].scale,
                "angle": aligned[-1].angle,
                "inside": aligned[-1].inside,
                **shape_descriptors(cell.mask),
            }
        )
    table = pd.DataFrame(rows)
    table.insert(5, "age", track_ages(film))
    table.insert(6, "density", densities(film))
    table.insert(7, "at_border", at_border(film))
    return table, aligned
