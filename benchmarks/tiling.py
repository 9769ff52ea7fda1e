#!/usr/bin/env python
"""What tiles change: a large mosaic predicted whole and by tiles, with one model: python benchmarks/tiling.py.

The cells of the whole image are the reference. Tiles are right where their cells are matched to it at a mask IoU of
0.9, and leave no seams where as many are unmatched within one cell of a seam (an edge of a tile or the middle of an
overlap) as elsewhere. Rows: tiles by themselves; merged by non-maximum suppression of boxes instead, for contrast; and
as CellSegmenter takes them, with the statistics of the whole image for layers that look at all of their input.
"""

import argparse
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torchvision.ops import batched_nms

from cellseg_d2.data.image_io import IMAGE_SUFFIXES, read_image
from cellseg_d2.data.synthesis.phantom import PhantomSpec, simulate
from cellseg_d2.evaluation.matching import TRUE, match
from cellseg_d2.evaluation.objects import Objects
from cellseg_d2.evaluation.overlaps import overlap
from cellseg_d2.inference.detectors import InstanceDetector
from cellseg_d2.inference.loading import ModelOptions, load_detector
from cellseg_d2.inference.reading.image_options import ImageOptions
from cellseg_d2.inference.segmenter import CellSegmenter
from cellseg_d2.inference.tiles.merging import merge_tiles
from cellseg_d2.inference.tiles.tiling import Tile, plan_tiles, tile_for
from cellseg_d2.run_lengths import decode_counts

NO_CAP = 10**6
IOU, NMS = 0.9, 0.6
SPEC = PhantomSpec(height=512, width=512, cells=(60, 90))
Cells = list[dict[str, Any]]


def load(model: str, weights: str | None, least: float) -> InstanceDetector:
    """A model on the CPU, without a limit of cells."""
    return load_detector(ModelOptions(model, weights, device="cpu", min_score=least, max_cells=NO_CAP, threads=1))


def mosaic(images: Sequence[np.ndarray], size: int, seed: int = 0) -> np.ndarray:
    """(size, size, 3) uint8 of random images (h, w, 3), each cut to a square, turned and mirrored by chance."""
    generator = np.random.default_rng(seed)
    side = min(min(image.shape[:2]) for image in images)
    across = -(-size // side)
    order = np.concatenate([generator.permutation(len(images)) for _ in range(-(-(across**2) // len(images)))])
    whole = np.empty((across * side, across * side, 3), np.uint8)
    for place, index in enumerate(order[: across**2]):
        y, x = side * (place // across), side * (place % across)
        turned = np.rot90(images[index][:side, :side], generator.integers(4))
        whole[y : y + side, x : x + side] = turned[:, :: generator.choice([-1, 1])]
    return np.ascontiguousarray(whole[:size, :size])


def sources(folder: Path | None) -> list[np.ndarray]:
    """The images of a folder as 8 bits, or simulated ones."""
    if folder is None:
        return [np.repeat(simulate(SPEC, seed=seed).image[:, :, None], 3, axis=2) for seed in range(16)]
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise SystemExit(f"error: {folder} has no image")
    return [read_image(path) for path in files]


def measured(function: Callable[[], Any]) -> tuple[Any, float, float]:
    """Its result, wall-clock seconds, and the most memory of the process so far, in GiB."""
    started = time.perf_counter()
    result = function()
    return result, time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def by_boxes(tiles: Sequence[Tile], found: Sequence[Cells], size: int) -> Cells:
    """What is often done: cells of all tiles, of boxes that overlap the one with the best score."""
    alone = [cell for tile, cells in zip(tiles, found) for cell in merge_tiles([tile], [cells], size, size)]
    boxes = torch.tensor([cell["bbox"] for cell in alone]).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    columns = (torch.tensor([cell[name] for cell in alone]) for name in ("score", "category_id"))
    return [alone[k] for k in batched_nms(boxes, *columns, NMS).tolist()]


def objects(cells: Cells, size: int) -> Objects:
    """Cells as evaluation's matching takes them, best score first."""
    masks, _ = decode_counts([cell["segmentation"]["counts"] for cell in cells], np.full(len(cells), size**2))
    scores = np.array([cell["score"] for cell in cells])
    starts, crowd = np.array([0, len(cells)]), np.zeros(len(cells), bool)
    boxes, areas = masks.boxes(np.full(len(cells), size)), masks.areas().astype(float)
    return Objects(np.arange(len(cells)), starts, boxes, areas, crowd, scores, scores, masks)


def near_seams(boxes: np.ndarray, tiles: Sequence[Tile], size: int, distance: float) -> np.ndarray:
    """(N,) bool: boxes (N, 4) x, y, w, h no farther from a tile's edge, or a core's, than ``distance``."""
    columns = {x for tile in tiles for x in (tile.x0, tile.x1, tile.core[1], tile.core[3])} - {0, size}
    rows = {y for tile in tiles for y in (tile.y0, tile.y1, tile.core[0], tile.core[2])} - {0, size}
    near = np.zeros(len(boxes), bool)
    for axis, lines in enumerate((columns, rows)):
        for line in lines:
            low, high = boxes[:, axis] - distance, boxes[:, axis] + boxes[:, axis + 2] + distance
            near |= (low <= line) & (line <= high)
    return near


def compare(whole: Cells, cells: Cells, tiles: Sequence[Tile], size: int) -> list[str]:
    """Cells, share of the whole image's that are matched, and unmatched ones of both, near seams and elsewhere."""
    truth, results = objects(whole, size), objects(cells, size)
    every = np.ones((1, len(truth)), bool), np.ones((1, len(results)), bool)
    matching = match(overlap(results, truth), truth.crowd, *every, np.array([IOU]))
    matched = np.isin(np.arange(len(truth)), matching.partners[0])
    diameter = float(np.median(truth.boxes[:, 2:].max(axis=1)))
    near = [near_seams(o.boxes, tiles, size, diameter) for o in (truth, results)]
    lost = [rate(~matched[near[0]]), rate(~matched[~near[0]])]
    extra = matching.flags[0, 0] != TRUE
    false = [rate(extra[near[1]]), rate(extra[~near[1]])]
    return [str(len(cells)), f"{100 * matched.mean():.2f}", *lost, *false]


def rate(events: np.ndarray) -> str:
    """Percent of (N,) bool that are true, with its standard error, and of how many."""
    if not len(events):
        return "-"
    share = events.mean()
    return f"{100 * share:.2f} +- {100 * np.sqrt(share * (1 - share) / len(events)):.2f} of {len(events)}"


def run(options: argparse.Namespace) -> Table:
    """Measure; tiles first, since the most memory so far can only grow."""
    size, least = options.size, options.min_score
    detector = load(options.model, options.weights, least)
    image = mosaic(sources(options.images), size)
    tile, lap = tile_for(detector.cell_size)
    tile, lap = options.tile or tile, options.overlap or lap
    tiles, prepare = plan_tiles(size, size, tile, lap), detector.fit(image)
    detector([prepare(image[:256, :256])], detector.scale)  # compiles

    def by_tile() -> list[Cells]:
        return [detector([prepare(image[tile.slices])], detector.scale)[0].cells for tile in tiles]

    def segmented(*how: Any) -> Cells:
        return CellSegmenter(detector, ImageOptions(*how))(image).cells

    found, seconds, memory = measured(by_tile)
    merged, merging, _ = measured(lambda: merge_tiles(tiles, found, size, size))
    rows = {"tiles, own statistics": (merged, f"{seconds:.0f} + {merging:.1f}", f"{memory:.1f}")}
    rows["and NMS of boxes"] = (by_boxes(tiles, found, size),)
    cells, seconds, memory = measured(lambda: segmented(tile, lap))
    rows["CellSegmenter, tiles"] = cells, f"{seconds:.0f}", f"{memory:.1f}"
    whole, seconds, memory = measured(lambda: segmented("off"))
    title = f"{size} x {size} pixels, {len(tiles)} tiles of {tile} that overlap by {lap}"
    table = new_table(f"{title}; score >= {least}, mask IoU >= {IOU}")
    table.add_row("whole", str(len(whole)), *[""] * 5, f"{seconds:.0f}", f"{memory:.1f}")
    for name, (cells, *cost) in rows.items():
        table.add_row(name, *compare(whole, cells, tiles, size), *cost)
    return table


def new_table(title: str) -> Table:
    """With its columns."""
    table = Table("", title=title)
    for column in ("cells", "matched %", "lost % near seams", "elsewhere", "false % near seams", "elsewhere"):
        table.add_column(column, no_wrap=True)
    table.add_column("seconds")
    table.add_column("GiB")
    return table


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="an instance model, as tools/predict.py takes it")
    parser.add_argument("--weights", help="for a .yaml")
    parser.add_argument("--images", type=Path, help="folder of images for the mosaic (default: simulated ones)")
    parser.add_argument("--size", type=int, default=4096, help="of the mosaic, pixels")
    parser.add_argument("--tile", type=int, help="side of the tiles; default: as for predict.py")
    parser.add_argument("--overlap", type=int, help="of the tiles; default: twice the size of cells")
    parser.add_argument("--min-score", type=float, default=0.5, help="cells that count")
    Console(width=160).print(run(parser.parse_args()))


if __name__ == "__main__":
    main()
