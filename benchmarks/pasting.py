#!/usr/bin/env python
"""CPU seconds from 28 x 28 mask probabilities to COCO run lengths: python benchmarks/pasting.py [--full].

The compiled loop, and the way with PyTorch and NumPy alone, beside Detectron2's paste_masks_in_image followed by
pycocotools' encode, whose result both must equal byte for byte. --full: 3,000 cells also on 2048 x 2048 pixels, of
which Detectron2 takes minutes and 13 GB.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import pycocotools.mask as mask_util
import torch
import torch.nn.functional as F
from detectron2.layers import paste_masks_in_image
from rich.console import Console
from rich.table import Table
from torch import Tensor

from cellseg_d2.modeling.postprocess import masks_to_rles, masks_to_rles_by_torch

SCENES = ((100, 520, 704), (1000, 520, 704), (3000, 520, 704), (500, 2048, 2048))
LARGE = (3000, 2048, 2048)


def made_up(cells: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Smooth random probabilities (N, 28, 28), and boxes of 10 to 30 pixels (N, 4)."""
    g = torch.Generator().manual_seed(0)
    corner = torch.rand(cells, 2, generator=g) * torch.tensor([width - 30.0, height - 30.0])
    boxes = torch.cat([corner, corner + 10 + 20 * torch.rand(cells, 2, generator=g)], dim=1)
    return F.interpolate(torch.rand(cells, 1, 5, 5, generator=g), size=28, mode="bilinear")[:, 0], boxes


def detectron2(masks: Tensor, boxes: Tensor, height: int, width: int) -> list[dict]:
    """Paste and encode."""
    stack = paste_masks_in_image(masks, boxes, (height, width)).numpy().view(np.uint8)
    rles = [mask_util.encode(np.asfortranarray(mask)) for mask in stack]
    return [{"size": rle["size"], "counts": rle["counts"].decode("ascii")} for rle in rles]


def timed(function: Callable[[], list[dict]], repeats: int) -> tuple[float, list[dict]]:
    """CPU seconds of the fastest of some calls, and the result."""
    best, result = float("inf"), []
    for _ in range(repeats):
        started = time.process_time()
        result = function()
        best = min(best, time.process_time() - started)
    return best, result


def run(full: bool = False) -> Table:
    """Measure all scenes."""
    torch.set_num_threads(1)
    table = Table(title="Masks to run lengths, CPU seconds, one thread")
    for column in ("cells", "pixels", "compiled", "ratio", "PyTorch alone", "ratio", "Detectron2", "equal"):
        table.add_column(column, justify="right")
    for cells, *size in (*SCENES, *([LARGE] if full else [])):
        scene = *made_up(cells, *size), *size
        masks_to_rles(*scene)  # compiles
        ours, first = timed(lambda: masks_to_rles(*scene), 5)  # noqa: B023
        plain, second = timed(lambda: masks_to_rles_by_torch(*scene), 3)  # noqa: B023
        theirs, expected = timed(lambda: detectron2(*scene), 1)  # noqa: B023
        ratios = f"{theirs / ours:,.0f}", f"{theirs / plain:,.0f}"
        row = f"{ours:.4f}", ratios[0], f"{plain:.3f}", ratios[1], f"{theirs:.2f}", str(first == second == expected)
        table.add_row(f"{cells:,}", f"{size[0]} x {size[1]}", *row)
    return table


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="3,000 cells on 2048 x 2048 pixels, too")
    Console().print(run(parser.parse_args().full))


if __name__ == "__main__":
    main()
