"""Get files of a published data set into its folder, and note in ``download.json`` what came."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from ...errors import DatasetError
from ...files import read_json, sha256, write_json
from ..names import few
from .disk import disk_full
from .remote import Remote
from .transfer import Transfer, check_hashes, fetch, head
from .unpack import missing_members, unpack

__all__ = ["MANIFEST", "Entry", "collect", "read_hashes", "read_manifest"]

MANIFEST = "download.json"


@dataclass(frozen=True)
class Entry:
    """A file as it came.

    Attributes:
        url: where from.
        size: bytes.
        sha256: of the file as it came, in hexadecimal.
        etag: the server's, or "".
        checked: what it was compared with: "size", "MD5 of the server", "known SHA-256".
        fetched: False for a file that was there before.
        unpacked: of an archive, path and size in bytes of its files.
    """

    url: str
    size: int
    sha256: str
    etag: str
    checked: list[str]
    fetched: bool
    unpacked: dict[str, int] = field(default_factory=dict)


def collect(
    base_url: str, folder: Path, files: Sequence[str], transfer: Transfer, *,
    hashes: Mapping[str, str] | None = None, keep_zip: bool = False,
) -> dict[str, Entry]:  # fmt: skip
    """Get files and unpack the zip archives among them; what is there already is checked and left.

    Args:
        base_url: http or https; ``base_url/FILE`` becomes ``folder/FILE``.
        files: relative paths.
        hashes: known SHA-256 of files.
        keep_zip: archives stay after they are unpacked.

    Returns:
        What ``download.json`` says of ``files``.

    Raises:
        DatasetError: as :func:`.fetch` and :func:`.unpack`; or a file is there that is not the published one.
    """
    if urlsplit(base_url).scheme not in ("http", "https") or not urlsplit(base_url).hostname:
        raise DatasetError(f"{base_url}: not an address; it begins with http:// or https:// and a server's name")
    manifest = read_manifest(folder)
    for name in files:
        url, known = f"{base_url.rstrip('/')}/{name}", (hashes or {}).get(name, "")
        before, target = manifest.get(name), folder / name
        if (
            before
            and before.unpacked
            and not target.exists()
            and not keep_zip
            and _all_there(folder, name, before, transfer)
        ):
            continue
        if target.exists():
            entry = _check(url, target, before, known, transfer)
        else:
            entry = _get(url, target, known, transfer)
        _note(folder, manifest, name, entry)
        if name.endswith(".zip"):
            advance = partial(transfer.advance, f"unpacking {name}")
            unpacked = unpack(target, folder, advance)
            _note(folder, manifest, name, replace(entry, unpacked=unpacked))
            transfer.say(f"{target}: {len(unpacked)} files unpacked, {sum(unpacked.values()) / 1e6:.1f} MB")
            # One that was there before, or was kept by an earlier call, is the user's
            if entry.fetched and not entry.unpacked and not keep_zip:
                target.unlink()
    return {name: manifest[name] for name in files}


def read_manifest(folder: Path) -> dict[str, Entry]:
    """What ``download.json`` says of each file; empty where there is none.

    Raises:
        DatasetError: the file is damaged or another program's.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return {}
    try:
        return {name: Entry(**entry) for name, entry in read_json(path)["files"].items()}
    except (AttributeError, KeyError, TypeError):
        raise DatasetError(f"{path}: not a list of downloaded files; move it away, and call again") from None


def read_hashes(path: Path) -> dict[str, str]:
    """Path and hash of each line that ``sha256sum`` wrote.

    Raises:
        DatasetError: a line of another form.
    """
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    matches = [re.fullmatch(r"([0-9a-fA-F]{64}) [ *](?:\./)?(.+)", line) for line in lines]
    if not lines or not all(matches):
        number = 1 + next((k for k, match in enumerate(matches) if not match), 0)
        raise DatasetError(f"{path}: line {number} is not as sha256sum writes it: 64 digits, two spaces, path")
    return {match[2]: match[1].lower() for match in matches if match}


def _note(folder: Path, manifest: dict[str, Entry], name: str, entry: Entry) -> None:
    """Put a file into the list and, where that changes it, into ``download.json``."""
    if manifest.get(name) == entry:
        return
    manifest[name] = entry
    content = {"files": {name: asdict(entry) for name, entry in manifest.items()}}
    with disk_full(folder / MANIFEST, "the files that were got stay"):
        write_json(folder / MANIFEST, content, indent=1)


def _all_there(folder: Path, name: str, entry: Entry, transfer: Transfer) -> bool:
    """The files of an archive that was unpacked and deleted."""
    missing = missing_members(folder, entry.unpacked)
    if missing:
        transfer.say(
            f"{name}: {len(missing)} of its {len(entry.unpacked)} files are gone or changed: {few(missing, 3)}"
        )
    else:
        transfer.say(f"{name}: its {len(entry.unpacked)} files are there, with their sizes")
    return not missing


def _check(url: str, target: Path, before: Entry | None, known: str, transfer: Transfer) -> Entry:
    """A file that is there already; nothing is asked of the server where ``download.json`` knows it.

    Raises:
        DatasetError: it is not the published file, or not as it came.
    """
    advice = "move it away, and call again"
    found = sha256(target)
    for wanted in filter(None, (before.sha256 if before else "", known)):
        if found != wanted:
            raise DatasetError(f"{target}: is there, but its SHA-256 is {found} instead of {wanted}; {advice}")
    if before:
        transfer.say(f"{target}: is there, with the SHA-256 of {MANIFEST}")
        return before
    remote = head(url, transfer)
    if target.stat().st_size != remote.size:
        size = target.stat().st_size
        raise DatasetError(f"{target}: is there, but has {size} bytes, and {url} has {remote.size}; {advice}")
    try:
        check_hashes(target, remote, known)
    except DatasetError as error:
        raise DatasetError(f"{error}; {advice}") from None
    return _entry(url, target, remote, known, False, transfer)


def _get(url: str, target: Path, known: str, transfer: Transfer) -> Entry:
    """A file that is not there yet."""
    return _entry(url, target, fetch(url, target, transfer, known), known, True, transfer)


def _entry(url: str, target: Path, remote: Remote, known: str, fetched: bool, transfer: Transfer) -> Entry:
    """What there is to note of a file; says what it was compared with."""
    checks = {"size": True, "MD5 of the server": remote.md5, "known SHA-256": known}
    checked = [name for name, done in checks.items() if done]
    entry = Entry(url, remote.size, sha256(target), remote.etag, checked, fetched)
    unsure = "" if len(checked) > 1 else f" (no hash of it is known; the one it came with is now in {MANIFEST})"
    came = "got" if fetched else "was there"
    transfer.say(f"{target}: {came}, {entry.size / 1e6:.1f} MB, checked: {', '.join(checked)}{unsure}")
    return entry
