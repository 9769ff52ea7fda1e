"""Phantoms: simulated phase-contrast images of cells with exact ground truth.

>>> phantom = simulate(PhantomSpec(height=64, width=64, cells=(3, 3)), seed=0)
>>> phantom.image.shape, len(phantom.cells)
((64, 64), 3)

A cell's mask is the region of it that can be seen: where cells overlap, the pixel belongs to the upper one.
As a command, ``python -m cellseg_d2.data.synthesis.phantom OUTPUT`` writes a data set (see ``--help``).
"""

import argparse
import sys
from collections.abc import Sequence

from tqdm import tqdm

from .morphology import MORPHOLOGIES
from .optics import Optics
from .records import Phantom, PhantomCell, PhantomSpec
from .simulation import PlacementError, simulate
from .writer import file_name, write_dataset

__all__ = ["MORPHOLOGIES", "Optics", "Phantom", "PhantomCell", "PhantomSpec", "PlacementError", "file_name", "main",
           "simulate", "write_dataset"]


def build_parser() -> argparse.ArgumentParser:
    """The command line's arguments."""
    default = PhantomSpec()
    parser = argparse.ArgumentParser(
        prog="python -m cellseg_d2.data.synthesis.phantom", formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        description="Simulate phase-contrast images of cells: OUTPUT/images/*.tif and OUTPUT/annotations.json (COCO).")
    parser.add_argument("output", help="folder to write to")
    parser.add_argument("--images", type=int, default=20, help="number of images")
    parser.add_argument("--size", type=int, nargs=2, default=[default.height, default.width],
                        metavar=("HEIGHT", "WIDTH"), help="pixels")
    parser.add_argument("--cells", type=int, nargs=2, default=list(default.cells), metavar=("LOW", "HIGH"),
                        help="lowest and highest number of cells an image")
    parser.add_argument("--types", nargs="+", default=list(default.cell_types), metavar="TYPE",
                        help="cell types, one an image in turn: " + ", ".join(MORPHOLOGIES))
    parser.add_argument("--overlap", type=float, default=default.overlap, help="largest share of a cell that is hidden")
    parser.add_argument("--scale", type=float, default=default.scale, help="factor on the size of the cells")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same images")
    parser.add_argument("--workers", type=int, default=1, help="processes; they do not change the result")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 1 after one line on stderr that says what is wrong."""
    args = build_parser().parse_args(arguments)
    try:
        spec = PhantomSpec(height=args.size[0], width=args.size[1], cells=tuple(args.cells), overlap=args.overlap,
                           cell_types=tuple(args.types), scale=args.scale)
        with tqdm(total=args.images, unit="image", disable=None) as bar:
            path = write_dataset(args.output, spec, args.images, args.seed, args.workers, lambda _: bar.update())
    except OSError as error:
        sys.stderr.write(f"error: cannot write the data set: {error}\n")
        return 1
    except ValueError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
