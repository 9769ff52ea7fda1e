"""Compiled loops that find cells their places.

All work on a canvas: the image with ``PAD`` pixels around it, so that cells may be cut by the frame. ``labels`` (int32)
is 0 for background and k + 1 for the k-th cell that was placed; ``away`` (uint8) is the distance to the nearest cell in
parts of ``UNIT`` a pixel, at most ``FAR`` pixels. Patches lie one after the other in flat arrays, as their sizes
differ; groups of them are placed as a whole. Numba compiles anew where this file changes, but not where a constant of
another one does.
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
def find_places(labels, away, nearest, patches, placed, areas, limit, first, reach):
    """Place groups of patches one by one, until ``limit`` pixels or cells are reached; the cells of a group that finds
    no place are placed each on its own.

    Args:
        labels, away: the canvas, changed in place; nearest: (H, W) int32, the label that ``away`` is the distance to.
        patches: :class:`.patches.Patches`.
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
    where = np.full(len(patches.cells), -2, np.int64)
    state = np.array([first, *_visible(areas, first)], np.int64)
    hits = np.zeros(placed.shape[1] + 1, np.int64)
    for g in range(len(patches.groups) - 1):
        begin, end = patches.groups[g], patches.groups[g + 1]
        found = _place(
            labels, away, nearest, patches, begin, end, patches.group_wishes[g], placed, areas, limit, reach, hits,
            state, where,
        )  # fmt: skip
        if not found and end > begin + 1:
            for n in range(begin, end):
                _place(
                    labels, away, nearest, patches, n, n + 1, patches.wishes[n], placed, areas, limit, reach, hits,
                    state, where,
                )  # fmt: skip
    return where, state[0], state[2], state[1]


@njit(cache=True)
def _place(
    labels, away, nearest, patches, begin, end, wish, placed, areas, limit, reach, hits, state, where
):  # fmt: skip
    """Place the patches from ``begin`` to ``end`` as they lie beside each other; whether there is a place for them.
    ``state`` has the number of cells on the canvas, and the pixels and the number of those that are seen."""
    if state[2] >= limit[0] or state[1] >= limit[1]:
        return True
    rim = patches.rims[patches.rim_starts[begin] : patches.rim_starts[end]]
    row, column, half = _middle(patches, begin, end)
    expected = wish[2] * max(state[2] / limit[0], state[1] / limit[1])
    best, best_y, best_x = 1e9, 0, 0
    for t in range(TRIES):
        y, x = _candidate(away, rim, row, column, half, wish, patches.draws[begin, t], placed, state[0], t)
        crowd = _crowd(placed, state[0], y + row, x + column, reach)
        score = 2.0 * abs(crowd - expected) / (1.0 + expected)
        if score < best:
            score += _score(away, nearest, rim, y, x, wish, placed)
        if score < best and not _hides(labels, away, patches, begin, end, y + row, x + column, y, x, areas, hits):
            best, best_y, best_x = score, y, x
    if best >= 1e8:
        where[begin:end] = -1
        return False
    for n in range(begin, end):
        if state[2] >= limit[0] or state[1] >= limit[1]:
            break
        y, x, count = best_y + patches.offsets[n, 0], best_x + patches.offsets[n, 1], state[0]
        _put(labels, away, nearest, patches, n, y, x, count, patches.draws[begin, 0, _ABOVE] < 0.5, areas)
        height, width = patches.sizes[n]
        placed[_TOP, count], placed[_LEFT, count] = y, x
        placed[_ROW, count], placed[_COLUMN, count] = y + height // 2, x + width // 2
        placed[_HALF, count], placed[_GAP, count] = 0.5 * max(height, width), wish[0]
        where[n] = count
        state[0] += 1
        state[1], state[2] = _visible(areas, state[0])
    return True


@njit(cache=True)
def _middle(patches, begin, end):
    """Row and column of the middle of patches beside each other, and half their longer side."""
    top, bottom = patches.offsets[begin, 0], patches.offsets[begin, 0]
    left, right = patches.offsets[begin, 1], patches.offsets[begin, 1]
    for n in range(begin, end):
        y, x = patches.offsets[n]
        top, bottom = min(top, y), max(bottom, y + patches.sizes[n, 0])
        left, right = min(left, x), max(right, x + patches.sizes[n, 1])
    return (top + bottom) // 2, (left + right) // 2, 0.5 * max(bottom - top, right - left)


@njit(cache=True)
def _mask(patches, n):
    """Height x width bool of a patch."""
    height, width = patches.sizes[n]
    return patches.outlines[patches.starts[n] : patches.starts[n] + height * width].reshape(height, width) > 0


@njit(cache=True)
def _visible(areas, count):
    """Pixels and number of the cells that are seen in the image."""
    seen, inside = 0, 0
    for k in range(count):
        seen += areas[k, 2]
        inside += areas[k, 2] >= LEAST_VISIBLE
    return seen, inside


@njit(cache=True)
def _candidate(away, rim, row, column, half, wish, draw, placed, count, t):
    """One place for patches whose middle is at ``row`` and ``column``: a free one, or beside a cell."""
    middle_y, middle_x = _room(away, draw, 1 if t % 2 else _ROOM_SAMPLES)
    if wish[0] >= FAR or not count:
        return middle_y - row, middle_x - column
    # from a random cell at a random angle, or from a random place towards the nearest cell
    at = int(draw[_WHOM] * count)
    if t % 4:
        at = _nearest(placed, count, middle_y, middle_x, wish[0])
    else:
        angle = 6.283185307179586 * draw[_ANGLE]
        far = half + placed[_HALF, at] + FAR
        middle_y, middle_x = int(placed[_ROW, at] + np.sin(angle) * far), int(placed[_COLUMN, at] + np.cos(angle) * far)
    down, right = placed[_ROW, at] - middle_y, placed[_COLUMN, at] - middle_x
    length = max(np.sqrt(down * down + right * right), 1.0)
    return _slide(
        away, rim, middle_y - row, middle_x - column, down / length, right / length, wish[0], length, draw[_PUSH]
    )


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
def _room(away, draw, samples):
    """The roomiest of some random places."""
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
    return best_y, best_x


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
def _hides(labels, away, patches, begin, end, middle_y, middle_x, y, x, areas, hits):
    """Whether patches cannot lie at a place: their middle is outside, too much of one of them or of a cell below it
    would be hidden, or one lies on pixels that are taken."""
    rows, columns = labels.shape
    if not (2 <= middle_y < rows - 2 and 2 <= middle_x < columns - 2):
        return True
    for n in range(begin, end):
        mask = _mask(patches, n)
        if _collides(labels, away, mask, y + patches.offsets[n, 0], x + patches.offsets[n, 1], areas, hits):
            return True
    return False


@njit(cache=True)
def _collides(labels, away, mask, y, x, areas, hits):
    """The same for one patch."""
    rows, columns = labels.shape
    height, width = mask.shape
    top, bottom, left = max(0, -y), min(height, rows - y), max(0, -x)
    right = max(left, min(width, columns - x))  # cells of a group may lie wholly beside the canvas
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
def _put(labels, away, nearest, patches, n, y, x, index, on_top, areas):
    """Write a patch into the canvas; ``areas`` counts what lies on the canvas, visible or not."""
    rows, columns = labels.shape
    height, width = patches.sizes[n]
    mask = _mask(patches, n)
    near = patches.nearness[patches.near_starts[n] :][: (height + 2 * NEAR) * (width + 2 * NEAR)]
    near = near.reshape(height + 2 * NEAR, width + 2 * NEAR)
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
        begin = max(0, -left)
        end = max(begin, min(near.shape[1], columns - left))
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
