"""Where the sub-commands write: names of files are neither broken into lines nor taken for colours."""

from collections.abc import Iterable, Iterator
from typing import Any

from rich.console import Console
from rich.progress import track

__all__ = ["console", "errors", "progress"]

console = Console(highlight=False, markup=False, soft_wrap=True)
errors = Console(highlight=False, markup=False, soft_wrap=True, stderr=True)


def progress(items: Iterable[Any], title: str = "images", total: int | None = None) -> Iterator[Any]:
    """The items, with a bar on the error console; none where that is no terminal."""
    return iter(track(items, title, total, console=errors, transient=True, disable=not errors.is_terminal))
