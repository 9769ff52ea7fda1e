"""Make one data set of several.

Its images know their cell type and lie relative to its folder.

    tools/dataset.py merge --part huh7 a.json a/images --part bv2 b.json b/images --output both.json
"""

from argparse import ArgumentParser, Namespace
from collections import Counter
from pathlib import Path

from ..data.merge import Part, merge
from ..errors import DatasetError
from ..files import write_json
from .console import console

__all__ = ["add_arguments", "run"]


def add_arguments(parser: ArgumentParser) -> None:
    """What the command line takes."""
    part = ("CELL_TYPE", "JSON", "IMAGES")
    parser.add_argument("--part", nargs=3, action="append", required=True, metavar=part, help="a data set")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE")


def run(args: Namespace) -> int:
    """Write one JSON of several."""
    for _, json, _ in args.part:
        if Path(json).resolve() == args.output.resolve():
            raise DatasetError(f"{args.output} is one of the data sets that are merged; give another --output")
    merged = merge([Part(kind, Path(json), Path(images)) for kind, json, images in args.part], args.output.parent)
    write_json(args.output, merged)
    counts = Counter(image.get("cell_type", "no cell type") for image in merged["images"])
    shares = ", ".join(f"{name} {count}" for name, count in counts.items())
    cells = len(merged["annotations"])
    console.print(f"{args.output}: {len(merged['images'])} images ({shares}), {cells} cells")
    return 0
