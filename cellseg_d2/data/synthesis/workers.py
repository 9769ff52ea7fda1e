"""Work shared among processes, its results in the order of the items."""

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from typing import Any

import cv2

__all__ = ["in_order"]

_AHEAD = 4  # items a process; few, so that neither they nor their results fill the memory


def in_order(work: Callable[[Any], Any], items: Iterable[Any], workers: int) -> Iterator[Any]:
    """``work(item)`` of each item, computed by this many processes, a few items ahead of where they are used.

    Processes are spawned: scripts need the usual ``if __name__ == "__main__":``.
    """
    if workers == 1:
        yield from map(work, items)
        return
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=spawn, initializer=cv2.setNumThreads, initargs=(1,))
    try:
        rest = iter(items)
        ahead = deque(pool.submit(work, item) for item in islice(rest, _AHEAD * workers))
        while ahead:
            result = ahead.popleft().result()
            ahead.extend(pool.submit(work, item) for item in islice(rest, 1))
            yield result
    finally:
        pool.shutdown(cancel_futures=True)
