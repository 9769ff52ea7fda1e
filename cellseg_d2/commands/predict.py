"""Find the cells of images: what the command line of prediction takes, and how a run goes."""

from argparse import Namespace
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from ..data.download import Transfer
from ..engine.errors import UserError
from ..inference.loading import ModelOptions
from ..inference.model_folder import versions
from ..inference.reading.image_options import ImageOptions
from ..inference.reading.sources import find_images, output_names
from ..inference.records import Frame
from ..inference.runs import engines
from ..inference.runs.collect import collect, parts_of, write_summary
from ..inference.runs.outputs import TRACKS, OutputOptions, folders
from ..inference.runs.parts import Job, Part
from ..inference.runs.protection import alone, protect
from ..inference.runs.worker import RunOptions, output_errors
from ..model_zoo import available, find_model
from .console import console, errors
from .films import groups
from .track import Linker, follow, make_linker

__all__ = ["run"]

ROWS = 40  # of the closing table


def run(args: Namespace) -> int:
    """Predict; 0: all images, 1: some could not be used."""
    if args.list_models:
        for name, about in available().items():
            console.print(f"{name}: {about}")
        return 0
    if args.workers < 1:
        raise UserError(f"--workers {args.workers}: give a number above 0")
    if args.ray_address and args.engine != "ray":
        raise UserError("--ray-address is for --engine ray")
    if args.tracker and not args.track:
        raise UserError("--tracker is for --track")
    if args.tracker_model and args.tracker != "trackastra":
        raise UserError("--tracker-model is for --tracker trackastra")
    files = find_model(args.model, args.weights, Transfer(console.print))
    if files.licence:
        console.print(f"{files.name}: {files.licence}")
    options = _options(args, files.sha256)
    linker = make_linker(args.tracker or "overlap", options, args.tracker_model) if args.track else None
    paths = find_images(args.input, folders(args.output))
    jobs = [Job(path, name) for path, name in zip(paths, output_names(paths))]
    about = {"versions": versions(), "model": {"name": files.name, "sha256": files.sha256}}
    about["options"] = {key: str(v) if isinstance(v, Path) else v for key, v in vars(args).items()}
    with output_errors(args.output), alone(args.output):
        protect(jobs, args.output, (*options.outputs.save, *([TRACKS] if args.track else [])))
        return _run(jobs, options, args, about, linker)


def _run(
    jobs: list[Job], options: RunOptions, args: Namespace, about: Mapping[str, Any], linker: Linker | None
) -> int:
    """Predict into a folder that is this run's own."""
    output = args.output
    # What is broken off from here on leaves files of all images that no record tells of: they may be replaced
    write_summary(jobs, output, options.made_by, {}, about)
    done = _done(jobs, options) if args.resume else {}
    if args.resume:
        console.print(f"{len(done)} of {len(jobs)} images are done already", soft_wrap=True)
    failed: list[Part] = []
    try:
        failed += _predict([job for job in jobs if job not in done], options, args, sum(done.values()))
        failed += _track(jobs, options, linker) if linker else []
    finally:  # also of what was done before Ctrl-C
        written = collect(jobs, options.outputs)
        write_summary(jobs, output, options.made_by, written, about, failed)
    return _show(parts_of(jobs, output), failed, jobs, args)


def _options(args: Namespace, model_sha256: str) -> RunOptions:
    """The command line as records."""
    names = ("runtime", "precision", "min_score", "max_cells", "threshold", "min_area", "split", "cell_type", "device")
    given = {name: getattr(args, name) for name in names}
    threads = args.threads if args.threads is not None else 1 if args.workers > 1 else None
    weights = None if args.weights is None else str(args.weights)
    model = ModelOptions(str(args.model), weights, threads=threads, trust=args.trust_weights, **given)
    names = ("tile", "overlap", "batch", "channel", "axes", "pixel_size", "interval", "adapt")
    images = ImageOptions(**{name: getattr(args, name) for name in names})
    save = tuple(dict.fromkeys(args.save.split(",")))
    return RunOptions(model_sha256, model, images, OutputOptions(args.output, save, args.overlaps))


def _done(jobs: list[Job], options: RunOptions) -> dict[Job, int]:
    """Files whose part this run would make again just as it is, and their numbers of cells."""
    return {
        part.job: part.cells
        for part in parts_of(jobs, options.outputs.folder)
        if not part.error and part.made_by == options.made_by and list(part.stamp) == part.job.stamp
    }


def _predict(jobs: list[Job], options: RunOptions, args: Namespace, found: int) -> list[Part]:
    """Run the engine with a progress bar; the first images tell how they were understood. Returns what failed."""
    if not jobs:
        return []
    failed, missing = [], set(jobs)
    engine = getattr(engines, args.engine)
    columns = (
        *Progress.get_default_columns()[:2], MofNCompleteColumn(), TextColumn("{task.fields[found]} cells"),
        _Speed(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("predicting", total=len(jobs), found=found)
        said: set[str] = set()

        def tell(frame: Frame, done: int, total: int) -> None:
            """Of large images, which tile it is at."""
            if total > 1:
                progress.update(task, description=f"predicting {frame.name}, {done} of {total} tiles")

        more = {"address": args.ray_address} if args.engine == "ray" else {"tell": tell}
        for part in engine(jobs, options, args.workers, **more):
            found += part.cells
            failed += [part] if part.error else []
            missing.discard(part.job)
            progress.update(task, advance=1, found=found, description="predicting")
            kind = part.understood.partition(": ")[2]
            if kind and kind not in said and len(said) < 5:
                said.add(kind)
                progress.console.print(f"read {part.understood}")
    return failed + [Part(job, options.made_by, error="the engine gave no result") for job in jobs if job in missing]


def _track(jobs: list[Job], options: RunOptions, linker: Linker) -> list[Part]:
    """Link the cells of each film. Returns what could not be followed, as if its first image had failed."""
    failed, number = [], 0
    for parts, films in groups(jobs, options.outputs.folder):
        for followed in follow(parts, films, options, linker):
            number += 1
            name, frames = followed.film.name, followed.film.frames
            if followed.tracks is None:
                failed.append(Part(parts[0].job, options.made_by, error=f"--track {name}: {followed.error}"))
                continue
            growth = followed.fits["count"].text
            console.print(f"{name}: {len(followed.tracks)} tracks in {len(frames)} frames; {growth}")
    if not number:
        console.print("--track: there is no stack with a time axis, and no folder with several images")
    return failed


class _Speed(TextColumn):
    """Images a second."""

    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: Any) -> Any:
        """The text of a task."""
        self.text_format = "" if task.speed is None else f"{task.speed:.2f} images/s"
        return super().render(task)


def _show(parts: Iterable[Part], failed: list[Part], jobs: list[Job], args: Namespace) -> int:
    """What was found, and what could not be used; one part is in memory at a time."""
    rows: list[tuple[str, str, str, str]] = []
    notes: list[str] = []
    empty: list[str] = []
    used = frames = cells = 0
    seconds = 0.0
    for part in parts:
        if part.error:
            continue
        used, frames, cells = used + 1, frames + len(part.results), cells + part.cells
        seconds += part.seconds.get("all", 0.0)
        if len(rows) < ROWS:
            spent = f"{part.seconds.get('all', 0.0):.2f}"
            rows.append((part.job.name, str(len(part.results)), str(part.cells), spent))
        notes += part.notes
        empty += [] if part.cells else [part.job.name]
    table = Table(show_footer=True)
    table.add_column("image", footer=f"{used} images", overflow="fold")
    for name, total in (("frames", str(frames)), ("cells", str(cells)), ("seconds", f"{seconds:.2f}")):
        table.add_column(name, footer=total, justify="right")
    for row in rows:
        table.add_row(*row)
    if used:
        console.print(table, soft_wrap=False)
    if used > ROWS:
        console.print(f"{used - ROWS} more are in {args.output / 'run.json'}")
    for line in _remarks(notes, empty):
        console.print(line)
    console.print(f"wrote {args.output}")
    return _show_failures(failed, jobs)


def _show_failures(failed: list[Part], jobs: list[Job]) -> int:
    """Each image that could not be used, and the exit code."""
    for part in failed:
        reason = part.error if str(part.job.path) in part.error else f"{part.job.path}: {part.error}"
        errors.print(f"predict.py: {reason}")
    if failed:
        errors.print(f"predict.py: {len(failed)} of {len(jobs)} images could not be used")
    return 1 if failed else 0


def _remarks(notes: list[str], empty: list[str]) -> Iterator[str]:
    """Notes of images, and images without a cell."""
    yield from notes[:ROWS]
    if len(notes) > ROWS:
        yield f"{len(notes) - ROWS} more notes are in run.json"
    if empty:
        named = ", ".join(empty[:5]) + (", ..." if len(empty) > 5 else "")
        yield f"no cell was found in {len(empty)} images ({named}): a lower --min-score or --threshold, or --adapt?"
