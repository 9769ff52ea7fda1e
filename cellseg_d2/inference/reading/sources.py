"""Which image files are meant, and the names of what is written of them."""

import glob
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

from ...data.image_io import IMAGE_SUFFIXES
from ...errors import MissingDataError
from .microscope_formats import BIOIO_READERS

__all__ = ["SUFFIXES", "find_images", "natural", "output_names"]

LONGEST = 160  # bytes of a name, so that folders, places and endings fit behind it
# Of the files of a folder that are taken for images
SUFFIXES = (*IMAGE_SUFFIXES, *BIOIO_READERS, ".zarr")


def find_images(arguments: Sequence[str], written: Collection[Path] = ()) -> list[Path]:
    """The image files that are meant, in the order of the arguments, each once; those of a folder by their numbers.

    Args:
        arguments: files, whatever their ending; Zarr folders; other folders (their images, not those of folders in
            them); patterns such as ``plate/**/*.tif``.
        written: folders whose files are results of an earlier run, which patterns do not find.

    Raises:
        MissingDataError: an argument leads to no image.
    """
    found: dict[Path, Path] = {}
    results = {folder.resolve() for folder in written}
    for argument in arguments:
        path = Path(argument)
        if path.is_dir() and not _is_image_folder(path):
            files = [p for p in path.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")]
            problem = f"{path}: no file in this folder ends in {', '.join(SUFFIXES)}"
        else:
            matching = map(Path, glob.glob(argument, recursive=True))
            files = [p for p in matching if _is_image(p) and not results.intersection(p.resolve().parents)]
            files = [path] if _is_image(path) else files
            problem = f"{argument}: there is no such file or folder, and no file matches it as a pattern"
        if not files:
            raise MissingDataError(problem)
        for file in sorted(files, key=lambda p: natural(p.as_posix())):
            found.setdefault(file.resolve(), file)
    return list(found.values())


def natural(text: str) -> list[tuple[bool, int, str]]:
    """A key that sorts numbers in texts as numbers: t9 before t10.

    >>> sorted(["t10", "t9", "t1b"], key=natural)
    ['t1b', 't9', 't10']
    """
    parts, digits = [], ""
    for character in text + "\0":
        if character.isdecimal():
            digits += character
            continue
        if digits:
            parts.append((False, int(digits), digits))
            digits = ""
        parts.append((True, 0, character))
    return parts


def output_names(paths: Sequence[Path]) -> list[str]:
    """A name for the outputs of each image, all different: its own without ending where no other has it.

    Else the folder's name comes before it, and a number behind it where that is not enough. Upper and lower case count
    as equal, as not all disks tell them apart.

    >>> output_names([Path("a/t1.tif"), Path("a/t2.tif"), Path("b/T2.tif"), Path("b/t2.png")])
    ['t1', 'a_t2', 'b_T2', 'b_t2-2']
    """
    shared = Counter(path.stem.lower() for path in paths)
    taken: set[str] = set()
    names = []
    for path in paths:
        stem = path.stem.encode()[:LONGEST].decode(errors="ignore")
        base = stem if shared[path.stem.lower()] == 1 else f"{path.resolve().parent.name}_{stem}"
        name, number = base, 1
        while name.lower() in taken:
            number += 1
            name = f"{base}-{number}"
        taken.add(name.lower())
        names.append(name)
    return names


def _is_image_folder(path: Path) -> bool:
    """A Zarr."""
    return path.is_dir() and any((path / name).is_file() for name in ("zarr.json", ".zgroup", ".zarray"))


def _is_image(path: Path) -> bool:
    return path.is_file() or _is_image_folder(path)
