"""Who calls the worker: this process, several processes of this machine, or Ray on many machines."""

import importlib
import logging
import multiprocessing
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...errors import DatasetError
from ..loading import load_detector
from .parts import Job, Part, read_part, write_part
from .worker import RunOptions, Tell, Worker, output_errors

__all__ = ["ENGINES", "local", "ray"]

TRIES = 2  # of files during which a worker process died
KILLED = "the process that worked on it was killed, perhaps for want of memory: try fewer --workers, or --tile 512"
ENGINES = ("local", "ray")
_worker: Worker | None = None


def local(
    jobs: Sequence[Job], options: RunOptions, workers: int = 1, tell: Tell = lambda frame, done, total: None
) -> Iterator[Part]:
    """Parts as they get ready, from this process, or from several of one thread each.

    Args:
        tell: see :class:`.segmenter.CellSegmenter`; by one process only.

    Raises:
        OutputError: a result cannot be written.
        UserError: the model cannot be loaded.
    """
    if workers <= 1:
        worker = Worker(options, tell)
        for group in _groups(jobs, options.images.batch):
            yield from worker(group)
        return
    load_detector(options.model)  # so that an error is told once, and networks are exported once
    single = replace(options, model=replace(options.model, threads=1))
    tries = dict.fromkeys(_groups(jobs, options.images.batch), 0)
    while tries:
        yield from _until_broken(tries, single, workers)


def _groups(jobs: Sequence[Job], size: int) -> Iterator[tuple[Job, ...]]:
    """Files that are done together."""
    for start in range(0, len(jobs), size):
        yield tuple(jobs[start : start + size])


def _until_broken(tries: dict[tuple[Job, ...], int], options: RunOptions, workers: int) -> Iterator[Part]:
    """Take groups out of ``tries`` until they are done or a process dies.

    Those at work then have one more try, each on its own, so that it is known which of them it was.
    """
    waiting, running = sorted(tries, key=lambda group: -tries[group]), {}
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_begin, initargs=(options,))
    try:
        while waiting or running:
            while waiting and len(running) < (1 if any(map(tries.get, [*waiting[:1], *running.values()])) else workers):
                group = waiting.pop(0)
                with _without_ctrl_c():
                    running[pool.submit(_do, group)] = group
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                group = running[future]
                parts = future.result()
                del tries[group], running[future]
                yield from parts
    except BrokenProcessPool:
        yield from _died(tries, list(running.values()), options)
    finally:
        for process in set(multiprocessing.active_children()) - others if running else ():
            process.terminate()
        pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """Context in which processes are started that do not see Ctrl-C: this one does, and ends them without a word."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _died(tries: dict[tuple[Job, ...], int], groups: list[tuple[Job, ...]], options: RunOptions) -> Iterator[Part]:
    """Count a try of each group that was at work; those without a further one have failed."""
    for group in groups:
        tries[group] += 1
        if tries[group] < TRIES:
            continue
        del tries[group]
        for job in group:
            part = Part(job, options.made_by, error=KILLED)
            with output_errors(options.outputs.folder):
                write_part(options.outputs.folder, part)
            yield part


def _begin(options: RunOptions) -> None:
    """Load the model in a process of a pool."""
    global _worker
    _worker = Worker(options)


def _do(group: tuple[Job, ...]) -> list[Part]:
    assert _worker is not None
    return _worker(group)


class _Actor:
    """The worker as Ray Data calls it; what it returns is small, the results are in the parts."""

    def __init__(self, options: RunOptions) -> None:
        self.worker = Worker(options)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        jobs = [Job(Path(path), name) for path, name in zip(batch["path"].tolist(), batch["name"].tolist())]
        self.worker(jobs)
        return {"name": batch["name"]}


def ray(jobs: Sequence[Job], options: RunOptions, workers: int = 1, address: str | None = None) -> Iterator[Part]:
    """Parts as they get ready, from an actor pool of Ray Data; the output folder has to be one that all machines share.

    Ray starts an actor anew that dies, and gives its files to another one.

    Args:
        workers: actors.
        address: of a running cluster; None: one on this machine.

    Raises:
        DatasetError: Ray is not installed.
    """
    try:
        ray_package, data = importlib.import_module("ray"), importlib.import_module("ray.data")
    except ImportError as error:
        raise DatasetError(f"--engine ray needs Ray ({error}): pip install 'cellseg_d2[ray]'") from error
    on_gpu = (options.model.device or "").startswith("cuda")
    single = options if on_gpu else replace(options, model=replace(options.model, threads=1))
    by_name = {job.name: job for job in jobs}
    own = not ray_package.is_initialized()
    if own:
        ray_package.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    data.DataContext.get_current().enable_progress_bars = False
    rows = data.from_items([{"path": str(job.path.resolve()), "name": job.name} for job in jobs])
    done = rows.map_batches(
        _Actor, fn_constructor_args=(single,), batch_size=options.images.batch,
        compute=data.ActorPoolStrategy(size=workers),
        num_gpus=1 if on_gpu else 0, num_cpus=0.5,  # Ray's own tasks need the rest of a small machine
    )  # fmt: skip
    try:
        for row in done.iter_rows():
            part = read_part(options.outputs.folder, by_name[row["name"]])
            if part is not None:
                yield part
    finally:
        if own:
            ray_package.shutdown()
