"""Files: read with errors that say what is wrong, written so that a crash leaves the old file or the new one."""

import fcntl
import gzip
import hashlib
import json
import math
import os
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from .errors import DatasetError, MissingDataError

__all__ = ["atomic_write", "finite_or_none", "locked", "parse_json", "read_bytes", "read_json", "sha256", "write_json"]


def atomic_write(path: str | Path, write: Callable[[IO[bytes]], None]) -> Path:
    """Let ``write`` fill a temporary file beside ``path``, flush it to disk, then move it into place.

    Folders above ``path`` are made. Where ``write`` fails, the old file stays and the temporary one is removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.")
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


@contextmanager
def locked(path: Path, taken: Exception) -> Iterator[None]:
    """Context in which no other process of this machine is, for the same file ``path``; it is removed afterwards.

    Raises:
        taken: another process is.
    """
    while True:
        with path.open("w") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise taken from None
            try:
                is_there = os.path.samestat(os.fstat(stream.fileno()), path.stat())
            except FileNotFoundError:
                is_there = False
            if not is_there:  # removed by who had it, between opening and locking
                continue
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


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


def read_bytes(path: str | Path) -> bytes:
    """The content of a file of annotations or results; one that is gzipped (whatever its name) is unpacked.

    Raises:
        MissingDataError: there is no such file.
        DatasetError: a gzipped file breaks off or is damaged.
    """
    path = Path(path)
    if path.is_dir():
        raise MissingDataError(f"{path}: this is a folder; give a file of annotations or results")
    if not path.is_file():
        raise MissingDataError(f"{path}: there is no such annotation file or result file")
    raw = path.read_bytes()
    if not raw.startswith(b"\x1f\x8b"):
        return raw
    try:
        return gzip.decompress(raw)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DatasetError(f"{path}: this gzip file breaks off or is damaged ({error}); copy it again") from None


def sha256(path: str | Path) -> str:
    """The SHA-256 of a file in hexadecimal, as ``sha256sum`` prints it; empty where there is no such file."""
    if not Path(path).is_file():
        return ""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_json(path: str | Path) -> Any:
    """The content of a JSON file, gzipped or not; errors as in :func:`read_bytes` and :func:`parse_json`."""
    return parse_json(path, read_bytes(path))


def parse_json(path: str | Path, raw: bytes) -> Any:
    """The value of JSON text.

    Raises:
        DatasetError: not JSON, or cut off; says at which byte.
    """
    try:
        text = raw.decode("utf-8-sig")
        return json.loads(text)
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: not a JSON file, byte {error.start} of {len(raw)} is not text") from None
    except json.JSONDecodeError as error:
        offset = len(text[: error.pos].encode())
        raise DatasetError(
            f"{path}: not a valid JSON file, it breaks off or is damaged at byte {offset} of {len(raw)} "
            f"({error.msg}); copy or export it again"
        ) from None


def _umask() -> int:
    """The permissions that new files of this process lack (mkstemp makes files that only their owner can read)."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
