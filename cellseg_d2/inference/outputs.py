"""What is written of each image file, by kind; and that nobody's own files are replaced."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DatasetError
from ..files import atomic_write, read_json, sha256
from .parts import FOLDER as PARTS
from .parts import Job, read_part
from .records import FrameCells
from .writers import write_geojson, write_labels, write_overlay, write_probability, write_rois

__all__ = [
    "COCO",
    "KINDS",
    "SUMMARY",
    "OutputOptions",
    "folders",
    "protect",
    "remove_outputs",
    "write_file_outputs",
    "write_frame_outputs",
]

SUMMARY, COCO, CSV, PARQUET = "run.json", "cells.json", "cells.csv", "cells.parquet"
# Kinds of --save: one file for each image file, one for each of its frames, one for all
OF_FILE = {
    "labels": ("labels", ".tif", write_labels),
    "rois": ("rois", ".zip", write_rois),
    "geojson": ("geojson", ".geojson", write_geojson),
}
OF_FRAME = {
    "overlay": ("overlays", ".png", write_overlay),
    "probability": ("probabilities", ".tif", write_probability),
}
OF_RUN = {"coco": COCO, "csv": CSV, "parquet": PARQUET}
KINDS = ("coco", "labels", "rois", "geojson", "csv", "parquet", "overlay", "probability")


@dataclass(frozen=True)
class OutputOptions:
    """What is written; picklable.

    Attributes:
        folder: where.
        save: of :data:`KINDS`.
        overlap: which cell keeps a pixel of a label image that several have: "score" (the best) or "interior" (the one
            whose outline is farther away).
    """

    folder: Path
    save: tuple[str, ...] = ("coco", "labels", "csv", "overlay", "probability")
    overlap: str = "score"

    def __post_init__(self) -> None:
        """Raise DatasetError for a kind that there is not."""
        unknown = [kind for kind in self.save if kind not in KINDS]
        if unknown or not self.save:
            raise DatasetError(f"--save {','.join(self.save)}: choose of {', '.join(KINDS)}")


def folders(output: Path) -> list[Path]:
    """The folders below ``output`` that results go to."""
    return [output / folder for folder, _, _ in (*OF_FILE.values(), *OF_FRAME.values())] + [output / PARTS]


def write_file_outputs(results: Sequence[FrameCells], name: str, options: OutputOptions) -> None:
    """Write what there is one of for a file, and the hashes of it; its frames need no pixels."""
    record = _hashes(options.folder, name)
    record.unlink(missing_ok=True)  # of files that are no more: a run may be killed before it says what it wrote
    lines = []
    for kind, (folder, suffix, write) in OF_FILE.items():
        if kind in options.save:
            more = {"overlap": options.overlap} if kind == "labels" else {}
            path = options.folder / folder / f"{name}{suffix}"
            write(path, results, **more)
            lines.append(f"{sha256(path)}  {folder}/{path.name}\n")
    if lines:
        atomic_write(record, lambda stream: stream.write("".join(lines).encode()))


def write_frame_outputs(result: FrameCells, options: OutputOptions) -> None:
    """Write what there is one of for a frame."""
    if "overlay" in options.save:
        folder, suffix, write = OF_FRAME["overlay"]
        write(options.folder / folder / f"{result.frame.name}{suffix}", result)
    if "probability" in options.save and result.probability is not None:
        folder, suffix, write = OF_FRAME["probability"]
        write(options.folder / folder / f"{result.frame.name}{suffix}", result.probability)


def remove_outputs(job: Job, options: OutputOptions) -> None:
    """Remove what an earlier run has written of a file."""
    earlier = read_part(options.folder, job)
    frames = {job.name, *(result.frame.name for result in earlier.results)} if earlier else {job.name}
    for folder, suffix, _ in OF_FILE.values():
        (options.folder / folder / f"{job.name}{suffix}").unlink(missing_ok=True)
    for folder, suffix, _ in OF_FRAME.values():
        for name in frames:
            (options.folder / folder / f"{name}{suffix}").unlink(missing_ok=True)
    (options.folder / PARTS / f"{job.name}.json").unlink(missing_ok=True)
    _hashes(options.folder, job.name).unlink(missing_ok=True)


def _hashes(output: Path, name: str) -> Path:
    """The list of the SHA-256 of what was written of a file, as ``sha256sum`` prints it."""
    return output / PARTS / f"{name}.sha256"


def protect(jobs: Sequence[Job], output: Path) -> None:
    """Nobody's own files are replaced, nor results of other images.

    Raises:
        DatasetError: ``output`` has files that no earlier run has written, that are to be predicted, that were changed
            since, or that are results of other images.
    """
    places = {folder.resolve() for folder in folders(output)}
    within = [job.path for job in jobs if job.path.resolve().parent in places]
    if within:
        raise DatasetError(f"{within[0]} lies where results are written: choose another output folder than {output}")
    if (output / SUMMARY).is_file():
        _require_same_images(jobs, output)
        _require_uncorrected(jobs, output)
        return
    foreign: list[Path] = [folder for folder in folders(output) if folder.is_dir() and any(folder.iterdir())]
    foreign += [output / file for file in OF_RUN.values() if (output / file).exists()]
    if foreign:
        raise DatasetError(
            f"{foreign[0]} {'has files' if foreign[0].is_dir() else 'exists'}, and there is no {SUMMARY} beside it to "
            "say that they are results of an earlier run: choose another output folder"
        )


def _require_same_images(jobs: Sequence[Job], output: Path) -> None:
    """A folder has the results of one list of images: else some of its labels were in no COCO file, or replaced."""
    written = set(_earlier_images(output))
    others = sorted(written - {(job.path.resolve(), job.name) for job in jobs})
    if others:
        raise DatasetError(
            f"{output} has results of {len(others)} images that this run would not write there again, such as "
            f"{others[0][0]} as {others[0][1]}: choose another output folder"
        )


def _require_uncorrected(jobs: Sequence[Job], output: Path) -> None:
    """Label images and outlines are as they were written."""
    for job in jobs:
        record = _hashes(output, job.name)
        for line in record.read_text(encoding="utf-8").splitlines() if record.is_file() else ():
            known, _, name = line.partition("  ")
            if (output / name).is_file() and sha256(output / name) != known:
                raise DatasetError(
                    f"{output / name} is not the one that predict.py wrote, has it been corrected by hand? It would be "
                    "replaced: choose another output folder, or put the corrected files elsewhere"
                )


def _earlier_images(output: Path) -> Iterator[tuple[Path, str]]:
    """What the ``run.json`` that is there says of its images."""
    content: Any = read_json(output / SUMMARY)
    images = content.get("images", []) if isinstance(content, dict) else None
    if not isinstance(images, list) or not all(isinstance(i, dict) and {"file", "name"} <= i.keys() for i in images):
        raise DatasetError(f"{output / SUMMARY} was not written by predict.py: choose another output folder")
    for name, known in content.get("outputs", {}).items():
        if (output / name).is_file() and sha256(output / name) != known:
            raise DatasetError(
                f"{output / name} is not the one that {SUMMARY} tells of, has it been corrected by hand? It would be "
                "replaced: choose another output folder"
            )
    yield from ((Path(image["file"]), image["name"]) for image in images)
