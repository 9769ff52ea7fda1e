"""What is written of each image file, by kind."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...errors import DatasetError
from ...files import atomic_write, sha256
from ..records import Frame, FrameCells
from ..writers import write_geojson, write_labels, write_overlay, write_probability, write_rois
from .parts import FOLDER as PARTS
from .parts import Job, read_part

__all__ = [
    "COCO",
    "KINDS",
    "SUMMARY",
    "TRACKS",
    "OutputOptions",
    "folders",
    "hashes",
    "remove_outputs",
    "stem_of",
    "write_file_outputs",
    "write_frame_outputs",
]

TRACKS = "tracks"
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
    kinds = [folder for folder, _, _ in (*OF_FILE.values(), *OF_FRAME.values())]
    return [output / folder for folder in (*kinds, PARTS, TRACKS)]


def write_file_outputs(results: Sequence[FrameCells], name: str, options: OutputOptions) -> None:
    """Write what there is one of for a file, for each of its positions, and the hashes; frames need no pixels."""
    record = hashes(options.folder, name)
    record.unlink(missing_ok=True)  # of files that are no more: a run may be killed before it says what it wrote
    lines = []
    for own, frames in _positions(results, name).items():
        for kind, (folder, suffix, write) in OF_FILE.items():
            if kind in options.save:
                more = {"overlap": options.overlap} if kind == "labels" else {}
                path = options.folder / folder / f"{own}{suffix}"
                write(path, frames, **more)
                lines.append(f"{sha256(path)}  {folder}/{path.name}\n")
    if lines:
        atomic_write(record, lambda stream: stream.write("".join(lines).encode()))


def write_frame_outputs(result: FrameCells, name: str, options: OutputOptions) -> None:
    """Write what there is one of for a frame; frames of a stack get a folder with the stack's ``name``."""
    if "overlay" in options.save:
        OF_FRAME["overlay"][2](_frame_place("overlay", result.frame.name, name, options), result)
    if "probability" in options.save and result.probability is not None:
        OF_FRAME["probability"][2](_frame_place("probability", result.frame.name, name, options), result.probability)


def stem_of(frame: Frame, name: str) -> str:
    """The name of what there is one of for a file: that of the file, with the position behind it where it has some."""
    return f"{name}_p{frame.place['p']:02d}" if "p" in frame.place else name


def remove_outputs(job: Job, options: OutputOptions) -> None:
    """Remove what an earlier run has written of a file."""
    earlier = read_part(options.folder, job)
    results = earlier.results if earlier else []
    for own in {job.name, *(stem_of(result.frame, job.name) for result in results)}:
        for folder, suffix, _ in OF_FILE.values():
            (options.folder / folder / f"{own}{suffix}").unlink(missing_ok=True)
    for kind in OF_FRAME:
        for frame in {job.name, *(result.frame.name for result in results)}:
            _frame_place(kind, frame, job.name, options).unlink(missing_ok=True)
    (options.folder / PARTS / f"{job.name}.json").unlink(missing_ok=True)
    hashes(options.folder, job.name).unlink(missing_ok=True)


def _positions(results: Sequence[FrameCells], name: str) -> dict[str, list[FrameCells]]:
    """Frames by the name of their file's outputs, without their position."""
    found: dict[str, list[FrameCells]] = {}
    for result in results:
        place = {axis: at for axis, at in result.frame.place.items() if axis != "p"}
        frame = replace(result.frame, place=place)
        found.setdefault(stem_of(result.frame, name), []).append(replace(result, frame=frame))
    return found


def _frame_place(kind: str, frame: str, name: str, options: OutputOptions) -> Path:
    folder, suffix, _ = OF_FRAME[kind]
    return options.folder / folder / ("" if frame == name else name) / f"{frame}{suffix}"


def hashes(output: Path, name: str) -> Path:
    """The list of the SHA-256 of what was written of a file, as ``sha256sum`` prints it."""
    return output / PARTS / f"{name}.sha256"
