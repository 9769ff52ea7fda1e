"""Make a cell bank of a COCO data set."""

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from pycocotools import mask as mask_util

from ...errors import DatasetError
from ...files import sha256
from ..datasets.columns import open_coco
from ..datasets.records import dataset_dicts
from ..image_folder import image_places, read_annotated
from ..image_io import to_grey
from ..livecell_names import hours_of, parse_name
from ..rle import as_rle, decode_columns
from .background import Background, smooth_field, split_background
from .cell_bank import BankImage, BankWriter, CellBank, Origin
from .cutout import Cutout, Variant, cut_out, free_pixels
from .units import MARGIN
from .workers import in_order

__all__ = ["Variants", "build_bank", "digest"]

_LEAST_AREA = 16  # pixels; smaller ones are specks
Track = Callable[[Iterable[Any]], Iterable[Any]]
Mask = tuple[np.ndarray, int, int]  # tight (h, w) bool, and row and column of its first pixel


class Variants(Protocol):
    """Makes further cells; picklable."""

    def describe(self) -> dict[str, Any]:
        """For JSON; raises what is wrong before any cell is cut out."""
        ...

    def __call__(self, cutouts: Sequence[Cutout], seed: int) -> list[Variant]:
        """Those of all cells of an image."""
        ...


def build_bank(
    json_file: str | Path, images: str | Path, target: str | Path, workers: int = 1, track: Track = iter,
    variants: Variants | None = None,
) -> CellBank:  # fmt: skip
    """Cut all cells of a data set out.

    Args:
        json_file: COCO JSON; crowds are no cells, but no background either.
        images: folder of its images, which are taken as grey ones.
        target: the bank's file, which is replaced. The same bytes whatever the number of workers.
        workers: processes.
        track: wraps the images that are gone through, to show progress.
        variants: makes further cells of those of each image.

    Raises:
        DatasetError: a damaged image, ids that are no whole numbers, or no cell that can be used.
        MissingDataError: no such file, folder or image.
    """
    coco = open_coco(json_file)
    places = image_places(coco, images)
    records, _ = dataset_dicts(coco, places.get)
    items = ((records[place], coco.images[place]) for place in range(len(records)))
    info: dict[str, Any] = {"json": sha256(json_file), "images": digest(places.values())}
    if variants is not None:
        info["variants"] = variants.describe()
    with BankWriter(target, coco.categories, info) as writer:
        for parts in track(in_order(partial(_cut_image, variants=variants), items, workers)):
            writer.add(*parts)
        left_out = writer.close_tables()
        if not writer.usable:
            reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.items() if count)
            raise DatasetError(
                f"{json_file}: no cell that can be cut out ({reasons or 'there is no annotation'}); "
                "give a data set with whole cells"
            )
    return CellBank(target)


def digest(files: Iterable[str]) -> str:
    """A number of the content of files, in hexadecimal: a bank belongs to its images, not only to their names."""
    state = hashlib.blake2b(digest_size=16)
    for file in files:
        state.update(Path(file).read_bytes())
    return state.hexdigest()


def _cut_image(
    item: tuple[dict, dict], variants: Variants | None
) -> tuple[BankImage, Background | None, list[Cutout], list[Origin]]:
    """What :meth:`.cell_bank.BankWriter.add` takes, of a dataset dict and its image's entry in the JSON."""
    record, entry = item
    size = record["height"], record["width"]
    image = _read(record)
    cells, crowds = [], np.zeros(size, bool)
    for annotation in record["annotations"]:
        rle = as_rle(annotation["segmentation"], *size)
        if annotation["iscrowd"]:
            crowds |= mask_util.decode(rle).astype(bool)
        elif mask_util.area(rle) >= _LEAST_AREA:
            cells.append((annotation, _tight(rle)))
    masks = [mask for _, mask in cells]
    covered = _painted(masks, size)
    areas = np.array([int(mask.sum()) for mask, _, _ in masks] or [1])
    reach = max(2 * float(np.sqrt(np.median(areas))), MARGIN)
    seen = covered | crowds
    free = free_pixels(seen, MARGIN)
    rng = np.random.default_rng(record["height"] * record["width"] + len(cells))  # only the grain of filled holes
    background = split_background(image, free, reach, rng)
    uncovered = ~seen if (~seen).any() else np.ones(size, bool)
    smooth = background.smooth if background else smooth_field(image, uncovered, reach)
    residual = background.residual if background else np.zeros(size, np.float32)
    cutouts = list(cut_out(image, masks, smooth, residual))
    who = [Origin(_whole(annotation["id"], record), annotation["category_id"]) for annotation, _ in cells]
    contrast = float(np.median([cutout.contrast for cutout in cutouts])) if cutouts else 0.0
    described = BankImage(
        entry["file_name"], entry["id"], _cell_type(entry), _hours(entry), *size, image.dtype.str, len(cells),
        float(covered.mean()), float(np.median(smooth)), background.noise if background else 0.0, contrast,
        float(np.median(areas)), background.free if background else 0.0,
    )  # fmt: skip
    for made in variants(cutouts, len(cells)) if variants else ():
        cutouts.append(made.cutout)
        who.append(who[made.cell]._replace(towards=who[made.towards].source, share=made.share))
    return described, background, cutouts, who


def _read(record: dict) -> np.ndarray:
    """The image, which is grey."""
    raw = read_annotated(record)
    image = to_grey(raw)
    if image.dtype != raw.dtype:
        raise DatasetError(
            f"{record['file_name']} is in colour; synthesis takes grey images only: leave colour ones out of the JSON"
        )
    return image


def _tight(rle: dict) -> Mask:
    """The mask of run lengths without the empty rows and columns around it."""
    columns, left = decode_columns(rle)
    rows = np.flatnonzero(columns.any(axis=1))
    return columns[rows[0] : rows[-1] + 1].astype(bool), int(rows[0]), left


def _painted(masks: Sequence[Mask], size: tuple[int, int]) -> np.ndarray:
    """H x W bool, the pixels of all masks."""
    covered = np.zeros(size, bool)
    for mask, top, left in masks:
        covered[top : top + mask.shape[0], left : left + mask.shape[1]] |= mask
    return covered


def _whole(annotation_id: object, record: dict) -> int:
    """The id, if it is a whole number."""
    if type(annotation_id) is int and abs(annotation_id) < 2**63:
        return annotation_id
    raise DatasetError(
        f"{record['file_name']}: an annotation has the id {annotation_id!r}; synthesis needs whole numbers, by which "
        "each cell's source is told"
    )


def _cell_type(entry: dict) -> str:
    """In lower case; empty where neither the entry nor the file's name says it."""
    said = entry.get("cell_type") or parse_name(entry["file_name"]).get("cell_type", "")
    return str(said).lower()


def _hours(entry: dict) -> float | None:
    """Since the first image, from the entry's ``hours`` or LIVECell's file names."""
    hours = entry.get("hours")
    if isinstance(hours, (int, float)) and math.isfinite(hours):
        return float(hours)
    time = parse_name(entry["file_name"]).get("time")
    return hours_of(time) if time else None
