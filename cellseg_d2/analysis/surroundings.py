"""What is around a cell in space and time: density of its neighbours, the frame, start and steps of its track."""

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from ..errors import DatasetError
from .film import Cell, Film

__all__ = ["REACH", "at_border", "centres", "densities", "require_near", "track_ages"]

REACH = 4.0  # radius of the neighbourhood in median cell diameters
NEAR = 0.15  # of the distance of unrelated cells; a cell that is followed moves less between two frames
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


def require_near(film: Film) -> None:
    """Refuse tracks of which most steps jump: numbers of instances, given anew in each image, are no tracks.

    A step is from one time of the film to the next. It jumps where the two outlines share no pixel and their centroids
    are further apart than :data:`NEAR` of the median distance between cells of different tracks in the same two images
    (half the side of the image where there are none): neither fast nor rare cells jump, whatever their size.

    Raises:
        DatasetError: more than half of the steps jump.
    """
    if not film.tracked:
        return
    places, (_, frames) = centres(film), np.unique(film.times, return_inverse=True)
    steps: dict[tuple[int, int], list[tuple[int, int]]] = {}  # of two images: cells before and after
    own: dict[int, list[int]] = {}
    last: dict[int, int] = {}
    for index, cell in enumerate(film.cells):  # in time's order
        own.setdefault(cell.image, []).append(index)
        before = last.get(cell.track)
        if before is not None and frames[cell.image] - frames[film.cells[before].image] == 1:
            steps.setdefault((film.cells[before].image, cell.image), []).append((before, index))
        last[cell.track] = index
    moved, usual, jumps = [], [], 0
    for (first, second), pairs in steps.items():
        before, after = np.array(pairs).T
        distances = np.hypot(*(places[after] - places[before]).T)
        unrelated = _median_apart(film, places, own[first], own[second])
        for distance, (a, b) in zip(distances, pairs):
            jumps += int(distance > NEAR * unrelated and not _overlap(film.cells[a], film.cells[b]))
        moved += distances.tolist()
        usual += [unrelated] * len(pairs)
    if 2 * jumps > len(moved):
        raise DatasetError(
            f"{film.path}: in {jumps} of {len(moved)} steps from one time to the next, cells of one track are far "
            f"apart and share no pixel (median step {np.median(moved):.0f} pixels; cells of different tracks are "
            f"{np.median(usual):.0f} apart). These are numbers of the cells of each image, not tracks: take "
            "--track-key '' for cells without tracks, or the key that names the same cell over time"
        )


def _median_apart(film: Film, places: np.ndarray, first: list[int], second: list[int]) -> float:
    """Median distance between cells of different tracks in two images; half the image's side without such cells."""
    tracks = [np.array([film.cells[k].track for k in part]) for part in (first, second)]
    different = tracks[0][:, None] != tracks[1]
    if not different.any():
        image = film.images[film.cells[second[0]].image]
        return (image["width"] * image["height"]) ** 0.5 / 2
    return float(np.median(cdist(places[first], places[second])[different]))


def _overlap(a: Cell, b: Cell) -> bool:
    """The masks of two cells share a pixel, as if they were in one image."""
    left, top = max(a.left, b.left), max(a.top, b.top)
    right = min(a.left + a.mask.shape[1], b.left + b.mask.shape[1])
    bottom = min(a.top + a.mask.shape[0], b.top + b.mask.shape[0])
    if right <= left or bottom <= top:
        return False
    parts = [c.mask[top - c.top : bottom - c.top, left - c.left : right - c.left] for c in (a, b)]
    return bool((parts[0] & parts[1]).any())


def _disc_points() -> np.ndarray:
    """(SAMPLES, 2) points spread evenly over the unit disc: a sunflower's spiral."""
    steps = np.arange(SAMPLES) + 0.5
    angles = np.pi * (1 + 5**0.5) * steps
    return np.sqrt(steps / SAMPLES)[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
