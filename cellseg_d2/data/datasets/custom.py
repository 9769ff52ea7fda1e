"""Own data: any COCO JSON with its image folder."""

import logging
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from detectron2.data import DatasetCatalog

from ...errors import MissingDataError
from .coco_json import set_metadata
from .columns import open_coco
from .livecell import ALLOW_MISSING
from .records import dataset_dicts

__all__ = ["register_coco"]

logger = logging.getLogger(__name__)


def register_coco(name: str, json_file: str | Path, image_root: str | Path, allow_missing: bool = False) -> None:
    """Register a COCO instance data set; a name that is registered already is replaced.

    The JSON is read and checked here, so that a mistake shows before anything else is built; a small one is read again
    when the data set is loaded.

    Args:
        name: name in Detectron2's catalogs.
        json_file: COCO JSON with polygons or run lengths (compressed or plain, also mixed), one or several categories.
        image_root: folder that the JSON's ``file_name`` entries are relative to; they may contain sub-folders.
        allow_missing: images that are not on disk are left out and counted, instead of being an error.

    Raises:
        DatasetError: see :func:`~cellseg_d2.data.datasets.coco_json.read_coco`.
        MissingDataError: no such file or folder.
    """
    json_file, image_root = Path(json_file).expanduser().absolute(), Path(image_root).expanduser().absolute()
    coco = open_coco(json_file)
    if not image_root.is_dir():
        raise MissingDataError(f"{name}: the image folder {image_root} is not there")
    if name in DatasetCatalog:
        DatasetCatalog.remove(name)
    DatasetCatalog.register(name, partial(_load, name, json_file, image_root, allow_missing))
    set_metadata(name, coco, image_root)


def _load(name: str, json_file: Path, image_root: Path, allow_missing: bool) -> Sequence[dict]:
    """Dataset dicts of the whole file, or of the images that are on disk where that is allowed."""
    coco = open_coco(json_file)
    places = {image["file_name"]: str(image_root / image["file_name"]) for image in coco.images}
    missing = [place for place in places.values() if not os.path.isfile(place)]
    if missing and (not allow_missing or len(missing) == len(places)):
        more = "" if len(missing) == len(places) else f"; {ALLOW_MISSING} True goes on without them"
        raise MissingDataError(
            f"{name}: {len(missing)} of {len(places)} images of {json_file} are not below {image_root}, for example "
            f"{', '.join(missing[:3])}; check the image folder and the 'file_name' entries{more}"
        )
    if missing:
        logger.warning(
            "%s: %d of %d images of %s are not below %s and are left out, as %s is True",
            name, len(missing), len(places), json_file, image_root, ALLOW_MISSING,
        )  # fmt: skip
    gone = set(missing)
    there = {file_name: place for file_name, place in places.items() if place not in gone}
    records, left_out = dataset_dicts(coco, there.get)
    set_metadata(name, coco, image_root, **({} if left_out or missing else {"json_file": str(json_file)}))
    return records
