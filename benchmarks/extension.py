#!/usr/bin/env python
"""CPU time of a synthetic image of an extended data set: python benchmarks/extension.py.

The peer is plain copy-paste augmentation as it is usually written: each cell's patch is turned by scipy.ndimage.rotate,
pasted by np.where, and its mask encoded by pycocotools. It knows no gaps, contacts or halos; both place equally many
cells, turned by any angle, on images of 704 x 520 pixels, by turns in one process with one thread.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pycocotools.mask as mask_util
from rich.console import Console
from rich.table import Table
from scipy import ndimage

from cellseg_d2.data.synthesis.bank_build import build_bank
from cellseg_d2.data.synthesis.cell_bank import CellBank
from cellseg_d2.data.synthesis.extend import extend
from cellseg_d2.data.synthesis.generate import generate
from cellseg_d2.data.synthesis.phantom import PhantomSpec, write_dataset
from cellseg_d2.data.synthesis.recipe import Plan, Recipe

HEIGHT, WIDTH, CELLS, SOURCES = 520, 704, 300, 3


def prepare(folder: Path) -> tuple[Path, CellBank, float]:
    """A data set of phantoms: its JSON, its bank, and the CPU seconds that the bank took for each image."""
    spec = PhantomSpec(height=HEIGHT, width=WIDTH, cells=(120, 240), cell_types=("PHRound",), scale=0.7)
    truth = write_dataset(folder, spec, SOURCES, seed=0)
    started = time.process_time()
    bank = build_bank(truth, folder / "images", folder / "cells.bank")
    return truth, bank, (time.process_time() - started) / SOURCES


def copy_paste(bank: CellBank, index: int) -> tuple[np.ndarray, list[dict]]:
    """An image and its cells' run lengths by plain copy-paste."""
    rng = np.random.default_rng(index)
    image = np.add(*bank.background(index % SOURCES))
    cells = np.flatnonzero(bank.cells["usable"])
    masks = []
    for cell in rng.choice(cells, CELLS):
        delta, distance = bank.patch(cell)
        angle = rng.uniform(0, 360)
        turned = ndimage.rotate(delta, angle, order=1)
        mask = ndimage.rotate((distance > 0).astype(np.uint8), angle, order=0) > 0
        height, width = mask.shape
        top, left = int(rng.integers(HEIGHT - height)), int(rng.integers(WIDTH - width))
        window = image[top : top + height, left : left + width]
        window[:] = np.where(mask, window + turned, window)
        full = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
        full[top : top + height, left : left + width] = mask
        masks.append(mask_util.encode(full))
    return np.clip(np.rint(image), 0, 255).astype(np.uint8), masks


def seconds(make: Callable[[int], object], images: int) -> float:
    """CPU seconds an image, the mean over some."""
    started = time.process_time()
    for index in range(images):
        make(index)
    return (time.process_time() - started) / images


def throughput(folder: Path, truth: Path, bank: CellBank, recipe: Recipe, workers: int) -> float:
    """Images a second that are written, by the clock, from the first one on: processes start for seconds."""
    stamps = []

    def track(items: Iterable[Any], title: str, total: int) -> Iterator[Any]:
        for item in items:
            stamps.append(time.perf_counter())
            yield item

    extend(truth, truth.parent / "images", folder / str(workers), recipe, workers, bank.path, track)
    return (len(stamps) - 1) / (stamps[-1] - stamps[0])


def run(folder: Path, images: int = 6, written: int = 33) -> Table:
    """Measure; the files are written to ``folder``."""
    cv2.setNumThreads(1)
    truth, bank, cutting = prepare(folder / "set")
    recipe = Recipe(factor=1 + written / SOURCES, density=f"list:{CELLS}", originals=False)
    plan = Plan(bank, recipe)
    generate(bank, plan, recipe, 0)  # compiles, where that was not done before
    pairs = [
        (seconds(lambda index: generate(bank, plan, recipe, index), images),
         seconds(lambda index: copy_paste(bank, index), images))
        for _ in range(3)
    ]  # fmt: skip
    ours, theirs = np.min(pairs, axis=0)
    rate = throughput(folder, truth, bank, recipe, 2)
    table = Table(title=f"Synthetic images of {CELLS} cells, any angle, {HEIGHT} x {WIDTH} pixels")
    for column in ("", "cellseg_d2", "plain copy-paste", "ratio"):
        table.add_column(column, justify="right" if column else "left")
    table.add_row("CPU milliseconds an image", f"{1e3 * ours:.1f}", f"{1e3 * theirs:.1f}", f"{theirs / ours:.1f}")
    table.add_row("CPU milliseconds to cut an image up", f"{1e3 * cutting:.1f}", "", "")
    table.add_row(f"images a second, 2 processes, {written} written", f"{rate:.1f}", "", "")
    return table


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=6, help="images of each pass")
    parser.add_argument("--written", type=int, default=33, help="images that two processes write")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        Console().print(run(Path(folder), options.images, options.written))


if __name__ == "__main__":
    main()
