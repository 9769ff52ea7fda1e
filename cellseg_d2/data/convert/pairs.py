"""Which annotation file belongs to which image."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from ...errors import DatasetError, MissingDataError
from ..image_io import IMAGE_SUFFIXES
from ..names import few, last_number, natural_order
from .predicted import image_names, known_images, run_folder
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
    inside = beside if beside and beside != folder and beside.is_relative_to(folder) else None
    found = [
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in suffixes
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and not (inside and path.is_relative_to(inside))
    ]
    if not found:
        raise MissingDataError(f"{folder} has no file that ends in {', '.join(suffixes)}")
    return sorted(found, key=natural_order)


def list_images(request: Request) -> list[Path]:
    """The images of a request; in a folder that also holds label images, those without a mark such as ``_masks``.

    What a run of prediction wrote beside the annotations is no image.
    """
    if request.images.is_file():
        return [request.images]
    images = list_files(request.images, IMAGE_SUFFIXES, request.input if request.input.is_dir() else None)
    written = run_folder(request)
    if written:
        known = known_images(request)
        images = [path for path in images if path.resolve() in known or not path.is_relative_to(written)]
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
    request: Request, files: Sequence[Path], notes: Notes, stem_of: Callable[[Path], str] = stem_without_mark,
    by_number: bool = True,
) -> list[tuple[Path, Path]]:
    """Each image with its annotation file.

    They have the same name but for the ending, or but for a mark (:data:`MARKS`). In a folder without a single such
    pair they may share the last number in their names instead (``t21.tif`` and ``man_seg021.tif``), which a note tells.
    Sub-folders of both folders correspond, where any do. Files of prediction belong to the images they were made of;
    see :func:`.predicted.image_names`.

    Args:
        request: the folders.
        files: the annotation files.
        notes: counts images that are left out.
        stem_of: annotation file -> name of its image without ending, where no image has the file's own.
        by_number: False where names alone count.

    Raises:
        DatasetError: images without annotations or annotations without an image, which are listed; several of either
            for one of the other.
    """
    images, known = list_images(request), known_images(request)
    if request.images.is_file() and len(files) == 1:
        return [(images[0], files[0])]
    if request.input.is_file():
        return [(_image_of(files[0], images, stem_of, known), files[0])]
    by_folder: dict[Path, tuple[list[Path], list[Path]]] = defaultdict(lambda: ([], []))
    for root, paths, side in ((request.image_folder, images, 0), (request.input, files, 1)):
        for path in paths:
            by_folder[path.parent.relative_to(root)][side].append(path)
    if known or not any(own_images and own_files for own_images, own_files in by_folder.values()):
        by_folder = {Path(): (images, list(files))}  # such as annotations in one folder, images in several
    pairs = [
        pair
        for own_images, own_files in by_folder.values()
        for pair in _pair_folder(own_images, own_files, request, notes, stem_of, by_number, known)
    ]
    if not pairs:
        raise DatasetError(f"{request.input}: no file has the name of an image in {request.images}")
    return pairs


def _pair_folder(
    images: list[Path], files: list[Path], request: Request, notes: Notes, stem_of: Callable[[Path], str],
    by_number: bool, known: dict[Path, str],
) -> list[tuple[Path, Path]]:  # fmt: skip
    """The pairs of one folder."""
    plain = {file: stem_of(file) for file in files}
    name_of = image_names(images, {*plain.values(), *(file.stem for file in files)}, known)
    wanted = set(name_of.values())
    names = [file.stem if file.stem in wanted else plain[file] for file in files]
    twice = [file for file, name in zip(files, names) if names.count(name) > 1]
    if twice:
        raise DatasetError(f"{twice[0].parent}: several files belong to one image: {named(twice)}; keep one of them")
    file_of = dict(zip(names, files))
    if by_number and not wanted & file_of.keys():
        file_of = _by_number(name_of, files, notes)
    _require_one_image(name_of, file_of)
    lonely = [file for file in files if file not in {file_of[name] for name in wanted & file_of.keys()}]
    if lonely:
        told = f"no image in {request.images} for {len(lonely)} files: {named(lonely)}"
        raise DatasetError(f"{lonely[0].parent}: {told}")
    without = [image for image in images if name_of[image] not in file_of]
    if without and not request.skip_unannotated:
        told = f"nothing belongs to {len(without)} of {len(images)} images: {named(without)}"
        raise DatasetError(f"{request.input}: {told}. Leave them out with --skip-unannotated")
    notes.remarks["images without annotations, left out"] += len(without)
    return [(image, file_of[name_of[image]]) for image in images if name_of[image] in file_of]


def _require_one_image(name_of: dict[Path, str], file_of: dict[str, Path]) -> None:
    """Raise DatasetError where a file could be of several images."""
    counts = Counter(name_of.values())
    for name, file in file_of.items():
        if counts[name] > 1:
            alike = [image for image, own in name_of.items() if own == name]
            raise DatasetError(
                f"{file} could be of {len(alike)} images: {few([str(image) for image in alike])}; rename images and "
                "files, or convert folder by folder"
            )


def _by_number(name_of: dict[Path, str], files: Sequence[Path], notes: Notes) -> dict[str, Path]:
    """The file of each image's name that alone has the last number in it."""
    wanted, offered = (Counter(last_number(path) for path in paths) for paths in (name_of, files))
    by_number = {last_number(file): file for file in files}
    found = {
        name: by_number[last_number(image)]
        for image, name in name_of.items()
        if last_number(image) is not None and wanted[last_number(image)] == offered[last_number(image)] == 1
    }
    notes.remarks["files were given to images by the last number in their names, as no names are alike"] += len(found)
    return found


def _image_of(
    file: Path, images: Sequence[Path], stem_of: Callable[[Path], str], known: dict[Path, str]
) -> Path:  # fmt: skip
    """The image that a single annotation file belongs to."""
    for stem in (file.stem, stem_of(file)):
        found = [image for image, name in image_names(images, {stem}, known).items() if name == stem]
        if len(found) == 1:
            return found[0]
    if len(images) == 1:
        return images[0]
    raise DatasetError(f"{file}: no image of {images[0].parent} has its name; give the image itself as --images")


def named(paths: Sequence[Path]) -> str:
    """The names of the first ones."""
    return few([path.name for path in paths])
