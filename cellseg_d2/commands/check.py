"""Find everything in a data set that would hurt later.

Damaged, missing and doubled images, images on both sides of a split, doubled, broken and misplaced outlines, cells of
odd size, images that were hardly annotated. Exit code: 0 nothing was found, 1 something, 2 the file cannot be used.

    tools/dataset.py check --json train.json --images images/ --against test.json --report findings.json
    tools/dataset.py check --json train.json --images images/ --fix --output checked/

--fix writes OUTPUT/train_clean.json and OUTPUT/train_fixes.json, the log of what was done to which entry and why, and
never changes the input. --output also gets a picture of up to 12 examples of each kind of finding.
"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from ..data.check import KINDS, Survey, fix, survey, write_sheets
from ..errors import DatasetError
from ..files import finite_or_none, write_json
from .console import console, progress

__all__ = ["add_arguments", "run"]

EXAMPLES = 3


def add_arguments(parser: ArgumentParser) -> None:
    """What the command line takes."""
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="COCO JSON")
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="image folder")
    parser.add_argument("--against", type=Path, metavar="FILE", help="JSON of the other side of a split")
    parser.add_argument("--against-images", type=Path, metavar="DIR", help="its images, where not in the same folder")
    parser.add_argument("--fix", action="store_true", help="write a cleaned JSON; needs --output")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write all findings as JSON")
    parser.add_argument("--output", type=Path, metavar="DIR", help="for pictures and the cleaned JSON")


def run(args: Namespace) -> int:
    """Say what is wrong with a data set; 1 where anything is."""
    if args.fix and args.output is None:
        raise DatasetError("--fix needs --output DIR, the folder for the cleaned JSON; the input is never changed")
    if args.against_images and not args.against:
        raise DatasetError("--against-images needs --against FILE, the JSON that these images belong to")
    for place in (args.json, args.against):
        if args.report and place and args.report.resolve() == place.resolve():
            raise DatasetError(f"{args.report} is a data set that is checked; give another --report")
    found = survey(args.json, args.images, args.against, args.against_images, progress)
    _say(found)
    findings = found.findings.report()
    if args.report is not None:
        tables = found.tables
        counts = {"images": len(tables.images), "annotations": len(tables.annotations)}
        write_json(args.report, {"json": str(args.json), **counts, "findings": findings}, indent=1)
    if args.output is not None:
        for path in write_sheets(found, args.output):
            console.print(f"examples: {path}")
    if args.fix:
        _fix(found, args.output)
    return 1 if findings else 0


def _say(found: Survey) -> None:
    """What was found, with examples."""
    tables = found.tables
    console.print(f"{tables.path}: {len(tables.images)} images, {len(tables.annotations)} annotations")
    for kind, items in found.findings.by_kind().items():
        console.print(f"{kind}: {len(items)}. {KINDS[kind].meaning} ({KINDS[kind].advice})")
        for item in items[:EXAMPLES]:
            console.print(f"    {item.where}")
        if len(items) > EXAMPLES:
            console.print(f"    and {len(items) - EXAMPLES} more")
    if not found.findings.items:
        console.print("nothing was found")


def _fix(found: Survey, folder: Path) -> None:
    """Write the cleaned JSON and the log."""
    content, log = fix(found)
    path = folder / f"{found.tables.path.name.partition('.json')[0]}_clean.json"
    if path.resolve() == found.tables.path.resolve():
        raise DatasetError(f"{path} is the input itself; give another --output")
    write_json(path.with_name(path.name.replace("_clean.json", "_fixes.json")), log, indent=1)
    write_json(path, finite_or_none(content))
    left = sum(entry["action"] == "left" for entry in log)
    counts = f"{len(content['images'])} images, {len(content['annotations'])} annotations"
    console.print(f"{path}: {counts}; {len(log) - left} changes, {left} findings are left to look at")
