"""Say how the shape of cells changes over time.

Shape descriptors, a small variational autoencoder of the masks (its codes are the latents z1, z2, ...), both over time
and against the density around each cell, and the growth of the population.

    tools/dataset.py shapes --json film.json --images film/ --output shapes/

The images are a film, or of several points of time: "hours", "time" or "frame" in their entries in the JSON, LIVECell's
file names, or file names that differ only by the frame's number. Annotations with the same --track-key are the same
cell; where no annotation has it, every cell is on its own. Numbers that convert --from labels gave to the cells of
unrelated images are no tracks and are refused: take --track-key ''. Intervals are over resampled tracks, without them
over images, and do not exist for a time with a single image. --output gets shapes.html, shapes.png, shapes.csv (a row a
cell and frame), time.csv (means of each time), shapes.json (all numbers), vae.pth and vae.json (the network).
"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

import pandas as pd

from ..analysis.film import read_film
from ..analysis.shape_figure import write_figure
from ..analysis.shape_page import write_page
from ..analysis.shape_study import Study, numbers, study
from ..analysis.shape_vae import VAEOptions, save_vae
from ..data.check.images import ImageFolder
from ..data.names import few
from ..errors import DatasetError, MissingDataError
from ..files import atomic_write, finite_or_none, write_json
from .console import console, progress

__all__ = ["add_arguments", "run"]

FILES = ("shapes.html", "shapes.png", "shapes.csv", "time.csv", "shapes.json", "vae.pth", "vae.json")


def add_arguments(parser: ArgumentParser) -> None:
    """What the command line takes."""
    options = VAEOptions()
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="COCO JSON")
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="image folder, for the page")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    told = "key of the annotations that names the same cell over time (default: label); '' for none"
    parser.add_argument("--track-key", default="label", metavar="KEY", help=told)
    parser.add_argument("--latent", type=int, default=options.latent, metavar="N", help="latents (default: 4)")
    parser.add_argument("--epochs", type=int, default=options.epochs, metavar="N", help="of training (default: 60)")
    parser.add_argument("--seed", type=int, default=options.seed)


def run(args: Namespace) -> int:
    """Study the shapes of a data set over time, print the main numbers, and write all files."""
    if args.output.exists() and not args.output.is_dir():
        raise DatasetError(f"{args.output} is a file; --output is the folder for the results")
    taken = [args.output / name for name in FILES if (args.output / name).resolve() == args.json.resolve()]
    if taken:
        raise DatasetError(f"{taken[0]} is the input itself; give another --output")
    options = VAEOptions(latent=args.latent, epochs=args.epochs, seed=args.seed)
    film = read_film(args.json, args.track_key, lambda cells: progress(cells, "outlines"))
    folder = ImageFolder(args.images)
    gone = [image["file_name"] for image in film.images if folder.locate(image["file_name"]) is None]
    if gone:
        raise MissingDataError(f"{len(gone)} of {len(film.images)} images are not below {args.images}: {few(gone, 3)}")
    found = study(film, options, progress)
    _say(found)
    _write(args.output, found, folder)
    return 0


def _say(found: Study) -> None:
    """The main numbers, a line each."""
    film, said = found.film, numbers(found)
    many = f"{len(film.tracks)} tracks" if film.tracked else "no tracks: every cell on its own"
    console.print(f"{film.path}: {len(film.images)} images, {len(film.cells)} cells, {many}")
    console.print(f"time in {film.unit} from {film.source}: {film.times.min():g} to {film.times.max():g}")
    fit = said["reconstruction"]
    console.print(
        f"held-out shapes ({fit['held_out_tracks']} tracks, {fit['held_out_cells']} cells): IoU {fit['vae']:.3f} with "
        f"{said['options']['latent']} latents, {fit['pca']:.3f} with as many principal components "
        f"(difference {fit['difference']:+.3f}, 95 % {fit['low']:+.3f} to {fit['high']:+.3f})"
    )
    grown = said["growth"]
    if grown["fits"]:
        low, high = grown["doubling_interval"]
        interval = "" if low != low else f" (95 % {low:.0f} to {high:.0f})"
        console.print(f"doubling time {grown['doubling']:.4g} {film.unit}{interval}, better curve {grown['better']}")
    for driver, columns in said["correlations"].items():
        best = sorted(columns, key=lambda name: -abs(columns[name]["rho"] or 0.0))[:3]
        strongest = ", ".join(
            f"{n} {columns[n]['rho']:+.2f} ({columns[n]['low']:+.2f} to {columns[n]['high']:+.2f})" for n in best
        )
        console.print(f"{driver.replace('_', ' ')}: {strongest}")


def _write(folder: Path, found: Study, images: ImageFolder) -> None:
    """All files."""
    _write_csv(folder / "shapes.csv", found.table)
    _write_csv(folder / "time.csv", found.over_time)
    write_json(folder / "shapes.json", finite_or_none(numbers(found)), indent=1)
    save_vae(found.model, folder)
    write_figure(folder / "shapes.png", found)
    write_page(folder / "shapes.html", found, folder / "shapes.png", images)
    for name in FILES:
        console.print(str(folder / name))


def _write_csv(path: Path, table: pd.DataFrame) -> None:
    """A table with six digits; what does not exist stays empty."""
    text = table.to_csv(index=False, lineterminator="\n", float_format="%.6g")
    atomic_write(path, lambda stream: stream.write(text.encode("utf-8")))
