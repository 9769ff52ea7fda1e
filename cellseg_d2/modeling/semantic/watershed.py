"""Components of pixels parted at their waists or valleys: compiled loops whose work goes with the foreground."""

from collections import Counter, defaultdict

import numpy as np
from numba import njit

__all__ = ["HIGHEST", "STEPS", "distances", "join_small", "part"]

STEPS = 32  # heights of one pixel of distance
HIGHEST = 65535


def part(labels: np.ndarray, heights: np.ndarray, depth: int) -> np.ndarray:
    """Part components into the catchments of their peaks: a watershed with h-maxima as markers.

    A peak counts where ``heights`` fall by at least ``depth`` on every way from it to a higher one; the highest of a
    component always does. Every pixel belongs to the peak that the steepest way up leads to, where a way ends at a peak
    that does not count over the pass to its neighbour; level ground is shared by distance. Ways go to 8 neighbours of
    the same component.

    Args:
        labels: (H, W) int32 components 1..N, 0 background.
        heights: (H, W) uint16.
        depth: 1 or more.

    Returns:
        (H, W) int32: one part of each component keeps its number, the others get N + 1, N + 2, ...
    """
    components = int(labels.max(initial=0))
    labels, heights = np.pad(labels, 1), np.pad(heights, 1)
    width = labels.shape[1]
    ahead = (1, width, width - 1, width + 1)
    around = (-1, -width, 1 - width, -1 - width, *ahead)  # tuples: their loops are unrolled
    labels, heights = labels.ravel(), heights.ravel()
    inside = np.flatnonzero(labels)
    peaks, basins = _basins(_ways_up(labels, heights, inside, around), inside)
    passes = _passes(labels, heights, inside, basins, ahead)
    passes = passes[np.argsort(HIGHEST - passes[:, 2].astype(np.uint16), kind="stable")]  # 16 bits: sorted by radix
    numbers = _join_peaks(passes, heights[peaks].astype(np.int32), labels[peaks], components, depth)
    labels[inside] = numbers[basins[inside]]
    return np.ascontiguousarray(labels.reshape(-1, width)[1:-1, 1:-1])


def join_small(labels: np.ndarray, min_area: int) -> np.ndarray:
    """Give each part below ``min_area`` pixels to the touching part with the longest common border, smallest first.

    Parts that touch no other stay.

    Returns:
        (H, W) int32 labels, 1..N without gaps.
    """
    areas = np.bincount(labels.ravel())
    if not (areas[1:] < min_area).any():
        return labels
    borders = _borders(labels)
    target = np.arange(len(areas))
    small = [n for n in range(1, len(areas)) if areas[n] < min_area and borders[n]]
    while small:
        least = min(small, key=areas.__getitem__)
        into = max(borders[least], key=borders[least].__getitem__)
        target[target == least] = into
        areas[into] += areas[least]
        for other, length in borders.pop(least).items():
            del borders[other][least]
            if other != into:
                borders[into][other] += length
                borders[other][into] += length
        small = [n for n in small if n != least and areas[n] < min_area and borders[n]]
    _, target[:] = np.unique(target, return_inverse=True)
    return target.astype(np.int32)[labels]


def _borders(labels: np.ndarray) -> dict[int, Counter]:
    """Number of pixel edges between each two parts."""
    borders: dict[int, Counter] = defaultdict(Counter)
    for a, b in ((labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1])):
        touching = (a != b) & (a > 0) & (b > 0)
        pairs, lengths = np.unique(np.stack([a[touching], b[touching]], axis=1), axis=0, return_counts=True)
        for (first, second), length in zip(pairs.tolist(), lengths.tolist()):
            borders[first][second] += length
            borders[second][first] += length
    return borders


@njit(cache=True)
def distances(labels: np.ndarray) -> np.ndarray:
    """Euclidean distance of each pixel's centre to that of the nearest background pixel, exact to the step.

    What lies outside the image is no background: a cell cut off by the frame is widest there.

    Args:
        labels: (H, W) int32, 0 background.

    Returns:
        (H, W) uint16 in steps of 1 / ``STEPS`` pixel, saturated at 2,048 pixels; 0 in the background.
    """
    height, width = labels.shape
    up = np.zeros((height, width), np.int32)  # distance to the background within the column
    for y in range(height):
        for x in range(width):
            if labels[y, x]:
                up[y, x] = up[y - 1, x] + 1 if y else height + width
    for y in range(height - 2, -1, -1):
        for x in range(width):
            up[y, x] = min(up[y, x], up[y + 1, x] + 1)
    heights = np.zeros((height, width), np.uint16)
    place, begin = np.empty(width, np.int64), np.empty(width + 1, np.float64)
    for y in range(height):
        x = 0
        while x < width:
            first = x
            while x < width and labels[y, x]:
                x += 1
            if x > first:
                _along_run(up[y], max(first - 1, 0), first, x, heights[y], place, begin)
            x += 1
    return heights


@njit(cache=True)
def _along_run(
    up: np.ndarray, origin: int, first: int, stop: int, heights: np.ndarray, place: np.ndarray, begin: np.ndarray
) -> None:
    """Distances of one run of foreground in a row: the lower envelope of parabolas up(q)^2 + (x - q)^2.

    Nothing beyond the background pixels at the ends of the run can be nearer than these.
    """
    count = 0
    for q in range(origin, min(stop + 1, len(up))):
        start = -np.inf
        while count:
            p = place[count - 1]
            start = (float(up[q]) ** 2 - float(up[p]) ** 2 + q * q - p * p) / (2.0 * (q - p))
            if start > begin[count - 1]:
                break
            count -= 1
            start = -np.inf
        place[count], begin[count] = q, start
        count += 1
    k = 0
    for x in range(first, stop):
        while k + 1 < count and begin[k + 1] < x:
            k += 1
        squared = float(up[place[k]]) ** 2 + (x - place[k]) ** 2
        heights[x] = min(np.rint(np.sqrt(squared) * STEPS), HIGHEST)


@njit(cache=True)
def _ways_up(labels: np.ndarray, heights: np.ndarray, inside: np.ndarray, around: tuple[int, ...]) -> np.ndarray:
    """The next pixel on the steepest way up from each one; a peak's is the peak itself, the background's 0.

    Args:
        labels, heights: flat images with a frame of background.
        inside: the foreground pixels, ascending; ``around``: steps to the neighbours.
    """
    way = np.zeros(labels.size, np.int32)
    level = np.empty(inside.size, np.int32)  # pixels that no neighbour is higher than
    count = 0
    for p in inside:
        top = heights[p]
        for step in around:
            if heights[p + step] > top and labels[p + step] == labels[p]:
                way[p], top = p + step, heights[p + step]
        if way[p] == 0:
            level[count] = p
            count += 1
    queue, above = np.empty(count, np.int32), np.empty(count, np.int32)
    filled = 0
    for p in level[:count]:
        for step in around:
            q = p + step
            if heights[q] == heights[p] and labels[q] == labels[p] and way[q]:
                queue[filled], above[filled] = p, q
                filled += 1
                break
    for n in range(filled):  # only now: the rim of level ground is what had a way before
        way[queue[n]] = above[n]
    _spread(labels, heights, around, queue, filled, way)
    for p in level[:count]:
        if way[p] == 0:
            way[p], queue[0] = p, p
            _spread(labels, heights, around, queue, 1, way)
    return way


@njit(cache=True)
def _spread(
    labels: np.ndarray, heights: np.ndarray, around: tuple[int, ...], queue: np.ndarray, filled: int, way: np.ndarray
) -> None:
    """Let level ground find its way to the queued pixels, those nearest to them first."""
    head = 0
    while head < filled:
        p = queue[head]
        head += 1
        for step in around:
            q = p + step
            if heights[q] == heights[p] and labels[q] == labels[p] and way[q] == 0:
                way[q], queue[filled] = p, q
                filled += 1


@njit(cache=True)
def _basins(way: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Peaks (pixels; the first entry is the background's, 0), and each pixel's place in that list."""
    count = 1
    for p in inside:
        count += way[p] == p
    peaks, basins = np.zeros(count, np.int32), np.zeros(way.size, np.int32)
    count = 1
    for p in inside:
        if way[p] == p:
            peaks[count], basins[p] = p, count
            count += 1
    for p in inside:
        end = p
        while basins[end] == 0:
            end = way[end]
        q = p
        while basins[q] == 0:
            basins[q] = basins[end]
            q = way[q]
    return peaks, basins


@njit(cache=True)
def _passes(
    labels: np.ndarray, heights: np.ndarray, inside: np.ndarray, basins: np.ndarray, ahead: tuple[int, ...]
) -> np.ndarray:
    """(M, 3) int32: two basins of one component that touch, and the height of the way across, for all such pixels."""
    count = 0
    for p in inside:
        for step in ahead:
            count += basins[p + step] != basins[p] and labels[p + step] == labels[p]
    found = np.empty((count, 3), np.int32)
    count = 0
    for p in inside:
        for step in ahead:
            q = p + step
            if basins[q] != basins[p] and labels[q] == labels[p]:
                found[count, 0], found[count, 1] = basins[p], basins[q]
                found[count, 2] = min(heights[p], heights[q])
                count += 1
    return found


@njit(cache=True)
def _join_peaks(passes: np.ndarray, heights: np.ndarray, labels: np.ndarray, components: int, depth: int) -> np.ndarray:
    """Number of the part that each basin belongs to.

    Args:
        passes: from high to low.
        heights, labels: of the peaks.
    """
    connected, belongs = np.arange(len(heights)), np.arange(len(heights))
    for n in range(len(passes)):
        a, b, height = passes[n]
        low, high, beyond = _top(connected, a), _top(connected, b), b
        if low == high:
            continue
        if heights[low] > heights[high]:
            low, high, beyond = high, low, a
        connected[low] = high  # the set goes by its highest peak
        if heights[low] - height < depth:
            belongs[low] = _top(belongs, beyond)
    kept, numbers = np.zeros(components + 1, np.bool_), np.zeros(len(heights), np.int32)
    for n in range(1, len(heights)):
        if belongs[n] == n:
            numbers[n] = labels[n]
            if kept[labels[n]]:
                components += 1
                numbers[n] = components
            kept[labels[n]] = True
    for n in range(1, len(heights)):
        numbers[n] = numbers[_top(belongs, n)]
    return numbers


@njit(cache=True)
def _top(parent: np.ndarray, n: int) -> int:
    """The end of the chain from n on, which is made shorter."""
    while parent[n] != n:
        parent[n] = parent[parent[n]]
        n = parent[n]
    return n
