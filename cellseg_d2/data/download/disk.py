"""A full disk: said with the place that is full and with what is kept."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...errors import DatasetError

__all__ = ["disk_full"]


@contextmanager
def disk_full(place: Path, kept: str) -> Iterator[None]:
    """Turn "no space left" into a DatasetError that names ``place`` and says what is ``kept``."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        free = shutil.disk_usage(place.parent).free
        raise DatasetError(
            f"{place}: the disk is full, or your quota is used up ({free / 1e9:.2f} GB are free); {kept}. Make space "
            f"and call again"
        ) from error
