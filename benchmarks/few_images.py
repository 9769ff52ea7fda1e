#!/usr/bin/env python
"""The same small model from few images, with and without synthetic extension of them.

    python benchmarks/few_images.py --json dsb/train.json --images DSB/images --test-json dsb/val.json \\
        --test-images DSB/images --output output/few/dsb-results --arms plain
    ... --arms extended --extend "--factor 5 --density 1.5"          # later, into the same --output
    ... --sizes 4 16 --seeds 0 --opts SOLVER.MAX_ITER 200            # a change to the configuration

Of each seed the images of a smaller size are among those of a larger one, and come from different groups (key "field"
of the image entries, else likeness) as far as there are any. The extension gets the cells of these images alone. Every
training takes as many iterations, in a process of its own; finished ones are not repeated. OUTPUT gets results.csv, a
row each, and a folder each. Exit code: 0 all done, 1 some trainings failed, 2 unusable input,
130 stopped with Ctrl-C.
"""

import argparse
import hashlib
import json
import os
import resource
import shlex
import shutil
import subprocess
import sys
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from few_images_data import groups_of, order_of
from few_images_table import tables, write_csv
from rich.console import Console

from cellseg_d2.data.datasets.coco_json import read_coco
from cellseg_d2.data.split import select
from cellseg_d2.errors import DatasetError
from cellseg_d2.files import read_json, sha256, write_json

ROOT = Path(__file__).resolve().parents[1]
ARMS = ("plain", "extended")
console = Console(highlight=False, markup=False, soft_wrap=True)


class CaseFailed(RuntimeError):
    """One training that came to no result."""


def call(command: list[str], log: Path, threads: int, good: tuple[int, ...] = (0,)) -> None:
    """Run a tool of ours, its output into a file.

    Raises:
        CaseFailed: with the last line of the output.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    with open(log, "w") as stream:
        done = subprocess.run(
            [sys.executable, *command], cwd=ROOT, env=environment, stdout=stream, stderr=subprocess.STDOUT, check=False
        )
    if done.returncode not in good:
        last = (log.read_text(errors="replace").strip().splitlines() or ["no output"])[-1]
        raise CaseFailed(f"{last} (exit code {done.returncode}; {log})")


def training_set(args: argparse.Namespace, order: np.ndarray, case: dict[str, Any], folder: Path) -> tuple[Path, Path]:
    """JSON and image folder of a case: its images, extended by the ones made from them where the arm says so."""
    coco = read_coco(args.json)
    chosen = {coco.images[k]["id"] for k in order[: case["size"]]}
    subset = write_json(folder / "subset.json", select(coco, chosen))
    if case["arm"] == "plain":
        return subset, args.images
    made = folder / "extension"
    shutil.rmtree(made, ignore_errors=True)  # of a run that broke off
    command = ["tools/dataset.py", "extend", "--json", str(subset), "--images", str(args.images), "--output", str(made)]
    command += ["--seed", str(case["seed"]), *shlex.split(case["extend"])]
    call(command, folder / "extend.log", args.threads, good=(0, 1))  # 1: there is something to look at
    return made / "annotations.json", made / "images"


def run_case(args: argparse.Namespace, order: np.ndarray, case: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Extend, train, score; returns the row, which is also ``folder``/row.json."""
    folder.mkdir(parents=True, exist_ok=True)
    truth, images = training_set(args, order, case, folder)
    options = {
        "DATASETS.CUSTOM.TRAIN_JSON": truth, "DATASETS.CUSTOM.TRAIN_IMAGES": images,
        "DATASETS.CUSTOM.VAL_JSON": args.test_json, "DATASETS.CUSTOM.VAL_IMAGES": args.test_images,
        "SEED": case["seed"], "OUTPUT_DIR": folder / "training",
    }  # fmt: skip
    command = ["tools/train_net.py", "--config-file", str(args.config), *args.opts]
    command += [str(word) for pair in options.items() for word in pair]
    started, cpu = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    call(command, folder / "train.log", args.threads)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    scores = read_json(folder / "training" / "inference" / "custom_val" / "metrics.json")
    coco = read_coco(truth)
    row = {**case, "train_images": len(coco.images), "train_cells": len(coco.annotations), **picked(scores)}
    row["seconds"] = round(time.monotonic() - started, 1)
    row["cpu_seconds"] = round(used.ru_utime + used.ru_stime - cpu.ru_utime - cpu.ru_stime, 1)
    for weights in [] if args.keep_weights else (folder / "training").glob("*.pth"):
        weights.unlink()
    write_json(folder / "row.json", row)
    return row


def picked(scores: dict[str, Any]) -> dict[str, float | None]:
    """The columns of the table out of the scores of an evaluation."""
    masks = {name: scores["segm"].get(name) for name in ("AP", "AP50", "AP75", "AFNR")}
    return masks | {"bbox_AP": scores["bbox"].get("AP")}


def check_same(args: argparse.Namespace) -> None:
    """Results of one folder are of the same data, configuration and options.

    Raises:
        DatasetError: those of an earlier run differ.
    """
    files = {"json": args.json, "test_json": args.test_json, "config": args.config}
    now = {name: sha256(path) for name, path in files.items()} | {"options": args.opts}
    path = args.output / "settings.json"
    before = read_json(path) if path.exists() else now
    other = [name for name in now if before.get(name) != now[name]]
    if other:
        raise DatasetError(f"{args.output} has results with other {', '.join(other)}: choose another --output")
    write_json(path, now, indent=2)


def run(args: argparse.Namespace) -> int:
    """All cases; returns how many failed."""
    groups = groups_of(args.json, args.images)
    if max(args.sizes) > len(groups):
        raise DatasetError(f"--sizes {max(args.sizes)}: {args.json} has {len(groups)} images")
    check_same(args)
    failed = 0
    for seed, size, arm in product(args.seeds, args.sizes, args.arms):
        case = {"size": size, "seed": seed, "arm": arm, "extend": args.extend if arm == "extended" else ""}
        kind = f"_{hashlib.sha1(args.extend.encode()).hexdigest()[:6]}" if arm == "extended" else ""
        name = f"{arm}_{size}_{seed}{kind}"  # extended by other options, it is another arm
        if (args.output / name / "row.json").exists():
            continue
        try:
            row = run_case(args, order_of(groups, seed), case, args.output / name)
            console.print(f"{name}: {json.dumps(row)}")
        except (CaseFailed, ValueError, OSError) as error:  # the others may still succeed
            console.print(f"{name} failed: {error}")
            failed += 1
        write_csv(args.output)
    for table in tables(write_csv(args.output)):
        console.print(table)
    return failed


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True, help="COCO JSON of the images to choose from")
    parser.add_argument("--images", type=Path, required=True, metavar="DIR")
    parser.add_argument("--test-json", type=Path, required=True, help="COCO JSON of the test images")
    parser.add_argument("--test-images", type=Path, required=True, metavar="DIR")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--sizes", type=int, nargs="+", default=[4, 8, 16], help="numbers of training images")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the choice and the training")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--extend", default="", metavar="OPTIONS", help='of "dataset.py extend": "--factor 5"')
    parser.add_argument("--config", type=Path, default=ROOT / "configs" / "few_images.yaml")
    parser.add_argument("--threads", type=int, default=1, help="of a training")
    parser.add_argument("--keep-weights", action="store_true", help="keep the trained models")
    parser.add_argument("--opts", nargs="+", default=[], metavar="WORD", help="KEY VALUE ...: changes to --config")
    args = parser.parse_args()
    if min(args.sizes) < 1 or min(args.seeds) < 0 or args.threads < 1:
        parser.error("--sizes and --threads are at least 1, --seeds at least 0")
    for name in ("json", "images", "test_json", "test_images", "config"):
        path = getattr(args, name).resolve()
        if not path.exists():
            parser.error(f"--{name.replace('_', '-')} {path}: there is no such file or folder")
        setattr(args, name, path)
    args.output = args.output.resolve()
    return args


def main() -> int:
    """Command line."""
    try:
        return 1 if run(parse()) else 0
    except (ValueError, OSError) as error:  # of these are the data sets' own errors
        print(f"few_images.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("few_images.py: stopped; the same command goes on", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
