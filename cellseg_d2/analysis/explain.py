"""What networks make of one image: feature maps by stage, attention, cells, and the pixels that one cell depends on."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from math import ceil, floor
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
import torch
from detectron2.config import CfgNode
from detectron2.structures import Instances
from scipy import ndimage
from torch import Tensor, nn

from ..data.image_io import read_image, stretch_to_uint8
from ..data.loader import MAPPERS
from ..modeling.postprocess import postprocess_rle, predict_rle
from ..modeling.proposal_generator import FCOS
from ..modeling.roi_heads.sag_mask import SpatialAttention
from ..modeling.semantic import CellSegmentor, foreground_logit
from .projection import FeatureMap, feature_map, stages
from .saliency import CellView, SaliencyOptions, find_location, view_cell

__all__ = ["ExplainError", "Explanation", "Subject", "cell_mask", "explain", "recorded"]

DISPLAY = (0.1, 99.9)  # percentiles of grey values that become black and white in pictures
NO_ATTENTION = "This model has no spatial attention: that is a part of CenterMask's mask head."
OTHER_BOXES = "The boxes of this model are not those of FCOS, whose class logits are explained."
NOT_HERE = "This model finds no cell at that place."
NO_CELLS = "The model finds no cell in this image."
DEFAULTS = SaliencyOptions()


class ExplainError(ValueError):
    """What was asked for cannot be shown; the message says why and what to do."""


@dataclass(frozen=True)
class Subject:
    """A CellSegmentor, or a GeneralizedRCNN such as CenterMask, in evaluation mode; its configuration; a name."""

    name: str
    model: nn.Module
    cfg: CfgNode


@dataclass(frozen=True)
class Explanation:
    """What one model makes of one image; H, W: pixels of the network input.

    Attributes:
        subject: the model.
        display: (H, W, 3) uint8 RGB, the input.
        scale: pixels of the input for each pixel of the file, vertically and horizontally.
        seconds: of one prediction.
        features: maps of the stages, in their order.
        cells: best first, with ``pred_boxes``, ``scores``, ``pred_rles`` where the model makes masks, and where it has
            spatial attention ``attention`` (N, S, S), 0..1, in ``roi_boxes`` (N, 4; not clipped).
        no_attention: why there are no attention maps; empty where there are.
        probability: (H, W) of foreground; None without a semantic head.
        index: place of the chosen cell among them, None without one.
        view: saliency of that cell; None for the reason ``no_view``.
        whole_score: the explained number as it is in the whole image, beside ``view.score`` in the window.
    """

    subject: Subject
    display: np.ndarray
    scale: tuple[float, float]
    seconds: float
    features: list[FeatureMap]
    cells: Instances
    no_attention: str
    probability: np.ndarray | None = None
    index: int | None = None
    view: CellView | None = None
    no_view: str = ""
    whole_score: float = float("nan")


def explain(
    subjects: Sequence[Subject],
    path: str | Path,
    cell: tuple[float, float] | None = None,
    options: SaliencyOptions = DEFAULTS,
    min_score: float = 0.5,
) -> list[Explanation]:
    """Look at one image with each of the models.

    Args:
        path: of the image.
        cell: x and y of a pixel of the cell whose saliency is wanted, in the file; None: in the best scored cell of the
            first model that finds any. Each model explains its own best scored cell at that pixel.
        min_score: detections of a lower score are left out; semantic models have no such choice.

    Raises:
        ExplainError: the pixel lies outside the image, or models find cells but none of them there.
        CorruptImageError, OSError: the file cannot be read.
    """
    height, width = read_image(path).shape[:2]
    if cell is not None and not (0 <= cell[0] < width and 0 <= cell[1] < height):
        limits = f"{width} x {height} pixels: x from 0 to {width - 1}, y from 0 to {height - 1}"
        raise ExplainError(f"cell {cell[0]:g},{cell[1]:g} is outside the image {path}, which has {limits}")
    record = {"file_name": str(path), "image_id": 0, "height": height, "width": width}
    inputs = [MAPPERS[s.cfg.INPUT.MAPPER](s.cfg, is_train=False)(record)["image"] for s in subjects]
    observed = [_observe(s, image, (height, width), min_score) for s, image in zip(subjects, inputs)]
    places = _choose([seen for seen, _ in observed], cell)
    return [_with_view(*each, image, place, options) for each, image, place in zip(observed, inputs, places)]


@contextmanager
def recorded(taps: Mapping[str, tuple[nn.Module, Callable[[Any], Any]]]) -> Iterator[dict[str, list]]:
    """Context that keeps, under its name, what a function makes of each output of a module; the hooks go with it.

    The function is called at once: only its result stays in memory, and layers that work in place change nothing.
    """
    records: dict[str, list] = {name: [] for name in taps}

    def keep(name: str, read: Callable[[Any], Any], *call: Any) -> None:
        records[name].append(read(call[-1]))

    handles = []
    try:
        for name, (module, read) in taps.items():
            handles.append(module.register_forward_hook(partial(keep, name, read)))
        yield records
    finally:
        for handle in handles:
            handle.remove()


def cell_mask(cells: Instances, index: int) -> np.ndarray:
    """(H, W) bool of a cell; its box where the model makes no masks."""
    if cells.has("pred_rles"):
        return mask_util.decode(cells.pred_rles[index]).astype(bool)
    mask = np.zeros(cells.image_size, dtype=bool)
    x0, y0, x1, y1 = cells.pred_boxes.tensor[index].tolist()
    mask[floor(y0) : ceil(y1), floor(x0) : ceil(x1)] = True
    return mask


@torch.no_grad()
def _observe(subject: Subject, image: Tensor, size: tuple[int, int], min_score: float) -> tuple[Explanation, dict]:
    """One prediction with hooks, and one without for its time; with the records of the hooks."""
    model, (height, width) = subject.model, image.shape[1:]
    inputs = [{"image": image, "height": height, "width": width}]
    with recorded(_taps(model, image)) as records:
        cells = _predict(model, inputs, records, min_score)
    started = perf_counter()
    predict_rle(model, inputs)
    logit = records["semantic"][0] if "semantic" in records else None
    seen = Explanation(
        subject,
        _display(subject.cfg, image),
        scale=(height / size[0], width / size[1]),
        seconds=perf_counter() - started,
        features=[records[stage.name][0] for stage in stages(model)],
        cells=cells,
        no_attention=NO_ATTENTION if "attention" not in records else "" if len(cells) else NO_CELLS,
        probability=None if logit is None else logit.sigmoid().numpy(),
    )
    return seen, records


def _taps(model: nn.Module, image: Tensor) -> dict[str, tuple[nn.Module, Callable[[Any], Any]]]:
    """What to record: the stages under their names, "attention", "fcos" and "semantic"."""
    height, width = image.shape[1:]
    taps = {s.name: (s.module, partial(feature_map, s, image.shape[1:])) for s in stages(model)}
    for module in model.modules():
        if isinstance(module, SpatialAttention):
            taps["attention"] = (module.conv, lambda output: output.float().sigmoid()[:, 0].cpu())
        elif isinstance(module, FCOS):
            taps["fcos"] = (module.fcos_head, lambda output: [[level[0].float().cpu() for level in o] for o in output])
    head = model.semantic.head if hasattr(model, "semantic") else getattr(model, "sem_seg_head", None)
    if head is not None:
        taps["semantic"] = (head, lambda output: foreground_logit(output[0][0].float())[:height, :width].cpu())
    return taps


def _predict(model: nn.Module, inputs: list[dict[str, Any]], records: dict[str, list], min_score: float) -> Instances:
    """The cells of one image that have a pixel, best first, with attention where it was recorded."""
    if isinstance(model, CellSegmentor):
        return model.predict_rle(inputs)[0]
    if hasattr(model, "semantic"):
        model.semantic(model.preprocess_image(inputs))
    raw = model.inference(inputs, do_postprocess=False)[0].to("cpu")
    raw.roi_boxes = raw.pred_boxes.tensor.clone()  # those of the result are clipped
    if records.get("attention"):
        raw.attention = torch.cat(records["attention"])
    found = postprocess_rle(raw[raw.scores >= min_score], *raw.image_size)
    if not found.has("pred_rles"):
        return found
    keep = [i for i, rle in enumerate(found.pred_rles) if mask_util.area(rle)]
    fields = {k: [v[i] for i in keep] if isinstance(v, list) else v[keep] for k, v in found.get_fields().items()}
    return Instances(found.image_size, **fields)


def _display(cfg: CfgNode, image: Tensor) -> np.ndarray:
    """(H, W, 3) uint8 RGB of an input (C, H, W)."""
    planes = stretch_to_uint8(image.permute(1, 2, 0).numpy(), DISPLAY)
    if cfg.INPUT.MAPPER == "CellDatasetMapper" and cfg.INPUT.FORMAT == "BGR":
        planes = planes[:, :, ::-1]
    return np.ascontiguousarray(np.broadcast_to(planes, (*planes.shape[:2], 3)))


def _choose(observed: Sequence[Explanation], cell: tuple[float, float] | None) -> list[int | None]:
    """The place of the chosen cell among each model's cells; None where the model has none there."""
    first = next((i for i, seen in enumerate(observed) if len(seen.cells)), None)
    if first is None:
        return [None] * len(observed)
    point = cell or _middle(observed[first], 0)
    places = [_cell_at(seen, point) for seen in observed]
    if cell is None:
        places[first] = 0
    elif all(place is None for place in places):
        middles = [_middle(seen, i) for seen in observed for i in range(len(seen.cells))]
        x, y = min(middles, key=lambda middle: np.hypot(middle[0] - cell[0], middle[1] - cell[1]))
        raise ExplainError(f"there is no cell at {cell[0]:g},{cell[1]:g}; the middle of the nearest is at {x},{y}")
    return places


def _middle(seen: Explanation, index: int) -> tuple[int, int]:
    """x and y, in the file, of the pixel of a cell that is farthest from its border."""
    mask = cell_mask(seen.cells, index)
    (window,) = ndimage.find_objects(mask.astype(np.uint8))
    inside = ndimage.distance_transform_edt(np.pad(mask[window], 1))[1:-1, 1:-1]
    y, x = np.add(np.unravel_index(inside.argmax(), inside.shape), [part.start for part in window])
    return floor((x + 0.5) / seen.scale[1]), floor((y + 0.5) / seen.scale[0])


def _cell_at(seen: Explanation, point: tuple[float, float]) -> int | None:
    """The best scored cell that has a pixel (x, y) of the file."""
    x, y = (floor((floor(p) + 0.5) * scale) for p, scale in zip(point, seen.scale[::-1]))
    x0, y0, x1, y1 = seen.cells.pred_boxes.tensor.T
    near = ((x0 <= x + 1) & (x < x1 + 1) & (y0 <= y + 1) & (y < y1 + 1)).nonzero()[:, 0].tolist()
    return next((i for i in near if cell_mask(seen.cells, i)[y, x]), None)


def _with_view(
    seen: Explanation, records: dict, image: Tensor, index: int | None, options: SaliencyOptions
) -> Explanation:
    """The explanation with the saliency of its chosen cell, or the reason why there is none."""
    if index is None:
        return replace(seen, no_view=NOT_HERE if len(seen.cells) else NO_CELLS)
    model, mask, location = seen.subject.model, cell_mask(seen.cells, index), None
    if isinstance(model, CellSegmentor):
        whole = records["semantic"][0][torch.from_numpy(mask)].mean()
    elif "fcos" in records:
        logits, distances, _ = records["fcos"][0]
        box, category = seen.cells.roi_boxes[index], int(seen.cells.pred_classes[index])
        location = find_location(distances, model.proposal_generator.strides, box, category)
        whole = logits[location.level][category, location.row, location.column]
    else:
        return replace(seen, index=index, no_view=OTHER_BOXES)
    view = view_cell(model, image, mask, location, options, scale=float(np.mean(seen.scale)))
    return replace(seen, index=index, view=view, whole_score=float(whole))
