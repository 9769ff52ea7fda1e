"""Many images through one semantic model: which files, under which names, and what is written of each."""

import glob
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
from skimage.segmentation import find_boundaries

from ..data.image_io import IMAGE_SUFFIXES, read_image
from ..errors import DatasetError, MissingDataError
from ..evaluation.figures import probability_overlay
from ..files import atomic_write, read_json, sha256, write_json
from .label_writers import write_coco, write_labels, write_probability
from .semantic import CellPrediction, SemanticPredictor

__all__ = ["Outcome", "find_images", "output_names", "predict_images", "write_summary"]

SUMMARY, CELLS = "run.json", "cells.json"
# What is written of each image: folder and ending
OUTPUTS = {"labels": ".tif", "probabilities": ".tif", "overlays": ".png"}
# What a bad image raises: damaged files (ValueError), missing ones, images that are too large for the memory
IMAGE_ERRORS = (ValueError, OSError, RuntimeError, MemoryError)


@dataclass(frozen=True)
class Outcome:
    """What became of one image.

    Attributes:
        path: the image.
        name: of its outputs, without ending.
        error: why there are none; "" where there are.
        size: height and width.
        cells: COCO results.
        steps: seconds, see :class:`.semantic.CellPrediction`.
    """

    path: Path
    name: str
    error: str = ""
    size: tuple[int, int] = (0, 0)
    cells: Sequence[Mapping[str, Any]] = ()
    steps: Mapping[str, float] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """From the file to the labels."""
        return sum(self.steps.values())


def find_images(arguments: Sequence[str], output: Path) -> list[Path]:
    """The image files that are meant, in the order of the arguments, each once.

    Args:
        arguments: files, whatever their ending; folders (their images, not those of folders in them); patterns such as
            ``plate/**/*.tif``.
        output: where results go; patterns do not find those of an earlier run.

    Raises:
        MissingDataError: an argument leads to no image.
    """
    found: dict[Path, Path] = {}
    written = {(output / kind).resolve() for kind in OUTPUTS}
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            files = [p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")]
            problem = f"{path}: no file in this folder ends in {', '.join(IMAGE_SUFFIXES)}"
        else:
            matching = map(Path, glob.glob(argument, recursive=True))
            files = [p for p in matching if p.is_file() and p.resolve().parent not in written]
            files = [path] if path.is_file() else files
            problem = f"{argument}: there is no such file or folder, and no file matches it as a pattern"
        if not files:
            raise MissingDataError(problem)
        for file in sorted(files):
            found.setdefault(file.resolve(), file)
    return list(found.values())


def output_names(paths: Sequence[Path]) -> list[str]:
    """A name for the outputs of each image, all different: its own without ending where no other has it.

    Else the folder's name comes before it, and a number behind it where that is not enough. Upper and lower case count
    as equal, as not all disks tell them apart.

    >>> output_names([Path("a/t1.tif"), Path("a/t2.tif"), Path("b/T2.tif"), Path("b/t2.png")])
    ['t1', 'a_t2', 'b_T2', 'b_t2-2']
    """
    shared = Counter(path.stem.lower() for path in paths)
    taken: set[str] = set()
    names = []
    for path in paths:
        base = path.stem if shared[path.stem.lower()] == 1 else f"{path.resolve().parent.name}_{path.stem}"
        name, number = base, 1
        while name.lower() in taken:
            number += 1
            name = f"{base}-{number}"
        taken.add(name.lower())
        names.append(name)
    return names


def predict_images(
    predictor: SemanticPredictor, paths: Sequence[Path], output: Path, cell_type: str | None = None
) -> Iterator[Outcome]:
    """Predict images one after the other, and write ``labels``, ``probabilities`` and ``overlays`` into ``output``.

    An image that cannot be used does not stop the others. Its outputs from an earlier run are removed.

    Raises:
        DatasetError: at once, before anything is written: ``output`` has files that no earlier run has written, that
            are to be predicted, that were changed since, or that are results of other images.
        ValueError: at once: the cell type is none of an ensemble's.
        OSError: an output cannot be written.
    """
    predictor.member(cell_type)
    _protect(paths, output)
    return _predict(predictor, paths, output, cell_type)


def _predict(
    predictor: SemanticPredictor, paths: Sequence[Path], output: Path, cell_type: str | None
) -> Iterator[Outcome]:
    """See :func:`predict_images`."""
    for path, name in zip(paths, output_names(paths)):
        places = {kind: output / kind / f"{name}{ending}" for kind, ending in OUTPUTS.items()}
        try:
            prediction = predictor(path, cell_type)
            overlay = draw(path, prediction)
        except IMAGE_ERRORS as error:
            for place in places.values():
                place.unlink(missing_ok=True)
            yield Outcome(path, name, error=str(error) or type(error).__name__)
            continue
        write_labels(places["labels"], prediction.labels)
        write_probability(places["probabilities"], prediction.probability)
        atomic_write(places["overlays"], lambda stream, content=overlay: stream.write(content))
        yield Outcome(path, name, "", prediction.labels.shape, prediction.cells, prediction.steps)


def _protect(paths: Sequence[Path], output: Path) -> None:
    """Nobody's own labels are overwritten."""
    folders = [output / kind for kind in OUTPUTS]
    within = [path for path in paths if path.resolve().parent in {folder.resolve() for folder in folders}]
    if within:
        raise DatasetError(f"{within[0]} lies where results are written: choose another output folder than {output}")
    if (output / SUMMARY).is_file():
        _require_same_images(paths, output)
        return
    foreign = [folder for folder in folders if folder.is_dir() and any(folder.iterdir())]
    foreign += [file for file in [output / CELLS] if file.exists()]
    if foreign:
        raise DatasetError(
            f"{foreign[0]} {'has files' if foreign[0].is_dir() else 'exists'}, and there is no {SUMMARY} beside it to "
            "say that they are results of an earlier run: choose another output folder"
        )


def _require_same_images(paths: Sequence[Path], output: Path) -> None:
    """A folder has the results of one list of images: else some of its labels were in no COCO file, or replaced."""
    written = {(Path(image["file"]).resolve(), image["name"]) for image in _earlier_images(output)}
    others = sorted(written - set(zip([path.resolve() for path in paths], output_names(paths))))
    if others:
        raise DatasetError(
            f"{output} has results of {len(others)} images that this run would not write there again, such as "
            f"{others[0][0]} as {others[0][1]}: choose another output folder"
        )


def _earlier_images(output: Path) -> list[dict[str, Any]]:
    """What the ``run.json`` that is there says of its images."""
    content = read_json(output / SUMMARY)
    images = content.get("images", []) if isinstance(content, dict) else None
    if not isinstance(images, list) or not all(isinstance(i, dict) and {"file", "name"} <= i.keys() for i in images):
        raise DatasetError(f"{output / SUMMARY} was not written by predict.py: choose another output folder")
    if images and sha256(output / CELLS) != content.get(CELLS, {}).get("sha256"):
        raise DatasetError(
            f"{output / CELLS} is not the one that {SUMMARY} tells of, has it been corrected by hand? It would be "
            "replaced: choose another output folder"
        )
    return images


def _not_reached(output: Path, names: set[str]) -> list[tuple[dict, list[dict], dict]]:
    """Images of an earlier run that have none of the names: COCO's entry, the cells, and the entry of ``run.json``."""
    if not (output / SUMMARY).is_file():
        return []
    left = {f"labels/{image['name']}.tif": image for image in _earlier_images(output) if image["name"] not in names}
    if not left:
        return []
    coco = read_json(output / CELLS)
    entries = [image for image in coco["images"] if image["labels"] in left]
    return [
        (image, [cell for cell in coco["annotations"] if cell["image_id"] == image["id"]], left[image["labels"]])
        for image in entries
    ]


def draw(path: Path, prediction: CellPrediction) -> bytes:
    """PNG of the image in the colours of its probability, cells outlined in white."""
    picture = probability_overlay(read_image(path), prediction.probability)
    picture[find_boundaries(prediction.labels, mode="inner")] = 255
    return cv2.imencode(".png", picture[:, :, ::-1])[1].tobytes()


def write_summary(output: Path, outcomes: Sequence[Outcome], run: Mapping[str, Any]) -> None:
    """Write ``cells.json``, a COCO data set of all images that could be used, and ``run.json``.

    Images of an earlier run that this one, broken off, did not come to stay in both; ``earlier_run`` marks them.

    Args:
        run: what else ``run.json`` says: versions, model, options.
    """
    before = _not_reached(output, {outcome.name for outcome in outcomes})
    used = [outcome for outcome in outcomes if not outcome.error]
    names = Counter(outcome.path.name for outcome in used) + Counter(Path(b[0]["file_name"]).name for b in before)
    images, results = [], []
    for number, outcome in enumerate(used, start=1):
        path = outcome.path
        entry = {"id": number, "file_name": path.name if names[path.name] == 1 else path.as_posix()}
        height, width = outcome.size
        images.append({**entry, "height": height, "width": width, "labels": f"labels/{outcome.name}.tif"})
        results += [{**cell, "image_id": number} for cell in outcome.cells]
    for number, (entry, cells, _) in enumerate(before, start=len(images) + 1):
        images.append({**entry, "id": number})
        results += [{**cell, "image_id": number} for cell in cells]
    digest = sha256(write_coco(output / CELLS, images, results))
    file = {o.path: str(o.path.resolve()) for o in outcomes}
    done = [
        {"file": file[o.path], "name": o.name, "cells": len(o.cells), "seconds": o.seconds, "steps": dict(o.steps)}
        for o in used
    ]
    done += [{**entry, "earlier_run": True} for _, _, entry in before]
    failures = [{"file": file[o.path], "error": o.error} for o in outcomes if o.error]
    content = {**run, CELLS: {"sha256": digest}, "images": done, "failures": failures}
    write_json(output / SUMMARY, content, indent=1)
