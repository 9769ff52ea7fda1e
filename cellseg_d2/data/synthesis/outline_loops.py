"""A compiled loop that draws the outlines of all labels of an image along their pixel edges."""

import numpy as np
from numba import njit

__all__ = ["trace_outlines"]


@njit(cache=True)
def trace_outlines(labels):
    """Outer outlines of all pieces of all labels; pixels that touch at a corner are one piece, holes are filled.

    Args:
        labels: (H, W) int32, 0 is background.

    Returns:
        corners: (P, 2) int32, x and y of corners, outline after outline, clockwise on the screen.
        starts: (K,) where each outline begins in ``corners``; owners: (K,) its label; areas: (K,) pixels inside.
    """
    height, width = labels.shape
    done = np.zeros((height, width), np.uint8)  # pixels whose upper edge belongs to an outline that was drawn
    corners = np.empty((4096, 2), np.int32)
    starts, owners, areas = [0], [0], [0]
    count = 0
    for row, column in _upper_edges(labels):
        if done[row, column]:
            continue
        label = labels[row, column]
        first, doubled = count, 0
        y, x, down, right = row, column, 0, 1  # along the upper edge, the label to the right hand
        while True:
            if right == 1:
                done[y, x] = 1
            y, x = y + down, x + right
            doubled += x * down - y * right
            # The two pixels ahead: to the left and to the right of the way
            left_y, left_x = y + (down - right - 1) // 2, x + (right + down - 1) // 2
            right_y, right_x = y + (down + right - 1) // 2, x + (right - down - 1) // 2
            if _is(labels, left_y, left_x, label):
                turned_down, turned_right = -right, down
            elif _is(labels, right_y, right_x, label):
                turned_down, turned_right = down, right
            else:
                turned_down, turned_right = right, -down
            if turned_down != down:
                if count == len(corners):
                    corners = np.concatenate((corners, np.empty_like(corners)))
                corners[count, 0], corners[count, 1] = x, y
                count += 1
            down, right = turned_down, turned_right
            if y == row and x == column and right == 1:
                break
        if doubled > 0:
            starts.append(first)
            owners.append(label)
            areas.append(doubled // 2)
        else:
            count = first  # a hole
    return corners[:count], np.array(starts[1:]), np.array(owners[1:]), np.array(areas[1:])


@njit(cache=True)
def _upper_edges(labels):
    """(E, 2) rows and columns of the pixels above which there is none of the same label."""
    found = np.empty((4096, 2), np.int32)
    count = 0
    for row in range(labels.shape[0]):
        line, above = labels[row], labels[row - 1] if row else np.zeros_like(labels[row])
        if count + len(line) > len(found):
            found = np.concatenate((found, np.empty((len(found) + len(line), 2), np.int32)))
        count = _edges_of_row(line, above, row, found, count)
    return found[:count]


@njit(cache=True)
def _edges_of_row(line, above, row, found, count):
    """Append those of a row; the new count. On its own, as a loop that may replace its array is ten times as slow."""
    for column in range(len(line)):
        if line[column] and above[column] != line[column]:
            found[count, 0], found[count, 1] = row, column
            count += 1
    return count


@njit(cache=True)
def _is(labels, row, column, label):
    """The pixel is in the image and of this label."""
    return 0 <= row < labels.shape[0] and 0 <= column < labels.shape[1] and labels[row, column] == label
