"""Where the sub-commands write: names of files are neither broken into lines nor taken for colours."""

from rich.console import Console

__all__ = ["console"]

console = Console(highlight=False, markup=False, soft_wrap=True)
