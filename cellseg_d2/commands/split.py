"""Hold images out.

Writes train.json and val.json, and test.json where asked for; a group stays whole, on one side. Groups are images that
look alike (one acquisition), or those of one well, location or time point by LIVECell's file names, or those with one
value of a key in the image entries of the JSON.

    tools/dataset.py split --json all.json --images images/ --hold-out 40 --output splits/
    tools/dataset.py split --json all.json --by well --hold-out 0.2 --test 0.1 --output splits/
    tools/dataset.py split --json all.json --by patient --hold-out 40 --output splits/
"""

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path
from typing import Any

import numpy as np

from ..data.datasets.coco_json import read_coco
from ..data.names import few
from ..data.split import NAME_KEYS, group_alike, group_by_key, nearest_count, provenance, select, split_by_group
from ..errors import DatasetError
from ..files import read_json, write_json
from .console import console

__all__ = ["add_arguments", "amount", "run"]

LIKENESS = "likeness"
_TABLES = ("images", "annotations", "categories")


def amount(text: str) -> int | float:
    """A number of images, or a share of them between 0 and 1.

    >>> amount("40"), amount("0.2")
    (40, 0.2)
    """
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if 0 < value < 1 or (value >= 1 and text.isdecimal()):
        return int(text) if value >= 1 else value
    raise ArgumentTypeError(f"{text!r} is neither a number of images (40) nor a share of them (0.2)")


def add_arguments(parser: ArgumentParser) -> None:
    """What the command line takes."""
    named = ", ".join(NAME_KEYS)
    parser.add_argument("--json", type=Path, required=True, metavar="FILE")
    parser.add_argument("--images", type=Path, metavar="DIR", help=f"image folder, for --by {LIKENESS}")
    parser.add_argument("--by", default=LIKENESS, metavar="KEY", help=f"{LIKENESS} (default), {named}, or a key")
    parser.add_argument(
        "--hold-out", type=amount, required=True, metavar="N", help="images in val.json, or a share: 0.2"
    )
    parser.add_argument("--test", type=amount, metavar="N", help="images in test.json, or a share of all")
    parser.add_argument("--where", action="append", default=[], metavar="KEY=VALUE", help="only such images")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")


def run(args: Namespace) -> int:
    """Write train.json, val.json and perhaps test.json of a data set."""
    content = read_json(args.json)
    more = {k: v for k, v in content.items() if k not in _TABLES} if isinstance(content, dict) else {}
    del content  # before the file is read again, checked this time: it may take gigabytes
    coco = read_coco(args.json)
    wanted = [w.partition("=")[::2] for w in args.where]
    images = [i for i in coco.images if all(str(i.get(key)) == value for key, value in wanted)]
    if not images:
        raise DatasetError(f"no image of {args.json} has {' and '.join(args.where)}")
    groups, names = _groups(args, images)
    sides = _sides(groups, {"val": args.hold_out, "test": args.test}, args.seed)
    for side, chosen in sides.items():
        info = provenance(more.get("info"), by=args.by, seed=args.seed, side=side)
        part = select(coco, {i["id"] for i, c in zip(images, chosen) if c}, {**more, "info": info})
        write_json(args.output / f"{side}.json", part)
        own, counts = np.unique(groups[chosen], return_counts=True)
        cells = f"{len(part['annotations'])} cells"
        console.print(f"{args.output / side}.json: {len(part['images'])} images in {len(own)} groups, {cells}")
        console.print(f"  {few([f'{names[g]} ({n})' for g, n in zip(own, counts)], 12)}")
    if "test" not in sides and (args.output / "test.json").exists():
        console.print(f"{args.output / 'test.json'} is not of this split; its images may be in train.json")
    return 0


def _groups(args: Namespace, images: list[dict[str, Any]]) -> tuple[np.ndarray, list[str]]:
    """(N,) group numbers, and the groups' names; a group of alike images is called after the first of them."""
    if args.by != LIKENESS:
        return group_by_key(images, args.by)
    if args.images is None:
        raise DatasetError(f"--by {LIKENESS} looks at the images; give their folder (--images), or divide --by well")
    groups = group_alike([args.images / i["file_name"] for i in images])
    first = np.unique(groups, return_index=True)[1]
    return groups, [f"like {images[k]['file_name']}" for k in first]


def _sides(groups: np.ndarray, asked: dict[str, int | float | None], seed: int) -> dict[str, np.ndarray]:
    """(N,) bool of each side, train first; a share becomes the nearest number that whole groups make, and says so."""
    sides, rest = {}, np.ones(len(groups), dtype=bool)
    for side, number in asked.items():
        if number is None:
            continue
        left = np.unique(groups[rest], return_inverse=True)[1]
        if isinstance(number, float):
            share, exact = number, number * len(groups)
            number = nearest_count(left, exact)
            console.print(f"{side}: {share:g} of {len(groups)} images is {exact:g}; whole groups make {number}")
        sides[side] = np.zeros(len(groups), dtype=bool)
        sides[side][rest] = split_by_group(left, number, seed)
        rest &= ~sides[side]
    return {"train": rest, **sides}
