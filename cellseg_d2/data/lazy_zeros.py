"""Large arrays of zeros that cost memory and time only where something is written."""

import math
import mmap

import numpy as np

__all__ = ["lazy_zeros"]


def lazy_zeros(shape: tuple[int, ...]) -> np.ndarray:
    """A bool array of False, writable.

    Memory comes page by page with the first write. ``np.zeros`` asks Linux for pages of 2 MB, all of which is cleared
    for a mask's few pixels: ten times slower for a stack of a thousand masks, and hundreds of megabytes more.
    """
    size = math.prod(shape)
    if not size:
        return np.zeros(shape, dtype=bool)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):  # Linux; elsewhere pages are small
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(memory, dtype=bool).reshape(shape)
