"""Cut all cells of a data set out, into one file that synthesis draws from.

The file has every cell with its halo and without its background, the empty background of every image, and what was
measured of both. It is mapped, so that millions of cells need no memory. "extend" makes it by itself; training with
INPUT.EXTENSION takes it by its name.

    tools/dataset.py bank --json train.json --images images/ --output cells.bank --workers 2
    tools/dataset.py bank --json train.json --images images/ --output cells.bank --shapes shapes/

With --shapes, the output of "dataset.py shapes", every whole cell is in the bank once more, in a shape that the
autoencoder there finds between its own and that of another cell of the image (--share of the way).

Cells that touch the border of their image, that others cover by more than a tenth, or whose size or contrast is far
from all others' are in the file, but are not used.
"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from ..analysis.morphs import Morphs
from ..data.datasets.columns import open_coco
from ..data.synthesis.bank_build import build_bank
from ..data.synthesis.cell_bank import CellBank
from ..errors import DatasetError
from .console import console, progress

__all__ = ["add_arguments", "run"]


def add_arguments(parser: ArgumentParser) -> None:
    """What the command line takes."""
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="COCO JSON")
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="image folder")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="the bank")
    parser.add_argument("--shapes", type=Path, metavar="DIR", help="output of shapes: cells in new shapes, too")
    parser.add_argument("--share", type=float, metavar="S", help="with --shapes: of the way there (0.5)")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes (%(default)s)")


def run(args: Namespace) -> int:
    """Make the bank and say what is in it."""
    if args.workers < 1:
        raise DatasetError(f"--workers {args.workers}: give 1 or more")
    if args.output.exists():
        CellBank(args.output)  # an error where it is something else, which must not be lost
    total = len(open_coco(args.json).images)
    if args.share is not None and args.shapes is None:
        raise DatasetError("--share is of the way to another shape; give --shapes, the output of shapes, too")
    share = {} if args.share is None else {"share": args.share}
    morphs = Morphs(str(args.shapes), **share) if args.shapes else None
    bank = build_bank(
        args.json, args.images, args.output, args.workers, lambda items: progress(items, total=total), morphs
    )
    shown = sum(image.background >= 0 for image in bank.images)
    console.print(
        f"{args.output}: {int(bank.cells['usable'].sum())} of {len(bank.cells)} cells can be used, "
        f"{shown} of {len(bank.images)} images show empty background"
    )
    for reason, count in bank.info["left_out"].items():
        console.print(f"  {count} {reason}")
    return 0
