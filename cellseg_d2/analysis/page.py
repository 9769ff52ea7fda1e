"""One HTML file, with nothing outside it, that shows what networks make of an image, side by side."""

import base64
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import pairwise
from math import ceil, isfinite
from pathlib import Path
from typing import Any

import cv2
import jinja2
import numpy as np

from ..data.rle import decode_columns, outline_corners
from ..files import atomic_write
from ..templates import template_environment
from .explain import Explanation, cell_mask
from .projection import heat, paste_map, sampled
from .saliency import RINGS, CellView, SaliencyOptions, Spread

__all__ = ["curves", "write_page"]

LARGE, SMALL, TILE = 960, 420, 96  # longest sides of embedded pictures: predictions, maps, single cells; pixels
ENLARGED = 6  # at most, for small images
OUTLINE, CHOSEN = (255, 140, 0), (60, 200, 255)  # RGB; apart for colour-blind readers
ATTENTION, SALIENCY = cv2.COLORMAP_VIRIDIS, cv2.COLORMAP_INFERNO
BRIGHTEST = 99.8  # percentile of a saliency map that is shown as its brightest colour
STEPS = (1, 2, 5, 10, 20, 50, 100, 200, 500)  # between ticks of the axis of distances, pixels
MISSING = "–"


def write_page(
    path: str | Path,
    image_name: str,
    explanations: Sequence[Explanation],
    options: SaliencyOptions,
    cells: int = 12,
) -> Path:
    """Write the page, atomically.

    Args:
        path: of the HTML file.
        image_name: for the heading.
        explanations: of one or two models.
        options: with which they were made.
        cells: how many of the best cells are shown with their attention.

    Returns:
        ``path``.
    """
    views = [e.view for e in explanations if e.view]
    reach = max([s.radius(0.99) for v in views for s in v.spreads.values() if s.inside == s.inside], default=1.0)
    (first, *_) = explanations
    height, width = (round(side / scale) for side, scale in zip(first.display.shape[:2], first.scale))
    page = _template().render(
        title=f"What the network sees: {image_name}",
        image_name=image_name,
        height=height,
        width=width,
        options=options,
        heads=[e.subject.name for e in explanations],
        facts=_facts(explanations),
        predictions=[_prediction(e) for e in explanations],
        features=[_features(e) for e in explanations],
        attention=[_attention(e, cells) for e in explanations],
        saliency=[_saliency(e, reach) for e in explanations],
        bars={"attention": _bar(ATTENTION), "saliency": _bar(SALIENCY)},
    )
    return atomic_write(path, lambda stream: stream.write(page.encode("utf-8", "replace")))


@cache
def _template() -> jinja2.Template:
    return template_environment(Path(__file__).parent).get_template("page.html")


def _facts(explanations: Sequence[Explanation]) -> list[tuple[str, list[str]]]:
    """Name of each fact and its value for each model."""
    rows: dict[str, list[str]] = {}
    for e in explanations:
        model, (height, width) = e.subject.model, e.display.shape[:2]
        backbones = [model.backbone, *([model.semantic.backbone] if hasattr(model, "semantic") else [])]
        parts = [type(getattr(b, "bottom_up", b)).__name__ + " + FPN" * hasattr(b, "bottom_up") for b in backbones]
        facts = {
            "Kind": f"{type(model).__name__} on {' and '.join(parts)}",
            "Parameters": f"{sum(p.numel() for p in model.parameters()):,}",
            "Network input": f"{width} × {height} pixels, {_count(model.pixel_mean.numel(), 'channel')}",
            "One prediction": f"{e.seconds:.2f} s on {model.pixel_mean.device}",
            "Cells found": f"{len(e.cells):,}",
        }
        for name, value in facts.items():
            rows.setdefault(name, []).append(value)
    return list(rows.items())


def _prediction(e: Explanation) -> dict[str, Any]:
    """Outlines over the image, and the probability."""
    factor = _factor(e.display.shape[:2], LARGE)
    canvas = _resized(e.display, factor)
    for index in range(len(e.cells)):
        _draw(canvas, _corners(e, index), factor, OUTLINE)
    if e.index is not None:
        _draw(canvas, _corners(e, e.index), factor, CHOSEN, 2)
    probability = ""
    if e.probability is not None:
        probability = _uri(_resized(np.rint(e.probability * 255).astype(np.uint8), factor))
    score = MISSING if e.index is None else f"{float(e.cells.scores[e.index]):.3f}"
    return {"outlines": _uri(canvas), "probability": probability, "score": score, "cells": len(e.cells)}


def _features(e: Explanation) -> list[dict[str, Any]]:
    """The picture of each stage, its size and what it explains."""
    cards = []
    for stage in e.features:
        channels, height, width = stage.size
        cards.append(
            {
                "name": stage.name,
                "size": f"{channels} × {height} × {width}, stride {stage.stride:g}",
                "shares": [f"{100 * share:.0f}" for share in stage.picture.shares],
                "total": f"{100 * sum(stage.picture.shares):.0f}",
                "image": _uri(_shrunk(stage.picture.image, SMALL)),
            }
        )
    return cards


def _attention(e: Explanation, count: int) -> dict[str, Any]:
    """Attention of the best cells pasted into their boxes, and one by one; or why there is none."""
    if e.no_attention:
        return {"why": e.no_attention}
    maps = e.cells.attention[:count].numpy()
    boxes = e.cells.roi_boxes[:count].numpy()
    low, high = float(maps.min()), float(maps.max())
    coloured = heat(maps.reshape(-1, maps.shape[-1]), low, high, ATTENTION).reshape(*maps.shape, 3)
    overlay = e.display.copy()
    for index in reversed(range(len(maps))):  # the best on top
        paste_map(overlay, coloured[index], boxes[index])
    factor = _factor(overlay.shape[:2], LARGE)
    overlay = _resized(overlay, factor)
    tiles = []
    for index, box in enumerate(boxes):
        _draw(overlay, _corners(e, index), factor, OUTLINE)
        crop = _crop(e.display, box)
        _draw(crop, [corners - box[:2] for corners in _corners(e, index)], crop.shape[1] / (box[2] - box[0]), OUTLINE)
        single = cv2.resize(coloured[index], crop.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        tiles.append(
            {
                "crop": _uri(crop),
                "map": _uri(single),
                "score": f"{float(e.cells.scores[index]):.3f}",
                "range": f"{maps[index].min():.2f} to {maps[index].max():.2f}",
            }
        )
    limits = f"{low:.3f}", f"{high:.3f}"
    return {"why": "", "overlay": _uri(overlay), "limits": limits, "cells": tiles}


def _saliency(e: Explanation, reach: float) -> dict[str, Any]:
    """Saliency of the chosen cell, or why there is none."""
    view = e.view
    if view is None:
        return {"why": e.no_view}
    factor = _factor(view.maps["gradient"].shape, LARGE)
    origin = [view.window[1].start, view.window[0].start]
    corners = [c - origin for c in outline_corners(view.mask.astype(np.uint8), 0)]
    pictures = {"the cell": e.display[view.window]}
    for name, values in view.maps.items():
        pictures[name] = heat(values, 0.0, float(np.percentile(values, BRIGHTEST)), SALIENCY)
    images = []
    for name, picture in pictures.items():
        canvas = _resized(picture, factor)
        _draw(canvas, corners, factor, CHOSEN)
        images.append((name, _uri(canvas)))
    height, width = view.maps["gradient"].shape
    return {
        "why": "",
        "images": images,
        "location": _location(view),
        "score": f"{view.score:.3f}",
        "whole": f"{e.whole_score:.3f}",
        "is_part": (height, width) != view.mask.shape,
        "window": f"{width} × {height}",
        "curve": curves(view.spreads, reach),
        "rows": _rings(view.spreads),
        "radii": [(name, _within(s.radius(0.5)), _within(s.radius(0.9))) for name, s in view.spreads.items()],
    }


def _location(view: CellView) -> str:
    """Where the explained logit of FCOS is, in pixels of the network input; empty for semantic models."""
    place = view.location
    if place is None:
        return ""
    x, y = (step * place.stride + place.stride // 2 for step in (place.column, place.row))
    return f"({x}, {y}) on the level of stride {place.stride}"


def _rings(spreads: dict[str, Spread]) -> list[tuple[str, list[str]]]:
    """Names of the cell and its rings, each with the share of the area and of every saliency, percent."""
    columns = [[s.inside, *s.rings] for s in spreads.values()]
    area = next(iter(spreads.values())).area
    ends = [area[min(int(end), len(area) - 1)] if isfinite(end) else 1.0 for end in RINGS]
    columns.insert(0, [ends[0], *np.diff(ends)])
    names = ["within the cell", *(f"{low:g} to {high:g} px around it" for low, high in pairwise(RINGS[:-1]))]
    names.append(f"beyond {RINGS[-2]:g} px")
    return [(name, [_number(100 * c[row], 1) for c in columns]) for row, name in enumerate(names)]


def curves(spreads: dict[str, Spread], reach: float) -> dict[str, Any]:
    """The plot of the share of saliency within each distance from a cell, and of the area for comparison.

    Args:
        reach: pixels that the axis shows at least.

    Returns:
        ``ticks``: (place from 0 to 100, pixels); ``lines``: (style, SVG path in a square of 100 whose y points down).
    """
    step = next((step for step in STEPS if reach <= 6 * step), STEPS[-1])
    limit = max(ceil(reach / step), 1) * step
    values = {"area": next(iter(spreads.values())).area} | {f"step{n}": s.curve for n, s in enumerate(spreads.values())}
    lines = []
    for style, line in values.items():
        points = [f"{100 * r / limit:.2f} {100 - 100 * share:.2f}" for r, share in enumerate(line[: limit + 1])]
        lines += [(style, "M" + "L".join(points))] if isfinite(line[-1]) else []
    return {"ticks": [(100 * tick / limit, tick) for tick in range(0, limit + 1, step)], "lines": lines}


def _crop(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """What a box covers, black outside the image, its longer side TILE pixels."""
    sides = box[2:] - box[:2]
    size = np.maximum(np.rint(sides * TILE / sides.max()), 1).astype(int)
    return sampled(image, box[:2], sides / size, size, cv2.BORDER_CONSTANT)


def _corners(e: Explanation, index: int) -> list[np.ndarray]:
    """Outlines of a cell along pixel edges, (K, 2) x and y each."""
    if e.cells.has("pred_rles"):
        return outline_corners(*decode_columns(e.cells.pred_rles[index]))
    return outline_corners(cell_mask(e.cells, index).astype(np.uint8), 0)


def _draw(
    canvas: np.ndarray, outlines: Iterable[np.ndarray], factor: float, colour: tuple[int, int, int], thickness: int = 1
) -> None:
    """Draw outlines (pixel edges of an image) on a canvas that is the image times ``factor``, in place."""
    for corners in outlines:
        points = np.rint((corners * factor - 0.5) * 16).astype(np.int32)
        cv2.polylines(canvas, [points], True, colour, thickness, cv2.LINE_AA, shift=4)


def _factor(size: Sequence[int], longest: int) -> float:
    """By what a picture is scaled to be shown."""
    return min(longest / max(size), ENLARGED)


def _resized(picture: np.ndarray, factor: float) -> np.ndarray:
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC if factor < 2 else cv2.INTER_NEAREST
    return cv2.resize(np.ascontiguousarray(picture), None, fx=factor, fy=factor, interpolation=method)


def _shrunk(picture: np.ndarray, longest: int) -> np.ndarray:
    """Large maps smaller; small ones as they are, the page enlarges them pixel by pixel."""
    return _resized(picture, min(longest / max(picture.shape[:2]), 1))


def _bar(colours: int) -> str:
    return _uri(heat(np.linspace(0, 1, 128, dtype=np.float32)[None].repeat(8, 0), 0, 1, colours))


def _uri(picture: np.ndarray) -> str:
    """A PNG data URI of (H, W) or (H, W, 3) uint8 RGB."""
    picture = picture if picture.ndim == 2 else picture[:, :, ::-1]
    encoded = cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    return "data:image/png;base64," + base64.b64encode(encoded[1].tobytes()).decode("ascii")


def _within(radius: float) -> str:
    return "within the cell" if radius == 0 else f"within {_number(radius)} px of the cell"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _number(value: float, digits: int = 0) -> str:
    return f"{value:.{digits}f}" if isfinite(value) else MISSING
