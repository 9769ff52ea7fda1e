"""Writing results so that a crash leaves the old file or the new one, never half of one."""

import json
import math
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

__all__ = ["atomic_write", "finite_or_none", "write_json"]


def atomic_write(path: str | Path, write: Callable[[IO[bytes]], None]) -> Path:
    """Let ``write`` fill a temporary file beside ``path``, flush it to disk, then move it into place.

    Folders above ``path`` are made. Where ``write`` fails, the old file stays and the temporary one is removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    return path


def write_json(path: str | Path, value: Any, indent: int | None = None) -> Path:
    """Write ``value`` as strict JSON (NaN is an error: see :func:`finite_or_none`), atomically."""
    text = json.dumps(value, indent=indent, allow_nan=False)
    return atomic_write(path, lambda stream: stream.write(text.encode("utf-8")))


def finite_or_none(value: Any) -> Any:
    """A copy of nested dicts and lists in which NaN and infinity are None (JSON knows neither)."""
    if isinstance(value, dict):
        return {key: finite_or_none(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite_or_none(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _umask() -> int:
    """The permissions that new files of this process lack (mkstemp makes files that only their owner can read)."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
