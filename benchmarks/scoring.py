#!/usr/bin/env python
"""What scoring costs, JSON files to arrays, beside pycocotools and faster-coco-eval: python benchmarks/scoring.py.

Every figure comes from a process of its own, run with numba's caches warm. CPU seconds count all threads; "alone"
leaves out the start of Python, imports and a first scoring of a tiny scene. Scenes stay in --folder for the next time.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scenes import write_scenes

COMPARED = 8  # images that pycocotools scores too
IMAGES, CELLS = (25, 50, 100, 200), (100, 300, 1000, 3000)
Files = tuple[Path, Path]


def ours(truth: Path, results: Path, task: str) -> np.ndarray:
    """Precision (areas, IoUs, recalls) by cellseg_d2."""
    from cellseg_d2.evaluation.protocol import LIVECELL
    from cellseg_d2.evaluation.reading import read_ground_truth, read_results
    from cellseg_d2.evaluation.scoring import score_task

    gt = read_ground_truth(truth)
    score = score_task(gt.images, gt.objects, read_results(results, gt), task, LIVECELL)
    return score.ranking.precision()[0][: len(LIVECELL.area_ranges)]


def pycocotools(truth: Path, results: Path, task: str) -> np.ndarray:
    """The same by pycocotools."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    return _coco(COCO, COCOeval, truth, results, task)


def faster(truth: Path, results: Path, task: str) -> np.ndarray:
    """The same by faster-coco-eval."""
    from faster_coco_eval import COCO, COCOeval_faster

    return _coco(COCO, COCOeval_faster, truth, results, task)


def _coco(coco: type, evaluation: type, truth: Path, results: Path, task: str) -> np.ndarray:
    """Results with their box removed, so that masks are ranked and sized as ours; without their mask for boxes."""
    from cellseg_d2.evaluation.protocol import LIVECELL

    gt, entries = coco(str(truth)), json.loads(results.read_bytes())
    for entry in entries:
        entry.pop("bbox" if task == "segm" else "segmentation")
        entry["score"] = entry["mask_score" if task == "segm" else "score"]
    run = evaluation(gt, gt.loadRes(entries), task)
    run.params.useCats, run.params.maxDets = 0, list(LIVECELL.max_dets)
    run.params.areaRng = [list(limits) for _, limits in LIVECELL.area_ranges]
    run.params.areaRngLbl = [name or "all" for name, _ in LIVECELL.area_ranges]
    run.evaluate()
    run.accumulate()
    return run.eval["precision"][:, :, 0, :, -1].transpose(2, 0, 1)


def steps(truth: Path, results: Path, task: str) -> dict[str, tuple[float, float]]:
    """Step -> CPU seconds, and peak MB of the process until then, of a whole data set scored in this fresh process."""
    table: dict[str, tuple[float, float]] = {}
    before = 0.0

    def done(step: str) -> None:
        nonlocal before
        table[step], before = (time.process_time() - before, peak_memory()), time.process_time()

    done("start and imports of this script")
    from cellseg_d2.evaluation import bootstrap, evaluate, reading
    from cellseg_d2.evaluation.scoring import score_task

    done("import")
    gt = reading.read_ground_truth(truth)
    done("read annotations")
    found = reading.read_results(results, gt)
    done("read results")
    score = score_task(gt.images, gt.objects, found, task, evaluate.LIVECELL)
    done("match")
    score.ranking.precision()
    done("arrays")
    del score
    metrics = evaluate._task_metrics(gt, found, task, evaluate.Options(), evaluate.LIVECELL)
    done("(match again, and sums of all metrics)")
    bootstrap.intervals(metrics, np.ones(len(gt.images), bool), 1000, 0)
    done("(1,000 resamples)")
    return table


def peak_memory() -> float:
    """MB that this process has held at most; not ru_maxrss, which a process takes over from the one that starts it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def work(method: str, task: str, files: Files, tiny: Files, output: Path) -> None:
    """Measure in this process; figures are the last line printed, precision goes to ``output``."""
    if method == "steps":
        print(json.dumps(steps(*files, task)))
        return
    function: Callable[..., np.ndarray] = {"ours": ours, "pycocotools": pycocotools, "faster": faster}[method]
    with contextlib.redirect_stdout(None):
        function(*tiny, task)
        start, memory = time.process_time(), peak_memory()
        np.save(output, function(*files, task))
    total, peak = time.process_time(), peak_memory()
    print(json.dumps({"total": total, "alone": total - start, "peak": peak, "above": peak - memory}))


def measure(method: str, task: str, files: Files, tiny: Files) -> dict[str, Any]:
    """Figures of a fresh process, and the precision that it found."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "precision.npy"
        command = [sys.executable, __file__, "--work", method, task, *map(str, (*files, *tiny, output))]
        limits = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        text = subprocess.run(command, check=True, env=os.environ | limits, stdout=subprocess.PIPE, text=True).stdout
        figures = json.loads(text.splitlines()[-1])
        return figures | ({"precision": np.load(output)} if output.exists() else {})


def compare(files: Files, tiny: Files, images: int) -> Table:
    """Ours beside pycocotools and faster-coco-eval on the same images."""
    table = Table(title=f"Scoring {images} images of 295 cells (mean), LIVECell protocol: CPU seconds, MB")
    table.caption = "ratio: of what is used alone; apart: from pycocotools' precision, 0: equal"
    for column in ("", "task", "process", "alone", "ratio", "peak", "above", "apart"):
        table.add_column(column, justify="right" if column else "left")
    for task in ("segm", "bbox"):
        found = {method: measure(method, task, files, tiny) for method in ("ours", "faster", "pycocotools")}
        truth = found["pycocotools"]["precision"]
        for method, name in (("ours", "cellseg_d2"), ("faster", "faster-coco-eval"), ("pycocotools", "pycocotools")):
            f = found[method]
            apart = np.abs(f["precision"] - truth).max()
            ratio = f["alone"] / found["ours"]["alone"]
            seconds = f"{f['total']:.2f}", f"{f['alone']:.3f}", f"{ratio:.1f}"
            table.add_row(name, task, *seconds, f"{f['peak']:.0f}", f"{f['above']:.0f}", f"{apart:.1g}")
    return table


def growth(folder: Path, tiny: Files) -> Table:
    """How time and memory grow with images and with density, masks."""
    table = Table(title="Growth, masks: CPU seconds and MB, without start and imports")
    for column in ("images", "cells each", "cellseg_d2", "MB", "faster-coco-eval", "MB", "ratio"):
        table.add_column(column, justify="right")
    for images, cells, spread in [*((n, 295, 0.85) for n in IMAGES), *((10, n, 0.0) for n in CELLS)]:
        files = scenes(folder, images, cells, spread)
        a, b = (measure(method, "segm", files, tiny) for method in ("ours", "faster"))
        row = [f"{f['alone']:.3f}" if key else f"{f['above']:.0f}" for f in (a, b) for key in (1, 0)]
        table.add_row(str(images), str(cells), *row, f"{b['alone'] / a['alone']:.1f}")
    return table


def full(folder: Path, tiny: Files) -> Table:
    """All images of a test set like LIVECell's in a fresh process."""
    files = scenes(folder, 1564, 295)
    table = Table(title="1,564 images, about 462,000 cells, fresh process: CPU seconds, and peak MB until then")
    for column in ("", "masks", "MB", "boxes", "MB"):
        table.add_column(column, justify="right" if column else "left")
    columns = [measure("steps", task, files, tiny) for task in ("segm", "bbox")]
    totals = [(sum(s for step, (s, _) in c.items() if step[0] != "("), c["arrays"][1]) for c in columns]
    for step in (*columns[0], "JSON to numbers, without the steps in brackets"):
        cells = [column.get(step, total) for column, total in zip(columns, totals)]
        table.add_row(step, *(text for s, mb in cells for text in (f"{s:.2f}", f"{mb:.0f}")))
    return table


def scenes(folder: Path, images: int, cells: int, spread: float = 0.85) -> Files:
    """Files of made-up scenes, those of an earlier run where they are there."""
    folder = folder / f"{images}x{cells}"
    files = folder / "gt.json", folder / "results.json"
    return files if all(file.exists() for file in files) else write_scenes(folder, images, cells, 0, spread)


def run(folder: Path, whole: bool = False) -> None:
    """Measure and print."""
    tiny = scenes(folder, 2, 20)
    measure("ours", "segm", tiny, tiny)  # compiles what no earlier run has
    measure("ours", "bbox", tiny, tiny)
    if whole:
        measure("steps", "segm", tiny, tiny)
        Console().print(full(folder, tiny))
        return
    Console().print(compare(scenes(folder, COMPARED, 295), tiny, COMPARED))
    Console().print(growth(folder, tiny))


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="score all 1,564 images, by ours alone")
    parser.add_argument("--folder", type=Path, help="keep scenes here (default: a temporary folder)")
    parser.add_argument("--work", nargs=7, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        method, task, *paths = options.work
        a, b, c, d, output = map(Path, paths)
        work(method, task, (a, b), (c, d), output)
        return
    with contextlib.ExitStack() as stack:
        run(options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory())), options.full)


if __name__ == "__main__":
    main()
