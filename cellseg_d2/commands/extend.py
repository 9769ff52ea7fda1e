"""Extend a data set by synthetic images: its cells at other places and densities.

Cells are cut out with their halo, turned, and put on empty backgrounds of the same experiment, as close to each other
as they were. The output is a data set as the input, ready for training, whose synthetic annotations say in
"provenance" which cell they are.

    tools/dataset.py extend --json train.json --images images/ --output extended/ --factor 5 --workers 2
    tools/dataset.py extend --json train.json --images images/ --output dense/ --density uniform:0.3:0.6 --seed 1

--density is one of
    real             numbers of cells as in the images of the same cell type
    growth           along the growth curve that the times in the images' names (or "hours") give
    uniform:LOW:HIGH confluence between two shares of the image
    list:N,N,...     these numbers of cells an image, in turn

--output gets images/, annotations.json and cells.bank. The same seed gives the same bytes with any number of workers;
a call that was broken off goes on where it was. "pca --against" says how plausible the result is.
"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from ..data.synthesis.extend import extend
from ..data.synthesis.patches import TURNS
from ..data.synthesis.recipe import Recipe
from ..errors import DatasetError
from .console import console, progress

__all__ = ["add_arguments", "run"]


def add_arguments(parser: ArgumentParser) -> None:
    """What the command line takes."""
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="COCO JSON")
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="image folder")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="for the extended data set")
    told = "images of the result for each one of the input, itself included (%(default)g)"
    parser.add_argument("--factor", type=float, default=5.0, metavar="F", help=told)
    parser.add_argument("--density", default="real", metavar="D", help="see above (%(default)s)")
    told = "free: any angle and mirrored; right: by 90 degrees and mirrored; none: for optics that cast shadows"
    parser.add_argument("--rotation", choices=TURNS, default="free", help=told)
    parser.add_argument("--cell-types", nargs="+", default=[], metavar="TYPE", help="only these")
    parser.add_argument("--synthetic-only", action="store_true", help="leave the original images out of the result")
    parser.add_argument("--bank", type=Path, metavar="FILE", help="the data set's cell bank, made where it is missing")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="(%(default)s)")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes (%(default)s)")


def run(args: Namespace) -> int:
    """Extend and say what was made."""
    if args.workers < 1:
        raise DatasetError(f"--workers {args.workers}: give 1 or more")
    if args.output.exists() and not args.output.is_dir():
        raise DatasetError(f"{args.output} is a file; --output is the folder for the result")
    recipe = Recipe(
        args.factor, args.density, args.rotation, args.seed, tuple(name.lower() for name in args.cell_types),
        not args.synthetic_only,
    )  # fmt: skip
    made = extend(args.json, args.images, args.output, recipe, args.workers, args.bank, progress)
    console.print(f"{made.json}: {made.images} synthetic images with {made.cells} cells")
    if made.short:
        console.print(f"{made.short} of them are full below the density that was drawn for them")
    return 0
