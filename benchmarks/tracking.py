#!/usr/bin/env python
"""Linking of cells in time, scored by the Cell Tracking Challenge's measures: python benchmarks/tracking.py.

The masks are the annotated ones of 50 frames of PhC-C2DL-PSC (looked for as all data is: CELLSEG_DATA, datasets/,
../shared/data); their labels are only used to score. The silver truth has masks whose labels last over frames, but no
list of parents: two labels that start in the frame after another one ended, both within 30 pixels of it, are taken as
its daughters, which leaves no choice anywhere in this film. The peer is LapTrack on the distance of centres, at the
same largest distance, with gaps and splits. "ours, by LapTrack" is LapTrack on our costs; its cutoff of divisions was
set with this film in view, so that its BC(1) here is no forecast for others. Measures are py-ctcmetrics' (pip install
py-ctcmetrics laptrack).
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile
from ctc_metrics.metrics.validation.valid import valid
from ctc_metrics.scripts.evaluate import calculate_metrics
from laptrack import LapTrack
from pycocotools import mask as mask_util
from rich.console import Console
from rich.table import Table

from cellseg_d2.analysis.tracking import Tracks, link, link_by_laptrack, write_ctc
from cellseg_d2.analysis.tracking.detections import detections_of
from cellseg_d2.data.datasets import roots
from cellseg_d2.inference.records import Frame, FrameCells

METRICS = ("TRA", "DET", "SEG", "LNK", "CHOTA", "BC")
SHOWN = ("TRA", "DET", "SEG", "LNK", "CHOTA", "BC(1)")
NEAR = 30  # pixels from a mother to her daughters
Cells = Sequence[dict]


def read_truth(frames: int = 50, step: int = 1) -> list[np.ndarray]:
    """Label maps of the film, (576, 720) uint16; FileNotFoundError where it is not at hand."""
    folder = roots.find("psc_phase_ctc")
    if folder is None:
        raise FileNotFoundError(f"psc_phase_ctc is in none of {', '.join(map(str, roots.searched()))}")
    return [tifffile.imread(path) for path in sorted((folder / "02_ST" / "SEG").glob("*.tif"))[:frames:step]]


def cells_of(labels: np.ndarray) -> list[dict]:
    """COCO results of a label map, shuffled, without the labels."""
    names = np.random.default_rng(int(labels.sum())).permutation(np.unique(labels[labels > 0]))
    rles = [mask_util.encode(np.asfortranarray(labels == name, dtype=np.uint8)) for name in names]
    return [
        {"category_id": 0, "bbox": mask_util.toBbox(rle).tolist(), "score": 1.0, "segmentation": _as_text(rle)}
        for rle in rles
    ]


def truth_table(maps: Sequence[np.ndarray]) -> np.ndarray:
    """(K, 4) L B E P of label maps, parents found as the module's words say."""
    seen = {}
    for t, labels in enumerate(maps):
        for name in np.unique(labels[labels > 0]).tolist():
            seen.setdefault(name, [t, t])[1] = t
    parents = dict.fromkeys(seen, 0)
    for name, (_, last) in seen.items():
        new = [other for other, (first, _) in seen.items() if first == last + 1]
        daughters = [other for other in new if _apart(maps, name, last, other) < NEAR]
        if len(daughters) == 2:
            parents.update(dict.fromkeys(daughters, name))
    return np.array([[name, first, last, parents[name]] for name, (first, last) in sorted(seen.items())])


def laptrack(frames: Sequence[Cells]) -> Tracks:
    """The peer, with what our linking chooses as the largest distance."""
    cells = detections_of(frames)
    table = pd.DataFrame({"frame": cells.frame, "x": cells.centre[:, 0], "y": cells.centre[:, 1], "place": cells.place})
    limit = cells.diameter**2
    tracker = LapTrack(
        cutoff=limit,
        gap_closing_cutoff=limit,
        gap_closing_max_frame_count=3,
        splitting_cutoff=limit,
        merging_cutoff=False,
    )
    found, splits, _ = tracker.predict_dataframe(table, ["x", "y"], frame_col="frame", index_offset=1)
    parents = dict(zip(splits["child_track_id"], splits["parent_track_id"])) if len(splits) else {}
    ids = [np.zeros(len(own), dtype=np.int64) for own in frames]
    for t, place, track in zip(found["frame"], found["place"], found["track_id"]):
        ids[t][place] = track
    spans = found.groupby("track_id")["frame"].agg(["min", "max"])
    rows = [[track, low, high, parents.get(track, 0)] for track, low, high in spans.itertuples()]
    return Tracks(tuple(ids), np.array(rows, dtype=np.int64), cells.diameter)


def score(maps: Sequence[np.ndarray], frames: Sequence[Cells], tracks: Tracks, folder: Path) -> dict[str, float]:
    """The Challenge's measures of tracks, written to ``folder`` and read again, against label maps."""
    results = [FrameCells(Frame(folder, f"t{t:03d}", maps[t]), cells) for t, cells in enumerate(frames)]
    write_ctc(folder, results, tracks)
    masks = sorted(folder.glob("mask*.tif"))
    matches = [match(labels, tifffile.imread(path)) for labels, path in zip(maps, masks)]
    found = dict(zip(("labels_ref", "labels_comp", "mapped_ref", "mapped_comp", "ious"), map(list, zip(*matches))))
    table = np.loadtxt(folder / "res_track.txt", dtype=np.int64, ndmin=2)
    fine = valid([path.name for path in masks], table, found["labels_comp"])
    return calculate_metrics(table, truth_table(maps), found, dict(found), list(METRICS), fine)


def match(truth: np.ndarray, found: np.ndarray) -> tuple[list, list, list, list, list]:
    """The Challenge's match of a frame, as py-ctcmetrics returns it: a mask that covers over half of a true one."""
    names, a = np.unique(truth, return_inverse=True)
    others, b = np.unique(found, return_inverse=True)
    common = np.bincount(a.ravel() * len(others) + b.ravel(), minlength=len(names) * len(others)).reshape(
        len(names), -1
    )
    areas, sizes = common.sum(axis=1, keepdims=True), common.sum(axis=0, keepdims=True)
    hit = (2 * common > areas) & (names > 0)[:, None] & (others > 0)
    rows, columns = np.nonzero(hit)
    ious = (common / (areas + sizes - common))[hit].tolist()
    return names[names > 0].tolist(), others[others > 0].tolist(), names[rows].tolist(), others[columns].tolist(), ious


def drop(frames: Sequence[Cells], share: float, seed: int = 0) -> list[list[dict]]:
    """Frames without a random share of their cells."""
    generator = np.random.default_rng(seed)
    return [[cell for cell in cells if generator.random() >= share] for cells in frames]


def run(frames: int) -> Table:
    """Score every way of linking on the film as it is, with cells removed, and with every third frame only."""
    ways: dict[str, Callable[[Sequence[Cells]], Tracks]] = {
        "ours": link,
        "ours, no gaps closed": lambda cells: link(cells, max_gap=0),
        "ours, no divisions": lambda cells: link(cells, divisions=False),
        "ours, by LapTrack": link_by_laptrack,
        "LapTrack, centres": laptrack,
    }
    table = Table(title="Linking of annotated masks, PhC-C2DL-PSC 02")
    for column in ("cells", "linked by", *SHOWN, "tracks", "seconds"):
        table.add_column(column, justify="left" if column in ("cells", "linked by") else "right")
    link([cells_of(labels) for labels in read_truth(2)])  # compiles
    for name, step, share in (("all", 1, 0.0), ("5 % removed", 1, 0.05), ("every third frame", 3, 0.0)):
        maps = read_truth(frames, step)
        film = drop([cells_of(labels) for labels in maps], share)
        for way, linked in ways.items():
            started = time.perf_counter()
            tracks = linked(film)
            seconds = time.perf_counter() - started
            with tempfile.TemporaryDirectory() as folder:
                found = score(maps, film, tracks, Path(folder))
            shown = ["-" if found.get(key) is None else f"{found[key]:.4f}" for key in SHOWN]
            table.add_row(name, way, *shown, str(len(tracks)), f"{seconds:.2f}")
        table.add_section()
    return table


def measure_speed(cells: int, frames: int) -> str:
    """Seconds to link discs that wander on a grid, 3 % of them missing in each frame."""
    generator = np.random.default_rng(0)
    columns = int(np.ceil(np.sqrt(cells)))
    side, turn = 34 * columns, np.linspace(0, 2 * np.pi, 24, endpoint=False)
    at = 34.0 * np.stack(np.divmod(np.arange(cells), columns), axis=1) + 17
    outline, film = 12 * np.stack([np.cos(turn), np.sin(turn)], axis=1), []
    for _ in range(frames):
        at = np.clip(at + generator.normal(0, 2, at.shape), 13, side - 13)
        there = at[generator.random(cells) > 0.03]
        rles = mask_util.frPyObjects([(centre + outline).ravel().tolist() for centre in there], side, side)
        boxes = mask_util.toBbox(rles).tolist()
        film.append([{"bbox": box, "score": 1.0, "segmentation": _as_text(rle)} for box, rle in zip(boxes, rles)])
    seconds = {}
    for name, linked in (("ours", link), ("ours by LapTrack", link_by_laptrack), ("LapTrack on centres", laptrack)):
        started = time.perf_counter()
        linked(film)
        seconds[name] = time.perf_counter() - started
    return f"{cells} cells x {frames} frames: " + ", ".join(f"{name} {spent:.1f} s" for name, spent in seconds.items())


def _as_text(rle: dict) -> dict:
    return {"size": rle["size"], "counts": rle["counts"].decode("ascii")}


def _apart(maps: Sequence[np.ndarray], name: int, last: int, other: int) -> float:
    """Pixels between the centres of a label in its last frame and another one in the frame after."""
    centres = [np.argwhere(maps[t] == label).mean(axis=0) for t, label in ((last, name), (last + 1, other))]
    return float(np.linalg.norm(centres[0] - centres[1]))


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=50, help="of the film, from its first one on")
    parser.add_argument("--speed", nargs=2, type=int, metavar=("CELLS", "FRAMES"), help="measure time instead")
    options = parser.parse_args()
    Console(width=140).print(measure_speed(*options.speed) if options.speed else run(options.frames))


if __name__ == "__main__":
    main()
