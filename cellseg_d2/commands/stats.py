"""Say what is in a data set.

How many images and cells, how large, how dense and how bright the cells are: overall and by cell type, well or time.

    tools/dataset.py stats --json train.json --images images/ --by well --output stats/

--output gets stats.json (all numbers), cells.csv and images.csv (a row each) and stats.png (histograms). Diameters are
those of discs of the same area. Cells are small below 18 x 18 pixels, large above 31 x 31. Contrast is the mean of a
cell minus that of a ring around it, c/n the same in standard deviations of the image's background (back), and sd that
of the grey values within a cell. Crowds are no cells.
"""

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

import pandas as pd
from rich.box import SIMPLE
from rich.table import Table

from ..data.datasets.columns import open_coco
from ..data.stats import GROUPS, Tables, group_column, measure, summarise, write_figure
from ..errors import DatasetError
from ..files import atomic_write, finite_or_none, write_json
from .console import console, progress

__all__ = ["add_arguments", "run"]

FILES = ("stats.json", "cells.csv", "images.csv", "stats.png")


def add_arguments(parser: ArgumentParser) -> None:
    """What the command line takes."""
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="COCO JSON")
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="image folder")
    told = "groups of images, from their entries in the JSON or LIVECell's file names; else by cell type, if known"
    parser.add_argument("--by", choices=GROUPS, help=told)
    parser.add_argument("--output", type=Path, metavar="DIR", help="for tables, numbers and the picture")


def run(args: Namespace) -> int:
    """Measure a data set, print its numbers, and write them where --output is given."""
    if args.output is not None:
        if args.output.exists() and not args.output.is_dir():
            raise DatasetError(f"{args.output} is a file; --output is the folder for the results")
        taken = [args.output / name for name in FILES if (args.output / name).resolve() == args.json.resolve()]
        if taken:
            raise DatasetError(f"{taken[0]} is the input itself; give another --output")
    tables = measure(open_coco(args.json), args.images, progress)
    by = group_column(tables, args.by)
    summary = summarise(tables, by)
    _say(args.json, summary)
    if args.output is not None:
        _write(args, tables, summary, by)
    return 0


def _say(path: Path, summary: dict[str, Any]) -> None:
    """Two tables, each narrow enough for 80 columns."""
    overall, groups = summary["overall"], summary["groups"]
    console.print(f"{path}: {overall['images']} images, {overall['cells']} cells")
    rows = {**(groups if len(groups) > 1 else {}), "all": overall}
    first = (summary["by"] or "").replace("_", " ")
    size = _table(first, "images", "cells", "an image", "diameter", "5 %", "95 %", "small", "mid", "large")
    look = _table(first, "per Mpx", "cover", "nearest", "in d", "cell", "sd", "back", "contrast", "c/n")
    for name, row in rows.items():
        if name == "all" and len(rows) > 1:
            size.add_section()
            look.add_section()
        count, diameter = row["cells_an_image"], row["diameter"]
        parts = [_percent(row["sizes"][key]) for key in ("small", "medium", "large")]
        lengths = [_number(diameter[key], 1) for key in ("median", "q05", "q95")]
        size.add_row(name, str(row["images"]), str(row["cells"]), _number(count["median"], 0), *lengths, *parts)
        near, relative = _number(row["nearest"]["median"], 1), _number(row["nearest_diameters"]["median"], 2)
        grey = [_grey(row[key]["median"]) for key in ("foreground", "foreground_sd", "background", "contrast")]
        dense = _number(row["density"]["median"], 0), _percent(row["confluence"]["median"])
        look.add_row(name, *dense, near, relative, *grey, _number(row["contrast_to_noise"]["median"], 2))
    size.title = "Number and size: medians, diameters in pixels (and 5, 95 % of cells), sizes in %"
    look.title = "Cells a megapixel, cover (%), nearest (pixels, diameters), grey values: medians"
    console.print(size)
    console.print(look)


def _write(args: Namespace, tables: Tables, summary: dict[str, Any], by: str | None) -> None:
    """All files."""
    write_json(args.output / "stats.json", finite_or_none({"json": str(args.json), **summary}), indent=1)
    _write_csv(args.output / "cells.csv", tables.cells)
    _write_csv(args.output / "images.csv", tables.images)
    overall = summary["overall"]
    title = f"{args.json.name}: {overall['images']} images, {overall['cells']} cells"
    write_figure(args.output / "stats.png", tables, by, title)
    for name in FILES:
        console.print(str(args.output / name))


def _write_csv(path: Path, table: pd.DataFrame) -> None:
    """A table with six digits; what does not exist stays empty."""
    text = table.to_csv(index=False, lineterminator="\n", float_format="%.6g")
    atomic_write(path, lambda stream: stream.write(text.encode("utf-8")))


def _table(*columns: str) -> Table:
    """An empty table with the groups' names on the left."""
    table = Table(title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    for index, column in enumerate(columns):
        # A long name is broken into lines, as a number that is cut would be another one
        table.add_column(column, justify="right" if index else "left", no_wrap=index > 0)
    return table


def _number(value: float, digits: int) -> str:
    """A value, or a dash where there is none."""
    return "–" if value != value else f"{value:.{digits}f}"


def _grey(value: float) -> str:
    """A grey value; those of 16 bits need no fraction."""
    return _number(value, 1 if abs(value) < 1000 else 0)


def _percent(share: float) -> str:
    """A share in percent, or a dash where there is none."""
    return _number(100 * share, 1)
