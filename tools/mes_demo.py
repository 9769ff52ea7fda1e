#!/usr/bin/env python
"""From a few outlined frames to a model: train GoogLeNet-FCN on all frames but one, score and draw that one.

    python tools/mes_demo.py --output output/mes-demo        (or: make mes-demo)
    python tools/mes_demo.py --output output/mes-loo --leave-one-out
    python tools/mes_demo.py --images my/images --masks my/masks --hold-out frame7 --output output/mine

Without --images: mouse embryonic stem cells (mes_gowt1) where they are found, else simulated cells.
Stopped with Ctrl-C, it goes on where it was when called again; once finished, it only draws again.
"""

import argparse
import logging
import math
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.engine import default_argument_parser
from rich.console import Console
from rich.table import Table

from cellseg_d2.data.datasets import load, resolve
from cellseg_d2.data.datasets.mes import NAMES, find_example, leave_one_out
from cellseg_d2.data.image_io import read_image
from cellseg_d2.data.label_maps import rasterise
from cellseg_d2.data.synthesis.phantom import PhantomSpec, write_dataset
from cellseg_d2.engine import Trainer
from cellseg_d2.engine.errors import ConfigError
from cellseg_d2.engine.launch import launch
from cellseg_d2.engine.same_run import require_same_run
from cellseg_d2.engine.setup import load_config, setup_cfg
from cellseg_d2.evaluation.figures import four_panels
from cellseg_d2.evaluation.roc import PixelRoc
from cellseg_d2.files import finite_or_none, read_json, write_json
from cellseg_d2.inference.model_folder import save_model
from cellseg_d2.inference.semantic import SemanticPredictor

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "mes_demo.yaml"
SPEC = PhantomSpec(height=512, width=512, cells=(25, 45), scale=1.4, overlap=0.1)
SCORES = {"pixel_auc": "roc/AUC", "pixel_f1": "segm/pixel_F1", "instance_f1_50": "segm/instance_F1_50"}
SPECK = 0.2  # of the area of the smallest cell
REPEATS = 5  # of the timed prediction
console = Console(highlight=False)


def find_data(args: argparse.Namespace) -> list[str]:
    """Options that name the data: none for mes_gowt1, which is taken where it is found; else simulated frames."""
    if args.images:
        return ["DATASETS.MES.IMAGES", args.images, "DATASETS.MES.MASKS", args.masks]
    if find_example():
        return []
    with console.status("mes_gowt1 is not there (datasets/README.md): simulating five frames"):
        json_file = write_dataset(Path(args.output) / "phantoms", SPEC, 5, seed=1)
    return ["DATASETS.MES.IMAGES", str(json_file.parent / "images"), "DATASETS.MES.MASKS", str(json_file)]


def run(args: argparse.Namespace) -> None:
    """One fold, or one for each frame."""
    args.opts = [*find_data(args), *args.opts]
    if not args.leave_one_out:
        show(fold(args, Path(args.output), args.hold_out))
        return
    resolved(args.opts)
    names = [Path(record["file_name"]).stem for name in NAMES for record in DatasetCatalog.get(name)]
    folds = {held: fold(args, Path(args.output) / held, held) for _, (held,) in leave_one_out(sorted(names))}
    rows = {name: spread([summary[name] for summary in folds.values()]) for name in next(iter(folds.values()))}
    write_json(Path(args.output) / "leave_one_out.json", finite_or_none({"folds": folds, "spread": rows}), indent=2)
    for held, summary in folds.items():
        show(summary, held)
    for name, row in rows.items():
        console.print(f"{name}: mean {row['mean']:.4f}, standard deviation {row['sd']:.4f}, lowest {row['min']:.4f}")


def spread(values: list[float]) -> dict[str, float]:
    """Mean, standard deviation and lowest of the folds that have the score: a frame without a cell has no F1."""
    known = [value for value in values if math.isfinite(value)]
    mean, low = (statistics.mean(known), min(known)) if known else (math.nan, math.nan)
    sd = statistics.stdev(known) if len(known) > 1 else math.nan
    return {"mean": mean, "sd": sd, "min": low, "frames": len(known)}


def resolved(opts: list[str]) -> CfgNode:
    """The configuration with its data sets registered."""
    cfg = load_config(str(CONFIG), opts)
    if cfg.TEST.ROC_IMAGES < 1:
        raise ConfigError("TEST.ROC_IMAGES: the demo chooses a threshold, give 1 or more")
    resolve(cfg)
    return cfg


def fold(args: argparse.Namespace, output: Path, held_out: str) -> dict[str, float]:
    """Train with one frame held out (the last one where none is named), then save, predict and score."""
    options = [*args.opts, *(["DATASETS.MES.HOLD_OUT", f"({held_out!r},)"] if held_out else [])]
    options = [*smallest_part(options), *options, "OUTPUT_DIR", str(output)]
    require_same_run(resolved(options))
    for name in ("cellseg_d2", "fvcore", "detectron2"):
        logging.getLogger(name).handlers.clear()  # those of the fold before, which write into its folder
    cfg = setup_cfg(argparse.Namespace(**{**vars(args), "opts": options}))
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=True)
    if trainer.start_iter:
        console.print(f"going on after iteration {trainer.start_iter}; delete {output} to start anew")
    clock = output / "train_seconds.json"
    before = read_json(clock)["seconds"] if trainer.start_iter and clock.is_file() else 0.0
    started = time.perf_counter()
    try:
        scores = trainer.train()
    finally:
        write_json(clock, {"seconds": before + time.perf_counter() - started})
    roc = read_json(output / "roc.json")
    areas = {name: curve["auc"] for name, curve in roc["curves"].items()}
    save_model(output / "model", cfg, trainer.checkpointer.model, {"choice": roc["choice"], "pixel_auc": areas})
    summary = {name: scores[key] / 100 for name, key in SCORES.items()}
    summary |= predict(cfg, output, roc)
    summary["train_minutes"] = read_json(clock)["seconds"] / 60
    write_json(output / "summary.json", finite_or_none(summary), indent=2)
    return summary


def smallest_part(options: list[str]) -> list[str]:
    """MODEL.SEMANTIC.MIN_AREA: a speck is what is much smaller than all cells that are outlined to learn from."""
    records = load(resolved(options).DATASETS.TRAIN[0])
    areas = [a["area"] for record in records for a in record["annotations"] if not a["iscrowd"] and a["area"]]
    return ["MODEL.SEMANTIC.MIN_AREA", str(int(min(areas) * SPECK))] if areas else []


def predict(cfg: CfgNode, output: Path, roc: dict[str, Any]) -> dict[str, float]:
    """Draw the held-out frames.

    Returns:
        ``seconds_per_frame`` from its file to its labels, after loading (median), and ``pixel_f1_whole_frame``, in
        which the margin that DATASETS.MES.MARGIN leaves out counts as well.
    """
    predictor = SemanticPredictor.from_folder(output / "model")
    curves = {name: PixelRoc.from_dict(curve) for name, curve in roc["curves"].items()}
    times, both, either = [], 0, 0  # pixels of cells, outlined and found
    for record in DatasetCatalog.get(cfg.DATASETS.TEST[0]):
        path = Path(record["file_name"])
        predictions = [predictor(path) for _ in range(REPEATS)]
        times += [prediction.seconds for prediction in predictions[1:]]
        found = predictions[-1]
        outlined = rasterise(record["annotations"], record["height"], record["width"]) > 0
        both += int((outlined & (found.labels > 0)).sum())
        either += int(outlined.sum() + (found.labels > 0).sum())
        operating = curves["training"].at(roc["threshold"])
        image = read_image(path, cfg.INPUT.STRETCH_PERCENTILES)
        four_panels(output / f"{path.stem}.png", image, found.probability, found.labels, curves, operating, path.stem)
    f1 = 2 * both / either if either else float("nan")
    return {"seconds_per_frame": statistics.median(times), "pixel_f1_whole_frame": f1}


def show(summary: dict[str, float], title: str = "held-out frame") -> None:
    """What came out."""
    table = Table(title=title)
    for name in summary:
        table.add_column(name, justify="right")
    table.add_row(*(f"{value:.4g}" for value in summary.values()))
    console.print(table)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line, with what Detectron2's set-up asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", default="output/mes-demo", help="folder of all results")
    parser.add_argument("--images", default="", help="folder of frames")
    parser.add_argument("--masks", default="", help="label images, binary masks, ImageJ ROI zips, or a COCO JSON")
    parser.add_argument("--hold-out", default="", metavar="FRAME", help="name or number of the frame to score")
    parser.add_argument("--leave-one-out", action="store_true", help="hold each frame out in turn")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="changes to configs/mes_demo.yaml")
    given = parser.parse_args(arguments)
    if bool(given.images) != bool(given.masks):
        parser.error("--images needs --masks" if given.images else "--masks needs --images")
    if given.hold_out and given.leave_one_out:
        parser.error("--leave-one-out holds each frame out in turn: leave --hold-out out")
    args = default_argument_parser().parse_args(["--config-file", str(CONFIG)])
    for name, value in vars(given).items():
        setattr(args, name, value)
    return args


if __name__ == "__main__":
    sys.exit(launch(run, parse()))
