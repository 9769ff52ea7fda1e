#!/usr/bin/env python
"""Score COCO results against COCO annotations by LIVECell's protocol, and everything else that papers report.

    python tools/eval_livecell.py --gt livecell_coco_test.json --pred coco_instances_results.json
    ... --output scores/ --images images/           metrics.json, per_image.csv, report.html with pictures
    ... --by well --by time                         also by well and time point (cell types always)
    ... --compare other_results.json                is this model better than that one?

F1, counts and errors need a score from which cells are kept. Choose it on validation images, use it on the test set:

    python tools/eval_livecell.py --gt val.json --pred val_results.json --score-threshold best --output val_scores/
    python tools/eval_livecell.py --gt test.json --pred test_results.json --score-threshold val_scores/threshold.json

Exit code: 0 scored, 2 unusable input, 130 stopped with Ctrl-C.
"""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.text import Text

from cellseg_d2.command_line import run_tool
from cellseg_d2.errors import DatasetError
from cellseg_d2.evaluation.evaluate import Evaluation, choose_threshold, compare, evaluate, with_notes
from cellseg_d2.evaluation.groups import GROUPINGS
from cellseg_d2.evaluation.notes import comparison_notes
from cellseg_d2.evaluation.options import Options, Threshold
from cellseg_d2.evaluation.outputs import read_threshold, write_tables, write_threshold
from cellseg_d2.evaluation.reading import GroundTruth, read_ground_truth, read_results
from cellseg_d2.evaluation.report import write_report
from cellseg_d2.evaluation.report.console import comparison_table, render
from cellseg_d2.evaluation.tables import ObjectTable

Show = Callable[[str], None]
console = Console(highlight=False, markup=False)


def threshold_of(text: str | None, truth: GroundTruth, results: ObjectTable) -> Threshold:
    """The score threshold that the command line asks for: a number, "best", or a threshold.json."""
    if text is None:
        return Threshold()
    if text == "best":
        return choose_threshold(truth, results)[0]
    try:
        return Threshold(float(text), "given")
    except ValueError as error:
        if isinstance(error, DatasetError):
            raise
    if not Path(text).is_file():
        raise DatasetError(f"--score-threshold {text}: neither a number, nor best, nor a threshold.json that exists")
    return read_threshold(text)


def score(args: argparse.Namespace, truth: GroundTruth, path: Path, threshold: str | None, show: Show) -> Evaluation:
    """Read and score one result file."""
    show(f"reading {path}")
    results = read_results(path, truth)
    options = Options(
        threshold=threshold_of(threshold, truth, results),
        by=tuple(args.by),
        column=args.cell_type_key,
        bootstrap=args.bootstrap,
        seed=args.seed,
        threads=args.threads,
    )
    evaluation = evaluate(truth, results, options, progress=show)
    if args.backend == "pycocotools":
        from cellseg_d2.evaluation.oracle import with_pycocotools  # brings matplotlib, which nothing else here needs

        return with_pycocotools(evaluation, show)
    return evaluation


def run(args: argparse.Namespace) -> None:
    """Score, show, write."""
    if args.output:
        check_writable(args.output)
    with console.status(Text(f"reading {args.gt}")) as status:

        def show(step: str) -> None:
            status.update(Text(step))

        truth = read_ground_truth(args.gt)
        evaluation, comparison = score(args, truth, args.pred, args.score_threshold, show), None
        if args.compare:
            threshold = args.compare_score_threshold or args.score_threshold
            second = score(args, truth, args.compare, threshold, show)
            show("paired comparison")
            comparison = compare(evaluation, second)
            evaluation = with_notes(evaluation, comparison_notes(evaluation, second))
    console.print(render(evaluation))
    if comparison:
        console.print(comparison_table(comparison, str(args.compare)))
    if args.output:
        write(args, evaluation, comparison)


def check_writable(folder: Path) -> None:
    """Before anything is computed: the folder is there and takes files."""
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"--output {folder}: this folder cannot be written to")


def write(args: argparse.Namespace, evaluation: Evaluation, comparison: dict | None) -> None:
    """All files."""
    paths = write_tables(args.output, evaluation, comparison)
    if args.score_threshold == "best":
        paths.append(write_threshold(args.output, evaluation))
    with console.status(Text("drawing the report")):
        paths.append(write_report(args.output / "report.html", evaluation, args.images, comparison))
    for path in paths:
        console.print(f"wrote {path}", soft_wrap=True)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gt", type=Path, required=True, help="annotations, COCO JSON (may be gzipped)")
    parser.add_argument("--pred", type=Path, required=True, help="results, COCO JSON (may be gzipped)")
    parser.add_argument("--images", type=Path, help="folder of the images, for the pictures of the report")
    parser.add_argument("--by", action="append", default=[], choices=GROUPINGS, help="also score by; may be repeated")
    parser.add_argument("--cell-type-key", metavar="KEY", help="key of the image entries that holds the cell type")
    parser.add_argument("--compare", type=Path, metavar="PRED", help="other results of the same images")
    parser.add_argument("--output", type=Path, metavar="DIR", help="metrics.json, per_image.csv, report.html go here")
    parser.add_argument("--backend", choices=("fast", "pycocotools"), default="fast", help="who computes AP and AR")
    parser.add_argument(
        "--score-threshold", metavar="T", help="score from which cells are kept: number (0.5), best, or threshold.json"
    )
    parser.add_argument(
        "--compare-score-threshold", metavar="T", help="that of --compare; else the same rule or number"
    )
    parser.add_argument("--bootstrap", type=int, default=1000, metavar="N", help="resamples for intervals; 0: none")
    parser.add_argument("--seed", type=int, default=0, help="of the resamples")
    parser.add_argument("--threads", type=int, default=2, help="threads that compute resamples")
    args = parser.parse_args(arguments)
    if args.images and not args.images.is_dir():
        parser.error(f"--images {args.images}: there is no such folder")
    if args.images and not args.output:
        parser.error("--images is for the pictures of the report: give --output too")
    return args


def main() -> int:
    """Command line."""
    args = parse()
    return run_tool(lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
