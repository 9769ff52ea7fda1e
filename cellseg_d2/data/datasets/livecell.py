"""LIVECell under its published layout: ``livecell_{split}``, ``livecell_{cell type}_{split}`` and, for the study of how
many images training takes, ``livecell_train_{2, 4, 5, 25, 50}_percent``."""

import logging
import os
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path

from detectron2.data import DatasetCatalog, MetadataCatalog

from ...errors import DatasetError, MissingDataError
from ..livecell_names import cell_type_of, describe
from . import roots
from .coco_json import set_metadata
from .columns import open_coco
from .records import dataset_dicts, heads

__all__ = ["ALLOW_MISSING", "CELL_TYPES", "PERCENTS", "SPLITS", "normalise_cell_type", "register_all"]

logger = logging.getLogger(__name__)

CELL_TYPES = ("a172", "bt474", "bv2", "huh7", "mcf7", "shsy5y", "skbr3", "skov3")
SPLITS = ("train", "val", "test")
PERCENTS = (2, 4, 5, 25, 50)
ALLOW_MISSING = "DATASETS.ALLOW_MISSING"
# The data set's own folder below a data root; "" is a root that is the data set itself
_FOLDERS = ("livecell", "LIVECell", "LIVECell_dataset_2021", "")
_WHOLE = ("livecell_coco_{split}.json", "annotations/LIVECell/livecell_coco_{split}.json")
_SINGLE = (
    "annotations/LIVECell_single_cells/{cell_type}/{split}.json",
    "annotations/LIVECell_single_cells/{cell_type}/livecell_{cell_type}_{split}.json",
)


_PART = "annotations/LIVECell_dataset_size_split/{number}_train{percent}percent.json"


def register_all(allow_missing: bool = False) -> None:
    """Register the 32 names in Detectron2's catalogs; nothing is read before one of them is loaded.

    A name that somebody else has registered is left as it is; calling again changes ``allow_missing``.

    Args:
        allow_missing: images that are not on disk are left out and counted, instead of being an error.
    """
    for cell_type in (None, *CELL_TYPES):
        for split in SPLITS:
            name = f"livecell_{cell_type}_{split}" if cell_type else f"livecell_{split}"
            patterns = [pattern.format(split=split, cell_type=cell_type) for pattern in (*_SINGLE, *_WHOLE)]
            _register(name, tuple(patterns if cell_type else patterns[len(_SINGLE) :]), cell_type, allow_missing)
    for number, percent in enumerate(PERCENTS):
        published = _PART.format(number=number, percent=percent)
        patterns = (published, Path(published).name, _PART.format(number="*", percent=percent))
        _register(f"livecell_train_{percent}_percent", patterns, None, allow_missing)


def normalise_cell_type(text: str) -> str:
    """The cell type as used in names: ``"SK-OV-3"`` -> ``"skov3"``.

    Raises:
        DatasetError: not one of LIVECell's eight types.
    """
    cell_type = "".join(letter for letter in text.lower() if letter.isalnum())
    if cell_type not in CELL_TYPES:
        raise DatasetError(f"DATASETS.CELL_TYPE: {text!r} is not one of LIVECell's types {', '.join(CELL_TYPES)}")
    return cell_type


def _register(name: str, patterns: tuple[str, ...], cell_type: str | None, allow_missing: bool) -> None:
    """Register one name, or change how it is loaded."""
    loader = DatasetCatalog[name] if name in DatasetCatalog else None
    if loader is not None and getattr(loader, "func", None) is not _load:
        return
    if loader is not None:
        DatasetCatalog.pop(name)
    DatasetCatalog.register(name, partial(_load, name, patterns, cell_type, allow_missing))
    if loader is None:
        MetadataCatalog.get(name).set(
            thing_classes=["cell"], thing_dataset_id_to_contiguous_id={1: 0}, evaluator_type="coco"
        )


def _load(name: str, patterns: tuple[str, ...], cell_type: str | None, allow_missing: bool) -> Sequence[dict]:
    """Dataset dicts of one name, with what the file names say; sets the name's ``image_root`` and ``json_file``."""
    folder, path = _find_json(name, patterns)
    coco = open_coco(path)
    if len(coco.categories) != 1:
        raise DatasetError(f"{path}: LIVECell has one class, this file has {len(coco.categories)}: {coco.classes}")
    names = [image["file_name"] for image in coco.images]
    wanted = {file_name for file_name in names if cell_type in (None, cell_type_of(file_name))}
    if not wanted:
        raise MissingDataError(f"{name}: none of the {len(names)} images that {path} lists is of cell type {cell_type}")
    image_root = folder / "images"
    on_disk = _find_images(image_root, wanted)
    _check_missing(name, path, image_root, len(wanted), len(wanted - on_disk.keys()), allow_missing)
    records, left_out = dataset_dicts(coco, on_disk.get)
    for head in heads(records):
        head.update(describe(head["file_name"]))
    exact = {"json_file": str(path)} if len(records) == len(names) and not left_out else {}
    set_metadata(name, coco, image_root, **exact)
    return records


def _check_missing(name: str, path: Path, image_root: Path, listed: int, missing: int, allowed: bool) -> None:
    """Say how many images are not there; where none is, or that is not allowed, stop."""
    if missing == listed:
        raise MissingDataError(
            f"{name}: none of the {listed} images that {path} lists for it is below {image_root}; "
            f"datasets/README.md says how to get LIVECell and where it goes"
        )
    if missing and not allowed:
        raise MissingDataError(
            f"{name}: {missing} of {listed} images ({missing / listed:.1%}) that {path} lists for it are not below "
            f"{image_root}. datasets/README.md says how to get them; {ALLOW_MISSING} True goes on with the other "
            f"{listed - missing}, whose scores do not compare with published ones"
        )
    if missing:
        logger.warning(
            "%s: %d of %d images of %s are not below %s and are left out, as %s is True",
            name, missing, listed, path, image_root, ALLOW_MISSING,
        )  # fmt: skip


def _find_json(name: str, patterns: Sequence[str]) -> tuple[Path, Path]:
    """The data set's folder and the annotation file: the first pattern that is there, in the first folder."""
    for folder in [root / folder for root in roots.data_roots() for folder in _FOLDERS]:
        for pattern in patterns:
            found = sorted(folder.glob(pattern)) if folder.is_dir() else []
            if found:
                return folder, found[0]
    places = "\n  ".join(str(root / "livecell") for root in roots.searched())
    raise MissingDataError(
        f"{name}: no annotation file {' or '.join(patterns)} in\n  {places}\n"
        f"Put LIVECell there or set {roots.ENV_NAME} to the folder that holds it; datasets/README.md says how to get it"
    )


def _find_images(image_root: Path, wanted: set[str]) -> dict[str, str]:
    """``file_name`` in the JSON -> absolute path, of those that are on disk."""
    on_disk = _index(image_root)
    if any(os.path.basename(file_name) not in on_disk for file_name in wanted):
        _index.cache_clear()  # they may have come since
        on_disk = _index(image_root)
    found = {file_name: on_disk.get(os.path.basename(file_name)) for file_name in wanted}
    return {file_name: place for file_name, place in found.items() if place is not None}


@cache
def _index(image_root: Path) -> dict[str, str]:
    """File name -> absolute path of every tif below ``image_root``; the first in the order of the paths."""
    return {
        name: os.path.join(folder, name)
        for folder, _, names in sorted(os.walk(image_root), reverse=True)
        for name in names
        if name.lower().endswith((".tif", ".tiff"))
    }
