"""Compiled loops that find cells their places.

All work on a canvas: the image with ``PAD`` pixels around it, so that cells may be cut by the frame. ``labels`` (int32)
is 0 for background and k + 1 for the k-th cell that was placed; ``away`` (uint8) is the distance to the nearest cell in
parts of ``UNIT`` a pixel, at most ``FAR`` pixels. Patches lie one after the other in flat arrays, as their sizes
differ. Numba compiles anew where this file changes, but not where a constant of another one does.
"""

import numpy as np
from numba import njit

from .units import FAR, NEAR, PAD, UNIT

__all__ = ["DRAWS", "LEAST_VISIBLE", "PLACED", "TRIES", "find_places"]

TRIES = 8  # places that are looked at for each cell; one in four where there is room, the others beside a cell
# What is drawn for each try: which cell to go to, from which angle, a free place, how far to push, above or below
DRAWS = 5
_WHOM, _ANGLE, _FREE, _PUSH, _ABOVE = range(DRAWS)
PLACED = 6  # what is known of each cell that was placed
_TOP, _LEFT, _ROW, _COLUMN, _HALF, _GAP = range(PLACED)
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
        placed: (PLACED, M) float64 of the cells on the canvas: row and column of the patch's first pixel, those of its
            middle, half its longer side, and the gap that it wishes for; filled from ``first`` on.
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
    hits = np.zeros(placed.shape[1] + 1, np.int64)
    for i in range(len(sizes)):
        if inside >= limit[0] or seen >= limit[1]:
            break
        height, width = sizes[i]
        mask = outlines[starts[i] : starts[i] + height * width].reshape(height, width) > 0
        rim = rims[rim_starts[i] : rim_starts[i + 1]]
        best, best_y, best_x = 1e9, 0, 0
        for t in range(TRIES):
            y, x = _candidate(away, mask, rim, wishes[i], draws[i, t], placed, count, t)
            expected = wishes[i, 2] * max(inside / limit[0], seen / limit[1])
            crowd = _crowd(placed, count, y + height // 2, x + width // 2, reach)
            score = 2.0 * abs(crowd - expected) / (1.0 + expected)
            if score < best:
                score += _score(away, nearest, rim, y, x, wishes[i], placed)
            if score < best and not _hides(labels, away, mask, y, x, areas, hits):
                best, best_y, best_x = score, y, x
        if best >= 1e8:
            where[i] = -1
            continue
        on_top = draws[i, 0, _ABOVE] < 0.5
        near = nearness[near_starts[i] : near_starts[i] + (height + 2 * NEAR) * (width + 2 * NEAR)]
        near = near.reshape(height + 2 * NEAR, width + 2 * NEAR)
        _put(labels, away, nearest, mask, near, best_y, best_x, count, on_top, areas)
        placed[_TOP, count], placed[_LEFT, count] = best_y, best_x
        placed[_ROW, count], placed[_COLUMN, count] = best_y + height // 2, best_x + width // 2
        placed[_HALF, count], placed[_GAP, count] = 0.5 * max(height, width), wishes[i, 0]
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
def _candidate(away, mask, rim, wish, draw, placed, count, t):
    """One place for a patch: a free one, or beside a cell."""
    height, width = mask.shape
    y, x = _room(away, draw, height, width, 1 if t % 2 else _ROOM_SAMPLES)
    if wish[0] >= FAR or not count:
        return y, x
    # from a random cell at a random angle, or from a random place towards the nearest cell
    at = int(draw[_WHOM] * count)
    if t % 4:
        at = _nearest(placed, count, y + height // 2, x + width // 2, wish[0])
    middle_y, middle_x = placed[_ROW, at], placed[_COLUMN, at]
    angle = 6.283185307179586 * draw[_ANGLE]
    reach = 0.5 * max(height, width) + placed[_HALF, at] + FAR
    if t % 4 == 0:
        y = int(middle_y + np.sin(angle) * reach - 0.5 * height)
        x = int(middle_x + np.cos(angle) * reach - 0.5 * width)
    down, right = middle_y - 0.5 * height - y, middle_x - 0.5 * width - x
    length = max(np.sqrt(down * down + right * right), 1.0)
    return _slide(away, rim, y, x, down / length, right / length, wish[0], length, draw[_PUSH])


@njit(cache=True)
def _score(away, nearest, rim, y, x, wish, placed):
    """How far a place is from what the patch, and the cells around it, wish for: 0 is best."""
    gap, contact = _surroundings(away, rim, y, x)
    intrusion = _intrusion(away, nearest, rim, y, x, placed)
    if gap < UNIT:  # only every second pixel of the rim was looked at
        gap = 0.0
        if wish[0] >= 1.0:
            intrusion += _UNWISHED
    missed = abs(max(gap / UNIT - 1.0, 0.0) - min(wish[0], FAR - 1.0))
    return intrusion + min(missed / (2.0 + wish[0]), 1.5) + 3.0 * abs(contact - wish[1])


@njit(cache=True)
def _intrusion(away, nearest, rim, y, x, placed):
    """How far a patch comes into the gaps that the cells around it wish for, and whether it touches one that wishes
    for any, which is only done where nothing else is found."""
    rows, columns = away.shape
    worst, touches = 0.0, False
    for k in range(len(rim)):
        row, column = y + rim[k, 0], x + rim[k, 1]
        if 0 <= row < rows and 0 <= column < columns and nearest[row, column]:
            gap, wish = away[row, column] / UNIT - 1.0, placed[_GAP, nearest[row, column] - 1]
            worst = max(worst, (wish - gap - 1.0) / (2.0 + wish))
            touches = touches or (wish >= 1.0 and gap < 1.0)
    return worst + (_UNWISHED if touches else 0.0)


@njit(cache=True)
def _crowd(placed, count, y, x, reach):
    """Number of placed patches with their middle near a place."""
    rows, columns = placed[_ROW, :count], placed[_COLUMN, :count]
    found = 0
    for k in range(count):
        found += (abs(rows[k] - y) <= reach) & (abs(columns[k] - x) <= reach)
    return found


@njit(cache=True)
def _nearest(placed, count, y, x, gap):
    """The placed patch nearest to a place, if possible of those that wish for no larger gap."""
    rows, columns, gaps = placed[_ROW, :count], placed[_COLUMN, :count], placed[_GAP, :count]
    best, least = 0, 1e18
    for k in range(count):
        apart = (rows[k] - y) ** 2 + (columns[k] - x) ** 2
        if gaps[k] > gap + 1:
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
        found = _clearance(away, rim, int(np.round(position_y)), int(np.round(position_x)))
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
def _clearance(away, rim, y, x):
    """Least parts of a pixel from a patch's rim to any cell."""
    rows, columns = away.shape
    least = _FARTHEST
    for k in range(len(rim)):
        row, column = y + np.int64(rim[k, 0]), x + np.int64(rim[k, 1])
        if 0 <= row < rows and 0 <= column < columns:
            least = min(least, away[np.uint64(row), np.uint64(column)])
    return least


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
def _hides(labels, away, mask, y, x, areas, hits):
    """Whether a patch cannot lie at a place: its middle is outside, too much of it or of a cell below it would be
    hidden, or it lies on pixels that are taken."""
    rows, columns = labels.shape
    height, width = mask.shape
    if not (2 <= y + height // 2 < rows - 2 and 2 <= x + width // 2 < columns - 2):
        return True
    top, bottom, left, right = max(0, -y), min(height, rows - y), max(0, -x), min(width, columns - x)
    own, over, first, last = 0, 0, 0, 0
    for i in range(top, bottom):
        of_row = _shared(mask[i, left:right], away[y + i, x + left : x + right])
        if of_row[1]:
            first, last = i if over == 0 else first, i + 1
        own, over = own + of_row[0], over + of_row[1]
    if not over:
        return False
    worst, taken = over / own, False
    for i in range(first, last):
        for j in range(left, right):
            if mask[i, j] and away[y + i, x + j] == 0:
                label = labels[y + i, x + j]
                hits[label] += 1
                taken = taken or label == 0
    for i in range(first, last):
        for j in range(left, right):
            label = labels[y + i, x + j]
            if label and hits[label]:
                lost = hits[label] + areas[label - 1, 0] - areas[label - 1, 1]
                worst = max(worst, lost / areas[label - 1, 0])
            hits[label] = 0
    return taken or worst > _MOST_HIDDEN


@njit(cache=True)
def _shared(mask, away):
    """Pixels of a row of a patch, and those of them on which a cell lies: a loop without conditions."""
    own, over = 0, 0
    for j in range(len(mask)):
        own += mask[j]
        over += mask[j] & (away[j] == 0)
    return own, over


@njit(cache=True)
def _put(labels, away, nearest, mask, near, y, x, index, on_top, areas):
    """Write a patch into the canvas; ``areas`` counts what lies on the canvas, visible or not."""
    rows, columns = labels.shape
    height, width = mask.shape
    areas[index] = 0
    for i in range(max(0, -y), min(height, rows - y)):
        for j in range(max(0, -x), min(width, columns - x)):
            if not mask[i, j]:
                continue
            row, column = y + i, x + j
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
    top, left = y - NEAR, x - NEAR
    for i in range(max(0, -top), min(near.shape[0], rows - top)):
        begin, end = max(0, -left), min(near.shape[1], columns - left)
        row = top + i
        _come_near(
            near[i, begin:end], away[row, left + begin : left + end], nearest[row, left + begin : left + end], index + 1
        )


@njit(cache=True)
def _come_near(near, away, nearest, label):
    """Lower the distances of a row to those to a patch: a loop without conditions."""
    for j in range(len(near)):
        closer = near[j] < away[j]
        away[j] = near[j] if closer else away[j]
        nearest[j] = label if closer else nearest[j]
