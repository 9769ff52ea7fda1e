"""Which annotation file belongs to which image."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from ...errors import DatasetError, MissingDataError
from ..datasets.mes import match_names
from ..image_io import IMAGE_SUFFIXES
from ..names import few, last_number, natural_order
from .records import Notes, Request

__all__ = ["MARKS", "list_files", "list_images", "named", "pair_files", "stem_without_mark"]

# What programs add to the image's name: Cellpose, StarDist, QuPath, ilastik, ImageJ and habit
MARKS = (
    "_cp_masks", "_masks", "_mask", "_seg", "_segmentation", "_labels", "_label", "-labels", ".labels", "_instances",
    "_rois", "_roi", "_gt",
)  # fmt: skip


def list_files(folder: Path, suffixes: Sequence[str], beside: Path | None = None) -> list[Path]:
    """Files below a folder with one of the endings, numbers in their names by value.

    Hidden files are left out, and so is the folder ``beside``, where it lies below.

    Raises:
        MissingDataError: no such folder, or no such file in it.
    """
    if not folder.is_dir():
        raise MissingDataError(f"{folder}: there is no such folder")
    found = [
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in suffixes
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and not (beside and beside != folder and path.is_relative_to(beside))
    ]
    if not found:
        raise MissingDataError(f"{folder} has no file that ends in {', '.join(suffixes)}")
    return sorted(found, key=natural_order)


def list_images(request: Request) -> list[Path]:
    """The images of a request; in a folder that also holds label images, those without a mark such as ``_masks``."""
    if request.images.is_file():
        return [request.images]
    images = list_files(request.images, IMAGE_SUFFIXES, request.input if request.input.is_dir() else None)
    if request.input != request.images:
        return [path for path in images if path != request.input]
    plain = [path for path in images if stem_without_mark(path) == path.stem]
    if not plain:
        raise MissingDataError(f"{request.images}: all {len(images)} images have names of masks; where are the images?")
    return plain


def stem_without_mark(path: Path) -> str:
    """The name without ending and mark: ``a_cp_masks.png`` -> ``a``."""
    for mark in MARKS:
        if path.stem.lower().endswith(mark) and len(path.stem) > len(mark):
            return path.stem[: -len(mark)]
    return path.stem


def pair_files(
    request: Request, files: Sequence[Path], notes: Notes, stem_of: Callable[[Path], str] = stem_without_mark
) -> list[tuple[Path, Path]]:
    """Each image with its annotation file.

    They have the same name but for the ending, or but for a mark (:data:`MARKS`), or share the last number in their
    names as in :func:`~cellseg_d2.data.datasets.mes.match_names`. Sub-folders of both folders correspond, where
    any do.

    Args:
        request: the folders.
        files: the annotation files.
        notes: counts images that are left out.
        stem_of: annotation file -> name of its image without ending, where no image has the file's own.

    Raises:
        DatasetError: images without annotations or annotations without an image, which are listed.
    """
    images = list_images(request)
    if request.images.is_file() and len(files) == 1:
        return [(images[0], files[0])]
    if request.input.is_file():
        return [(_image_of(files[0], images, stem_of), files[0])]
    by_folder: dict[Path, tuple[list[Path], list[Path]]] = defaultdict(lambda: ([], []))
    for root, paths, side in ((request.image_folder, images, 0), (request.input, files, 1)):
        for path in paths:
            by_folder[path.parent.relative_to(root)][side].append(path)
    if not any(own_images and own_files for own_images, own_files in by_folder.values()):
        by_folder = {Path(): (images, list(files))}  # such as annotations in one folder, images in several
    pairs = [
        pair
        for own_images, own_files in by_folder.values()
        for pair in _pair_folder(own_images, own_files, request, notes, stem_of)
    ]
    if not pairs:
        raise DatasetError(f"{request.input}: no file has the name of an image in {request.images}")
    return pairs


def _pair_folder(
    images: list[Path], files: list[Path], request: Request, notes: Notes, stem_of: Callable[[Path], str]
) -> list[tuple[Path, Path]]:
    """The pairs of one folder."""
    stems = {image.stem for image in images}
    aliases = {
        file: file.with_name((file.stem if file.stem in stems else stem_of(file)) + file.suffix) for file in files
    }
    taken = Counter(alias.stem for alias in aliases.values())
    twice = [file for file, alias in aliases.items() if taken[alias.stem] > 1]
    if twice:
        raise DatasetError(f"{twice[0].parent}: several files belong to one image: {named(twice)}; keep one of them")
    lonely = [file for file, alias in aliases.items() if alias.stem not in stems]
    if request.skip_unannotated:
        numbers = {last_number(file) for file in lonely} - {None}
        kept = [image for image in images if image.stem in taken or last_number(image) in numbers]
        notes.remarks["images without annotations, left out"] += len(images) - len(kept)
        images, found = kept, {last_number(image) for image in kept if image.stem not in taken}
        lonely = [file for file in lonely if last_number(file) not in found]
    if lonely and (stems <= set(taken) or request.skip_unannotated):
        told = f"no image in {request.images} for {len(lonely)} files: {named(lonely)}"
        raise DatasetError(f"{lonely[0].parent}: {told}")
    if images and not files:
        raise DatasetError(_without(images, request))
    back = {alias: file for file, alias in aliases.items()}
    partners = [back[alias] for alias in match_names(images, list(back))] if images else []
    over = [file for file in files if file not in set(partners)]
    if over:
        raise DatasetError(f"{over[0].parent}: no image in {request.images} for {len(over)} files: {named(over)}")
    return list(zip(images, partners))


def _without(images: Sequence[Path], request: Request) -> str:
    """The message about images that have no annotations."""
    return (
        f"{request.input}: nothing belongs to {len(images)} images of {images[0].parent}: {named(images)}. "
        "Leave them out with --skip-unannotated"
    )


def _image_of(file: Path, images: Sequence[Path], stem_of: Callable[[Path], str]) -> Path:
    """The image that a single annotation file belongs to."""
    for stem in (file.stem, stem_of(file)):
        found = [image for image in images if image.stem == stem]
        if len(found) == 1:
            return found[0]
    if len(images) == 1:
        return images[0]
    raise DatasetError(f"{file}: no image of {images[0].parent} has its name; give the image itself as --images")


def named(paths: Sequence[Path]) -> str:
    """The names of the first ones."""
    return few([path.name for path in paths])
