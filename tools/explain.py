#!/usr/bin/env python
"""What networks see in one image: features by stage, attention, and what one cell's score depends on; one HTML page.

    python tools/explain.py image.tif --model models/unet                          a folder of a model
    ... --model configs/demo.yaml:output/demo/model_best.pth                       or a configuration and its weights
    ... --model models/unet --model configs/demo.yaml:output/demo/model_best.pth   two models side by side
    ... --cell 120,85                                                              the cell at x = 120, y = 85

Exit code: 0 written, 2 unusable input, 130 stopped with Ctrl-C.
"""

import argparse
import re
import sys
from pathlib import Path

import torch
from detectron2.modeling import GeneralizedRCNN, build_model
from rich.console import Console
from rich.text import Text

from cellseg_d2.analysis.explain import ExplainError, Subject, explain
from cellseg_d2.analysis.page import write_page
from cellseg_d2.analysis.saliency import SaliencyOptions
from cellseg_d2.command_line import run_tool
from cellseg_d2.engine.errors import UserError, config_errors
from cellseg_d2.engine.setup import load_config
from cellseg_d2.inference.model_folder import load_model
from cellseg_d2.modeling.checkpoint import WeightsError, load_weights
from cellseg_d2.modeling.semantic import CellSegmentor, CellTypeEnsemble

console = Console(highlight=False, markup=False)


def load_subject(source: str, cell_type: str = "") -> Subject:
    """A model from its folder, or from ``CONFIG.yaml:WEIGHTS.pth``; on the CPU where there is no GPU.

    Args:
        cell_type: which model of an ensemble of one a cell type.
    """
    parts = re.fullmatch(r"(.+?\.ya?ml):(.+)", source)
    if parts:
        cfg = load_config(parts[1])
        if not torch.cuda.is_available():
            cfg.MODEL.DEVICE = "cpu"
        with config_errors(f"the model of {parts[1]}"):
            model = build_model(cfg)
        load_weights(model, parts[2], complete=True, trust=cfg.MODEL.TRUST_WEIGHTS)
        name = "/".join(Path(parts[2]).resolve().parts[-2:])
    elif Path(source).is_dir():
        cfg, model = load_model(source, "cuda" if torch.cuda.is_available() else "cpu")
        name = Path(source).resolve().name
    else:
        raise ExplainError(f"--model {source}: neither a folder of a model nor CONFIG.yaml:WEIGHTS.pth")
    if isinstance(model, CellTypeEnsemble):
        if cell_type.lower() not in model.members:
            types = " or ".join(model.members)
            raise ExplainError(f"--model {source} has one model a cell type: give --cell-type {types}")
        model, name = model.members[cell_type.lower()], f"{name}, {cell_type.lower()}"
    if not isinstance(model, CellSegmentor | GeneralizedRCNN):
        raise ExplainError(f"--model {source} is a {type(model).__name__}: neither CenterMask nor a semantic model")
    return Subject(name, model.eval(), cfg)


def run(args: argparse.Namespace) -> None:
    """Load, look, write."""
    with console.status(Text("loading")) as status:
        subjects = [load_subject(source, args.cell_type) for source in args.model]
        status.update(Text(f"looking at {args.image}"))
        options = SaliencyOptions(args.samples, args.noise, args.seed, args.window)
        explanations = explain(subjects, args.image, args.cell, options, args.min_score)
        path = write_page(args.output, args.image.name, explanations, options, args.cells)
    for e in explanations:
        console.print(f"{e.subject.name}: {len(e.cells)} cells. {e.no_view}", soft_wrap=True)
    console.print(f"wrote {path}", soft_wrap=True)


def pixel(text: str) -> tuple[float, float]:
    """X,Y as two numbers."""
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not X,Y in pixels, such as 120,85") from None
    return x, y


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", type=Path, help="one frame (tif, png, jpg)")
    parser.add_argument(
        "--model", action="append", required=True, help="folder of a model, or CONFIG.yaml:WEIGHTS.pth; once or twice"
    )
    parser.add_argument("--cell", type=pixel, metavar="X,Y", help="a pixel of the cell; else the best scored one")
    parser.add_argument("--output", type=Path, default=Path("explain.html"), metavar="HTML", help="the page")
    parser.add_argument("--cell-type", default="", help="which model of an ensemble by cell type")
    parser.add_argument("--min-score", type=float, default=0.5, help="detections below are left out (CenterMask)")
    parser.add_argument("--cells", type=int, default=12, help="best cells whose attention is shown")
    parser.add_argument("--samples", type=int, default=16, help="noisy copies of SmoothGrad")
    parser.add_argument("--noise", type=float, default=0.1, help="their noise, share of the range of grey values")
    parser.add_argument("--seed", type=int, default=0, help="of the noise")
    parser.add_argument(
        "--window", type=int, default=512, help="side of the part of the input for saliency, pixels; 0: all of it"
    )
    args = parser.parse_args(arguments)
    if len(args.model) > 2:
        parser.error(f"--model is given {len(args.model)} times: one model, or two side by side")
    for name in ("cells", "samples"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} {getattr(args, name)}: at least 1")
    for name in ("noise", "window"):
        if not 0 <= getattr(args, name) < float("inf"):
            parser.error(f"--{name} {getattr(args, name)}: 0 or more")
    return args


def main() -> int:
    """Command line."""
    args = parse()
    return run_tool(lambda: run(args), UserError, WeightsError)


if __name__ == "__main__":
    sys.exit(main())
