#!/usr/bin/env python
"""Seconds from a TIFF of 1024 x 1024 pixels to its labelled cells: python benchmarks/frame.py [--config unet.yaml].

What prediction does on a CPU beside the same weights in PyTorch, in the same run and by turns; the best of some calls.
Weights are random (seeded), the threshold is such that a fifth of the frame is cells.
"""

import argparse
import contextlib
import tempfile
from pathlib import Path

import numpy as np
import tifffile
import torch
from detectron2.modeling import build_model
from rich.console import Console
from rich.table import Table

from cellseg_d2.data.synthesis.phantom import PhantomSpec, simulate
from cellseg_d2.engine.setup import load_config
from cellseg_d2.inference.model_folder import save_model
from cellseg_d2.inference.semantic import CellPrediction, SemanticPredictor

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
SPEC = PhantomSpec(height=1024, width=1024, cells=(150, 200), scale=1.4)
FOREGROUND = 0.2
STEPS = ("read", "normalise", "network", "label")


def prepare(folder: Path, config: str) -> tuple[Path, Path]:
    """The frame and the model, those of an earlier run where they are there."""
    folder.mkdir(parents=True, exist_ok=True)
    frame, model = folder / "frame.tif", folder / "model" / config
    if not frame.exists():
        tifffile.imwrite(frame, simulate(SPEC, seed=0).image)
    if not (model / "model.json").exists():
        # What random weights call cells is ragged: parting it would take longer than parting cells
        cfg = load_config(str(CONFIGS / config), ["MODEL.DEVICE", "cpu", "MODEL.SEMANTIC.SPLIT", "none"])
        torch.manual_seed(0)
        save_model(model, cfg, build_model(cfg), {})
    return frame, model


def predictors(frame: Path, model: Path) -> dict[str, SemanticPredictor]:
    """Ours first; all with the threshold that leaves FOREGROUND of the frame."""
    probability = SemanticPredictor.from_folder(model)(frame).probability
    threshold = float(np.quantile(probability, 1 - FOREGROUND))
    kinds = {"ours (ONNX Runtime)": "onnx", "ours (PyTorch)": "torch"}
    kinds |= {"PyTorch, channels last": "eager", "PyTorch, channels first": "eager"}
    made = {name: SemanticPredictor.from_folder(model, kind, threshold=threshold) for name, kind in kinds.items()}
    made["PyTorch, channels first"].member(None).network.model.to(memory_format=torch.contiguous_format)
    return made


def run(folder: Path, config: str, repeats: int) -> Table:
    """Measure; frame and model are kept in ``folder``."""
    frame, model = prepare(folder, config)
    found: dict[str, list[CellPrediction]] = {}
    by_name = predictors(frame, model)
    for _ in range(repeats):
        for name, predictor in by_name.items():
            found.setdefault(name, []).append(predictor(frame))
    best = {name: min(predictions, key=lambda p: p.seconds) for name, predictions in found.items()}
    ours = next(iter(best.values()))
    table = Table(title=f"{config}, 1024 x 1024 TIFF to labels, {torch.get_num_threads()} threads: milliseconds")
    table.caption = "ratio: to ours; apart: largest difference of a probability from ours"
    for column in ("", *STEPS, "in all", "ratio", "apart", "cells"):
        table.add_column(column, justify="right" if column else "left")
    for name, prediction in best.items():
        steps = [f"{1000 * prediction.steps[step]:.1f}" for step in STEPS]
        apart = np.abs(prediction.probability - ours.probability).max()
        total = f"{1000 * prediction.seconds:.0f}", f"{prediction.seconds / ours.seconds:.2f}"
        table.add_row(name, *steps, *total, f"{apart:.1g}", str(prediction.labels.max()))
    return table


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="keep frame and model here (default: a temporary folder)")
    parser.add_argument("--config", default="googlenet_fcn.yaml")
    parser.add_argument("--repeats", type=int, default=5, help="calls of each")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        Console().print(run(folder, options.config, options.repeats))


if __name__ == "__main__":
    main()
