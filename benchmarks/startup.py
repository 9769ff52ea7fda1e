#!/usr/bin/env python
"""Seconds and memory until a data set of COCO polygons is ready for training: python benchmarks/startup.py [--full].

Ours, the first time (the index is made) and the second, beside Detectron2's load_coco_json with the DatasetFromList of
its loaders; each in a process of its own, without the start of Python and imports.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table
from scenes import write_scenes
from scoring import peak_memory

IMAGES = {False: 400, True: 3390}  # of 295 cells each; with --full a million
KINDS = ("cellseg_d2, first time", "cellseg_d2, second time", "Detectron2")


def prepare(folder: Path, images: int) -> Path:
    """A JSON and empty image files, those of an earlier run where they are there."""
    truth = folder / "gt.json"
    if not truth.exists():
        write_scenes(folder, images)
    for image in msgspec.json.decode(truth.read_bytes())["images"]:
        place = folder / "images" / image["file_name"]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
    for cache in folder.glob("*.cellseg-cache"):
        cache.unlink()
    return truth


def ours(truth: Path) -> int:
    """Register and load."""
    from cellseg_d2.data.datasets import load, register_coco

    register_coco("startup", truth, truth.parent / "images")
    return len(load("startup"))


def detectron2(truth: Path) -> int:
    """Load and serialise."""
    from detectron2.data import DatasetFromList
    from detectron2.data.datasets import load_coco_json

    return len(DatasetFromList(load_coco_json(str(truth), str(truth.parent / "images")), copy=False))


def work(kind: str, truth: Path) -> None:
    """Measure one kind in this process."""
    import cellseg_d2.data.loader  # noqa: F401  (imports all that either needs)

    before = peak_memory()
    cpu, wall = time.process_time(), time.perf_counter()
    count = (detectron2 if kind == KINDS[-1] else ours)(truth)
    spent = time.process_time() - cpu, time.perf_counter() - wall
    print(json.dumps({"images": count, "cpu": spent[0], "wall": spent[1], "peak": peak_memory(), "imports": before}))


def run(folder: Path, full: bool = False) -> Table:
    """Measure all kinds."""
    truth = prepare(folder, IMAGES[full])
    table = Table(title=f"Start of a data set: {IMAGES[full]:,} images, {truth.stat().st_size / 1e6:.0f} MB of JSON")
    for column in ("", "CPU seconds", "seconds", "peak MB", "of it imports", "CPU ratio"):
        table.add_column(column, justify="right" if column else "left")
    rows = {}
    for kind in KINDS:
        command = [sys.executable, __file__, "--work", kind, "--folder", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        rows[kind] = json.loads(done.stdout.splitlines()[-1])
    for kind, row in rows.items():
        ratio = rows[KINDS[-1]]["cpu"] / row["cpu"]
        numbers = f"{row['cpu']:.3f}", f"{row['wall']:.2f}", f"{row['peak']:.0f}", f"{row['imports']:.0f}"
        table.add_row(kind, *numbers, f"{ratio:.1f}")
    return table


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="a million annotations (0.9 GB of disk, some minutes)")
    parser.add_argument("--folder", type=Path, help="keep the files here (default: a temporary folder)")
    parser.add_argument("--work", choices=KINDS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.work, options.folder / "gt.json")
        return
    with tempfile.TemporaryDirectory() as folder:
        Console().print(run(options.folder or Path(folder), options.full))


if __name__ == "__main__":
    main()
