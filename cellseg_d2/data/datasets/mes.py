"""Few outlined images of one's own: ``mes_train`` and ``mes_test`` from a folder of images and their outlines."""

import logging
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from detectron2.data import DatasetCatalog

from ...errors import DatasetError, MissingDataError
from ..image_io import IMAGE_SUFFIXES
from ..names import few, last_number, natural_order
from . import roots
from .coco_json import CocoFile, read_coco, set_metadata, to_dataset_dicts
from .outlines import ignore_margin, read_outlines

__all__ = ["EXAMPLE_MARGIN", "NAMES", "MesFiles", "find_example", "leave_one_out", "match_names", "register_mes"]

logger = logging.getLogger(__name__)

NAMES = ("mes_train", "mes_test")
EXAMPLE = "mes_gowt1"
EXAMPLE_MARGIN = 50  # nearer to the frame, in pixels, the Cell Tracking Challenge outlines no cell of it
_OUTLINE_SUFFIXES = (*IMAGE_SUFFIXES, ".zip", ".roi")


def register_mes(
    images: str | Path, masks: str | Path, edges: str | Path = "", hold_out: Sequence[str] = (), margin: int = 0
) -> None:
    """Register ``mes_train`` and ``mes_test``; names that are registered already are replaced.

    Files are looked for here, and read when a data set is loaded.

    Args:
        images: folder of images, tif, png, jpg or bmp.
        masks: a COCO JSON (file names relative to ``images``), or a folder with one file an image: label images,
            binary masks, or ImageJ outlines (zip or roi). See :func:`match_names` for how they belong together.
        edges: folder of edge images, which part the cells of binary masks.
        hold_out: images that are ``mes_test``: names without ending, or numbers from 0 in the order of the names.
            Empty: the last image, which goes to the log; a single image is not held out.
        margin: width in pixels of a strip along the frame in which cells may have been left out: what is not outlined
            there is ignored, by losses and by scores. The Cell Tracking Challenge calls what is inside of it the field
            of interest.

    Raises:
        DatasetError: the JSON is no COCO data set.
        MissingDataError: no such file or folder.
    """
    files = MesFiles.locate(images, masks, edges)
    for name in NAMES:
        if name in DatasetCatalog:
            DatasetCatalog.remove(name)
        DatasetCatalog.register(name, partial(_load, name, files, tuple(map(str, hold_out)), margin))
        set_metadata(name, files.coco(), files.images)


def find_example() -> Path | None:
    """The folder of mouse embryonic stem cells, ``images`` and ``masks`` in it, in one of the data roots; or None."""
    folder = roots.find(EXAMPLE)
    return folder if folder and all((folder / part).is_dir() for part in ("images", "masks")) else None


def leave_one_out(names: Sequence[str]) -> Iterator[tuple[tuple[str, ...], tuple[str]]]:
    """Each image held out once: the names of the others, and a tuple of its own, for ``register_mes(hold_out=...)``.

    Examples:
        >>> list(leave_one_out(["t21", "t31", "t39"]))
        [(('t31', 't39'), ('t21',)), (('t21', 't39'), ('t31',)), (('t21', 't31'), ('t39',))]
    """
    for index, name in enumerate(names):
        yield (*names[:index], *names[index + 1 :]), (name,)


@dataclass(frozen=True)
class MesFiles:
    """The places of images and outlines, which exist.

    Attributes:
        images: folder.
        masks: COCO JSON or folder.
        edges: folder, or None.
    """

    images: Path
    masks: Path
    edges: Path | None = None

    @classmethod
    def locate(cls, images: str | Path, masks: str | Path, edges: str | Path = "") -> "MesFiles":
        """From what a config says.

        Raises:
            DatasetError: edges beside a JSON, which has no use for them, or one folder for several kinds.
            MissingDataError: no such file or folder.
        """
        places = [Path(place).expanduser().absolute() for place in (images, masks)]
        edge_folder = Path(edges).expanduser().absolute() if str(edges) not in ("", ".") else None
        for key, place, is_there in (
            ("IMAGES", places[0], places[0].is_dir()),
            ("MASKS", places[1], places[1].is_dir() or places[1].is_file()),
            ("EDGES", edge_folder, edge_folder is None or edge_folder.is_dir()),
        ):
            if not is_there:
                raise MissingDataError(f"DATASETS.MES.{key}: {place} is not there")
        if len({*places, edge_folder}) < 3:
            raise DatasetError(f"DATASETS.MES: images, masks and edges need a folder each, but share {places[0]}")
        if edge_folder and places[1].is_file():
            raise DatasetError(f"DATASETS.MES.EDGES is for binary masks, but DATASETS.MES.MASKS is {places[1]}")
        return cls(*places, edge_folder)

    def coco(self) -> CocoFile:
        """The JSON, or the one class of a folder of outlines."""
        if self.masks.is_file():
            return read_coco(self.masks)
        return CocoFile(self.masks, [], [], [{"id": 1, "name": "cell"}])

    def records(self) -> list[dict]:
        """Detectron2's dataset dicts of all images in the order of their names, numbers in them by value.

        Raises:
            DatasetError: images without outlines, or outlines that cannot be used.
            MissingDataError: no images.
        """
        if self.masks.is_file():
            records, _ = to_dataset_dicts(self.coco(), lambda name: str(self.images / name))
            gone = [record["file_name"] for record in records if not Path(record["file_name"]).is_file()]
            if gone:
                raise MissingDataError(
                    f"{len(gone)} of {len(records)} images of {self.masks} are not below {self.images}, first {gone[0]}"
                )
            if not any(record["annotations"] for record in records):
                raise DatasetError(f"{self.masks}: none of the {len(records)} images has a cell")
            return sorted(records, key=lambda record: natural_order(record["file_name"]))
        images = _files(self.images, IMAGE_SUFFIXES, "DATASETS.MES.IMAGES")
        masks = match_names(images, _files(self.masks, _OUTLINE_SUFFIXES, "DATASETS.MES.MASKS"))
        edges = match_names(images, _files(self.edges, IMAGE_SUFFIXES, "DATASETS.MES.EDGES")) if self.edges else None
        return read_outlines(images, masks, edges)


def match_names(images: Sequence[Path], partners: Sequence[Path]) -> list[Path]:
    """The partner (mask, outlines, edges) of each image.

    One with the same name but for the ending; else the one with the same last number in its name (``t21.tif`` and
    ``man_seg021.tif``), where no other image or partner that is left has it. Partners too many are logged.

    Raises:
        DatasetError: images without a partner; the message lists them and the partners that are left.
    """
    by_stem = {partner.stem: partner for partner in partners}
    if len(by_stem) < len(partners):
        twice = [stem for stem, count in Counter(partner.stem for partner in partners).items() if count > 1]
        raise DatasetError(f"{partners[0].parent}: several files are named {few(twice)}, with different endings")
    found = {image: by_stem.pop(image.stem) for image in images if image.stem in by_stem}
    lonely, left = [image for image in images if image not in found], list(by_stem.values())
    wanted, offered = (Counter(last_number(path) for path in paths) for paths in (lonely, left))
    by_number = {last_number(path): path for path in left}
    for image in lonely:
        number = last_number(image)
        if number is not None and wanted[number] == offered[number] == 1:
            found[image] = by_number[number]
    without = [image.name for image in images if image not in found]
    over = sorted(set(left) - set(found.values()), key=natural_order)
    if without:
        raise DatasetError(
            f"{partners[0].parent}: nothing belongs to {len(without)} of {len(images)} images: {few(without)}. Left "
            f"over: {few([path.name for path in over]) or 'no file'}. Give them the names of their images"
        )
    if over:
        logger.warning(
            "%s: no image for %d files, first %s; they are left out", over[0].parent, len(over), over[0].name
        )
    return [found[image] for image in images]


def _load(name: str, files: MesFiles, hold_out: tuple[str, ...], margin: int) -> list[dict]:
    """Dataset dicts of ``mes_train`` or ``mes_test``."""
    records = files.records()
    held = _held_out([Path(record["file_name"]).stem for record in records], hold_out)
    if name == "mes_test" and not held:
        raise DatasetError(
            f"mes_test: {records[0]['file_name']} is the only image, so that none is held out: outline a second one, "
            "cut this one in two, or train without DATASETS.TEST"
        )
    chosen = [record for index, record in enumerate(records) if (index in held) == (name == "mes_test")]
    return [ignore_margin(record, margin) for record in chosen]


def _held_out(names: Sequence[str], hold_out: Sequence[str]) -> set[int]:
    """Index of the held-out images; a name goes before a number."""
    if not hold_out and len(names) > 1:
        logger.info("DATASETS.MES.HOLD_OUT is empty: %s, the last of %d images, is mes_test", names[-1], len(names))
        return {len(names) - 1}
    held: set[int] = set()
    for wanted in hold_out:
        places = [index for index, name in enumerate(names) if name == wanted]
        if not places and re.fullmatch(r"\d+", wanted) and int(wanted) < len(names):
            places = [int(wanted)]
        if not places:
            raise DatasetError(
                f"DATASETS.MES.HOLD_OUT: {wanted!r} is neither a name nor a number of an image; there are "
                f"{few([f'{index} {name}' for index, name in enumerate(names)])}"
            )
        held.update(places)
    return held


def _files(folder: Path, suffixes: Sequence[str], key: str) -> list[Path]:
    """The files of a folder with one of the endings, in the order of their names."""
    found = [path for path in folder.iterdir() if path.suffix.lower() in suffixes and not path.name.startswith(".")]
    if not found:
        raise MissingDataError(f"{key}: {folder} has no file that ends in {', '.join(suffixes)}")
    return sorted(found, key=natural_order)
