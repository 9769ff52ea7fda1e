"""One image file after the other: read, predicted, measured, written. Every engine runs this, and nothing else."""

import errno
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import pandas as pd

from ...engine.errors import OutputError
from ..loading import ModelOptions, load_detector
from ..measures.cells import measure_cells
from ..reading.image_options import ImageOptions
from ..reading.reader import open_image
from ..records import Frame, FrameCells
from ..segmenter import CellSegmenter
from .outputs import OutputOptions, remove_outputs, write_file_outputs, write_frame_outputs
from .parts import Blank, Job, Part, digest, read_part, write_part

__all__ = ["RunOptions", "Tell", "Worker", "output_errors", "unpixelled"]

Tell = Callable[[Frame, int, int], None]
# What a bad image raises: damaged files (ValueError), missing ones, images that are too large for the memory
IMAGE_ERRORS = (ValueError, OSError, RuntimeError, MemoryError)


@dataclass(frozen=True)
class RunOptions:
    """Everything that decides on the results of a run; picklable.

    Attributes:
        model_sha256: of the weights, so that results of other weights are told.
        model, images, outputs: see there.
    """

    model_sha256: str
    model: ModelOptions
    images: ImageOptions
    outputs: OutputOptions

    @property
    def made_by(self) -> str:
        """A digest of what decides on the cells that are found and on what is written."""
        model = replace(self.model, model="", weights=None, device=None, threads=None, trust=False)
        outputs = replace(self.outputs, folder=Path(), save=tuple(sorted(self.outputs.save)))
        return digest((self.model_sha256, model, replace(self.images, batch=1), outputs))


class Worker:
    """Callable that does files; it loads the model when it is made.

    Args:
        tell: see :class:`.segmenter.CellSegmenter`.
    """

    def __init__(self, options: RunOptions, tell: Tell = lambda frame, done, total: None) -> None:
        self.options = options
        self.segmenter = CellSegmenter(load_detector(options.model), options.images, tell)

    def __call__(self, jobs: Sequence[Job]) -> list[Part]:
        """Do files together, their frames in batches; where that fails, one by one, so that a bad file stops no other.

        Returns:
            A part for each file, as it was written.

        Raises:
            OutputError: a result cannot be written.
            UserError: an option that fits no image.
        """
        if len(jobs) > 1:
            try:
                return self._do(jobs)
            except IMAGE_ERRORS:
                return [part for job in jobs for part in self([job])]
        try:
            return self._do(jobs)
        except IMAGE_ERRORS as error:
            (job,) = jobs
            return [self._failed(job, str(error) or type(error).__name__)]

    def _failed(self, job: Job, error: str) -> Part:
        """Note why a file could not be used. Results of the same content stay: then the options do not fit."""
        part, output = Part(job, self.options.made_by, error=error), self.options.outputs
        with output_errors(output.folder):
            earlier = read_part(output.folder, job)
            if earlier is None or earlier.error or not job.path.exists() or list(earlier.stamp) != job.stamp:
                remove_outputs(job, output)
                write_part(output.folder, part)
        return part

    def _do(self, jobs: Sequence[Job]) -> list[Part]:
        began = time.perf_counter()
        stamps = [job.stamp for job in jobs]
        files = [open_image(job.path, axes=self.options.images.axes) for job in jobs]
        frames = chain.from_iterable(self._frames(job) for job in jobs)
        found = self.segmenter.segment(frames)
        parts = []
        for job, file, stamp in zip(jobs, files, stamps, strict=True):
            results, tables = self._frames_done(found, len(file), job)
            seconds = _sum(results)
            seconds["all"], began = time.perf_counter() - began, time.perf_counter()
            part = Part(job, self.options.made_by, str(file), results, tables, "", seconds, stamp)
            parts.append(part)
            with output_errors(self.options.outputs.folder):
                write_file_outputs(part.results, job.name, self.options.outputs)
                write_part(self.options.outputs.folder, part)
        return parts

    def _frames_done(
        self, found: Iterator[FrameCells], count: int, job: Job
    ) -> tuple[list[FrameCells], list[pd.DataFrame]]:
        """The next frames, measured, with what is written of each; their pixels are let go."""
        results, tables = [], []
        for number in range(count):
            result = next(found)
            tables.append(measure_cells(result))
            with output_errors(self.options.outputs.folder):
                if not number:
                    remove_outputs(job, self.options.outputs)
                write_frame_outputs(result, job.name, self.options.outputs)
            results.append(unpixelled(result))
        return results, tables

    def _frames(self, job: Job) -> Iterator[Frame]:
        return self.segmenter.frames_of(job.path, job.name)


def unpixelled(result: FrameCells) -> FrameCells:
    """The same cells without the pixels of their frame."""
    pixels = Blank(tuple(result.frame.pixels.shape), result.frame.pixels.dtype)
    return FrameCells(
        replace(result.frame, pixels=pixels), result.cells, result.classes, None, result.seconds, result.notes
    )


@contextmanager
def output_errors(folder: Path) -> Iterator[None]:
    """Context in which an OSError is one of the output folder's: full, read-only, gone; it becomes an OutputError."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        advice = "the disk is full; make room, then go on with --resume" if full else str(error)
        raise OutputError(f"{folder}: results cannot be written: {advice}") from error


def _sum(results: Sequence[FrameCells]) -> dict[str, float]:
    """Seconds of each step of all frames."""
    steps: dict[str, float] = {}
    for result in results:
        for step, seconds in result.seconds.items():
            steps[step] = steps.get(step, 0.0) + seconds
    return steps
