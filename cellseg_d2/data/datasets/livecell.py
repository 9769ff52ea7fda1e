"""LIVECell under its published layout, whole or in part: ``livecell_{split}`` and ``livecell_{cell type}_{split}``."""

import logging
import os
from functools import partial
from pathlib import Path

from detectron2.data import DatasetCatalog, MetadataCatalog

from ...errors import DatasetError, MissingDataError
from . import roots
from .coco_json import CocoFile, read_coco, set_metadata, to_dataset_dicts

__all__ = ["CELL_TYPES", "SPLITS", "cell_type_of", "normalise_cell_type", "register_all"]

logger = logging.getLogger(__name__)

CELL_TYPES = ("a172", "bt474", "bv2", "huh7", "mcf7", "shsy5y", "skbr3", "skov3")
SPLITS = ("train", "val", "test")
# The data set's own folder below a data root; "" is a root that is the data set itself
_FOLDERS = ("livecell", "LIVECell", "LIVECell_dataset_2021", "")
_WHOLE = ("livecell_coco_{split}.json", "annotations/LIVECell/livecell_coco_{split}.json")
_SINGLE = (
    "annotations/LIVECell_single_cells/{cell_type}/{split}.json",
    "annotations/LIVECell_single_cells/{cell_type}/livecell_{cell_type}_{split}.json",
)


def register_all() -> None:
    """Register the 27 names in Detectron2's catalogs; nothing is read before one of them is loaded."""
    for cell_type in (None, *CELL_TYPES):
        for split in SPLITS:
            name = f"livecell_{cell_type}_{split}" if cell_type else f"livecell_{split}"
            if name not in DatasetCatalog:
                DatasetCatalog.register(name, partial(_load, name, split, cell_type))
                MetadataCatalog.get(name).set(
                    thing_classes=["cell"], thing_dataset_id_to_contiguous_id={1: 0}, evaluator_type="coco"
                )


def normalise_cell_type(text: str) -> str:
    """The cell type as used in names: ``"SK-OV-3"`` -> ``"skov3"``.

    Raises:
        DatasetError: not one of LIVECell's eight types.
    """
    cell_type = "".join(letter for letter in text.lower() if letter.isalnum())
    if cell_type not in CELL_TYPES:
        raise DatasetError(f"DATASETS.CELL_TYPE: {text!r} is not one of LIVECell's types {', '.join(CELL_TYPES)}")
    return cell_type


def cell_type_of(file_name: str) -> str:
    """The cell type that a LIVECell file name begins with: ``SkBr3_Phase_E3_2_00d04h00m_1.tif`` -> ``skbr3``."""
    return Path(file_name).name.split("_")[0].lower()


def _load(name: str, split: str, cell_type: str | None) -> list[dict]:
    """Dataset dicts of one name, of the images that are on disk; sets the name's ``image_root`` and ``json_file``."""
    folder, path = _find_json(name, split, cell_type)
    coco = read_coco(path)
    if len(coco.categories) != 1:
        raise DatasetError(f"{path}: LIVECell has one class, this file has {len(coco.categories)}: {coco.classes}")
    listed = len(coco.images)
    if cell_type:
        coco = _of_type(coco, cell_type)
        if not coco.images:
            raise MissingDataError(f"{name}: none of the {listed} images that {path} lists is of cell type {cell_type}")
    image_root = folder / "images"
    on_disk = _index(image_root)
    records, left_out = to_dataset_dicts(coco, lambda file_name: on_disk.get(os.path.basename(file_name)))
    if not records:
        raise MissingDataError(
            f"{name}: none of the {len(coco.images)} images that {path} lists for it is below {image_root}; "
            f"datasets/README.md says how to get LIVECell and where it goes"
        )
    if len(records) < len(coco.images):
        logger.warning(
            "%s: %d of %d images of %s are not below %s and are left out",
            name, len(coco.images) - len(records), len(coco.images), path, image_root,
        )  # fmt: skip
    for record in records:
        record["cell_type"] = cell_type_of(record["file_name"])
    exact = {"json_file": str(path)} if len(records) == listed and not left_out else {}
    set_metadata(name, coco, image_root, **exact)
    return records


def _find_json(name: str, split: str, cell_type: str | None) -> tuple[Path, Path]:
    """The data set's folder and the annotation file: a cell type's own, else the whole data set's."""
    patterns = (*_SINGLE, *_WHOLE) if cell_type else _WHOLE
    relative = [pattern.format(split=split, cell_type=cell_type) for pattern in patterns]
    folders = [root / folder for root in roots.data_roots() for folder in _FOLDERS]
    for folder in folders:
        for part in relative:
            if (folder / part).is_file():
                return folder, folder / part
    places = "\n  ".join(str(root / "livecell") for root in roots.searched())
    raise MissingDataError(
        f"{name}: no annotation file {' or '.join(relative)} in\n  {places}\n"
        f"Put LIVECell there or set {roots.ENV_NAME} to the folder that holds it; datasets/README.md says how to get it"
    )


def _of_type(coco: CocoFile, cell_type: str) -> CocoFile:
    """Only the images of one cell type, with their annotations."""
    images = [image for image in coco.images if cell_type_of(image["file_name"]) == cell_type]
    ids = {image["id"] for image in images}
    annotations = [annotation for annotation in coco.annotations if annotation["image_id"] in ids]
    return CocoFile(coco.path, images, annotations, coco.categories)


def _index(image_root: Path) -> dict[str, str]:
    """File name -> absolute path of every tif below ``image_root``."""
    return {
        name: os.path.join(folder, name)
        for folder, _, names in os.walk(image_root)
        for name in names
        if name.lower().endswith((".tif", ".tiff"))
    }
