"""A file from a server: a break leaves ``NAME.part``, and the next try or the next call goes on from there."""

import fcntl
import hashlib
import http.client
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import IO, TypeVar
from urllib.request import Request

from ...errors import DatasetError
from ...files import read_json, sha256, write_json
from .disk import disk_full
from .remote import Broken, RangeRefused, Remote, describe, open_url, range_start

__all__ = ["Transfer", "check_hashes", "fetch", "head"]

_BLOCK = 1 << 16
# identity: a compressed answer would have another length. The name lets the data's owners see what asks
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "cellseg_d2"}
T = TypeVar("T")


@dataclass(frozen=True)
class Transfer:
    """How files are got.

    Attributes:
        say: takes a line for the user.
        advance: takes a name, and how much of how much is there (bytes, or files of an archive).
        tries: so many without a further byte, then it is an error.
        pause: seconds after the first failure, doubled after each further one.
        timeout: seconds without an answer after which a connection counts as broken.
    """

    say: Callable[[str], None] = lambda line: None
    advance: Callable[[str, int, int], None] = lambda name, done, total: None
    tries: int = 5
    pause: float = 1.0
    timeout: float = 60.0


def head(url: str, transfer: Transfer) -> Remote:
    """What the server says of a file, without its content; errors as in :func:`fetch`."""

    def ask() -> Remote:
        with open_url(Request(url, headers=_HEADERS, method="HEAD"), transfer.timeout) as response:
            return describe(response)

    return _retried(ask, url, lambda: 0, transfer)


def fetch(url: str, target: Path, transfer: Transfer, known_sha256: str = "") -> Remote:
    """Get a file; it has its name only when it is whole and has its size and hashes.

    ``target.part`` holds what is there so far, ``target.part.json`` what the server said of it: after a break only the
    rest is asked for, unless the file has changed or the server sends no ranges.

    Raises:
        DatasetError: no network or a server in trouble (after all tries), the server says no, a full disk, a wrong
            hash, or another process is getting the same file.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    with _locked(part) as stream:
        action = partial(_continue, url, part, stream, transfer)
        remote = _retried(action, url, lambda: os.fstat(stream.fileno()).st_size, transfer)
        os.fsync(stream.fileno())
        try:
            check_hashes(part, remote, known_sha256)
        except DatasetError as error:
            stream.truncate(0)
            raise DatasetError(f"{error}. It is deleted; call again to get it anew") from None
        os.replace(part, target)
        _notes(part).unlink()
    return remote


def check_hashes(path: Path, remote: Remote, known_sha256: str) -> None:
    """Raise DatasetError where a file has another MD5 than the server, or another SHA-256 than is known."""
    if known_sha256 and (found := sha256(path)) != known_sha256:
        raise DatasetError(f"{path}: its SHA-256 is {found} instead of {known_sha256}")
    if remote.md5:
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, "md5").hexdigest()
        if found != remote.md5:
            raise DatasetError(f"{path}: its MD5 is {found}, but the server's ETag says {remote.md5}")


def _retried(action: Callable[[], T], url: str, size: Callable[[], int], transfer: Transfer) -> T:
    """Repeat what breaks; tries count from anew whenever more is there than ever before."""
    most, failures = size(), 0
    while True:
        try:
            return action()
        except Broken as error:
            failures = 1 if size() > most else failures + 1
            most = max(most, size())
            if failures >= transfer.tries:
                kept = f"; {size()} bytes are kept, call again to go on" if size() else ""
                raise DatasetError(f"{url}: {error}, {failures} times; check the network or try later{kept}") from error
            pause = transfer.pause * 2 ** (failures - 1)
            transfer.say(f"{url}: {error} at byte {size()}; again in {pause:g} s")
            time.sleep(pause)


def _continue(url: str, part: Path, stream: IO[bytes], transfer: Transfer) -> Remote:
    """One try: ask for what is missing and append it; return when all is there."""
    before, start = _read_notes(part, url), os.fstat(stream.fileno()).st_size
    if before and start == before.size:
        return before
    headers = dict(_HEADERS)
    if before and before.validator and 0 < start < before.size:
        headers |= {"Range": f"bytes={start}-", "If-Range": before.validator}
    try:
        response = open_url(Request(url, headers=headers), transfer.timeout)
    except RangeRefused:
        stream.truncate(0)
        raise
    with response:
        remote, offset = describe(response), range_start(response)
        # A partial answer need not repeat the date; servers that do not know If-Range send the rest of a changed file
        same = before is not None and (
            remote.size == before.size
            and remote.etag in ("", before.etag)
            and remote.last_modified in ("", before.last_modified)
        )
        if offset is not None and offset == start and same:
            remote = before
        elif start:
            reason = "the server does not send the rest alone" if same else "the file is not the one it was"
            transfer.say(f"{url}: {reason}, so it is got from its beginning")
            stream.truncate(0)
            start = 0
        if offset not in (None, start):
            raise Broken("the server sent another part than was asked for")
        with disk_full(part, "nothing is lost"):
            write_json(_notes(part), {"url": url, **asdict(remote)})
        _append(response, stream, part, remote.size, start, transfer)
    return remote


def _append(response: http.client.HTTPResponse, stream: IO[bytes], part: Path, size: int, start: int,
            transfer: Transfer) -> None:  # fmt: skip
    """Copy an answer to the end of the part file."""
    name = part.name.removesuffix(".part")
    while True:
        transfer.advance(name, start, size)
        try:
            block = response.read(_BLOCK)
        except (OSError, http.client.HTTPException) as error:
            raise Broken(f"the connection broke ({error or type(error).__name__})") from error
        if not block:
            break
        left = memoryview(block)
        while left:  # a file without a buffer may take less than it is given
            with disk_full(part, f"{start} bytes are kept in it"):
                written = stream.write(left)
            left = left[written:]
            start += written
    if start != size:
        raise Broken(f"the connection ended after {start} of {size} bytes")


@contextmanager
def _locked(part: Path) -> Iterator[IO[bytes]]:
    """The part file, open for appending without a buffer, so that its size is what is there; for one process."""
    with part.open("ab", buffering=0) as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DatasetError(f"{part}: another process is getting this file; wait for it") from error
        try:
            yield stream
        finally:
            if part.exists() and not part.stat().st_size:
                part.unlink()
                _notes(part).unlink(missing_ok=True)


def _notes(part: Path) -> Path:
    """Where it says what the server said of a part file."""
    return part.with_name(f"{part.name}.json")


def _read_notes(part: Path, url: str) -> Remote | None:
    """What the server said of a part file; None where that is not known, or for another address."""
    notes = read_json(_notes(part)) if _notes(part).is_file() else {}
    return Remote(**notes) if notes.pop("url", None) == url else None
