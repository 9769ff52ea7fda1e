"""Compiled loops from mask probabilities to COCO run lengths, cell by cell, inside each cell's box.

The arithmetic is that of ``torch.nn.functional.grid_sample`` on processors with fused multiply-add, in its order, so
that masks are those of Detectron2 to the last pixel: products are exact in float64 and rounded once, after the sum.
"""

import numpy as np
from numba import njit

__all__ = ["paste_runs", "write_counts"]

_PAD = 2  # zeros around a mask: places beyond its border read them
_BITS, _MORE, _FIRST = 5, 0x20, 48  # of a number, in each character; more characters follow; the first character


@njit(cache=True)
def paste_runs(masks, boxes, height, width, threshold):
    """Run lengths of pasted masks, background first, in column-major order, as ``pycocotools`` counts them.

    Args:
        masks: (N, S, S) float32 probabilities.
        boxes: (N, 4) float32, x0, y0, x1, y1 inside the image.
        height, width: of the image.
        threshold: float32; pixels of at least this probability belong to the cell.

    Returns:
        runs: (R,) int64, one mask after the other; starts: (N + 1,) where those of each mask begin.
    """
    runs, starts = np.empty(64 * len(masks) + 64, np.int64), np.zeros(len(masks) + 1, np.int64)
    side = masks.shape[1]
    framed = np.zeros((side + 2 * _PAD, side + 2 * _PAD), np.float32)  # by columns, as pixels are looked at
    for k in range(len(masks)):
        framed[_PAD:-_PAD, _PAD:-_PAD] = masks[k].T
        left, right = _window(boxes[k, 0], boxes[k, 2], width)
        top, bottom = _window(boxes[k, 1], boxes[k, 3], height)
        most = starts[k] + (right - left) * (bottom - top + 1) + 2
        if most > len(runs):
            runs = _larger(runs, most)
        across = _places(boxes[k, 0], boxes[k, 2], left, right, side)
        down = _places(boxes[k, 1], boxes[k, 3], top, bottom, side)
        starts[k + 1] = _runs_of(framed, across, down, left, top, height, width, threshold, runs, starts[k])
    return runs[: starts[-1]], starts


@njit(cache=True)
def _window(low, high, size):
    """First pixel and end of the pixels that are looked at along one axis: the box and a pixel more."""
    first = max(int(np.floor(low)) - 1, 0)
    return first, max(min(int(np.ceil(high)) + 1, size), first + 1)


@njit(cache=True)
def _larger(runs, least):
    """A longer array with the same values."""
    result = np.empty(max(2 * len(runs), least), np.int64)
    result[: len(runs)] = runs
    return result


@njit(cache=True, error_model="numpy")  # boxes without an extent divide by 0
def _places(low, high, first, end, side):
    """Where the middles of pixels lie in a framed mask: the index before each, and the share of the next one."""
    index, share = np.empty(end - first, np.int64), np.empty(end - first, np.float32)
    half = np.float64(np.float32(side) / np.float32(2))
    for k in range(end - first):
        place = (np.float32(first + k) + np.float32(0.5) - low) / (high - low) * np.float32(2) - np.float32(1)
        place = np.float32(np.float64(place + np.float32(1)) * half - 0.5)
        if not -1 <= place < side:  # also what is no number
            place = np.float32(-_PAD)
        below = np.floor(place)
        index[k], share[k] = int(below) + _PAD, place - below
    return index, share


@njit(cache=True)
def _runs_of(framed, across, down, left, top, height, width, threshold, runs, count):
    """Append the run lengths of one mask at ``count``; where they end."""
    columns, east = across
    rows, south = down
    north, hit = np.float32(1) - south, np.empty(len(rows), np.bool_)
    a, b, c, d = np.empty((4, len(rows)), np.float32)  # the values around each pixel of a column
    inside, since = False, 0  # since: the pixel at which the present run began
    for j in range(len(columns)):
        at, right, begin = columns[j], east[j], (left + j) * height
        keep = np.float32(1) - right
        if inside and (top > 0 or j == 0):  # the column before ended in the cell and this one begins further down
            runs[count], since, inside = begin - since, begin, False
            count += 1
        if j == 0 or at != columns[j - 1]:
            west, next_ = framed[at], framed[at + 1]
            for i in range(len(rows)):
                a[i], b[i], c[i], d[i] = west[rows[i]], next_[rows[i]], west[rows[i] + 1], next_[rows[i] + 1]
        for i in range(len(rows)):  # without a branch, so that several pixels are done at a time
            low, high = south[i], north[i]
            value = np.float32(np.float64(a[i]) * np.float64(keep * high))
            value = np.float32(np.float64(b[i]) * np.float64(right * high) + np.float64(value))
            value = np.float32(np.float64(c[i]) * np.float64(keep * low) + np.float64(value))
            value = np.float32(np.float64(d[i]) * np.float64(right * low) + np.float64(value))
            hit[i] = value >= threshold
        for i in range(len(rows)):
            if hit[i] != inside:
                place = begin + top + i
                runs[count], since, inside = place - since, place, not inside
                count += 1
        if inside and top + len(rows) < height:  # the rest of the column is background
            place = begin + top + len(rows)
            runs[count], since, inside = place - since, place, False
            count += 1
    runs[count] = height * width - since
    return count + 1 if runs[count] > 0 or count == 0 else count


@njit(cache=True)
def write_counts(runs, starts):
    """COCO's characters for run lengths: 5 bits each, lowest first, bit 5 saying that more follow; from the fourth
    number on of a mask the difference to the number before the last one.

    Args:
        runs, starts: of :func:`paste_runs`.

    Returns:
        text: (C,) uint8; ends: (N,) where the characters of each mask end.
    """
    text, ends = np.empty(7 * len(runs), np.uint8), np.empty(len(starts) - 1, np.int64)
    count = 0
    for k in range(len(ends)):
        for n in range(starts[k], starts[k + 1]):
            number = runs[n] - (runs[n - 2] if n - starts[k] > 2 else 0)
            more = True
            while more:
                letter = number & 0x1F
                number >>= _BITS
                more = number != -1 if letter & 0x10 else number != 0
                text[count] = (letter | _MORE if more else letter) + _FIRST
                count += 1
        ends[k] = count
    return text[:count], ends
