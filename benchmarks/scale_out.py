#!/usr/bin/env python
"""What an engine costs beside the plain loop: start, and time an image: python benchmarks/scale_out.py [--images 240].

Small simulated images and a narrow untrained U-Net, so that little hides the engine's own time. The plain loop is the
worker called for one image after the other in this process. Seconds of wall clock: fitted to a third and to all of the
images, the intercept is the start (of processes, the model in each, of Ray), the slope the time an image.
"""

import argparse
import tempfile
import time
from pathlib import Path

import tifffile
import torch
from detectron2.modeling import build_model
from rich.console import Console
from rich.table import Table

from cellseg_d2.data.synthesis.phantom import PhantomSpec, simulate
from cellseg_d2.engine.setup import load_config
from cellseg_d2.inference.loading import ModelOptions
from cellseg_d2.inference.model_folder import save_model
from cellseg_d2.inference.reading.image_options import ImageOptions
from cellseg_d2.inference.runs import engines
from cellseg_d2.inference.runs.outputs import OutputOptions
from cellseg_d2.inference.runs.parts import Job
from cellseg_d2.inference.runs.worker import RunOptions

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "unet.yaml"
ENGINES = {
    "plain loop": (engines.local, 1),
    "local, 2 processes": (engines.local, 2),
    "Ray, 1 actor": (engines.ray, 1),
    "Ray, 2 actors": (engines.ray, 2),
}


def prepare(folder: Path, count: int) -> list[Job]:
    """A model, and images."""
    cfg = load_config(str(CONFIG), ["MODEL.DEVICE", "cpu", "MODEL.UNET.WIDTH", 8])
    torch.manual_seed(0)
    model = build_model(cfg).eval()
    model.set_threshold(0.4)
    save_model(folder / "model", cfg, model, {})
    image = simulate(PhantomSpec(height=256, width=320, cells=(20, 30)), seed=0).image
    jobs = [Job(folder / f"{number:05d}.tif", f"{number:05d}") for number in range(count)]
    for job in jobs:
        tifffile.imwrite(job.path, image)
    return jobs


def seconds(name: str, jobs: list[Job], folder: Path) -> float:
    """Of one run."""
    engine, workers = ENGINES[name]
    model = ModelOptions(str(folder / "model"), device="cpu", runtime="torch", threads=1)
    outputs = OutputOptions(folder / name.replace(" ", "-") / str(len(jobs)), ("labels",))
    began = time.perf_counter()
    parts = list(engine(jobs, RunOptions("", model, ImageOptions(), outputs), workers))
    if len(parts) != len(jobs) or any(part.error for part in parts):
        raise RuntimeError(f"{name}: {[part.error for part in parts if part.error][:3]}")
    return time.perf_counter() - began


def run(images: int, names: list[str]) -> Table:
    """Measure all engines."""
    table = Table(title=f"Engines, {images} images of 256 x 320")
    for column in ("", "seconds", "start", "an image", "of the plain loop's"):
        table.add_column(column, justify="right" if column else "left")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        jobs, plain = prepare(folder, images), None
        for engine in names:
            few, all_ = (seconds(engine, part, folder) for part in (jobs[: images // 3], jobs))
            slope = (all_ - few) / (images - images // 3)
            plain = plain or slope
            start = all_ - slope * images
            table.add_row(engine, f"{all_:.1f}", f"{start:.1f}", f"{slope * 1e3:.0f} ms", f"{slope / plain:.2f}")
    return table


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=240)
    parser.add_argument("--engines", nargs="+", choices=list(ENGINES), default=list(ENGINES))
    options = parser.parse_args()
    Console().print(run(options.images, options.engines))


if __name__ == "__main__":
    main()
