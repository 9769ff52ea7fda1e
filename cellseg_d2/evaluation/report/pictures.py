"""Pictures of the worst and the best images: outlines as SVG paths over the image as a data URI."""

import base64
import os
from dataclasses import dataclass
from pathlib import Path, PurePath

import cv2
import numpy as np

from ...data.image_io import CorruptImageError, read_image
from ...data.rle import outline_corners, paint_columns
from ...run_lengths import Runs
from ..evaluate import Evaluation
from ..objects import Objects
from ..outcomes import RESULT_OUTCOMES, TRUTH_OUTCOMES

__all__ = ["Picture", "outline_path", "pictures", "rank_images"]

EACH = 3
LONGEST = 1200  # pixels of an embedded image's longer side
QUALITY = 80  # of WebP
STRETCH = (0.1, 99.9)  # percentiles of the grey values that become black and white
TOLERANCE = 0.75  # pixels: staircases of pixel edges become straight lines, nothing else changes


@dataclass(frozen=True)
class Picture:
    """One image.

    Attributes:
        row: place in the per-image table.
        height, width: pixels of the original image, in which the paths are drawn.
        image: data URI; empty where there is no file, for the reason in ``missing``.
        paths: "true", "false", "missed" -> SVG path data of the outlines.
        counts: the same keys -> number of cells.
    """

    row: int
    height: int
    width: int
    image: str
    missing: str
    paths: dict[str, str]
    counts: dict[str, int]


def pictures(evaluation: Evaluation, folder: Path | None) -> tuple[list[Picture], list[Picture]]:
    """The worst and the best images with cells, at most three each, no image twice.

    Args:
        folder: the images' files lie in it or below; they are found by base name. None: outlines only.
    """
    order = rank_images(evaluation)
    worst = order[: min(EACH, (len(order) + 1) // 2)]
    best = order[len(worst) :][::-1][:EACH]
    files = {} if folder is None else _find(Path(folder), [evaluation.truth.images.file_names[i] for i in worst + best])
    return tuple([_picture(evaluation, index, folder, files) for index in part] for part in (worst, best))


def rank_images(evaluation: Evaluation) -> list[int]:
    """Places of the images that have annotated cells, from the lowest mSA up; equal ones by AP."""
    table = evaluation.per_image
    with_cells = table[table["cells"] > 0]
    return with_cells.sort_values(["mSA", "AP"], kind="stable").index.tolist()


def outline_path(objects: Objects, index: np.ndarray, height: int) -> str:
    """SVG path data of the outlines along pixel edges of the objects at the places ``index``; boxes without masks.

    Args:
        height: rows of the image that they are all in.
    """
    if objects.masks is None:
        boxes = np.round(objects.boxes[index], 1)
        return "".join(f"M{x:g} {y:g}h{w:g}v{h:g}h{-w:g}z" for x, y, w, h in boxes)
    masks = objects.masks.take(index)
    return "".join(_outline(masks, n, height) for n in range(len(masks)))


def _outline(masks: Runs, n: int, height: int) -> str:
    """Path data of one mask; only its own columns are decoded, so a small cell in a large image costs little."""
    part = slice(masks.offsets[n], masks.offsets[n + 1])
    begin, end = masks.begin[part], masks.end[part]
    if not len(begin):
        return ""
    path = ""
    for outline in outline_corners(*paint_columns(begin, end, height)):
        corners = cv2.approxPolyDP(outline.astype(np.int32)[:, None], TOLERANCE, True)[:, 0]
        moves = np.diff(corners, axis=0)
        path += f"M{corners[0, 0]} {corners[0, 1]}l{' '.join(f'{x} {y}' for x, y in moves)}z"
    return path


def _picture(evaluation: Evaluation, index: int, folder: Path | None, files: dict[str, Path]) -> Picture:
    score, found, images = evaluation.main.score, evaluation.outcomes, evaluation.truth.images
    height, width = int(images.heights[index]), int(images.widths[index])
    truth, results = (slice(o.starts[index], o.starts[index + 1]) for o in (score.truth, score.results))
    true, left_out = (RESULT_OUTCOMES.index(name) for name in ("true", "left out"))
    hit, crowd = (TRUTH_OUTCOMES.index(name) for name in ("found", "crowd"))
    codes, of_truth = found.results[results], found.truth[truth]
    members = {
        "true": (score.results, results.start + np.flatnonzero(codes == true)),
        "false": (score.results, results.start + np.flatnonzero((codes != true) & (codes != left_out))),
        "missed": (score.truth, truth.start + np.flatnonzero((of_truth != hit) & (of_truth != crowd))),
    }
    image, missing = "", "no folder of images was given"
    if folder is not None:
        image, missing = _data_uri(files.get(PurePath(images.file_names[index]).name), height, width)
    return Picture(
        index,
        height,
        width,
        image,
        missing,
        {name: outline_path(objects, places, height) for name, (objects, places) in members.items()},
        {name: len(places) for name, (_, places) in members.items()},
    )


def _find(folder: Path, file_names: list[str]) -> dict[str, Path]:
    """Base name -> file below ``folder``; of several with one name, one whose path ends as the ground truth's does."""
    wanted = {PurePath(name).name: name for name in file_names}
    files: dict[str, Path] = {}
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in wanted.keys() & set(names):
            path = Path(parent, name)
            if name not in files or path.as_posix().endswith("/" + wanted[name]):
                files[name] = path
    return files


def _data_uri(path: Path | None, height: int, width: int) -> tuple[str, str]:
    """The image as a WebP data URI, or why there is none."""
    if path is None:
        return "", "the file is not in the folder of images"
    try:
        image = read_image(path, STRETCH)
    except CorruptImageError as error:
        return "", f"the file is damaged: {error.reason}"
    except OSError as error:
        return "", f"the file cannot be read: {error.strerror}"
    if image.shape[:2] != (height, width):
        size = f"{image.shape[1]} × {image.shape[0]}"
        return "", f"the file has {size} pixels where the annotations say {width} × {height}"
    shrink = LONGEST / max(height, width)
    if shrink < 1:
        image = cv2.resize(image, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    encoded = cv2.imencode(".webp", image, [cv2.IMWRITE_WEBP_QUALITY, QUALITY])[1]
    return "data:image/webp;base64," + base64.b64encode(encoded.tobytes()).decode("ascii"), ""
