"""Compare a set with an extended one.

Is the extended (synthetic) set plausible beside the original? Cells and images are described in numbers; principal
components of the original show where both lie, a classifier tries to tell them apart, and the page says what gives the
synthetic cells away. Without --against: principal components of one set.

    tools/dataset.py pca --json train.json --images images/ --against extended.json --against-images extended/ \\
        --output pca/
    tools/dataset.py pca --json train.json --images images/ --by cell_type --output pca/

--output gets pca.html (open this), pca.json (all numbers), cells.csv and images.csv (a row each) and the figures. AUC:
.5 is chance, 1 means every cell gives its set away; a cell is held out together with the image that it was cut out of.
With --weights and --config-file of a trained CenterMask its features are compared too.
"""

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from rich.box import SIMPLE
from rich.table import Table

from ..data.datasets.coco_json import CocoFile
from ..data.datasets.columns import IndexedCoco, open_coco
from ..data.stats import GROUPS
from ..errors import DatasetError
from ..files import atomic_write, finite_or_none, write_json
from .console import console, progress

__all__ = ["add_arguments", "run"]

FILES = ("pca.html", "pca.json", "cells.csv", "images.csv")
FIGURES = (
    "pca_cells.png", "pca_images.png", "pca_deep_cells.png", "pca_deep_images.png", "density.png", "giveaways.png",
)  # fmt: skip


def add_arguments(parser: ArgumentParser) -> None:
    """What the command line takes."""
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="COCO JSON of the original set")
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="its image folder")
    parser.add_argument("--against", type=Path, metavar="FILE", help="COCO JSON of the extended set")
    parser.add_argument("--against-images", type=Path, metavar="DIR", help="its images, where not in the same folder")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="for page, numbers and figures")
    parser.add_argument("--by", choices=GROUPS, help="test each group of images too")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="checkpoint of a trained CenterMask")
    parser.add_argument("--config-file", type=Path, metavar="FILE", help="its configuration")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn (default 0)")


def run(args: Namespace) -> int:
    """Describe, compare, write."""
    _check(args)
    # here, as the other sub-commands need neither scikit-learn nor a network
    from ..analysis.compare import compare
    from ..analysis.descriptor_tables import describe
    from ..analysis.resampling import TwoSampleOptions

    deep = _deep(args)
    original = open_coco(args.json)
    names = {image["id"]: image["file_name"] for image in original.images}
    first = describe(original, args.images, names, _bar(original, "original"), deep)
    second = None
    if args.against is not None:
        extended = open_coco(args.against)
        second = describe(extended, args.against_images or args.images, names, _bar(extended, "extended"), deep)
    found = compare(first, second, args.by, TwoSampleOptions(seed=args.seed))
    _write(args, found)
    _say(args, found)
    return 0


def _check(args: Namespace) -> None:
    """Options that contradict each other, before anything is read."""
    if args.against_images and not args.against:
        raise DatasetError("--against-images needs --against FILE, the JSON that these images belong to")
    if (args.weights is None) != (args.config_file is None):
        raise DatasetError("--weights and --config-file belong together: a checkpoint and its configuration")
    if args.seed < 0:
        raise DatasetError(f"--seed {args.seed}: give 0 or more")
    if args.output.exists() and not args.output.is_dir():
        raise DatasetError(f"{args.output} is a file; --output is the folder for the results")
    inputs = {path.resolve() for path in (args.json, args.against) if path is not None}
    taken = [args.output / name for name in FILES if (args.output / name).resolve() in inputs]
    if taken:
        raise DatasetError(f"{taken[0]} is the input itself; give another --output")


def _deep(args: Namespace) -> Callable[[str, np.ndarray], tuple[np.ndarray, np.ndarray]] | None:
    """The network's features, where weights are given."""
    if args.weights is None:
        return None
    from ..analysis.deep_features import deep_extractor
    from ..engine.errors import UserError
    from ..modeling.checkpoint import WeightsError

    try:
        return deep_extractor(args.config_file, args.weights)
    except (UserError, WeightsError) as error:
        raise DatasetError(str(error)) from error


def _bar(coco: CocoFile | IndexedCoco, title: str) -> Callable:
    """A bar over the images of a set."""
    return partial(progress, title=f"{title}: images", total=len(coco.images))


def _write(args: Namespace, found) -> None:
    """All files are made before the first one is written; figures of an earlier run that this one has not go.

    Those are the ones that the folder's pca.json lists: others of the same names are not ours to delete.
    """
    from ..analysis.compare_page import render_page
    from ..analysis.compare_plots import figures
    from ..analysis.compare_report import numbers

    pictures = figures(found, args.seed)
    title = args.json.name if args.against is None else f"{args.json.name} and {args.against.name}"
    page = render_page(found, title, pictures)
    contents = {"pca.html": page.encode("utf-8"), **pictures}
    contents |= {f"{name}.csv": _csv(table) for name, table in (("cells", found.cells), ("images", found.images))}
    told = {"json": str(args.json), "against": str(args.against or ""), "seed": args.seed}
    result = finite_or_none({**told, "files": sorted([*contents, "pca.json"]), **numbers(found)})
    stale = _figures_of(args.output / "pca.json") - set(pictures)
    for name, content in contents.items():
        atomic_write(args.output / name, lambda stream, content=content: stream.write(content))
    write_json(args.output / "pca.json", result, indent=1)
    for name in stale:
        (args.output / name).unlink(missing_ok=True)


def _figures_of(path: Path) -> set[str]:
    """Figures that an earlier run wrote, as its pca.json says; none where there is no such file, or it is not ours."""
    try:
        told = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return set()
    files = told.get("files") if isinstance(told, dict) and "pca" in told else None
    return {name for name in FIGURES if name in files} if isinstance(files, list) else set()


def _csv(table: pd.DataFrame) -> bytes:
    """A table with six digits; what does not exist stays empty."""
    return table.to_csv(index=False, lineterminator="\n", float_format="%.6g").encode("utf-8")


def _say(args: Namespace, found) -> None:
    """Tests and what gives cells away; axes of a single set."""
    from ..analysis.compare_report import axis_words, giveaways, verdict

    for note in found.notes:
        console.print(note)
    for k in range(min(2, len(found.cell_axes.axes))):
        share = 100 * found.cell_axes.explained[k]
        console.print(f"cells, PC{k + 1} ({share:.0f} % of the variance): {axis_words(found.cell_axes, k, 3)}")
    if found.outcomes:
        table = Table(title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
        for index, name in enumerate(("", "AUC", "95 %", "logistic", "distance", "95 %", "floor", "n")):
            table.add_column(name, justify="right" if index else "left", no_wrap=index > 0)
        for outcome in (*found.outcomes, *found.of_groups, found.of_images):
            table.add_row(*_row(outcome))
        console.print(table)
        for outcome in (*found.outcomes, *found.of_groups, found.of_images):
            if outcome.why:
                console.print(f"{outcome.name}: {outcome.why}")
        console.print(verdict(found.outcomes[0]))
        for sentence in giveaways(found.single):
            console.print(f"    {sentence}")
    console.print(str(args.output / "pca.html"))


def _row(outcome) -> list[str]:
    """A row of the table of tests."""
    test, distance = outcome.test, outcome.distance
    if test is None:
        return [outcome.name, *["–"] * 7]
    row = [outcome.name, f"{test.auc:.2f}", f"{test.low:.2f}-{test.high:.2f}", f"{test.check:.2f}"]
    if distance is None:
        return [*row, "–", "–", "–", str(test.rows)]
    high = "–" if distance.floor_high != distance.floor_high else f"< {distance.floor_high:.3f}"
    return [*row, f"{distance.value:.3f}", f"{distance.low:.3f}-{distance.high:.3f}", high, str(test.rows)]
