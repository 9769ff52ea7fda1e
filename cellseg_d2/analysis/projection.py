"""Maps as pictures: many channels as their first three principal components (red, green, blue), one as a colour."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import cv2
import numpy as np
import scipy.linalg
import torch
from detectron2.modeling import FPN
from torch import Tensor, nn

from ..modeling.backbone import GoogLeNet, UNet, VoVNet

__all__ = [
    "FeatureMap", "Projection", "Stage", "feature_map", "heat", "paste_map", "principal_components", "project",
    "sampled", "stages", "to_rgb",
]  # fmt: skip

# The modules of a backbone whose outputs are shown; U-Nets have theirs by level
SHOWN = {
    GoogLeNet: ("conv2", "inception3b", "inception4e", "inception5b"),
    VoVNet: ("stem", "stage2", "stage3", "stage4", "stage5"),
}
PIXELS_AT_ONCE = 1 << 18  # whose products are summed in float64 together
NOTHING = 1e-10  # share of the variance below which a component is rounding
TIE = 1e-6  # loadings that are this close count as equally large
OPACITY = 0.7  # of a map over an image
FLAT = 128  # grey value of a component without variance


@dataclass(frozen=True)
class Projection:
    """A feature map as a picture.

    Attributes:
        image: (H, W, 3) uint8, the first three components as red, green and blue.
        shares: which share of the variance over pixels, summed over channels, each of the three explains (0..1).
    """

    image: np.ndarray
    shares: tuple[float, float, float]


@dataclass(frozen=True)
class Stage:
    """A place in a network.

    Attributes:
        name: for people.
        module, key: where the features come out; ``key`` chooses one of several outputs.
        divisibility: images are padded to multiples of it.
        stride: of the features; None: what divides the padded image exactly.
    """

    name: str
    module: nn.Module
    key: str | None = None
    divisibility: int = 1
    stride: int | None = None


@dataclass(frozen=True)
class FeatureMap:
    """One stage's features of the image: (channels, height, width), stride, and their picture."""

    name: str
    size: tuple[int, int, int]
    stride: float
    picture: Projection


def stages(model: nn.Module) -> list[Stage]:
    """The places of a CellSegmentor or GeneralizedRCNN whose features are worth a look, from the input on."""
    parts = {"": model.backbone}
    if hasattr(model, "semantic"):
        parts["semantic branch, "] = model.semantic.backbone
    found = []
    for prefix, backbone in parts.items():
        shapes, divisibility = backbone.output_shape(), backbone.size_divisibility or 1
        for name, module, key in _places(backbone):
            found.append(Stage(f"{prefix}{name}", module, key, divisibility, shapes[key].stride if key else None))
    return found


def _places(backbone: nn.Module) -> list[tuple[str, nn.Module, str | None]]:
    """Name, module and key of the stages of one backbone."""
    outputs = [(name, backbone, name) for name in backbone.output_shape()]
    if isinstance(backbone, FPN):
        return _places(backbone.bottom_up) + outputs
    if isinstance(backbone, UNet):
        down = [(f"down {k + 1}", level, None) for k, level in enumerate(backbone.down)]
        return down + [(f"up {len(backbone.up) - k}", level, None) for k, level in enumerate(backbone.up)]
    names = next((names for kind, names in SHOWN.items() if isinstance(backbone, kind)), None)
    if names is None:
        return outputs
    return [(name, getattr(backbone, name), None) for name in names if hasattr(backbone, name)]


def feature_map(stage: Stage, size: Sequence[int], output: Any) -> FeatureMap:
    """The picture of one stage, without the part that lies on the padding of the image.

    Args:
        stage: where the features come from.
        size: height and width of the network input before padding.
        output: of the stage's module, for a batch of one image.
    """
    features = (output if stage.key is None else output[stage.key])[0]
    stride = stage.stride or ceil(size[1] / stage.divisibility) * stage.divisibility / features.shape[2]
    rows, columns = (ceil(side / stride) for side in size)
    features = features[:, :rows, :columns]
    return FeatureMap(stage.name, tuple(features.shape), stride, project(features))


def project(features: Tensor) -> Projection:
    """The picture of one feature map, (C, H, W); see :func:`principal_components` and :func:`to_rgb`."""
    maps, shares = principal_components(features)
    return Projection(to_rgb(maps), tuple(shares))


def principal_components(features: Tensor, count: int = 3) -> tuple[np.ndarray, list[float]]:
    """Principal components of a feature map: pixels are the samples, channels the variables.

    Component k is ``sum over c of v_k[c] * (x[c] - mean of x[c])``, where v_k is the k-th eigenvector of the channels'
    covariance. Its sign makes the largest loading (the first of equally large ones) positive, so that the same features
    always give the same picture. Components without variance are zero.

    Args:
        features: (C, H, W), any float type, on any device.
        count: number of components; where C is smaller, the rest are zero.

    Returns:
        (count, H, W) float32 components, and the share of the variance that each explains (0 without variance).

    Raises:
        ValueError: not (C, H, W), empty, or not finite.
    """
    if features.ndim != 3 or not features.numel():
        raise ValueError(f"a feature map is (C, H, W) and not empty, this one has the shape {tuple(features.shape)}")
    flat = features.detach().float().cpu().flatten(1)
    if not torch.isfinite(flat).all():
        raise ValueError("the features have values that are NaN or infinite: check the weights and the image")
    centred = flat - flat.mean(1, keepdim=True, dtype=torch.float64).float()
    values, vectors = _eigenvectors(_covariance(centred), count)
    maps = np.zeros((count, *features.shape[1:]), dtype=np.float32)
    maps[: len(values)] = (torch.from_numpy(vectors.T.copy()).float() @ centred).view(-1, *features.shape[1:]).numpy()
    return maps, [*values, *[0.0] * (count - len(values))]


def to_rgb(maps: np.ndarray, percentiles: tuple[float, float] = (1.0, 99.0)) -> np.ndarray:
    """Three maps (3, H, W) as (H, W, 3) uint8: two percentiles of each become 0 and 255; constant ones medium grey.

    Where the percentiles have the same value, minimum and maximum take their place.
    """
    planes = [_stretched(plane, percentiles) for plane in maps]
    return np.stack(planes, axis=2)


def heat(values: np.ndarray, low: float, high: float, colours: int) -> np.ndarray:
    """(H, W) values as (H, W, 3) uint8 RGB: ``low`` and ``high`` are the ends of one of OpenCV's colour maps."""
    scaled = np.clip((values - low) / (high - low), 0, 1) if high > low else np.zeros_like(values)
    return np.ascontiguousarray(cv2.applyColorMap(np.rint(scaled * 255).astype(np.uint8), colours)[:, :, ::-1])


def paste_map(canvas: np.ndarray, coloured: np.ndarray, box: np.ndarray) -> None:
    """Blend a small picture (S, S, 3) uint8 over the part of ``canvas`` (H, W, 3) that a box covers, in place.

    Each value of the map is the centre of its part of the box, as ROIAlign pooled it; in between is interpolated.

    Args:
        box: XYXY, pixels of the canvas; what lies outside is left out.
    """
    height, width = canvas.shape[:2]
    first = np.clip(np.floor(box[:2] + 0.5), 0, None).astype(int)
    last = np.minimum(np.floor(box[2:] + 0.5), [width, height]).astype(int)
    if (first >= last).any():
        return
    step = len(coloured) / (box[2:] - box[:2])
    drawn = sampled(coloured, (first - box[:2]) * step, step, last - first, cv2.BORDER_REPLICATE)
    part = canvas[first[1] : last[1], first[0] : last[0]]
    part[:] = cv2.addWeighted(drawn, OPACITY, part, 1 - OPACITY, 0)


def sampled(image: np.ndarray, corner: np.ndarray, step: np.ndarray, size: np.ndarray, border: int) -> np.ndarray:
    """A picture of ``size`` (w, h) from ``corner`` (x, y) of an image on, ``step`` pixels of it for each of its own."""
    back = np.array([[step[0], 0, corner[0] + step[0] / 2 - 0.5], [0, step[1], corner[1] + step[1] / 2 - 0.5]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(image, back, size.tolist(), flags=flags, borderMode=border)


def _stretched(plane: np.ndarray, percentiles: tuple[float, float]) -> np.ndarray:
    """One map as uint8."""
    low, high = np.percentile(plane, percentiles)
    if low == high:
        low, high = plane.min(), plane.max()
    if low == high:
        return np.full(plane.shape, FLAT, dtype=np.uint8)
    return np.rint(np.clip((plane - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def _covariance(centred: Tensor) -> np.ndarray:
    """(C, C) float64 of (C, P) float32 whose means are 0."""
    total = torch.zeros(len(centred), len(centred), dtype=torch.float64)
    for part in centred.split(PIXELS_AT_ONCE, dim=1):
        part = part.double()
        total += part @ part.T
    return (total / centred.shape[1]).numpy()


def _eigenvectors(covariance: np.ndarray, count: int) -> tuple[list[float], np.ndarray]:
    """Shares of the variance and (C, k) eigenvectors of the ``count`` largest eigenvalues, signs fixed."""
    channels, total = len(covariance), float(np.trace(covariance))
    first = max(channels - count, 0)
    values, vectors = scipy.linalg.eigh(covariance, subset_by_index=(first, channels - 1))
    values, vectors = values[::-1], vectors[:, ::-1]
    real = values > NOTHING * total
    for k in range(len(values)):
        sizes = np.abs(vectors[:, k])
        largest = int(np.argmax(sizes >= (1 - TIE) * sizes.max()))
        vectors[:, k] *= np.sign(vectors[largest, k]) * real[k]
    return [float(v / total) if keep else 0.0 for v, keep in zip(values, real)], vectors
