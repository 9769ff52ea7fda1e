#!/usr/bin/env python
"""CPU time from an image file and its annotations to the input of training: python benchmarks/mapper.py.

Our mapper and Detectron2's on the same files, with the same augmentations and the same draws, by turns in one process
with one thread; the mean over the images of the fastest pass. Images are 704 x 520 tif files, outlines made up with the
statistics of LIVECell.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import tifffile
import torch
from detectron2.data import DatasetMapper
from detectron2.data import transforms as T
from detectron2.data.datasets import load_coco_json
from rich.console import Console
from rich.table import Table
from scenes import HEIGHT, WIDTH, write_scenes

from cellseg_d2.data.dataset_mapper import CellDatasetMapper
from cellseg_d2.data.rle import as_rle
from cellseg_d2.data.transforms import RandomRot90

IMAGES = {300: 2, 1750: 1}  # by cells in each
TURNS = {"90 degrees": RandomRot90, "any angle": lambda: T.RandomRotation([-180, 180])}


def augmentations(turn: str) -> list[T.Augmentation]:
    """Those of both mappers."""
    return [T.ResizeShortestEdge(560, 1333), T.RandomFlip(), TURNS[turn]()]


def prepare(folder: Path, cells: int) -> dict[str, list[dict]]:
    """Dataset dicts of images of some cells each, by the kind of their annotations."""
    truth, _ = write_scenes(folder, IMAGES[cells], cells, spread=0)
    generator = np.random.default_rng(0)
    polygons = load_coco_json(str(truth), str(folder))
    for record in polygons:
        noise = generator.normal(128, 12, (HEIGHT, WIDTH)).clip(0, 255).astype(np.uint8)
        tifffile.imwrite(record["file_name"], noise)
    masks = [dict(record, annotations=[dict(one) for one in record["annotations"]]) for record in polygons]
    for record in masks:
        for one in record["annotations"]:
            one["segmentation"] = as_rle(one["segmentation"], HEIGHT, WIDTH)
    return {"polygon": polygons, "bitmask": masks}


def seconds(mapper: Callable[[dict], dict], records: Sequence[dict]) -> float:
    """CPU seconds for one image, the mean over all."""
    np.random.seed(0)
    started = time.process_time()
    for record in records:
        mapper(record)
    return (time.process_time() - started) / len(records)


def compare(records: Sequence[dict], mask_format: str, turn: str, repeats: int) -> tuple[float, float]:
    """CPU seconds an image: ours, and Detectron2's."""
    ours = CellDatasetMapper(augmentations=augmentations(turn), with_instances=True, mask_format=mask_format)
    theirs = DatasetMapper(
        is_train=True,
        augmentations=augmentations(turn),
        image_format="BGR",
        use_instance_mask=True,
        instance_mask_format=mask_format,
    )
    pairs = [(seconds(ours, records), seconds(theirs, records)) for _ in range(repeats)]
    best = np.min(pairs, axis=0)
    return float(best[0]), float(best[1])


def run(folder: Path, repeats: int = 3) -> Table:
    """Measure; the files are written to ``folder``."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)  # as in a worker of the loader
    table = Table(title=f"File to training input, {HEIGHT} x {WIDTH} to 560 x 758 pixels: CPU milliseconds an image")
    for column in ("annotations", "turn"):
        table.add_column(column)
    for column in ("cells", "cellseg_d2", "Detectron2", "ratio"):
        table.add_column(column, justify="right")
    for cells in IMAGES:
        by_kind = prepare(folder / str(cells), cells)
        for mask_format, records in by_kind.items():
            for turn in TURNS:
                ours, theirs = compare(records, mask_format, turn, repeats)
                kind = {"polygon": "polygons", "bitmask": "masks (RLE)"}[mask_format]
                numbers = f"{1e3 * ours:.1f}", f"{1e3 * theirs:.1f}", f"{theirs / ours:.1f}"
                table.add_row(kind, turn, str(cells), *numbers)
    return table


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3, help="passes of each")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        Console().print(run(Path(folder), options.repeats))


if __name__ == "__main__":
    main()
