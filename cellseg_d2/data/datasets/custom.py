"""Own data: any COCO JSON with its image folder."""

from functools import partial
from pathlib import Path

from detectron2.data import DatasetCatalog

from ...errors import MissingDataError
from .coco_json import read_coco, set_metadata, to_dataset_dicts

__all__ = ["register_coco"]


def register_coco(name: str, json_file: str | Path, image_root: str | Path) -> None:
    """Register a COCO instance data set; a name that is registered already is replaced.

    The JSON is read and checked here, so that a mistake shows before anything else is built, and read again when the
    data set is loaded.

    Args:
        name: name in Detectron2's catalogs.
        json_file: COCO JSON with polygons or run lengths (compressed or plain, also mixed), one or several categories.
        image_root: folder that the JSON's ``file_name`` entries are relative to; they may contain sub-folders.

    Raises:
        DatasetError: see :func:`~cellseg_d2.data.datasets.coco_json.read_coco`.
        MissingDataError: no such file or folder.
    """
    json_file, image_root = Path(json_file).expanduser().absolute(), Path(image_root).expanduser().absolute()
    coco = read_coco(json_file)
    if not image_root.is_dir():
        raise MissingDataError(f"{name}: the image folder {image_root} is not there")
    if name in DatasetCatalog:
        DatasetCatalog.remove(name)
    DatasetCatalog.register(name, partial(_load, name, json_file, image_root))
    set_metadata(name, coco, image_root)


def _load(name: str, json_file: Path, image_root: Path) -> list[dict]:
    """Dataset dicts of the whole file; every image must be on disk."""
    coco = read_coco(json_file)
    records, left_out = to_dataset_dicts(coco, lambda file_name: str(image_root / file_name))
    missing = [record["file_name"] for record in records if not Path(record["file_name"]).is_file()]
    if missing:
        raise MissingDataError(
            f"{name}: {len(missing)} of {len(records)} images of {json_file} are not below {image_root}, for example "
            f"{', '.join(missing[:3])}; check the image folder and the 'file_name' entries"
        )
    set_metadata(name, coco, image_root, **({} if left_out else {"json_file": str(json_file)}))
    return records
