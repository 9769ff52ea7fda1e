"""Epithelial sheets: cells that share straight borders, in islands, as MCF7 and BT474."""

from collections.abc import Iterator

import cv2
import numpy as np
from scipy import ndimage

from .interior import Look, Shape, shape_from_mask

__all__ = ["sheet"]


def sheet(height: int, width: int, wanted: int, diameter: float, look: Look, scale: float,
          rng: np.random.Generator) -> Iterator[tuple[Shape, float, float]]:
    """About ``wanted`` cells (shape, y, x) of a tessellation of the canvas, from the middle of one to three islands
    outwards; the islands have smooth outer edges."""
    seeds = _jittered_lattice(height, width, diameter * scale, rng)
    centres = rng.uniform(0.15, 0.85, (rng.integers(1, 4), 2)) * [height, width]
    distance = np.linalg.norm(seeds[:, None] - centres[None], axis=2).min(1)
    order = np.argsort(distance * rng.normal(1, 0.08, len(seeds)))[:wanted]
    territory = _islands(_territories(height, width, seeds, diameter * scale, rng), order, diameter * scale)
    boxes = ndimage.find_objects(territory, len(order))
    for number, box in enumerate(boxes, 1):
        if box is None:
            continue
        fine = np.pad(territory[box] == number, 2).astype(np.uint8)
        fine = cv2.resize(cv2.GaussianBlur(fine * 255, (0, 0), 0.7), None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)
        shape = shape_from_mask((fine > 110).astype(np.uint8), 2, look, rng, scale)
        yield shape, (box[0].start + box[0].stop) / 2, (box[1].start + box[1].stop) / 2


def _islands(territory: np.ndarray, order: np.ndarray, diameter: float) -> np.ndarray:
    """Labels 1.. (int32 H x W) for the territories in ``order``, 0 elsewhere, with the outline of their union smoothed:
    notches go to the nearest cell, spikes to the background."""
    rank = np.zeros(int(territory.max()) + 1, np.int32)
    rank[order[order < len(rank)]] = 1 + np.flatnonzero(order < len(rank))
    chosen = rank[territory]
    smooth = cv2.GaussianBlur((chosen > 0).astype(np.float32), (0, 0), 0.35 * diameter) > 0.5
    nearest = ndimage.distance_transform_edt(chosen == 0, return_distances=False, return_indices=True)
    return np.where(smooth, chosen[tuple(nearest)], 0)


def _jittered_lattice(height: int, width: int, spacing: float, rng: np.random.Generator) -> np.ndarray:
    """Points (N x 2, y and x) of a hexagonal lattice over the canvas, each moved at random."""
    rows = np.arange(0, height + spacing, spacing * 0.87)
    cols = np.arange(0, width + spacing, spacing)
    y, x = np.meshgrid(rows, cols, indexing="ij")
    x = x + (np.arange(len(rows)) % 2)[:, None] * spacing / 2
    points = np.stack([y.ravel(), x.ravel()], 1)
    return points + rng.normal(0, 0.2 * spacing, points.shape)


def _territories(height: int, width: int, seeds: np.ndarray, diameter: float,
                 rng: np.random.Generator) -> np.ndarray:
    """Index of the nearest seed for every pixel (int32 H x W), borders bent by a smooth displacement."""
    ground = np.ones((height, width), np.uint8)
    at = np.clip(np.rint(seeds).astype(int), 0, [height - 1, width - 1])
    ground[at[:, 0], at[:, 1]] = 0
    _, nearest = cv2.distanceTransformWithLabels(ground, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    owner = np.zeros(int(nearest.max()) + 1, np.float32)
    owner[nearest[at[:, 0], at[:, 1]]] = np.arange(len(seeds))
    noise = rng.standard_normal((2, height, width), dtype=np.float32)
    bend = [cv2.GaussianBlur(n, (0, 0), 0.22 * diameter) * (0.22 * diameter) * 0.3 * diameter * 0.5 for n in noise]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    warped = cv2.remap(owner[nearest], x + bend[0], y + bend[1], cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
    return warped.astype(np.int32)
