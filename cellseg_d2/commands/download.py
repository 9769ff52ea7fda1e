"""Get LIVECell from its authors' server.

What breaks off is gone on with by the next call, what is there is checked and left. While the images are unpacked they
take twice their space.

    tools/dataset.py download --output datasets
    tools/dataset.py download --output datasets --part annotations --splits val test
"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from ..data.datasets.livecell import SPLITS
from ..data.download import BASE_URL, LICENCE, Transfer, collect, read_hashes, wanted_files
from ..data.download.livecell import MORE, PARTS
from ..errors import DatasetError
from .console import console

__all__ = ["add_arguments", "run"]

FOLDER = "livecell"


def add_arguments(parser: ArgumentParser) -> None:
    """What the command line takes."""
    parser.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help=f"data folder; files go to DIR/{FOLDER}"
    )
    parser.add_argument("--part", choices=PARTS, default="all")
    parser.add_argument("--splits", nargs="+", choices=SPLITS, default=list(SPLITS), help="of the annotations")
    parser.add_argument("--more", nargs="+", choices=MORE, default=[],
                        help="also annotations a cell type, or of 2 to 50 %% of the training images")  # fmt: skip
    parser.add_argument("--base-url", default=BASE_URL, metavar="URL", help="a copy elsewhere, with the same paths")
    parser.add_argument("--sha256", type=Path, metavar="FILE", help=f"hashes as sha256sum prints them in DIR/{FOLDER}")
    parser.add_argument("--keep-zip", action="store_true", help="keep images.zip after it is unpacked")


def run(args: Namespace) -> int:
    """Get the files; Ctrl-C gives 130 and keeps what is there."""
    files = wanted_files(args.part, args.splits, args.more)
    hashes = read_hashes(args.sha256) if args.sha256 else {}
    if args.sha256 and not hashes.keys() & set(files):
        raise DatasetError(f"{args.sha256}: none of its paths is one of the wanted files, such as {files[0]}")
    console.print(LICENCE)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        transfer = Transfer(say=console.print, advance=_Bars(progress))
        try:
            collect(args.base_url, args.output / FOLDER, files, transfer, hashes=hashes, keep_zip=args.keep_zip)
        except KeyboardInterrupt:
            console.print("Stopped. What is there is kept; the same call goes on with it")
            return 130
    return 0


class _Bars:
    """A progress bar for each file, made when its first bytes come."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.tasks: dict[str, TaskID] = {}

    def __call__(self, name: str, done: int, total: int) -> None:
        if name not in self.tasks:
            self.tasks[name] = self.progress.add_task(name, completed=done, total=total)
        self.progress.update(self.tasks[name], completed=done, total=total, visible=done < total)
