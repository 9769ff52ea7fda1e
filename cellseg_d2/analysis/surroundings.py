"""What is around a cell in space and time: the density of its neighbours, the frame, the start of its track."""

import numpy as np
from scipy.spatial import cKDTree

from .film import Film

__all__ = ["REACH", "at_border", "centres", "densities", "track_ages"]

REACH = 4.0  # radius of the neighbourhood in median cell diameters
SAMPLES = 256  # points that measure how much of a neighbourhood lies in the image


def centres(film: Film) -> np.ndarray:
    """(N, 2) float64 centroid x and y of each cell, pixels; 0, 0 is the corner of the image."""
    found = []
    for cell in film.cells:
        rows, columns = np.nonzero(cell.mask)
        found.append((cell.left + columns.mean() + 0.5, cell.top + rows.mean() + 0.5))
    return np.array(found)


def at_border(film: Film) -> np.ndarray:
    """(N,) bool: the cell touches the frame of its image."""
    flags = []
    for cell in film.cells:
        image, (height, width) = film.images[cell.image], cell.mask.shape
        ends = cell.left + width == image["width"] or cell.top + height == image["height"]
        flags.append(min(cell.left, cell.top) == 0 or ends)
    return np.array(flags, dtype=bool)


def densities(film: Film) -> np.ndarray:
    """(N,) float64 local density: other cells a megapixel within :data:`REACH` median diameters of the centroid.

    The part of the neighbourhood beyond the frame does not count as area, so that cells at the edge of the image do not
    look lonely. The diameter is that of the disc of the median area of all cells.
    """
    places = centres(film)
    radius = REACH * 2 * (np.median([cell.mask.sum() for cell in film.cells]) / np.pi) ** 0.5
    disc = _disc_points() * radius
    found = np.zeros(len(places))
    images = np.array([cell.image for cell in film.cells])
    for image in np.unique(images):
        own = np.flatnonzero(images == image)
        tree = cKDTree(places[own])
        others = np.array([len(near) - 1 for near in tree.query_ball_point(places[own], radius)])
        points = places[own][:, None] + disc
        size = film.images[image]["width"], film.images[image]["height"]
        inside = ((points >= 0) & (points <= size)).all(axis=2).mean(axis=1)
        found[own] = others / (inside * np.pi * radius**2) * 1e6
    return found


def track_ages(film: Film) -> np.ndarray:
    """(N,) float64 time since the first frame of the cell's track, 0 there.

    NaN where that start is not known: the track is there in the film's first frame already, it begins at the frame of
    the image (the cell may have come in), or cells are not tracked. A start inside is a division, or a cell that was
    found late: the two are not told apart.
    """
    ages = np.full(len(film.cells), np.nan)
    if not film.tracked:
        return ages
    touching, start = at_border(film), film.times.min()
    begun: dict[int, float] = {}
    for index, cell in enumerate(film.cells):  # in time's order
        time = film.times[cell.image]
        if cell.track not in begun:
            begun[cell.track] = np.nan if time == start or touching[index] else time
        ages[index] = time - begun[cell.track]
    return ages


def _disc_points() -> np.ndarray:
    """(SAMPLES, 2) points spread evenly over the unit disc: a sunflower's spiral."""
    steps = np.arange(SAMPLES) + 0.5
    angles = np.pi * (1 + 5**0.5) * steps
    return np.sqrt(steps / SAMPLES)[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
