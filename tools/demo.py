#!/usr/bin/env python
"""The main job in a few minutes: simulate cells, train CenterMask V-19-slim-dw from scratch, evaluate, predict.

    python tools/demo.py --output output/demo        (or: make demo)

Stopped with Ctrl-C, it goes on where it was when called again; once finished, it only evaluates again.
"""

import argparse
import json
import sys
import time
from functools import partial
from pathlib import Path

from detectron2.engine import default_argument_parser
from rich.console import Console
from rich.status import Status
from rich.table import Table

from cellseg_d2.data.synthesis.phantom import PhantomSpec, write_dataset
from cellseg_d2.engine import Trainer
from cellseg_d2.engine.launch import launch
from cellseg_d2.engine.setup import setup_cfg
from cellseg_d2.files import finite_or_none, write_json

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "demo.yaml"
SPEC = PhantomSpec(cells=(10, 30), scale=1.4, overlap=0.1)
SPLITS = {"train": (160, 1), "val": (24, 2)}  # images and seed
console = Console(highlight=False)


def simulate(folder: Path) -> list[str]:
    """Write the data sets that are not there yet; returns the options that name them."""
    options = []
    for split, (images, seed) in SPLITS.items():
        with console.status(f"simulating {images} images for {split}") as status:
            show_progress = partial(_show_progress, status, split, images)
            try:
                path = write_dataset(folder / split, SPEC, images, seed, progress=show_progress)
            except OSError as error:
                sys.exit(f"demo.py: the simulated images cannot be written: {error}")
        console.print(f"{images} simulated images for {split}: {path.parent}")
        key = f"DATASETS.CUSTOM.{split.upper()}"
        options += [f"{key}_JSON", str(path), f"{key}_IMAGES", str(path.parent / "images")]
    return options


def _show_progress(status: Status, split: str, images: int, done: int) -> None:
    status.update(f"simulating {split}: {done} of {images}")


def run(args: argparse.Namespace) -> None:
    """Train, evaluate, and put the results together."""
    started = time.time()
    output = Path(args.output)
    args.opts = [*simulate(output / "phantoms"), "OUTPUT_DIR", str(output), *args.opts]
    cfg = setup_cfg(args)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=True)
    if trainer.start_iter:
        console.print(f"going on after iteration {trainer.start_iter}; delete {output} to start anew")
    flat = trainer.train()
    summary = {"segm": {}, "bbox": {}}
    for key, value in flat.items():
        task, _, name = key.partition("/")
        if task in summary:
            summary[task][name] = value
    found = output / "inference" / "custom_val" / "coco_instances_results.json"
    predictions = json.loads(found.read_text())
    write_json(output / "predictions.json", predictions)
    summary["predictions"] = len(predictions)
    summary["seconds"] = round(time.time() - started, 1)
    write_json(output / "summary.json", finite_or_none(summary), indent=2)
    show(output, summary)


def show(output: Path, summary: dict) -> None:
    """What came out, where it is, and what to try next."""
    table = Table(title="held-out phantoms, percent")
    names = ("AP", "AP50", "AP75")
    for column in ("", *names):
        table.add_column(column, justify="right" if column else "left")
    for task in ("segm", "bbox"):
        table.add_row(task, *(f"{summary[task][name]:.1f}" for name in names))
    console.print(table)
    for path, what in {
        "summary.json": "these numbers",
        "predictions.json": f"{summary['predictions']} cells as COCO results",
        "overlays/custom_val": "pictures: predicted outlines orange, true ones blue",
        "model_best.pth": "the trained weights",
    }.items():
        console.print(f"  {output / path}  {what}", soft_wrap=True)
    console.print(
        "Next, with your own images (COCO JSON and a folder), or see README.md:\n"
        f"  {sys.executable} tools/train_net.py --config-file configs/finetune_example.yaml "
        "DATASETS.CUSTOM.TRAIN_JSON train.json DATASETS.CUSTOM.TRAIN_IMAGES images/ "
        "DATASETS.CUSTOM.VAL_JSON val.json DATASETS.CUSTOM.VAL_IMAGES images/",
        soft_wrap=True,
    )


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line, with what Detectron2's set-up asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", default="output/demo", help="folder of all results")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="changes to configs/demo.yaml")
    given = parser.parse_args(arguments)
    args = default_argument_parser().parse_args(["--config-file", str(CONFIG)])
    args.output, args.opts = given.output, given.opts
    return args


if __name__ == "__main__":
    sys.exit(launch(run, parse()))
