#!/usr/bin/env python
"""Work with COCO data sets.

    python tools/dataset.py split --json all.json --images images/ --hold-out 40 --output splits/
    python tools/dataset.py merge --part huh7 a.json a/images --part bv2 b.json b/images --output both.json

split: writes train.json and val.json; images that look alike (one acquisition) stay on one side.
merge: writes one JSON of several data sets, whose images know their cell type and lie relative to its folder.
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

from rich.console import Console

from cellseg_d2.data.datasets.coco_json import read_coco
from cellseg_d2.data.image_io import CorruptImageError
from cellseg_d2.data.merge import Part, merge
from cellseg_d2.data.split import group_alike, select, split_by_group
from cellseg_d2.errors import DatasetError
from cellseg_d2.files import write_json

console = Console(highlight=False)


def split(args: argparse.Namespace) -> None:
    """Write train.json and val.json of a data set."""
    coco = read_coco(args.json)
    wanted = [w.partition("=")[::2] for w in args.where]
    images = [i for i in coco.images if all(str(i.get(key)) == value for key, value in wanted)]
    if not images:
        raise ValueError(f"no image of {args.json} has {' and '.join(args.where)}")
    groups = group_alike([args.images / i["file_name"] for i in images])
    held = split_by_group(groups, args.hold_out, args.seed)
    for name, chosen in (("train", ~held), ("val", held)):
        part = select(coco, {i["id"] for i, c in zip(images, chosen) if c})
        write_json(args.output / f"{name}.json", part)
        cells = len(part["annotations"])
        counts = f"{len(part['images'])} images in {len(set(groups[chosen]))} groups, {cells} cells"
        console.print(f"{args.output / name}.json: {counts}")


def merge_parts(args: argparse.Namespace) -> None:
    """Write one JSON of several."""
    merged = merge([Part(kind, Path(json), Path(images)) for kind, json, images in args.part], args.output.parent)
    write_json(args.output, merged)
    counts = Counter(image.get("cell_type", "no cell type") for image in merged["images"])
    shares = ", ".join(f"{name} {count}" for name, count in counts.items())
    console.print(f"{args.output}: {len(merged['images'])} images ({shares}), {len(merged['annotations'])} cells")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("split", help="hold images out")
    command.add_argument("--json", type=Path, required=True)
    command.add_argument("--images", type=Path, required=True, help="image folder")
    command.add_argument("--hold-out", type=int, required=True, metavar="N", help="images in val.json")
    command.add_argument("--where", action="append", default=[], metavar="KEY=VALUE", help="only such images")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--output", type=Path, required=True)
    command.set_defaults(run=split)
    command = commands.add_parser("merge", help="make one data set of several")
    part = ("CELL_TYPE", "JSON", "IMAGES")
    command.add_argument("--part", nargs=3, action="append", required=True, metavar=part, help="a data set")
    command.add_argument("--output", type=Path, required=True, metavar="JSON")
    command.set_defaults(run=merge_parts)
    args = parser.parse_args()
    try:
        args.run(args)
    except (DatasetError, CorruptImageError, ValueError, OSError) as error:
        sys.exit(f"dataset.py: {error}")


if __name__ == "__main__":
    main()
