"""Cells of a bank, turned and mirrored, ready to be placed: flat arrays that the compiled loops go through."""

from dataclasses import dataclass

import numpy as np

from .cell_bank import CellBank
from .measuring_loops import measure_nearness, measure_noise, measure_rims
from .placement_loops import DRAWS, TRIES
from .turning_loops import turn_patches
from .units import MARGIN, NEAR

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
        lost: (N,) float32, standard deviation of the noise that interpolation took from each cell.
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


def draw_patches(
    bank: CellBank, cells: np.ndarray, turn: str, rng: np.random.Generator, crowding: np.ndarray
) -> Patches:
    """Take cells of a bank and turn each at random.

    Args:
        bank: the bank.
        cells: (N,) places in it.
        turn: one of :data:`TURNS`.
        rng: draws angles and what placement needs.
        crowding: (N,) factor on the number of neighbours that each wishes for.
    """
    rows = bank.cells[cells]
    draws = rng.random((len(cells), TRIES, DRAWS))
    quarters, mirrored, angles = _turns(len(cells), turn, rng)
    linear = _linear(quarters, mirrored, angles)
    shapes = np.stack([rows["height"], rows["width"]], 1).astype(np.int64)
    inner = np.ceil((np.abs(linear) @ (shapes[:, ::-1, None] - 2 * MARGIN))[..., 0] - 1e-9).astype(np.int64)
    sizes = inner[:, ::-1] + 2 * MARGIN
    moved = np.concatenate([linear, sizes[:, ::-1, None] / 2 - linear @ (shapes[:, ::-1, None] / 2)], axis=2)
    starts = _starts(sizes.prod(axis=1))
    deltas, outlines = np.empty(starts[-1], np.float32), np.empty(starts[-1], np.int8)
    turn_patches(
        *bank.planes, rows["offset"].astype(np.int64), shapes, rows["scale"].astype(np.float64), quarters, mirrored,
        angles, sizes, starts, deltas, outlines,
    )  # fmt: skip
    left = np.empty(len(cells))
    measure_noise(deltas, outlines, sizes, starts, left)
    # of all together, as the noise of a single small cell is not known well enough to be subtracted
    before = rows["noise"].astype(np.float64)
    share = np.sqrt(max(1 - np.sum(left**2) / max(np.sum(before**2), 1e-12), 0.0))
    lost = (share * before).astype(np.float32)
    rims, rim_starts = np.empty((np.count_nonzero(outlines > 0), 2), np.int32), np.empty(len(cells) + 1, np.int64)
    count = measure_rims(outlines, sizes, starts, rims, rim_starts)
    near_starts = _starts((sizes + 2 * NEAR).prod(axis=1))
    nearness = np.empty(near_starts[-1], np.uint8)
    measure_nearness(outlines, sizes, starts, nearness, near_starts)
    corner = np.stack([rows["left"], rows["top"]], 1)[:, :, None]
    affine = np.concatenate([linear, moved[:, :, 2:] - linear @ corner], axis=2)
    return Patches(
        cells, affine, sizes, starts[:-1], deltas, outlines, rims[:count], rim_starts, nearness, near_starts[:-1],
        lost, np.stack([rows["gap"], rows["contact"], rows["crowding"] * crowding], 1).astype(np.float64), draws,
    )  # fmt: skip


def _turns(count: int, turn: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N,) quarters of a turn, whether mirrored before (both int64), and a further angle within an eighth of a turn."""
    quarters, mirrored = rng.integers(0, 4, count), rng.integers(0, 2, count)
    angles = rng.uniform(-np.pi / 4, np.pi / 4, count)
    if turn == "none":
        return np.zeros_like(quarters), np.zeros_like(mirrored), np.zeros(count)
    return quarters, mirrored, angles if turn == "free" else np.zeros(count)


def _linear(quarters: np.ndarray, mirrored: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """(N, 2, 2) what :func:`_turns` does to x and y."""
    turn = quarters * np.pi / 2 + angles
    cosine, sine, side = np.cos(turn), np.sin(turn), 1.0 - 2.0 * mirrored
    linear = np.stack([side * cosine, -sine, side * sine, cosine], 1).reshape(-1, 2, 2)
    return np.where((angles == 0)[:, None, None], np.rint(linear), linear)


def _starts(sizes: np.ndarray) -> np.ndarray:
    """(N + 1,) int64, where arrays of these sizes begin when they lie one after the other, and where the last ends."""
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
