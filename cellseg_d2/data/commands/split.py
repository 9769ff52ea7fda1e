"""Hold images out.

Writes train.json and val.json; images that look alike (one acquisition) stay on one side.

    tools/dataset.py split --json all.json --images images/ --hold-out 40 --output splits/
"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from ...files import write_json
from ..datasets.coco_json import read_coco
from ..split import group_alike, select, split_by_group
from .console import console

__all__ = ["add_arguments", "run"]


def add_arguments(parser: ArgumentParser) -> None:
    """What the command line takes."""
    parser.add_argument("--json", type=Path, required=True, metavar="FILE")
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="image folder")
    parser.add_argument("--hold-out", type=int, required=True, metavar="N", help="images in val.json")
    parser.add_argument("--where", action="append", default=[], metavar="KEY=VALUE", help="only such images")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")


def run(args: Namespace) -> int:
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
        counts = f"{len(part['images'])} images in {len(set(groups[chosen]))} groups, {len(part['annotations'])} cells"
        console.print(f"{args.output / name}.json: {counts}")
    return 0
