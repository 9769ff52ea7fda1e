"""Cells of a bank, turned and mirrored, ready to be placed: flat arrays that the compiled loops go through."""

from dataclasses import dataclass

import numpy as np

from .cell_bank import CellBank
from .cutout import MARGIN
from .placement_loops import DRAWS, NEAR, TRIES
from .turning_loops import measure_nearness, measure_rims, turn_patches

__all__ = ["TURNS", "Patches", "draw_patches"]

# How cells may be turned: by any angle and mirrored, by right angles and mirrored, or not at all (optics that throw
# shadows, such as differential interference contrast)
TURNS = ("free", "right", "none")


@dataclass(frozen=True)
class Patches:
    """N cells.

    Attributes:
        cells: (N,) places in the bank.
        affine: (N, 2, 3) float64, from continuous pixel coordinates of the source image to those of the patch.
        sizes: (N, 2) int64, height and width.
        starts: (N,) int64, where each patch begins in ``deltas`` (float32) and ``outlines`` (int8), see
            :func:`.turning_loops.turn_patches`.
        rims: (R, 2) int32, rows and columns of border pixels; those of patch n from ``rim_starts[n]`` on.
        nearness: uint8, distance to the cell in parts of ``UNIT`` a pixel, in the patch with ``NEAR`` pixels around it;
            that of patch n from ``near_starts[n]`` on.
        lost: (N,) float32, the finest detail that interpolation smoothed, as a multiple of the background's.
        wishes: (N, 3) float64, gap, contact and crowding of the source.
        draws: (N, TRIES, DRAWS) float64.
    """

    cells: np.ndarray
    affine: np.ndarray
    sizes: np.ndarray
    starts: np.ndarray
    deltas: np.ndarray
    outlines: np.ndarray
    rims: np.ndarray
    rim_starts: np.ndarray
    nearness: np.ndarray
    near_starts: np.ndarray
    lost: np.ndarray
    wishes: np.ndarray
    draws: np.ndarray


def draw_patches(bank: CellBank, cells: np.ndarray, turn: str, rng: np.random.Generator) -> Patches:
    """Take cells of a bank and turn each at random.

    Args:
        bank: the bank.
        cells: (N,) places in it.
        turn: one of :data:`TURNS`.
        rng: draws angles and what placement needs.
    """
    rows = bank.cells[cells]
    draws = rng.random((len(cells), TRIES, DRAWS))
    linear = _linear(len(cells), turn, rng)
    shapes = np.stack([rows["height"], rows["width"]], 1).astype(np.int64)
    inner = np.ceil((np.abs(linear) @ (shapes[:, ::-1, None] - 2 * MARGIN))[..., 0] - 1e-9).astype(np.int64)
    sizes = inner[:, ::-1] + 2 * MARGIN
    moved = np.concatenate([linear, sizes[:, ::-1, None] / 2 - linear @ (shapes[:, ::-1, None] / 2)], axis=2)
    starts = _starts(sizes.prod(axis=1))
    deltas, outlines = np.empty(starts[-1], np.float32), np.empty(starts[-1], np.int8)
    offsets, scales = rows["offset"].astype(np.int64), rows["scale"].astype(np.float64)
    turn_patches(*bank.planes, offsets, shapes, scales, _inverse(moved), sizes, starts, deltas, outlines)
    rims, rim_starts = np.empty((np.count_nonzero(outlines > 0), 2), np.int32), np.empty(len(cells) + 1, np.int64)
    count = measure_rims(outlines, sizes, starts, rims, rim_starts)
    near_starts = _starts((sizes + 2 * NEAR).prod(axis=1))
    nearness = np.empty(near_starts[-1], np.uint8)
    measure_nearness(outlines, sizes, starts, nearness, near_starts)
    corner = np.stack([rows["left"], rows["top"]], 1)[:, :, None]
    affine = np.concatenate([linear, moved[:, :, 2:] - linear @ corner], axis=2)
    return Patches(
        cells, affine, sizes, starts[:-1], deltas, outlines, rims[:count], rim_starts, nearness, near_starts[:-1],
        rows["grain"] * np.float32(turn == "free"),
        np.stack([rows[name] for name in ("gap", "contact", "crowding")], 1).astype(np.float64), draws,
    )  # fmt: skip


def _linear(count: int, turn: str, rng: np.random.Generator) -> np.ndarray:
    """(N, 2, 2) random turns and reflections."""
    angles, mirrored = rng.random(count), rng.random(count) < 0.5
    if turn == "none":
        return np.tile(np.eye(2), (count, 1, 1))
    angles = 2 * np.pi * (angles if turn == "free" else np.floor(4 * angles) / 4)
    cosine, sine, side = np.cos(angles), np.sin(angles), np.where(mirrored, -1.0, 1.0)
    linear = np.stack([side * cosine, -sine, side * sine, cosine], 1).reshape(-1, 2, 2)
    return linear if turn == "free" else np.rint(linear)


def _inverse(affine: np.ndarray) -> np.ndarray:
    """(N, 2, 3) inverse maps, from pixel centres to pixel centres."""
    linear = np.linalg.inv(affine[:, :, :2])
    middle = np.full((2, 1), 0.5)
    shift = linear @ (middle - affine[:, :, 2:]) - middle
    return np.concatenate([linear, shift], axis=2)


def _starts(sizes: np.ndarray) -> np.ndarray:
    """(N + 1,) int64, where arrays of these sizes begin when they lie one after the other, and where the last ends."""
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
