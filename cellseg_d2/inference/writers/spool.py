"""Files that grow while images are worked on, and come into place in one step."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ...files import atomic_write

__all__ = ["spooled"]


@contextmanager
def spooled(path: str | Path) -> Iterator[IO[bytes]]:
    """A stream whose content becomes the file ``path`` when the block ends.

    It goes to a file without a name in the same folder, of which not even a killed process leaves anything. Where the
    block is left by an exception, nothing is written, and an older file stays.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path.parent) as stream:
        yield stream
        stream.seek(0)
        atomic_write(path, lambda target: shutil.copyfileobj(stream, target))
