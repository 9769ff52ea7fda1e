"""Findings to look at: sheets of crops with the outlines drawn."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as mask_util

from ...files import atomic_write
from ..image_io import CorruptImageError, read_image
from ..rle import decode_columns, outline_corners, parse_runs
from .coordinates import parse_polygons
from .findings import Item
from .survey import Survey, frame_size

__all__ = ["write_sheets"]

SHOWN, COLUMNS = 12, 4
TILE, CAPTION = 240, 34  # pixels
LETTERS = 36  # of a line of the caption
AROUND = 0.6  # of the crop beside the cells, as a share of their extent
LARGEST = 8.0  # times that a crop is enlarged
FIRST, SECOND = (255, 160, 0), (0, 100, 255)  # BGR; blue and orange stay apart for colour-blind readers


def write_sheets(survey: Survey, folder: str | Path) -> list[Path]:
    """Write ``<kind>.png`` for each kind that can be shown: the first 12 findings, with ids below.

    Findings of cells show these, in blue and orange; findings of images show the image with all of its outlines.
    """
    written = []
    for kind, items in survey.findings.by_kind().items():
        tiles = list(_tiles(survey, items))
        if tiles:
            encoded = cv2.imencode(".png", _sheet(tiles))[1].tobytes()
            path = Path(folder) / f"{kind}.png"
            written.append(atomic_write(path, lambda stream, content=encoded: stream.write(content)))
    return written


def _tiles(survey: Survey, items: Sequence[Item]) -> Iterator[np.ndarray]:
    """Up to ``SHOWN`` pictures of findings whose image can be read."""
    count = 0
    for item in items:
        fact = survey.facts.get(item.image)
        if fact is None or fact.path is None or fact.damage:
            continue
        try:
            image = read_image(fact.path)
        except (CorruptImageError, OSError):  # it was readable when it was checked
            continue
        yield _tile(survey, item, image)
        count += 1
        if count == SHOWN:
            return


def _tile(survey: Survey, item: Item, image: np.ndarray) -> np.ndarray:
    """One finding: crop, outlines, caption."""
    tables = survey.tables
    size = frame_size(tables.images[item.image], survey.facts[item.image])
    places = item.cells or tables.cells_of.get(item.image, ())
    outlines = [_corners(tables.annotations[place].get("segmentation"), size) for place in places]
    corner, side = _window([ring for rings in outlines for ring in rings] if item.cells else [], max(image.shape[:2]))
    scale = TILE / side
    smooth = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC if scale < 2 else cv2.INTER_NEAREST
    picture = cv2.resize(_cut(image, corner, side), (TILE, TILE), interpolation=smooth)
    for number, rings in enumerate(outlines):
        colour = SECOND if item.cells and number else FIRST
        for ring in rings:
            points = np.clip((ring - corner) * scale - 0.5, -(2**14), 2**14)
            cv2.polylines(picture, [np.rint(points * 16).astype(np.int32)], True, colour, 1, cv2.LINE_AA, shift=4)
    ids = [tables.annotations[place].get("id") for place in item.cells]
    return np.vstack([picture, _caption(tables.name(item.image), ids)])


def _corners(segmentation: Any, size: tuple[int, int]) -> list[np.ndarray]:
    """The outlines of a segmentation as it was written, (P, 2) each, as far as they can be drawn."""
    if isinstance(segmentation, dict):
        rle = parse_runs(segmentation, size)[0]
        return outline_corners(*decode_columns(rle)) if rle and mask_util.area(rle) else []
    return parse_polygons(segmentation)[0]


def _window(rings: Sequence[np.ndarray], image_side: int) -> tuple[np.ndarray, int]:
    """Corner (x, y) and side of a square around outlines; the whole image where there are none."""
    if not rings:
        return np.zeros(2, dtype=np.int64), image_side
    points = np.clip(np.concatenate(rings), -image_side, 2 * image_side)  # of what is far outside the border is shown
    low, high = points.min(axis=0), points.max(axis=0)
    side = int(max((1 + AROUND) * (high - low).max(), TILE / LARGEST))
    return np.floor((low + high - side) / 2).astype(np.int64), side


def _cut(image: np.ndarray, corner: np.ndarray, side: int) -> np.ndarray:
    """A square of an image, grey where it reaches out of it."""
    canvas = np.full((side, side, 3), 60, dtype=np.uint8)
    low = np.maximum(corner, 0)
    high = np.minimum(corner + side, image.shape[1::-1])
    if (high > low).all():
        to, end = low - corner, high - corner
        canvas[to[1] : end[1], to[0] : end[0]] = image[low[1] : high[1], low[0] : high[0]]
    return canvas


def _caption(name: str, ids: Sequence[Any]) -> np.ndarray:
    """Two lines of text below a picture: the end of the file name, and the annotations."""
    strip = np.full((CAPTION, TILE, 3), 255, dtype=np.uint8)
    for line, text in enumerate((name[-LETTERS:], " ".join(map(str, ids))[:LETTERS])):
        text = text.encode("ascii", "replace").decode()
        cv2.putText(strip, text, (4, 13 + 15 * line), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (0, 0, 0), 1, cv2.LINE_AA)
    return strip


def _sheet(tiles: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures in rows, 6 pixels apart."""
    framed = [cv2.copyMakeBorder(tile, 3, 3, 3, 3, cv2.BORDER_CONSTANT, value=(255, 255, 255)) for tile in tiles]
    columns = min(COLUMNS, len(framed))
    blank = np.full_like(framed[0], 255)
    framed += [blank] * (-len(framed) % columns)
    return np.vstack([np.hstack(framed[row : row + columns]) for row in range(0, len(framed), columns)])
