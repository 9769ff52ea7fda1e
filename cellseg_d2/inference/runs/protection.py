"""Nobody's own files are replaced by results, nor corrected ones, nor those of another run."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...engine.errors import OutputError
from ...errors import DatasetError
from ...files import locked, read_json, sha256
from .outputs import KINDS, OF_FILE, OF_FRAME, OF_RUN, SUMMARY, TRACKS, folders, hashes
from .parts import FOLDER as PARTS
from .parts import Job

__all__ = ["alone", "protect"]

LOCK = ".lock"


def protect(jobs: Sequence[Job], output: Path, kinds: Collection[str]) -> None:
    """Nobody's own files are replaced, and a folder has the results of one run.

    Args:
        kinds: what is to be written, of :data:`.outputs.KINDS`, and "tracks".

    Raises:
        DatasetError: ``output`` has files that no earlier run has written, that are to be predicted, that were changed
            since, that are results of other images, or of a kind that is not to be written again.
    """
    places = {folder.resolve() for folder in folders(output)}
    within = [job.path for job in jobs if places.intersection(job.path.resolve().parents)]
    if within:
        raise DatasetError(f"{within[0]} lies where results are written: choose another output folder than {output}")
    if (output / SUMMARY).is_file():
        _require_same_images(jobs, output)
        _require_uncorrected(jobs, output)
        _require_same_kinds(output, kinds)
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
    written = _earlier_images(output)
    others = sorted(written - {(job.path.resolve(), job.name) for job in jobs})
    if others:
        raise DatasetError(
            f"{output} has results of {len(others)} images that this run would not write there again, such as "
            f"{others[0][0]} as {others[0][1]}: choose another output folder"
        )


def _require_same_kinds(output: Path, kinds: Collection[str]) -> None:
    """Results of two runs do not lie side by side: else tables were of other cells than label images."""
    files = {kind: output / name for kind, name in OF_RUN.items() if kind in KINDS}
    places = {kind: output / folder for kind, (folder, *_) in {**OF_FILE, **OF_FRAME}.items()}
    places[TRACKS] = output / TRACKS
    there = [kind for kind, path in files.items() if path.exists()]
    there += [kind for kind, path in places.items() if path.is_dir() and any(path.iterdir())]
    left = [kind for kind in there if kind not in kinds]
    if left:
        options = [f"--save ...,{','.join(kind for kind in left if kind != TRACKS)}"] * (left != [TRACKS])
        options += ["--track"] * (TRACKS in left)
        raise DatasetError(
            f"{output} has {', '.join(left)} of an earlier run, which this one would leave as they are, beside other "
            f"results: add {' and '.join(options)}, or choose another output folder"
        )


def _require_uncorrected(jobs: Sequence[Job], output: Path) -> None:
    """Label images and outlines are as they were written."""
    for job in jobs:
        record = hashes(output, job.name)
        for line in record.read_text(encoding="utf-8").splitlines() if record.is_file() else ():
            known, _, name = line.partition("  ")
            if (output / name).is_file() and sha256(output / name) != known:
                raise DatasetError(
                    f"{output / name} is not the one that predict.py wrote, has it been corrected by hand? It would be "
                    "replaced: choose another output folder, or put the corrected files elsewhere"
                )


def _earlier_images(output: Path) -> set[tuple[Path, str]]:
    """What was predicted into a folder, by its ``run.json`` and, where the run was killed before that, by its parts."""
    content = _summary(output)
    for name, known in content["outputs"].items():
        if (output / name).is_file() and sha256(output / name) != known:
            raise DatasetError(
                f"{output / name} is not the one that {SUMMARY} tells of, has it been corrected by hand? It would be "
                "replaced: choose another output folder"
            )
    done = content["images"] or [read_json(path) for path in sorted((output / PARTS).glob("*.json"))]
    return {(Path(image["file"]), image["name"]) for image in done}


def _summary(output: Path) -> dict[str, Any]:
    """The ``run.json`` that is there."""
    content = read_json(output / SUMMARY)
    kinds = {"versions": dict, "model": dict, "outputs": dict, "images": list}
    if not isinstance(content, dict) or not all(isinstance(content.get(key), kind) for key, kind in kinds.items()):
        raise DatasetError(f"{output / SUMMARY} was not written by predict.py: choose another output folder")
    return content


@contextmanager
def alone(output: Path) -> Iterator[None]:
    """Context in which no other run on this machine writes into a folder.

    Raises:
        OutputError: another one does.
    """
    output.mkdir(parents=True, exist_ok=True)
    taken = OutputError(f"{output}: another run writes there now; wait, or choose another folder")
    with locked(output / LOCK, taken):
        yield
