"""Measurements of the cells of a frame: one row a cell."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from ..records import Frame, FrameCells
from .crops import Crop, decode_crops, touching_pairs
from .shape import SHAPE, shape_of

__all__ = ["measure_cells", "measure_columns"]

TOUCHING = 2  # pixels from centre to centre, at most, of cells that touch: one free pixel between them
WHOLE = 64_000_000  # pixels up to which a frame on disk is read at once
_INTENSITIES = ("mean", "sd", "min", "max")
# What has a unit of length, and the power of it
_IN_MICROMETRES = {"x": 1, "y": 1, "area": 2, "perimeter": 1, "major_axis": 1, "minor_axis": 1, "nearest_distance": 1}


def measure_columns(frames: Iterable[Frame], tracked: bool = False) -> dict[str, str]:
    """Names and types ("str", "int64", "float64" or "bool") of the columns that the frames have together, in order.

    Args:
        frames: of which :func:`measure_cells` is to make one table.
        tracked: whether cells have a ``track_id``.
    """
    frames = list(frames)
    axes = [axis for axis in ("p", "t", "z") if any(axis in frame.place for frame in frames)]
    channels = dict.fromkeys(suffix for frame in frames for suffix in _suffixes(frame))
    calibrated = any(frame.pixel_size is not None for frame in frames)
    numbers = ["score", "mask_score", *SHAPE]
    numbers += [f"{kind}_intensity{suffix}" for suffix in channels for kind in _INTENSITIES]
    columns = {"image": "str", "file": "str", **dict.fromkeys(axes, "int64"), "id": "int64"}
    columns |= ({"track_id": "int64"} if tracked else {}) | {"category": "str"} | dict.fromkeys(numbers, "float64")
    columns |= {"at_border": "bool", "neighbours": "int64", "nearest_distance": "float64"}
    return columns | (dict.fromkeys(map(_micrometres, _IN_MICROMETRES), "float64") if calibrated else {})


def measure_cells(result: FrameCells) -> pd.DataFrame:
    """Measure each cell on its own mask; where masks overlap, a pixel counts for every cell that has it.

    Columns, one row a cell in the order of the cells:

    - ``image`` name of the frame, ``file``; ``p``, ``t`` and ``z`` place in a stack from 0 (of several frames); ``id``
      1..N, ``track_id`` (after tracking), ``category`` name, ``score``, ``mask_score`` (NaN where there is none)
    - ``x``, ``y`` centre, pixels; 0, 0 is the middle of the first pixel
    - ``area`` pixels; ``perimeter``, ``major_axis``, ``minor_axis`` pixels, ``orientation`` radians from the axis of
      the rows (-pi/2..pi/2, counter-clockwise), ``solidity``, ``eccentricity``: as ``skimage.measure.regionprops``
      (``axis_major_length``, ``axis_minor_length``) defines them
    - ``mean_intensity``, ``sd_intensity``, ``min_intensity``, ``max_intensity`` in the image's own values; of several
      channels with the channel's name, or its number from 1, behind: ``mean_intensity_DAPI``
    - ``at_border`` the cell has a pixel in the first or last row or column, and may be cut
    - ``neighbours`` cells of which a pixel is at most 2 pixels, centre to centre, from one of the cell
    - ``nearest_distance`` pixels from the centre to the nearest other centre; NaN of a lone cell
    - where the frame has a pixel size: ``x_um``, ``y_um``, ``perimeter_um``, ``major_axis_um``, ``minor_axis_um``,
      ``nearest_distance_um`` micrometres, ``area_um2`` square micrometres

    A cell without a pixel has area 0, and NaN for what it does not have.

    Args:
        result: the cells; pixels of a frame on disk are read box by box where it is large, else at once.

    Returns:
        The columns of :func:`measure_columns`; of a frame without cells too, with the same types.

    Raises:
        ValueError: a mask of another size than the frame.
    """
    frame, cells = result.frame, result.cells
    wrong = [cell for cell in cells if tuple(cell["segmentation"]["size"]) != frame.size]
    if wrong:
        raise ValueError(f"{frame.name}: a mask of {tuple(wrong[0]['segmentation']['size'])}, a frame of {frame.size}")
    crops = decode_crops([cell["segmentation"] for cell in cells])
    values = _identity(result)
    values |= _shapes(crops) | _intensities(frame, crops) | _surroundings(crops, frame.size)
    values |= _places(values["x"], values["y"])
    if frame.pixel_size is not None:
        values |= {_micrometres(key): values[key] * frame.pixel_size**n for key, n in _IN_MICROMETRES.items()}
    columns = measure_columns([frame], "track_id" in values)
    index = pd.RangeIndex(len(cells))
    return pd.DataFrame({name: pd.Series(values[name], index, dtype=kind) for name, kind in columns.items()})


def _identity(result: FrameCells) -> dict[str, Any]:
    """What is known of the cells before they are measured."""
    frame, cells = result.frame, result.cells
    values: dict[str, Any] = {"image": frame.name, "file": str(frame.path), **frame.place}
    values["id"] = np.arange(1, len(cells) + 1)
    if any("track_id" in cell for cell in cells):
        values["track_id"] = [cell["track_id"] for cell in cells]
    values["category"] = [result.classes[cell["category_id"]] for cell in cells]
    return values | {key: [cell.get(key, np.nan) for cell in cells] for key in ("score", "mask_score")}


def _shapes(crops: Sequence[Crop]) -> dict[str, np.ndarray]:
    """Size, shape and centre in the frame, (N,) float64 each."""
    found = np.array([shape_of(crop.mask) for crop in crops], dtype=np.float64).reshape(-1, len(SHAPE))
    found[:, :2] += np.array([(crop.x, crop.y) for crop in crops]).reshape(-1, 2)
    return dict(zip(SHAPE, found.T))


def _suffixes(frame: Frame) -> list[str]:
    """What stands behind the intensities of each channel: nothing where there is one."""
    count = 1 if len(frame.pixels.shape) == 2 else int(frame.pixels.shape[2])
    if count == 1:
        return [""]
    names = ["_".join(name.split()) for name in frame.channels]
    if len(names) != count or len(set(names)) < count:
        names = [""] * count
    return [f"_{name or number}" for number, name in enumerate(names, start=1)]


def _intensities(frame: Frame, crops: Sequence[Crop]) -> dict[str, np.ndarray]:
    """Grey values in the masks, (N,) float64 each."""
    pixels, suffixes = frame.pixels, _suffixes(frame)
    if not isinstance(pixels, np.ndarray) and frame.size[0] * frame.size[1] <= WHOLE and crops:
        pixels = np.asarray(pixels[: frame.size[0], : frame.size[1]])
    found = np.full((len(crops), len(_INTENSITIES), len(suffixes)), np.nan)
    for row, crop in zip(found, crops):
        if crop.mask.size:
            x0, y0, x1, y1 = crop.box
            inside = np.asarray(pixels[y0:y1, x0:x1])[crop.mask].reshape(-1, len(suffixes)).astype(np.float64)
            row[:] = inside.mean(axis=0), inside.std(axis=0), inside.min(axis=0), inside.max(axis=0)
    names = [f"{kind}_intensity{suffix}" for kind in _INTENSITIES for suffix in suffixes]
    return dict(zip(names, found.reshape(len(crops), len(names)).T))


def _surroundings(crops: Sequence[Crop], size: tuple[int, int]) -> dict[str, np.ndarray]:
    """Whether cells reach the frame's border, and how many others they touch."""
    boxes = np.array([crop.box for crop in crops], dtype=np.int64).reshape(-1, 4)
    filled = np.array([crop.mask.size > 0 for crop in crops], dtype=bool)
    at_border = (boxes[:, :2] == 0).any(axis=1) | (boxes[:, 2:] == size[::-1]).any(axis=1)
    pairs = touching_pairs(crops, TOUCHING)
    return {"at_border": at_border & filled, "neighbours": np.bincount(pairs.ravel(), minlength=len(crops))}


def _places(x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    """The distance to the nearest other centre, (N,) float64."""
    distances, there = np.full(len(x), np.nan), np.isfinite(x)
    if there.sum() > 1:
        centres = np.stack([x, y], axis=1)[there]
        distances[there] = cKDTree(centres).query(centres, k=2)[0][:, 1]
    return {"nearest_distance": distances}


def _micrometres(name: str) -> str:
    """The name of a column in micrometres."""
    return f"{name}_um2" if _IN_MICROMETRES[name] == 2 else f"{name}_um"
