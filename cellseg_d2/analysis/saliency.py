"""Which pixels a prediction depends on: the gradient of one number that the network computes for one cell."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn

from ..modeling.proposal_generator.fcos_targets import level_locations
from ..modeling.semantic import foreground_logit

__all__ = [
    "RINGS", "CellView", "Location", "SaliencyOptions", "Spread", "aligned_window", "find_location",
    "foreground_score", "frozen", "gradient", "location_score", "smooth_gradient", "spread", "view_cell",
]  # fmt: skip

Score = Callable[[Tensor], Tensor]  # (C, H, W) image -> 0-d tensor
RINGS = (0.0, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, float("inf"))  # pixels from the cell's border
SAME_BOX = 0.01  # pixels
RANGE = (1.0, 99.0)  # percentiles between which the noise of SmoothGrad is measured: hot pixels do not count


def gradient(score: Score, image: Tensor) -> tuple[float, Tensor]:
    """Saliency of Simonyan et al. (2014): ``M(p) = max over channels of |d S / d x[c, p]|``.

    In an image of equal channels a pixel is one grey value, in all of them: the derivative is that by the grey value,
    the sum over the channels.

    Args:
        score: S, differentiable.
        image: x, (C, H, W); used as float32.

    Returns:
        S(x), and (H, W) float32 not below 0.
    """
    value, derivative = _derivative(score, image, torch.zeros(1))
    return value, derivative.abs().amax(0)


def smooth_gradient(score: Score, image: Tensor, samples: int = 16, sigma: float = 1.0, seed: int = 0) -> Tensor:
    """SmoothGrad (Smilkov et al. 2017): ``M(p) = max over c of |1/n sum over k of d S / d x[c, p] at x + e_k|``,
    ``e_k ~ N(0, sigma^2)``, equal in all channels where the image's are.

    Args:
        score, image: as of :func:`gradient`.
        samples: n, at least 1.
        sigma, seed: standard deviation of the noise, in grey values of the image, and its seed.

    Returns:
        (H, W) float32.
    """
    if samples < 1 or not 0 <= sigma < float("inf"):
        raise ValueError(f"SmoothGrad takes one or more samples and noise of 0 or more, not {samples} and {sigma}")
    generator = torch.Generator().manual_seed(seed)
    total: Tensor | float = 0.0
    for _ in range(samples):
        noise = sigma * torch.randn(image.shape[-3:], generator=generator)
        total = total + _derivative(score, image, noise)[1]
    return (total / samples).abs().amax(0)


def _derivative(score: Score, image: Tensor, noise: Tensor) -> tuple[float, Tensor]:
    """S and its derivative at ``image + noise``: (C, H, W), or (1, H, W) by the grey value."""
    is_grey = bool((image == image[:1]).all())
    leaf = (image[:1] if is_grey else image).detach().float().cpu()
    leaf = (leaf + noise[: len(leaf)]).requires_grad_()
    with torch.enable_grad():
        value = score(leaf.expand(image.shape))
        (derivative,) = torch.autograd.grad(value, leaf)
    return float(value.detach()), derivative


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Context in which no parameter takes a gradient: the graph of a score keeps less, and nothing is left behind."""
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


def foreground_score(model: nn.Module, mask: Tensor) -> Score:
    """``S(x) = 1/|M| sum over p in M of z_p(x)``: mean foreground logit of a CellSegmentor inside a cell's mask.

    Args:
        model: in evaluation mode.
        mask: M, (H, W) bool, of the size of the image.
    """

    def score(image: Tensor) -> Tensor:
        (logits,) = model.logits([{"image": image}])
        return foreground_logit(logits)[mask.to(logits.device)].mean()

    return score


@dataclass(frozen=True)
class Location:
    """One output of FCOS: feature level (from 0), row, column and class (from 0) there, and the level's stride."""

    level: int
    row: int
    column: int
    category: int
    stride: int


def location_score(model: nn.Module, location: Location) -> Score:
    """``S(x) = z``: the class logit of FCOS at the location whose box became the cell.

    The detection score is ``sqrt(sigmoid(z) * sigmoid(centerness))``; the logit does not saturate as that does.

    Args:
        model: a GeneralizedRCNN with FCOS, in evaluation mode.
    """

    def score(image: Tensor) -> Tensor:
        generator = model.proposal_generator
        features = model.backbone(model.preprocess_image([{"image": image}]).tensor)
        logits, _, _ = generator.fcos_head([features[name] for name in generator.in_features])
        return logits[location.level][0, location.category, location.row, location.column]

    return score


def find_location(distances: Sequence[Tensor], strides: Sequence[int], box: Tensor, category: int) -> Location:
    """The location of FCOS that predicts a box.

    Args:
        distances: (4, H, W) of each level, as FCOSHead returns them: l, t, r, b in strides.
        strides: of the levels.
        box: (4,) XYXY in pixels of the network input, as FCOS returns it (not clipped).
        category: class of the detection.

    Raises:
        ValueError: no location predicts this box.
    """
    best, nearest = None, SAME_BOX
    for level, (maps, stride) in enumerate(zip(distances, strides)):
        height, width = maps.shape[1:]
        centres = level_locations(height, width, stride)
        ltrb = maps.float().cpu().flatten(1).t() * stride
        boxes = torch.cat([centres - ltrb[:, :2], centres + ltrb[:, 2:]], dim=1)
        error, place = (boxes - box.cpu()).abs().amax(1).min(0)
        if error <= nearest:
            best, nearest = Location(level, *divmod(int(place), width), category, stride), float(error)
    if best is None:
        raise ValueError(f"no location of FCOS predicts the box {[round(v, 2) for v in box.tolist()]}")
    return best


def aligned_window(mask: np.ndarray, side: int, step: int) -> tuple[slice, slice]:
    """The part of an image around a cell in which a gradient is computed, as rows and columns.

    It holds the cell and, where the image goes on, ``side`` / 2 pixels on each side of the cell's centre. Its ends are
    multiples of ``step``, the grid of the network's coarsest level, or ends of the image: all positions of all levels
    stay where they are.

    Args:
        mask: (H, W) bool with foreground.
        side: pixels; 0: the whole image.
    """
    if not side:
        return slice(0, mask.shape[0]), slice(0, mask.shape[1])
    (cell,) = ndimage.find_objects(mask.astype(np.uint8))
    ends = []
    for part, length in zip(cell, mask.shape):
        middle = (part.start + part.stop) / 2
        first = min(part.start, middle - side / 2) // step * step
        last = -(-max(part.stop, middle + side / 2) // step) * step
        ends.append(slice(max(int(first), 0), min(int(last), length)))
    return tuple(ends)


@dataclass(frozen=True)
class Spread:
    """How far from a cell the pixels lie on which its score depends.

    Attributes:
        inside: share of the saliency within the cell (NaN where there is no saliency at all, as all shares).
        rings: share in each ring of :data:`RINGS` around it.
        curve: entry r: share within r pixels of the cell, itself included; r = 0, 1, ...
        area: entry r: share of the pixels there, which an even saliency would have.
    """

    inside: float
    rings: tuple[float, ...]
    curve: np.ndarray
    area: np.ndarray

    def radius(self, share: float) -> float:
        """Pixels around the cell within which this share of the saliency lies; NaN where there is none."""
        reached = np.flatnonzero(self.curve >= share - 1e-9)
        return float(reached[0]) if len(reached) else float("nan")


def spread(saliency: np.ndarray, mask: np.ndarray, scale: float = 1.0) -> Spread:
    """Shares of a saliency map by distance from a cell.

    Args:
        saliency: (H, W), not below 0.
        mask: (H, W) bool, the cell, not empty.
        scale: pixels of the map for each pixel in which distances are told.
    """
    if saliency.shape != mask.shape or not mask.any():
        raise ValueError(f"a cell of {int(mask.sum())} pixels, {mask.shape}, does not fit a map of {saliency.shape}")
    distance = ndimage.distance_transform_edt(~mask) / scale
    values = saliency.astype(np.float64)
    total = values.sum()
    shares = values / total if total > 0 else np.full_like(values, np.nan)
    steps = np.ceil(distance).astype(np.int64).ravel()
    rings = [float(shares[(distance > low) & (distance <= high)].sum()) for low, high in pairwise(RINGS)]
    return Spread(
        float(shares[mask].sum()),
        tuple(rings),
        np.cumsum(np.bincount(steps, shares.ravel())),
        np.cumsum(np.bincount(steps)) / mask.size,
    )


@dataclass(frozen=True)
class SaliencyOptions:
    """How saliency is computed.

    Attributes:
        samples, noise, seed: of SmoothGrad; noise as a share of the range of grey values (1 to 99 percentile).
        window: see :func:`aligned_window`.
    """

    samples: int = 16
    noise: float = 0.1
    seed: int = 0
    window: int = 512


@dataclass(frozen=True)
class CellView:
    """What the score of one cell depends on.

    Attributes:
        mask: (H, W) bool, the cell in the network input.
        location: of FCOS whose class logit is explained; None: the mean foreground logit in the mask.
        window: rows and columns of the input to which the saliency belongs.
        score: the explained number, computed in the window.
        maps: "gradient" and "SmoothGrad", (h, w) float32 of the window.
        spreads: of the same, with distances in pixels of the file.
    """

    mask: np.ndarray
    location: Location | None
    window: tuple[slice, slice]
    score: float
    maps: dict[str, np.ndarray]
    spreads: dict[str, Spread]


def view_cell(
    model: nn.Module,
    image: Tensor,
    mask: np.ndarray,
    location: Location | None,
    options: SaliencyOptions,
    scale: float = 1.0,
) -> CellView:
    """Saliency of one cell of a CellSegmentor, or with a location of FCOS of a GeneralizedRCNN.

    Args:
        image: (C, H, W), the network input.
        mask: (H, W) bool, the cell, not empty.
        scale: pixels of the input for each pixel of the file.
    """
    step = model.backbone.size_divisibility or 1
    if location is not None:
        step = max(step, *model.proposal_generator.strides)
    rows, columns = window = aligned_window(mask, options.window, step)
    part = image[:, rows, columns].float()
    if location is None:
        score = foreground_score(model, torch.from_numpy(mask[window].copy()))
    else:
        row, column = location.row - rows.start // location.stride, location.column - columns.start // location.stride
        score = location_score(model, replace(location, row=row, column=column))
    low, high = np.percentile(part.cpu().numpy(), RANGE)
    with frozen(model):
        value, plain = gradient(score, part)
        smooth = smooth_gradient(score, part, options.samples, options.noise * float(high - low), options.seed)
    maps = {"gradient": plain.numpy(), "SmoothGrad": smooth.numpy()}
    spreads = {name: spread(values, mask[window], scale) for name, values in maps.items()}
    return CellView(mask, location, window, value, maps, spreads)
