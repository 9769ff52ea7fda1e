"""Cells of a bank, turned and mirrored, ready to be placed: flat arrays that the compiled loops go through."""

from typing import NamedTuple

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


class Patches(NamedTuple):
    """N cells in G groups, which are placed as a whole.

    Attributes:
        cells: (N,) places in the bank, group after group.
        groups: (G + 1,) int64, where the cells of each group begin.
        offsets: (N, 2) int64, row and column of each patch beside the first one of its group.
        affine: (N, 2, 3) float64, from continuous pixel coordinates of the source image to those of the patch.
        sizes: (N, 2) int64, height and width.
        starts: (N,) int64, where each patch begins in ``deltas`` (float32) and ``outlines`` (int8), see
            :func:`.turning_loops.turn_patches`.
        rims: (R, 2) int64, rows and columns of border pixels beside the first pixel of the group's first patch; those
            of patch n from ``rim_starts[n]`` on.
        nearness: uint8, distance to the cell in parts of ``UNIT`` a pixel, in the patch with ``NEAR`` pixels around it;
            that of patch n from ``near_starts[n]`` on.
        lost: (N, 2) float32, standard deviation of the noise that interpolation took from each cell, inside and along
            its outline.
        wishes: (N, 3) float64, gap, contact and crowding of the source; group_wishes: (G, 3), those of a group with
            the cells that are not of it.
        draws: (N, TRIES, DRAWS) float64.
    """

    cells: np.ndarray
    groups: np.ndarray
    offsets: np.ndarray
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
    group_wishes: np.ndarray
    draws: np.ndarray


def draw_patches(
    bank: CellBank, cells: np.ndarray, groups: np.ndarray, turn: str, rng: np.random.Generator, crowding: np.ndarray
) -> Patches:
    """Take cells of a bank and turn each group of them at random.

    Args:
        bank: the bank.
        cells: (N,) places in it, group after group.
        groups: (G,) number of cells of each group; those of one group are of one image.
        turn: one of :data:`TURNS`.
        rng: draws angles and what placement needs.
        crowding: (N,) factor on the number of neighbours that each wishes for.
    """
    rows, first = bank.cells[cells], _starts(groups)
    leader = np.repeat(first[:-1], groups)
    draws = rng.random((len(cells), TRIES, DRAWS))
    turns = [drawn.repeat(groups) for drawn in _turns(len(groups), turn, rng)]
    quarters, mirrored, angles = turns
    linear = _linear(*turns)
    shapes = np.stack([rows["height"], rows["width"]], 1).astype(np.int64)
    inner = np.ceil((np.abs(linear) @ (shapes[:, ::-1, None] - 2 * MARGIN))[..., 0] - 1e-9).astype(np.int64)
    sizes = inner[:, ::-1] + 2 * MARGIN
    corner = np.stack([rows["left"], rows["top"]], 1)[:, :, None]
    moved = sizes[:, ::-1] / 2 - (linear @ (shapes[:, ::-1, None] / 2 + corner))[..., 0]
    apart = moved[leader] - moved  # x and y; made whole pixels, so that the cells of a group fit
    shifts = apart - np.rint(apart)
    starts = _starts(sizes.prod(axis=1))
    deltas, outlines = np.empty(starts[-1], np.float32), np.empty(starts[-1], np.int8)
    turn_patches(
        *bank.planes, rows["offset"].astype(np.int64), shapes, rows["scale"].astype(np.float64), quarters, mirrored,
        angles, shifts, sizes, starts, deltas, outlines,
    )  # fmt: skip
    near_starts = _starts((sizes + 2 * NEAR).prod(axis=1))
    nearness = np.empty(near_starts[-1], np.uint8)
    measure_nearness(outlines, sizes, starts, nearness, near_starts)
    rims, rim_starts = np.empty((np.count_nonzero(outlines > 0), 2), np.int64), np.empty(len(cells) + 1, np.int64)
    count = measure_rims(outlines, sizes, starts, rims, rim_starts)
    offsets = np.rint(apart[:, ::-1]).astype(np.int64)
    lengths = np.diff(rim_starts)
    return Patches(
        cells, first, offsets, np.concatenate([linear, (moved + shifts)[:, :, None]], axis=2), sizes, starts[:-1],
        deltas, outlines, rims[:count] + offsets.repeat(lengths, axis=0), rim_starts, nearness, near_starts[:-1],
        _lost(rows, deltas, outlines, sizes, starts) * (angles != 0)[:, None],
        *_wishes(rows, first, lengths, crowding), draws,
    )  # fmt: skip


def _lost(
    rows: np.ndarray, deltas: np.ndarray, outlines: np.ndarray, sizes: np.ndarray, starts: np.ndarray
) -> np.ndarray:
    """(N, 2) float32 noise that interpolation took. The share is that of all together: the noise of a single small
    cell is not known well enough."""
    left, before = np.empty((len(rows), 2)), np.stack([rows["noise"], rows["edge_noise"]], 1).astype(np.float64)
    measure_noise(deltas, outlines, sizes, starts, left)
    share = np.sqrt(np.maximum(1 - (left**2).sum(axis=0) / np.maximum((before**2).sum(axis=0), 1e-12), 0.0))
    return (share * before).astype(np.float32)


def _wishes(
    rows: np.ndarray, first: np.ndarray, lengths: np.ndarray, crowding: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(N, 3) and (G, 3) gap, contact and crowding that cells and groups wish for; ``lengths``: (N,) of the rims."""
    crowd = rows["crowding"] * crowding
    alone = np.stack([rows["gap"], rows["contact"], crowd], 1).astype(np.float64)
    begins, members = first[:-1], np.diff(first)
    outer = np.add.reduceat(rows["outer_contact"] * lengths, begins) / np.maximum(np.add.reduceat(lengths, begins), 1)
    others = np.maximum(np.add.reduceat(crowd, begins) / members - (members - 1), 0)
    together = np.stack([np.minimum.reduceat(rows["outer_gap"], begins), outer, others], 1).astype(np.float64)
    return alone, np.where((members > 1)[:, None], together, alone[begins])


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
