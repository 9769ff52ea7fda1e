"""Names of files: their order, their numbers, and a few of them for a message."""

import re
from collections.abc import Sequence
from pathlib import Path

__all__ = ["few", "last_number", "natural_order"]


def natural_order(path: str | Path) -> list[tuple[int, int, str]]:
    """Sorting key of a path: numbers in it go by value.

    >>> sorted(["t10.tif", "t9.tif"], key=natural_order)
    ['t9.tif', 't10.tif']
    """
    parts = re.split(r"(\d+)", Path(path).as_posix())
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in parts]


def last_number(path: Path) -> int | None:
    """The last number in a file's name, or None.

    >>> last_number(Path("well3_seg021.tif"))
    21
    """
    numbers = re.findall(r"[0-9]+", path.stem)
    return int(numbers[-1]) if numbers else None


def few(names: Sequence[object], most: int = 10) -> str:
    """The first names, and how many more there are.

    >>> few("abcd", most=2)
    'a, b and 2 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(str, names[:most])) + more
