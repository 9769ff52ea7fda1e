"""Compiled loops over the masks of many cells, placed in one large image.

N masks lie in flat arrays: ``offsets`` (N + 1,), where the runs of each begin, and ``begin`` and ``end`` (R,), all
int64. A run is the pixels begin <= p < end of one column of the image, where the pixel (row, column) of an image of H
rows has p = column * H + row; runs of a mask ascend. A mask costs what its outline costs, however large the image is.
"""

import numpy as np
from numba import njit

__all__ = ["boxes_of", "place_runs", "shared_pixels", "union_lengths"]


@njit(cache=True)
def place_runs(offsets, begin, end, rows, top, left, height):
    """The masks of a tile in the image: runs moved, and parted where they go on from column to column.

    Args:
        offsets, begin, end: the masks; of ``begin`` and ``end`` pixel (row, column) is column * rows + row.
        rows: height of the tile.
        top, left: its place in the image.
        height: of the image.

    Returns:
        offsets, begin, end in the image.
    """
    room = 0
    for run in range(len(begin)):
        room += (end[run] - 1) // rows - begin[run] // rows + 1
    placed, first, last = np.zeros(len(offsets), np.int64), np.empty(room, np.int64), np.empty(room, np.int64)
    count = 0
    for n in range(len(offsets) - 1):
        for run in range(offsets[n], offsets[n + 1]):
            since = np.int64(begin[run])
            while since < end[run]:
                column = since // rows
                until = min((column + 1) * rows, np.int64(end[run]))
                start = (left + column) * height + top - column * rows
                first[count], last[count] = start + since, start + until
                count += 1
                since = until
        placed[n + 1] = count
    return placed, first, last


@njit(cache=True)
def boxes_of(offsets, begin, end, height):
    """(N, 5) int64: x0, y0, x1, y1 around each mask, the last ones excluded, and its pixels; none is empty."""
    boxes = np.empty((len(offsets) - 1, 5), np.int64)
    for n in range(len(boxes)):
        top, bottom, area = height, 0, 0
        for run in range(offsets[n], offsets[n + 1]):
            row = begin[run] % height
            top, bottom = min(top, row), max(bottom, row + end[run] - begin[run])
            area += end[run] - begin[run]
        left, right = begin[offsets[n]] // height, begin[offsets[n + 1] - 1] // height + 1
        boxes[n, 0], boxes[n, 1], boxes[n, 2], boxes[n, 3], boxes[n, 4] = left, top, right, bottom, area
    return boxes


@njit(cache=True)
def shared_pixels(one, other, windows, offsets, begin, end, height):
    """What pairs of masks have in common inside a window.

    Args:
        one, other: (P,) which masks.
        windows: (P, 4) int64 x0, y0, x1, y1, the last ones excluded.
        offsets, begin, end: the masks.
        height: of the image.

    Returns:
        (P, 3) int64 pixels: that both have, that the one has in the window, that the other has in it.
    """
    pixels = np.empty((len(one), 3), np.int64)
    for pair in range(len(one)):
        a, a_stop = offsets[one[pair]], offsets[one[pair] + 1]
        b, b_stop = offsets[other[pair]], offsets[other[pair] + 1]
        pixels[pair, 1] = _inside(windows[pair], a, a_stop, begin, end, height)
        pixels[pair, 2] = _inside(windows[pair], b, b_stop, begin, end, height)
        common = 0
        while a < a_stop and b < b_stop:
            common += max(min(end[a], end[b]) - max(begin[a], begin[b]), 0)
            if end[a] < end[b]:
                a += 1
            else:
                b += 1
        pixels[pair, 0] = common
    return pixels


@njit(cache=True)
def _inside(window, run, stop, begin, end, height):
    """Pixels of the runs ``run`` up to ``stop`` that lie in a window."""
    pixels = 0
    for r in range(run, stop):
        column = begin[r] // height
        if window[0] <= column < window[2]:
            start = column * height
            pixels += max(min(end[r], start + window[3]) - max(begin[r], start + window[1]), 0)
    return pixels


@njit(cache=True)
def union_lengths(members, starts, offsets, begin, end, pixels):
    """Run lengths of unions of masks, background first, as ``pycocotools`` counts them.

    Args:
        members: (M,) the masks of each union, one union after the other.
        starts: (K + 1,) where those of each begin.
        offsets, begin, end: the masks.
        pixels: of the image.

    Returns:
        lengths: (L,) int64, one union after the other; starts: (K + 1,) where those of each begin.
    """
    room = len(starts)
    for mask in members:
        room += 2 * (offsets[mask + 1] - offsets[mask])
    lengths, found, count = np.empty(room, np.int64), np.zeros(len(starts), np.int64), 0
    for k in range(len(starts) - 1):
        first, last = _sorted_runs(members[starts[k] : starts[k + 1]], offsets, begin, end)
        done, run = np.int64(0), 0  # done: where the foreground written last ended
        while run < len(first):
            since, until = first[run], last[run]
            while run < len(first) and first[run] <= until:  # overlapping, or the next column's without a gap
                until = max(until, last[run])
                run += 1
            lengths[count], lengths[count + 1] = since - done, until - since
            done, count = until, count + 2
        if done < pixels:
            lengths[count] = pixels - done
            count += 1
        found[k + 1] = count
    return lengths[:count], found


@njit(cache=True)
def _sorted_runs(members, offsets, begin, end):
    """The runs of several masks by where they begin."""
    if len(members) == 1:
        mask = members[0]
        return begin[offsets[mask] : offsets[mask + 1]], end[offsets[mask] : offsets[mask + 1]]
    room = 0
    for mask in members:
        room += offsets[mask + 1] - offsets[mask]
    first, last, count = np.empty(room, np.int64), np.empty(room, np.int64), 0
    for mask in members:
        more = offsets[mask + 1] - offsets[mask]
        first[count : count + more] = begin[offsets[mask] : offsets[mask + 1]]
        last[count : count + more] = end[offsets[mask] : offsets[mask + 1]]
        count += more
    order = np.argsort(first)
    return first[order], last[order]
