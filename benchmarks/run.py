#!/usr/bin/env python
"""Speed of the dense paths, each as a ratio to a named peer measured in the same run: make bench."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import extension
import frame
import mapper
import numpy as np
import pycocotools.mask as mask_util
import scoring
import startup
import torch
import torch.nn.functional as F
from detectron2.data import detection_utils
from detectron2.data import transforms as T
from detectron2.layers import paste_masks_in_image
from detectron2.structures import BoxMode
from rich.console import Console
from rich.table import Table

from cellseg_d2.data.instances import transform_instances
from cellseg_d2.data.synthesis.phantom import PhantomSpec, simulate
from cellseg_d2.modeling.postprocess import masks_to_rles

HEIGHT, WIDTH = 520, 704


def seconds(function: Callable[[], object], repeats: int = 3) -> float:
    """CPU seconds of the fastest of some calls."""
    best = float("inf")
    for _ in range(repeats):
        started = time.process_time()
        function()
        best = min(best, time.process_time() - started)
    return best


def masks(cells: int) -> tuple[float, float]:
    """28 x 28 probabilities to RLE: ours, and Detectron2's pasting with pycocotools' encoding."""
    g = torch.Generator().manual_seed(0)
    corner = torch.rand(cells, 2, generator=g) * torch.tensor([WIDTH - 30.0, HEIGHT - 30.0])
    boxes = torch.cat([corner, corner + 10 + 20 * torch.rand(cells, 2, generator=g)], dim=1)
    coarse = torch.rand(cells, 1, 5, 5, generator=g)
    probabilities = F.interpolate(coarse, size=28, mode="bilinear")[:, 0]

    def detectron2() -> list[dict]:
        stack = paste_masks_in_image(probabilities, boxes, (HEIGHT, WIDTH)).numpy().astype(np.uint8)
        return [mask_util.encode(np.asfortranarray(mask)) for mask in stack]

    return seconds(lambda: masks_to_rles(probabilities, boxes, HEIGHT, WIDTH)), seconds(detectron2)


def annotations(cells: int) -> tuple[float, float]:
    """Polygons through flip and resize: ours, and Detectron2's mapper functions."""
    spec = PhantomSpec(height=HEIGHT, width=WIDTH, cells=(cells, cells), cell_types=("PHRound",), scale=0.5)
    phantom = simulate(spec, seed=0)
    rows = []
    for cell in phantom.cells:
        row = {"category_id": 0, "iscrowd": 0, "segmentation": [np.asarray(cell.polygon, dtype=np.float64).ravel()]}
        rows.append(row | {"bbox": list(cell.bbox), "bbox_mode": BoxMode.XYWH_ABS})
    moves = T.TransformList([T.HFlipTransform(WIDTH), T.ResizeTransform(HEIGHT, WIDTH, 800, 1083)])

    def detectron2() -> object:
        copies = [dict(row, segmentation=list(row["segmentation"])) for row in rows]
        moved = [detection_utils.transform_instance_annotations(row, moves, (800, 1083)) for row in copies]
        return detection_utils.annotations_to_instances(moved, (800, 1083))

    return seconds(lambda: transform_instances(rows, moves, (800, 1083))), seconds(detectron2)


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        Console().print(frame.run(Path(folder)))
    torch.set_num_threads(1)
    table = Table(title=f"CPU seconds, one thread, {HEIGHT} x {WIDTH} pixels")
    for column in ("", "cells", "cellseg_d2", "Detectron2", "ratio"):
        table.add_column(column, justify="right" if column else "left")
    for name, measure in (("masks to RLE", masks), ("annotations through flip and resize", annotations)):
        for cells in (100, 1000):
            ours, theirs = measure(cells)
            table.add_row(name, str(cells), f"{ours:.4f}", f"{theirs:.4f}", f"{theirs / ours:.1f}")
    Console().print(table)
    with tempfile.TemporaryDirectory() as folder:
        Console().print(mapper.run(Path(folder)))
    with tempfile.TemporaryDirectory() as folder:
        scoring.run(Path(folder))
    with tempfile.TemporaryDirectory() as folder:
        Console().print(startup.run(Path(folder)))
    with tempfile.TemporaryDirectory() as folder:
        Console().print(extension.run(Path(folder)))


if __name__ == "__main__":
    main()
