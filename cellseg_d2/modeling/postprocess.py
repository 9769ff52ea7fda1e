"""From 28 x 28 mask probabilities to COCO run-length masks, without an N x H x W stack on the way."""

from collections.abc import Iterator
from itertools import compress, pairwise

import numba
import numpy as np
import torch
import torch.nn.functional as F
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Instances
from torch import Tensor, nn

from ..crops import encode_crops
from .paste_loops import paste_runs, write_counts
from .roi_heads.center_heads import CenterROIHeads

__all__ = ["masks_to_rles", "masks_to_rles_by_torch", "postprocess_rle", "predict_rle"]

PIXELS_AT_ONCE = 1 << 22  # pixels sampled together


@torch.no_grad()
def predict_rle(model: nn.Module, batched_inputs: list[dict], *, min_score: float = 0.0) -> list[Instances]:
    """Run a model in evaluation mode and return its detections with run-length masks.

    The mask heads of CenterMask see only cells that can reach the output, a few at a time: memory does not grow with
    the number of cells but for what is returned.

    Args:
        model: a ``GeneralizedRCNN``, or a model with a method ``predict_rle`` of its own (the semantic ones).
        batched_inputs: Detectron2's input dicts; ``height`` and ``width`` give the output size.
        min_score: leave out detections whose ``scores`` are lower; the others are as without.

    Returns:
        One ``Instances`` an image, on the CPU, at output size, as Detectron2's postprocessing gives them (boxes
        scaled and clipped, empty ones dropped) but with ``pred_rles`` in the place of ``pred_masks``: a list of COCO
        RLE dicts {"size": [h, w], "counts": str}. ``mask_scores`` is there if the model scores masks.
    """
    if hasattr(model, "predict_rle"):
        return [_at_least(found, min_score) for found in model.predict_rle(batched_inputs)]
    raw = [_at_least(found, min_score) for found in _detect(model, batched_inputs, min_score)]
    sizes = [(x.get("height", r.image_size[0]), x.get("width", r.image_size[1])) for x, r in zip(batched_inputs, raw)]
    return [postprocess_rle(r, height, width) for r, (height, width) in zip(raw, sizes)]


def _detect(model: nn.Module, batched_inputs: list[dict], min_score: float) -> list[Instances]:
    """Raw detections; of those below ``min_score`` some may be left out."""
    if min_score <= 0 or not isinstance(model.roi_heads, CenterROIHeads):
        return model.inference(batched_inputs, do_postprocess=False)
    images = model.preprocess_image(batched_inputs)
    features = model.backbone(images.tensor)
    found, _ = model.proposal_generator(images, features, None)  # with the scores that the output has
    return model.roi_heads.forward_with_given_boxes(features, [_at_least(f, min_score) for f in found])


def _at_least(found: Instances, min_score: float) -> Instances:
    """The detections of at least this score; all of them for 0."""
    if min_score <= 0:
        return found
    keep = found.scores >= min_score
    fields = {k: list(compress(v, keep)) if isinstance(v, list) else v[keep] for k, v in found.get_fields().items()}
    return Instances(found.image_size, **fields)


def postprocess_rle(raw: Instances, height: int, width: int) -> Instances:
    """Scale and clip raw detections of one image and encode their masks; ``raw`` is left as it was."""
    fields = {k: v.clone() if hasattr(v, "clone") else v for k, v in raw.get_fields().items()}
    probabilities = fields.pop("pred_masks", None)
    scaled = Instances(raw.image_size, **fields)
    if probabilities is not None:
        scaled.mask_probabilities = probabilities
    scaled = detector_postprocess(scaled, height, width)
    result = Instances((height, width), **{k: v for k, v in scaled.get_fields().items() if k != "mask_probabilities"})
    result = result.to("cpu")
    if probabilities is not None:
        result.pred_rles = masks_to_rles(scaled.mask_probabilities[:, 0], result.pred_boxes.tensor, height, width)
    return result


def masks_to_rles(masks: Tensor, boxes: Tensor, height: int, width: int, threshold: float = 0.5) -> list[dict]:
    """Paste mask probabilities into their boxes and encode each as COCO RLE.

    The masks are those of ``detectron2.layers.paste_masks_in_image``, pixel by pixel, but every cell is looked at in
    its own window only, and its run lengths are written as its pixels are found.

    Args:
        masks: (N, S, S) float, probabilities, on any device; the work is done on the CPU.
        boxes: (N, 4), x0, y0, x1, y1 inside an image of ``height`` x ``width`` pixels.
        threshold: pixels of at least this probability belong to the cell.

    Returns:
        N dicts {"size": [height, width], "counts": str}.
    """
    masks, boxes = masks.detach().float().cpu(), boxes.detach().float().cpu()
    if numba.config.DISABLE_JIT:
        return masks_to_rles_by_torch(masks, boxes, height, width, threshold)
    text, ends = write_counts(*paste_runs(masks.numpy(), boxes.numpy(), height, width, np.float32(threshold)))
    counts, ends = text.tobytes().decode("ascii"), [0, *ends.tolist()]
    return [{"size": [height, width], "counts": counts[begin:end]} for begin, end in pairwise(ends)]


@torch.no_grad()
def masks_to_rles_by_torch(masks: Tensor, boxes: Tensor, height: int, width: int, threshold: float = 0.5) -> list[dict]:
    """What :func:`masks_to_rles` does where Numba is not to compile: cells of similar size are sampled together."""
    masks, boxes = masks.detach().float().cpu(), boxes.detach().float().cpu()
    rles: list[dict | None] = [None] * len(masks)
    origin = (boxes[:, :2].floor() - 1).clamp(min=0).long()
    end = torch.minimum((boxes[:, 2:].ceil() + 1).long(), torch.tensor([width, height]))
    size = (end - origin).clamp(min=1)
    for index in _groups(size):
        window = size[index].amax(0)
        pasted = _sample(masks[index], boxes[index], origin[index], window) >= threshold
        widths, heights = size[index, :, None, None].unbind(1)
        pasted &= (torch.arange(window[1])[:, None] < heights) & (torch.arange(window[0]) < widths)
        found = encode_crops(pasted.numpy(), origin[index].numpy(), height, width)
        for i, rle in zip(index.tolist(), found):
            rles[i] = rle
    return rles


def _groups(size: Tensor) -> Iterator[Tensor]:
    """Indices of cells to sample together: windows (N, 2) of similar size, PIXELS_AT_ONCE in all."""
    order = size.amax(1).argsort()
    sides = size.amax(1)[order].tolist()
    start = 0
    while start < len(sides):
        stop = start + 1
        limit = 1.5 * sides[start] + 8
        while stop < len(sides) and sides[stop] <= limit and (stop - start + 1) * sides[stop] ** 2 <= PIXELS_AT_ONCE:
            stop += 1
        yield order[start:stop]
        start = stop


def _sample(masks: Tensor, boxes: Tensor, origin: Tensor, window: Tensor) -> Tensor:
    """Masks (n, S, S) sampled at the pixel centres of windows of one size (w, h) at ``origin``: (n, h, w)."""
    w, h = window.tolist()
    corner, extent = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
    # The arithmetic of detectron2.layers.mask_ops, in its order: equal to the last bit.
    x = (torch.arange(w) + origin[:, :1] + 0.5 - corner[:, :1]) / extent[:, :1] * 2 - 1
    y = (torch.arange(h) + origin[:, 1:] + 0.5 - corner[:, 1:]) / extent[:, 1:] * 2 - 1
    grid = torch.stack([x[:, None, :].expand(-1, h, -1), y[:, :, None].expand(-1, -1, w)], dim=3)
    return F.grid_sample(masks[:, None], grid, align_corners=False)[:, 0]
