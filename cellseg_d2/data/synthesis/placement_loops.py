"""Compiled loops that find cells their places.

All work on a canvas: the image with ``PAD`` pixels around it, so that cells may be cut by the frame. ``labels`` (int32)
is 0 for background and k + 1 for the k-th cell that was placed; ``away`` (uint8) is the distance to the nearest cell in
parts of ``UNIT`` a pixel, at most ``FAR`` pixels. Patches lie one after the other in flat arrays, as their sizes
differ. Numba compiles anew where this file changes, but not where a constant of another one does.
"""

import numpy as np
from numba import njit

from .units import FAR, NEAR, PAD, UNIT

__all__ = ["DRAWS", "LEAST_VISIBLE", "TRIES", "find_places"]

TRIES = 8  # places that are looked at for each cell; one in four where there is room, the others beside a cell
# What is drawn for each try: which cell to go to, from which angle, a free place, how far to push, above or below
DRAWS = 5
_WHOM, _ANGLE, _FREE, _PUSH, _ABOVE = range(DRAWS)
_FARTHEST = UNIT * FAR
_STEPS = 12
_ROOM_SAMPLES = 12  # of which the roomiest place is taken
_UNWISHED = 1000.0  # added to the score of a place that no one wishes for
_MOST_HIDDEN = 0.12  # share of a cell that others may lie over
LEAST_VISIBLE = 16  # pixels of a cell in the image, or it is not annotated


@njit(cache=True)
def find_places(
    labels, away, nearest, sizes, starts, outlines, rims, rim_starts, nearness, near_starts, wishes, draws, placed,
    areas, limit, first, reach,
):  # fmt: skip
    """Place patches one by one, until ``limit`` pixels or cells are reached.

    Args:
        labels, away: the canvas, changed in place; nearest: (H, W) int32, the label that ``away`` is the distance to.
        sizes: (N, 2) height and width of each patch.
        starts, outlines: its quarters of a pixel to the outline (int8), positive inside, begin at ``starts``.
        rims, rim_starts: (R, 2) row and column of its border pixels, (N + 1,) where they begin.
        nearness, near_starts: parts of a pixel to the cell (uint8), in the patch with NEAR pixels around it.
        wishes: (N, 3) gap in pixels to the nearest cell, share of the rim that touches others, and number of cells
            within ``reach`` when the image is complete.
        draws: (N, TRIES, DRAWS) uniform random numbers.
        placed: (M, 5) float64, row, column, height and width of the cells on the canvas, and the gap that they wish
            for; filled from ``first`` on.
        areas: (M, 3) pixels, visible pixels, and those of them in the image.
        limit: cells, pixels: where to stop.
        first: cells on the canvas before.
        reach: half the side, in pixels, of the square in which neighbours are counted.

    Returns:
        (N,) index in ``placed`` of each patch, -1: found no place, -2: not needed. Cells on the canvas; those of them,
        and their pixels, that are seen in the image.
    """
    where = np.full(len(sizes), -2, np.int64)
    count = first
    seen, inside = _visible(areas, count)
    hits = np.zeros(len(placed) + 1, np.int64)
    for i in range(len(sizes)):
        if inside >= limit[0] or seen >= limit[1]:
            break
        height, width = sizes[i]
        mask = outlines[starts[i] : starts[i] + height * width].reshape(height, width) > 0
        rim = rims[rim_starts[i] : rim_starts[i + 1]]
        best, best_y, best_x = 1e9, 0, 0
        for t in range(TRIES):
            y, x, score = _try(labels, away, nearest, mask, rim, wishes[i], draws[i, t], placed, areas, count, hits, t)
            if score < 1e8:
                expected = wishes[i, 2] * max(inside / limit[0], seen / limit[1])
                crowd = _crowd(placed, count, y + height // 2, x + width // 2, reach)
                score += 2.0 * abs(crowd - expected) / (1.0 + expected)
            if score < best:
                best, best_y, best_x = score, y, x
        if best >= 1e8:
            where[i] = -1
            continue
        on_top = draws[i, 0, _ABOVE] < 0.5
        near = nearness[near_starts[i] : near_starts[i] + (height + 2 * NEAR) * (width + 2 * NEAR)]
        near = near.reshape(height + 2 * NEAR, width + 2 * NEAR)
        _put(labels, away, nearest, mask, near, best_y, best_x, count, on_top, areas)
        placed[count, 0], placed[count, 1], placed[count, 2], placed[count, 3] = best_y, best_x, height, width
        placed[count, 4] = wishes[i, 0]
        where[i] = count
        count += 1
        seen, inside = _visible(areas, count)
    return where, count, inside, seen


@njit(cache=True)
def _visible(areas, count):
    """Pixels and number of the cells that are seen in the image."""
    seen, inside = 0, 0
    for k in range(count):
        seen += areas[k, 2]
        inside += areas[k, 2] >= LEAST_VISIBLE
    return seen, inside


@njit(cache=True)
def _try(labels, away, nearest, mask, rim, wish, draw, placed, areas, count, hits, t):
    """One place for a patch and its score, the lower the better; 1e9 where it cannot lie there."""
    height, width = mask.shape
    rows, columns = labels.shape
    y, x = _room(away, draw, height, width, 1 if t % 2 else _ROOM_SAMPLES)
    if wish[0] < FAR and count:
        # from a random cell at a random angle, or from a random place towards the nearest cell
        at = int(draw[_WHOM] * count)
        if t % 4:
            at = _nearest(placed, count, y + height // 2, x + width // 2, wish[0])
        middle_y, middle_x = placed[at, 0] + 0.5 * placed[at, 2], placed[at, 1] + 0.5 * placed[at, 3]
        angle = 6.283185307179586 * draw[_ANGLE]
        reach = 0.5 * max(height, width) + 0.5 * max(placed[at, 2], placed[at, 3]) + FAR
        if t % 4 == 0:
            y = int(middle_y + np.sin(angle) * reach - 0.5 * height)
            x = int(middle_x + np.cos(angle) * reach - 0.5 * width)
        down, right = middle_y - 0.5 * height - y, middle_x - 0.5 * width - x
        length = max(np.sqrt(down * down + right * right), 1.0)
        y, x = _slide(away, rim, y, x, down / length, right / length, wish[0], length, draw[_PUSH])
    middle_y, middle_x = y + height // 2, x + width // 2
    if middle_y < 2 or middle_x < 2 or middle_y >= rows - 2 or middle_x >= columns - 2:
        return y, x, 1e9
    gap, contact = _surroundings(away, rim, y, x)
    intrusion = _intrusion(away, nearest, rim, y, x, placed)
    if gap < 2 * UNIT:  # only every second pixel of the rim was looked at
        if _hidden(labels, away, mask, y, x, areas, hits) > _MOST_HIDDEN:
            return y, x, 1e9
    if gap < UNIT:
        gap = 0.0
        if wish[0] >= 1.0:
            intrusion += _UNWISHED
    missed = abs(max(gap / UNIT - 1.0, 0.0) - min(wish[0], FAR - 1.0))
    return y, x, intrusion + min(missed / (2.0 + wish[0]), 1.5) + 3.0 * abs(contact - wish[1])


@njit(cache=True)
def _intrusion(away, nearest, rim, y, x, placed):
    """How far a patch comes into the gaps that the cells around it wish for, and whether it touches one that wishes
    for any, which is only done where nothing else is found."""
    rows, columns = away.shape
    worst, touches = 0.0, False
    for k in range(len(rim)):
        row, column = y + rim[k, 0], x + rim[k, 1]
        if 0 <= row < rows and 0 <= column < columns and nearest[row, column]:
            gap, wish = away[row, column] / UNIT - 1.0, placed[nearest[row, column] - 1, 4]
            worst = max(worst, (wish - gap - 1.0) / (2.0 + wish))
            touches = touches or (wish >= 1.0 and gap < 1.0)
    return worst + (_UNWISHED if touches else 0.0)


@njit(cache=True)
def _crowd(placed, count, y, x, reach):
    """Number of placed patches with their middle near a place."""
    found = 0
    for k in range(count):
        down, right = placed[k, 0] + placed[k, 2] // 2 - y, placed[k, 1] + placed[k, 3] // 2 - x
        found += abs(down) <= reach and abs(right) <= reach
    return found


@njit(cache=True)
def _nearest(placed, count, y, x, gap):
    """The placed patch nearest to a place, if possible of those that wish for no larger gap."""
    best, least = 0, 1e18
    for k in range(count):
        down, right = placed[k, 0] + placed[k, 2] // 2 - y, placed[k, 1] + placed[k, 3] // 2 - x
        apart = float(down * down + right * right)
        if placed[k, 4] > gap + 1:
            apart += 1e9
        if apart < least:
            least, best = apart, k
    return best


@njit(cache=True)
def _room(away, draw, height, width, samples):
    """The roomiest of some random places, as the place of the patch's first pixel."""
    rows, columns = away.shape
    state = np.uint64(draw[_FREE] * 4503599627370496.0) | np.uint64(1)
    best, best_y, best_x = -1, 0, 0
    for _ in range(samples):
        state ^= state << np.uint64(13)
        state ^= state >> np.uint64(7)
        state ^= state << np.uint64(17)
        y = 2 + int((state >> np.uint64(11)) % np.uint64(rows - 4))
        state ^= state << np.uint64(13)
        state ^= state >> np.uint64(7)
        state ^= state << np.uint64(17)
        x = 2 + int((state >> np.uint64(11)) % np.uint64(columns - 4))
        if away[y, x] > best:
            best, best_y, best_x = away[y, x], y, x
    return best_y - height // 2, best_x - width // 2


@njit(cache=True)
def _slide(away, rim, y, x, down, right, gap, reach, push):
    """Move a patch along a ray until it is ``gap`` pixels from a cell; one that is to touch is pushed in a little."""
    wanted = UNIT * (gap + 1.0)
    at, position_y, position_x = 0.0, float(y), float(x)
    for _ in range(_STEPS):
        found, _ = _surroundings(away, rim, int(np.round(position_y)), int(np.round(position_x)))
        step = (found - wanted) / UNIT
        if step < 0.75 or at > reach:
            break
        at += step
        position_y += down * step
        position_x += right * step
    if gap < 1.0:
        position_y += down * 2.5 * push
        position_x += right * 2.5 * push
    return int(np.round(position_y)), int(np.round(position_x))


@njit(cache=True)
def _surroundings(away, rim, y, x):
    """Least parts of a pixel from a patch's rim to any cell, and the share of the rim that touches one."""
    rows, columns = away.shape
    least, touching = float(_FARTHEST), 0
    for k in range(len(rim)):
        row, column = y + rim[k, 0], x + rim[k, 1]
        if 0 <= row < rows and 0 <= column < columns:
            value = float(away[row, column])
            if value < least:
                least = value
            if value <= 3.0 * UNIT:
                touching += 1
    return least, touching / max(len(rim), 1)


@njit(cache=True)
def _hidden(labels, away, mask, y, x, areas, hits):
    """Largest share of the patch, or of a cell below it, that lies over another one; 1 on pixels that are taken."""
    rows, columns = labels.shape
    total, own, worst = 0, 0, 0.0
    for i in range(mask.shape[0]):
        for j in range(mask.shape[1]):
            row, column = y + i, x + j
            if mask[i, j] and 0 <= row < rows and 0 <= column < columns:
                own += 1
                label = labels[row, column]
                if label:
                    total += 1
                    hits[label] += 1
                elif away[row, column] == 0:
                    worst = 1.0
    if total:
        for i in range(mask.shape[0]):
            for j in range(mask.shape[1]):
                row, column = y + i, x + j
                if mask[i, j] and 0 <= row < rows and 0 <= column < columns:
                    label = labels[row, column]
                    if label and hits[label]:
                        lost = hits[label] + areas[label - 1, 0] - areas[label - 1, 1]
                        worst = max(worst, lost / areas[label - 1, 0])
                        hits[label] = 0
        worst = max(worst, total / own)
    return worst


@njit(cache=True)
def _put(labels, away, nearest, mask, near, y, x, index, on_top, areas):
    """Write a patch into the canvas; ``areas`` counts what lies on the canvas, visible or not."""
    rows, columns = labels.shape
    areas[index] = 0
    for i in range(mask.shape[0]):
        for j in range(mask.shape[1]):
            row, column = y + i, x + j
            if mask[i, j] and 0 <= row < rows and 0 <= column < columns:
                areas[index, 0] += 1
                below = labels[row, column]
                if below == 0 or on_top:
                    in_image = PAD <= row < rows - PAD and PAD <= column < columns - PAD
                    if below:
                        areas[below - 1, 1] -= 1
                        areas[below - 1, 2] -= in_image
                    labels[row, column] = index + 1
                    areas[index, 1] += 1
                    areas[index, 2] += in_image
    for i in range(near.shape[0]):
        for j in range(near.shape[1]):
            row, column = y - NEAR + i, x - NEAR + j
            if 0 <= row < rows and 0 <= column < columns and near[i, j] < away[row, column]:
                away[row, column] = near[i, j]
                nearest[row, column] = index + 1
