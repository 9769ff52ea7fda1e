#!/usr/bin/env python
"""Find the cells of images with a semantic model: label images, probabilities, overlays and a COCO file.

    python tools/predict.py frame.tif --model output/mes-demo/model --output predictions
    python tools/predict.py plate1/ 'plate2/**/*.tif' --model output/mine/model --output predictions
    python tools/predict.py *.tif --model output/mine/model --output strict --threshold 0.7 --min-area 100
    python tools/predict.py *.tif --model output/ensemble/model --output predictions --cell-type bv2

DIR then has, for an image NAME.tif,

    labels/NAME.tif         0 is background, each cell a number
    probabilities/NAME.tif  of each pixel that it belongs to a cell, float32
    overlays/NAME.png       blue is background, green undecided, red cell; outlines white
    cells.json              all cells of all images, COCO
    run.json                versions, model, options, times, failures

and takes the same images again, but no others.
Images of one name get their folder's before it (plate1_NAME). Exit code: 0 all images predicted, 1 some could not be
used (they are listed), 2 nothing predicted as the input is unusable, 130 stopped with Ctrl-C.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from cellseg_d2.engine.errors import UserError
from cellseg_d2.engine.launch import USER_ERRORS
from cellseg_d2.inference.batch import Outcome, find_images, predict_images, write_summary
from cellseg_d2.inference.model_folder import read_record, versions
from cellseg_d2.inference.runtime import RUNTIMES
from cellseg_d2.inference.semantic import SemanticPredictor
from cellseg_d2.modeling.semantic.cells import SPLITS

ROWS = 40  # of the closing table
console = Console(highlight=False, markup=False)


def run(args: argparse.Namespace) -> list[Outcome]:
    """Load, predict, write."""
    paths = find_images(args.images, args.output)
    cells = {key: getattr(args, key) for key in ("min_area", "split") if getattr(args, key) is not None}
    with console.status("loading the model; a first time on a CPU it is also exported, which takes some seconds"):
        predictor = SemanticPredictor.from_folder(args.model, args.runtime, args.device, args.threshold, cells)
    if args.cell_type and set(predictor.members) == {None}:
        raise UserError(f"--cell-type {args.cell_type}: {args.model} is one model for all types; leave it out")
    predictions = predict_images(predictor, paths, args.output, args.cell_type)
    outcomes: list[Outcome] = []
    found = 0
    columns = *Progress.get_default_columns()[:2], MofNCompleteColumn(), TextColumn("{task.fields[found]} cells")
    try:
        with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
            task = progress.add_task("predicting", total=len(paths), found=0)
            for outcome in predictions:
                outcomes.append(outcome)
                found += len(outcome.cells)
                progress.update(task, advance=1, found=found)
    finally:  # also of what was done before Ctrl-C
        write_summary(args.output, outcomes, description(args, predictor))
    return outcomes


def description(args: argparse.Namespace, predictor: SemanticPredictor) -> dict[str, Any]:
    """How the run was made."""
    record = read_record(args.model)
    model = {"folder": str(args.model), "class": record["class"], "sha256": record["sha256"]}
    thresholds = {str(name or "all"): member.options.threshold for name, member in predictor.members.items()}
    options = {key: str(v) if isinstance(v, Path) else v for key, v in vars(args).items() if key != "images"}
    return {"versions": versions(), "model": model, "thresholds": thresholds, "options": options}


def show(args: argparse.Namespace, outcomes: list[Outcome]) -> None:
    """What was found, and what could not be used."""
    used, failed = [o for o in outcomes if not o.error], [o for o in outcomes if o.error]
    table = Table(show_footer=True)
    total = sum(o.seconds for o in used)
    table.add_column("image", footer=f"{len(used)} images", overflow="fold")
    table.add_column("cells", footer=str(sum(len(o.cells) for o in used)), justify="right")
    table.add_column("seconds", footer=f"{total:.2f}", justify="right")
    for outcome in used[:ROWS]:
        table.add_row(outcome.name, str(len(outcome.cells)), f"{outcome.seconds:.2f}")
    if used:
        console.print(table)
    if len(used) > ROWS:
        console.print(f"{len(used) - ROWS} more are in {args.output / 'run.json'}", soft_wrap=True)
    console.print(f"wrote {args.output}", soft_wrap=True)
    for outcome in failed:
        reason = outcome.error if str(outcome.path) in outcome.error else f"{outcome.path}: {outcome.error}"
        print(f"predict.py: {reason}", file=sys.stderr)
    if failed:
        print(f"predict.py: {len(failed)} of {len(outcomes)} images could not be used", file=sys.stderr)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="files, folders, or patterns (quoted)")
    parser.add_argument("--model", type=Path, required=True, metavar="FOLDER", help="model folder")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="results go here")
    parser.add_argument("--threshold", type=float, metavar="T", help="foreground probability; else the model's own")
    parser.add_argument("--cell-type", metavar="T", help="of the images, for an ensemble")
    parser.add_argument("--device", default="cpu", help="cpu (the default), cuda or cuda:N")
    parser.add_argument(
        "--runtime", default="auto", choices=RUNTIMES, help="eager: PyTorch, onnx: ONNX Runtime; auto: onnx on a CPU"
    )
    as_configured = "else as the model is configured"
    parser.add_argument("--min-area", type=int, metavar="PX", help=f"drop smaller cells; {as_configured}")
    parser.add_argument("--split", choices=SPLITS, help=f"how touching cells are parted; {as_configured}")
    return parser.parse_args(arguments)


def main() -> None:
    """Command line."""
    sys.stdout.reconfigure(errors="replace")  # terminals that know ASCII only
    args = parse()
    try:
        outcomes = run(args)
    except (*USER_ERRORS, ValueError, OSError) as error:
        if os.environ.get("CELLSEG_DEBUG") == "1":
            raise
        print(f"predict.py: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("predict.py: stopped", file=sys.stderr)
        sys.exit(130)
    show(args, outcomes)
    sys.exit(1 if any(outcome.error for outcome in outcomes) else 0)


if __name__ == "__main__":
    main()
