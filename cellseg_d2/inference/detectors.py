"""Models behind one interface: grey values of equal-size regions in, COCO results out."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.structures import Instances
from torch import nn

from ..data.image_io import DEFAULT_STRETCH, fit_stretch, to_grey
from ..data.normalize import Normalization
from ..evaluation.records import instances_to_results
from ..modeling.semantic import label_logits, labels_to_instances
from .semantic import SemanticPredictor, scaling
from .tiles.statistics import SharedStatistics
from .tiles.tiling import Tile

__all__ = ["Detector", "Found", "InstanceDetector", "Network", "Prepare", "SemanticDetector", "Trunk"]

Prepare = Callable[[np.ndarray], np.ndarray]
# Detectron2's input dicts, and the score below which detections do not matter -> detections with run lengths
Network = Callable[[list[dict], float], list[Instances]]


@dataclass(frozen=True)
class Found:
    """The cells of one region of H x W pixels.

    Attributes:
        cells: COCO results without ``image_id``, best first; masks have the region's size.
        probability: (H, W) float32 of foreground, of models that predict it.
        capped: as many cells as the model gives at most were found.
    """

    cells: list[dict[str, Any]]
    probability: np.ndarray | None = None
    capped: bool = False


class Detector(Protocol):
    """A model that finds cells.

    Attributes:
        classes: names of the categories.
        scale: pixels of the network's input for one of the image.
        cell_size: pixels of the image, diameter of the largest cells that are common.
        whole: pixels of the largest image that is predicted in one piece.
        side: pixels of the side of tiles for larger ones.
        cap: cells that it gives for one region at most; None without a limit.
        has_probability: it predicts the probability of pixels.
    """

    classes: tuple[str, ...]
    scale: float
    cell_size: float
    whole: int
    side: int
    cap: int | None
    has_probability: bool

    def fit(self, sample: np.ndarray) -> Prepare:
        """How grey values of an image, of which (H, W) or (H, W, 3) ``sample`` are enough, become input."""

    def shared(self, tiles: Sequence[Tile], read: Callable[[Tile], np.ndarray], scale: float) -> AbstractContextManager:
        """While it lasts, layers that look at all of their input get the statistics of all tiles of an image.

        Args:
            read: the prepared region of a tile.
        """

    def __call__(self, regions: Sequence[np.ndarray], scale: float) -> list[Found]:
        """The cells of prepared regions of one size, each scaled by ``scale``."""


@dataclass(frozen=True)
class Trunk:
    """The part of a model that sees whole regions, where its layers can be reached.

    Attributes:
        layers: the modules.
        run: runs them on Detectron2's input dicts.
    """

    layers: nn.Module
    run: Callable[[list[dict]], object]


class InstanceDetector:
    """CenterMask and other ``GeneralizedRCNN``; see :class:`Detector`.

    Args:
        cfg: the configuration of the model.
        network: what runs it.
        trunk: see :class:`Trunk`; None: tiles keep their own statistics.
        classes: names of the categories.
        min_score: cells of a lower score are left out, before their masks are made.
    """

    has_probability = False

    def __init__(
        self, cfg: CfgNode, network: Network, trunk: Trunk | None, classes: Sequence[str], min_score: float
    ) -> None:
        self.network, self.trunk, self.classes, self.min_score = network, trunk, tuple(classes), min_score
        self.scale = cfg.INPUT.MIN_SIZE_TEST / cfg.INPUT.FRAME_SIDE if cfg.INPUT.MIN_SIZE_TEST else 1.0
        self.cell_size = cfg.MODEL.FCOS.SIZES_OF_INTEREST[1] / self.scale
        self.whole, self.side = int(2_000_000 / self.scale**2), int(1024 / self.scale)
        self.cap = cfg.MODEL.FCOS.POST_NMS_TOPK_TEST or None
        self.stretch, self.is_bgr = tuple(cfg.INPUT.STRETCH_PERCENTILES), cfg.INPUT.FORMAT == "BGR"
        self.normalization = Normalization.from_config(cfg) if cfg.INPUT.MAPPER == "SemanticMapper" else None

    def fit(self, sample: np.ndarray) -> Prepare:
        """As ``CellDatasetMapper`` reads files: 8 bits as they are, else stretched to 8 bits."""
        if self.normalization is not None:
            values = self.normalization.fit(sample)
        elif sample.dtype != np.uint8 or self.stretch:
            values = fit_stretch(sample, self.stretch or DEFAULT_STRETCH)
        else:
            values = np.asarray
        return lambda region: _three_channels(values(region), self.is_bgr)

    @contextmanager
    def shared(self, tiles: Sequence[Tile], read: Callable[[Tile], np.ndarray], scale: float) -> Iterator[None]:
        """See :class:`Detector`; it takes two passes over the tiles."""
        if self.trunk is None:
            yield
            return
        statistics, run = SharedStatistics(self.trunk.layers), self.trunk.run
        with torch.inference_mode():
            statistics.measure(tiles, lambda tile: run(_inputs([read(tile)], scale)))
        with statistics.applied():
            yield

    def __call__(self, regions: Sequence[np.ndarray], scale: float) -> list[Found]:
        """See :class:`Detector`."""
        with torch.inference_mode():
            found = self.network(_inputs(regions, scale), self.min_score)
        return [
            Found(
                _without_image(instances_to_results(each, "", "")),
                capped=self.cap is not None and len(each) >= self.cap,
            )
            for each in found
        ]


class SemanticDetector:
    """GoogLeNet-FCN, U-Nets and their ensembles; see :class:`Detector`.

    Args:
        predictor: the model.
        cell_type: of the images, for an ensemble.
    """

    classes, cap, has_probability = ("cell",), None, True

    def __init__(self, predictor: SemanticPredictor, cell_type: str | None = None) -> None:
        self.member, self.predictor = predictor.member(cell_type), predictor
        self.scale, self.cell_size = predictor.scale, 128 / predictor.scale
        self.whole, self.side = int((1 << 22) / self.scale**2), int(1024 / self.scale)

    def fit(self, sample: np.ndarray) -> Prepare:
        """As ``SemanticMapper`` reads files."""
        grey = to_grey if self.predictor.channels == 1 else np.asarray
        values = self.predictor.normalization.fit(grey(sample))
        return lambda region: values(grey(region))

    def shared(self, tiles: Sequence[Tile], read: Callable[[Tile], np.ndarray], scale: float) -> AbstractContextManager:
        """See :class:`Detector`; these networks have no layer that looks at all of its input."""
        return nullcontext()

    def __call__(self, regions: Sequence[np.ndarray], scale: float) -> list[Found]:
        """See :class:`Detector`."""
        return [self._one(region, scale) for region in regions]

    def _one(self, region: np.ndarray, scale: float) -> Found:
        logits = self.predictor.logits(self.member.network, region, scale)
        labels, probability = label_logits(logits, self.member.options)
        cells = instances_to_results(labels_to_instances(labels, probability), "", "")
        return Found(_without_image(cells), probability)


def _inputs(regions: Sequence[np.ndarray], scale: float) -> list[dict[str, Any]]:
    """Detectron2's input dicts; the output has the regions' size."""
    sizes = [dict(zip(("height", "width"), region.shape[:2])) for region in regions]
    return [{"image": torch.from_numpy(_scaled(region, scale)), **size} for region, size in zip(regions, sizes)]


def _without_image(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in result.items() if key != "image_id"} for result in results]


def _three_channels(image: np.ndarray, is_bgr: bool) -> np.ndarray:
    """(H, W, 3) of (H, W), or of (H, W, 3) in RGB."""
    if image.ndim == 2:
        return np.repeat(image[:, :, None], 3, axis=2)
    return image[:, :, ::-1] if is_bgr else image


def _scaled(image: np.ndarray, scale: float) -> np.ndarray:
    """(C, H', W') of (H, W, C), as Detectron2 resizes test images."""
    for step in scaling(*image.shape[:2], scale):
        image = step.apply_image(np.ascontiguousarray(image))
    return np.ascontiguousarray(image.transpose(2, 0, 1))
