"""Unpack a zip archive from outside: every name is judged before the first file is written."""

import lzma
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath

from ...errors import DatasetError
from ...files import atomic_write
from ..names import few
from .disk import disk_full

__all__ = ["MOST_BYTES", "missing_members", "unpack"]

# What zipfile and its decompressors raise on damaged content, and on a method that Python does not know
DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError)
MOST_BYTES = 20 * 10**9  # 5,239 images of 704 x 520 bytes are 1.9 GB


def unpack(
    archive: Path, folder: Path, advance: Callable[[int, int], None] = lambda done, total: None, most: int = MOST_BYTES
) -> dict[str, int]:
    """Write the files of a zip archive below ``folder``, each atomically; those with the right size are left alone.

    Args:
        advance: takes how many bytes of how many are there.
        most: bytes that all files may take in all.

    Returns:
        Path below ``folder`` and size in bytes of every file.

    Raises:
        DatasetError: not a whole zip archive; a name that leads out of ``folder``, a link, a password, too many bytes
            (nothing is written then); a damaged file in it, or a full disk (files before it are there).
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            members = _members(archive, opened, most)
            done, total = 0, sum(info.file_size for info in members.values())
            for name, info in members.items():
                advance(done, total)
                if missing_members(folder, {name: info.file_size}):
                    _write(opened, info, folder / name)
                done += info.file_size
            advance(total, total)
    except DAMAGE as error:
        raise DatasetError(
            f"{archive}: not a zip archive, cut off or damaged ({error}); delete it and call again"
        ) from error
    return {name: info.file_size for name, info in members.items()}


def missing_members(folder: Path, members: Mapping[str, int]) -> list[str]:
    """Those of :func:`unpack`'s files that are not below ``folder`` with their size."""
    return [name for name, size in members.items() if not _has_size(folder / name, size)]


def _has_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _members(archive: Path, opened: zipfile.ZipFile, most: int) -> dict[str, zipfile.ZipInfo]:
    """The files of an archive by their safe names; macOS's own notes are left out."""
    infos = [info for info in opened.infolist() if not info.is_dir()]
    wrong = [info.filename for info in infos if not _is_safe(info)]
    if wrong:
        raise DatasetError(
            f"{archive}: nothing is unpacked, as names in it lead elsewhere, are links or have a password: {few(wrong)}"
        )
    total = sum(info.file_size for info in infos)
    if total > most:
        raise DatasetError(
            f"{archive}: nothing is unpacked, as it would take {total / 1e9:.1f} GB, over {most / 1e9:g}"
        )
    return {info.filename: info for info in infos if not info.filename.startswith("__MACOSX/")}


def _is_safe(info: zipfile.ZipInfo) -> bool:
    """A plain file whose name stays below the folder, on any system."""
    posix, windows = PurePosixPath(info.filename), PureWindowsPath(info.filename)
    kind = stat.S_IFMT(info.external_attr >> 16)
    return (
        not posix.is_absolute() and not windows.drive and not windows.root
        and ".." not in windows.parts and "\\" not in info.filename
        and kind in (0, stat.S_IFREG) and not info.flag_bits & 1
    )  # fmt: skip


def _write(opened: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path) -> None:
    """One file; zipfile reads no more than the size that was summed up, and compares the CRC at the end."""
    with disk_full(target, "what is unpacked so far stays"), opened.open(info) as source:
        atomic_write(target, lambda stream: shutil.copyfileobj(source, stream))
