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
import pasting
import scoring
import startup
import torch
from detectron2.data import detection_utils
from detectron2.data import transforms as T
from detectron2.structures import BoxMode
from rich.console import Console
from rich.table import Table

from cellseg_d2.data.instances import transform_instances
from cellseg_d2.data.synthesis.phantom import PhantomSpec, simulate

HEIGHT, WIDTH = 520, 704


def seconds(function: Callable[[], object], repeats: int = 3) -> float:
    """CPU seconds of the fastest of some calls."""
    best = float("inf")
    for _ in range(repeats):
        started = time.process_time()
        function()
        best = min(best, time.process_time() - started)
    return best


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
        Console().print(frame.run(Path(folder), "googlenet_fcn.yaml", 5))
    torch.set_num_threads(1)
    table = Table(title=f"CPU seconds, one thread, {HEIGHT} x {WIDTH} pixels")
    for column in ("", "cells", "cellseg_d2", "Detectron2", "ratio"):
        table.add_column(column, justify="right" if column else "left")
    for cells in (100, 1000):
        ours, theirs = annotations(cells)
        row = f"{ours:.4f}", f"{theirs:.4f}", f"{theirs / ours:.1f}"
        table.add_row("annotations through flip and resize", str(cells), *row)
    Console().print(table)
    Console().print(pasting.run())
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
