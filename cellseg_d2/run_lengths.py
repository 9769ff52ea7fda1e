"""Masks of many objects in flat arrays: the runs of foreground pixels, in COCO's column-major order.

One mask costs what its outline costs, however large the image is, and compiled loops go over thousands at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit

__all__ = ["Runs", "concatenate", "decode_counts", "runs_of_mask"]


@dataclass(frozen=True)
class Runs:
    """N masks.

    Attributes:
        offsets: (N + 1,) int64; the runs of mask n are those from ``offsets[n]`` up to ``offsets[n + 1]``.
        begin, end: (R,) int32, or int64 of images of 2^31 pixels and more; a run is the pixels begin <= p < end, where
            pixel (row, column) of an image of H rows has p = column * H + row. Runs of a mask ascend and do not touch.

    >>> runs = runs_of_mask(np.array([[0, 1, 1], [0, 1, 0]]))
    >>> runs.begin.tolist(), runs.end.tolist(), runs.areas().tolist()
    ([2], [5], [3])
    """

    offsets: np.ndarray
    begin: np.ndarray
    end: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def owners(self) -> np.ndarray:
        """(R,) int64: the mask of each run."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    def areas(self) -> np.ndarray:
        """(N,) int64: foreground pixels of each mask."""
        return _areas(self.offsets, self.begin, self.end)

    def boxes(self, heights: np.ndarray) -> np.ndarray:
        """(N, 4) float64 boxes x, y, width, height around the masks; an empty mask has a box of zeros.

        Args:
            heights: (N,) rows of each mask's image.
        """
        return _boxes(self.offsets, self.begin, self.end, np.asarray(heights, dtype=np.int64))

    def take(self, index: np.ndarray) -> "Runs":
        """The masks at the places ``index`` ((M,) integers), in that order."""
        offsets = np.concatenate([[0], np.cumsum(np.diff(self.offsets)[index])])
        return Runs(offsets, *_take(self.offsets, self.begin, self.end, np.asarray(index, dtype=np.int64), offsets))


def concatenate(parts: Sequence[Runs]) -> Runs:
    """All masks of ``parts``, one part after the other."""
    counts = np.concatenate([np.zeros(1, np.int64), *(np.diff(part.offsets) for part in parts)])
    empty = np.zeros(0, np.int32)
    begin, end = (np.concatenate([empty, *(getattr(part, name) for part in parts)]) for name in ("begin", "end"))
    return Runs(np.cumsum(counts), begin, end)


def runs_of_mask(mask: np.ndarray) -> Runs:
    """The runs of one (H, W) mask; whatever is not 0 is foreground."""
    flat = np.concatenate([[False], np.asarray(mask).astype(bool).ravel(order="F"), [False]])
    edges = np.flatnonzero(flat[1:] != flat[:-1]).astype(_place_type(len(flat)))
    return Runs(np.array([0, len(edges) // 2]), edges[::2], edges[1::2])


def _place_type(pixels: int) -> type:
    """What holds the places in images of so many pixels."""
    return np.int32 if pixels < 2**31 else np.int64


def decode_counts(counts: Sequence[str | bytes], pixels: np.ndarray) -> tuple[Runs, np.ndarray]:
    """Decompress COCO's ``counts`` of N masks.

    COCO writes 5 bits a character, lowest first, bit 5 saying that more follow; from the fourth number on it writes
    the difference to the number before the last one.

    Args:
        counts: compressed run lengths, background first.
        pixels: (N,) pixels of each mask's image.

    Returns:
        The masks, and (N,) int64 what the lengths of each add up to: not its ``pixels`` where they are damaged (-1
        where they break off or are negative); the runs of such a mask mean nothing.

    >>> decode_counts(["231"], np.array([6]))[0].begin
    array([2], dtype=int32)
    """
    offsets = np.concatenate([[0], np.cumsum(np.fromiter(map(len, counts), np.int64, len(counts)))])
    joined = "".join(item if type(item) is str else item.decode("ascii", "replace") for item in counts)
    text = np.frombuffer(joined.encode("ascii", "replace"), dtype=np.uint8)
    pixels = np.asarray(pixels, dtype=np.int64)
    numbers = np.count_nonzero((text - 48) & 0x20 == 0)  # the last characters of numbers
    begin, end = np.empty((2, numbers), _place_type(pixels.max(initial=0)))
    runs, total = _decode(text, offsets, pixels, begin, end)
    return Runs(runs, begin[: runs[-1]].copy(), end[: runs[-1]].copy()), total


@njit(cache=True)
def _decode(
    text: np.ndarray, offsets: np.ndarray, pixels: np.ndarray, begin: np.ndarray, end: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Offsets of the runs, which are written to ``begin`` and ``end``, and the sum of all lengths of each mask."""
    runs = np.zeros(len(offsets), np.int64)
    total = np.zeros(len(offsets) - 1, np.int64)
    run = 0
    for n in range(len(total)):
        first, place, last, before = run, np.int64(0), np.int64(0), np.int64(0)
        position, k, stop = offsets[n], 0, offsets[n + 1]
        while position < stop and place >= 0:
            value, shift, more = np.int64(0), 0, True
            while more and position < stop and shift < 40:
                code = np.int64(text[position]) - 48
                position += 1
                value |= (code & 0x1F) << shift
                shift += 5
                more = (code & 0x20) != 0
                if not more and code & 0x10:
                    value -= np.int64(1) << shift
            if k > 2:
                value += before
            if more or value < 0 or place + value > pixels[n]:
                place = np.int64(-1) if more or value < 0 else place + value
                break
            if k % 2 and value:
                if run > first and end[run - 1] == place:
                    end[run - 1] = place + value
                else:
                    begin[run], end[run] = place, place + value
                    run += 1
            place += value
            before, last = last, value
            k += 1
        total[n] = place
        runs[n + 1] = run
    return runs, total


@njit(cache=True)
def _take(
    offsets: np.ndarray, begin: np.ndarray, end: np.ndarray, index: np.ndarray, taken: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    chosen_begin, chosen_end = np.empty(taken[-1], begin.dtype), np.empty(taken[-1], end.dtype)
    for n in range(len(index)):
        first, last = offsets[index[n]], offsets[index[n] + 1]
        chosen_begin[taken[n] : taken[n + 1]] = begin[first:last]
        chosen_end[taken[n] : taken[n + 1]] = end[first:last]
    return chosen_begin, chosen_end


@njit(cache=True)
def _areas(offsets: np.ndarray, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    areas = np.zeros(len(offsets) - 1, np.int64)
    for n in range(len(areas)):
        for run in range(offsets[n], offsets[n + 1]):
            areas[n] += end[run] - begin[run]
    return areas


@njit(cache=True)
def _boxes(offsets: np.ndarray, begin: np.ndarray, end: np.ndarray, heights: np.ndarray) -> np.ndarray:
    boxes = np.zeros((len(offsets) - 1, 4))
    for n in range(len(boxes)):
        if offsets[n] == offsets[n + 1]:
            continue
        height = heights[n]
        left, right = begin[offsets[n]] // height, (end[offsets[n + 1] - 1] - 1) // height
        top, bottom = height, 0
        for r in range(offsets[n], offsets[n + 1]):
            column = begin[r] // height
            if (end[r] - 1) // height > column:
                top, bottom = 0, height - 1
                break
            top = min(top, begin[r] - column * height)
            bottom = max(bottom, end[r] - 1 - column * height)
        boxes[n] = left, top, right - left + 1, bottom - top + 1
    return boxes
