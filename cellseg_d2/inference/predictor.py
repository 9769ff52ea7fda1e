"""From an image, or the path of one, to its cells as COCO results."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from detectron2.modeling import build_model
from torch import nn

from ..data.image_io import DEFAULT_STRETCH, read_image, read_raw, stretch_to_uint8
from ..data.normalize import Normalization
from ..data.transforms import build_augmentations
from ..engine.setup import load_config
from ..evaluation.records import instances_to_results
from ..modeling.checkpoint import load_weights
from ..modeling.postprocess import predict_rle

__all__ = ["Predictor"]


class Predictor:
    """Outlines the cells of one image at a time.

    Args:
        model: a ``GeneralizedRCNN`` with weights; put into evaluation mode.
        cfg: the config that it was built with: test size, grey-value stretch and channel order come from there.

    Examples:
        >>> predictor = Predictor.from_files("configs/demo.yaml", "output/demo/model_best.pth")  # doctest: +SKIP
        >>> cells = predictor("image.tif", min_score=0.5)                                        # doctest: +SKIP
        >>> cells[0]["bbox"], cells[0]["mask_score"], cells[0]["segmentation"]["size"]           # doctest: +SKIP
    """

    def __init__(self, model: nn.Module, cfg: CfgNode):
        self.model = model.eval()
        self.augmentations = T.AugmentationList(build_augmentations(cfg, is_train=False))
        self.stretch = cfg.INPUT.STRETCH_PERCENTILES
        self.normalization = Normalization.from_config(cfg) if cfg.INPUT.MAPPER == "SemanticMapper" else None
        self.image_format = cfg.INPUT.FORMAT

    @classmethod
    def from_files(cls, config_file: str, weights: str, *options: Any) -> "Predictor":
        """Build a model from a config file, ``KEY, VALUE, ...`` options and a weight file.

        The model runs on ``MODEL.DEVICE``, or on the CPU where there is no GPU.

        Raises:
            ConfigError, WeightsError: the config or the weights cannot be used; the message says why.
        """
        cfg = load_config(config_file, list(options))
        if not torch.cuda.is_available():
            cfg.MODEL.DEVICE = "cpu"
        model = build_model(cfg)
        load_weights(model, weights, complete=True, trust=cfg.MODEL.TRUST_WEIGHTS)
        return cls(model, cfg)

    @torch.inference_mode()
    def __call__(self, image: str | Path | np.ndarray, min_score: float = 0.0) -> list[dict[str, Any]]:
        """The cells of an image, best first.

        Args:
            image: a path, or an array (H, W) or (H, W, 3) in the order BGR. Arrays are stretched to 8 bits like files.
            min_score: leave out cells whose detection score is lower.

        Returns:
            COCO results: ``image_id`` (the file name, "" for an array), ``category_id`` (class number from 0),
            ``bbox`` [x, y, w, h] in pixels, ``score``, ``mask_score`` and ``segmentation`` (RLE), each where the
            model makes it.

        Raises:
            CorruptImageError: the file cannot be decoded.
            ValueError: the array is no image.
        """
        name = "" if isinstance(image, np.ndarray) else Path(image).name
        image = self._prepared(image)
        height, width = image.shape[:2]
        prepared = T.AugInput(image)
        self.augmentations(prepared)
        tensor = torch.from_numpy(np.ascontiguousarray(prepared.image.transpose(2, 0, 1)))
        (found,) = predict_rle(self.model, [{"image": tensor, "height": height, "width": width}])
        return [r for r in instances_to_results(found, name, name) if r["score"] >= min_score]

    def _prepared(self, image: str | Path | np.ndarray) -> np.ndarray:
        """(H, W, 3) values as the model's mapper makes them."""
        is_array = isinstance(image, np.ndarray)
        if is_array:
            _require_image(image)
        if self.normalization is not None:
            raw = image[..., ::-1] if is_array and image.ndim == 3 else image if is_array else read_raw(image)
            return _three_channels(self.normalization(raw))
        image = self._to_uint8(image) if is_array else read_image(image, self.stretch)
        return image if self.image_format == "BGR" else image[:, :, ::-1]

    def _to_uint8(self, image: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 of an array, by the rules for files."""
        if image.dtype != np.uint8 or self.stretch:
            image = stretch_to_uint8(image, self.stretch or DEFAULT_STRETCH)
        return _three_channels(image)


def _require_image(image: np.ndarray) -> None:
    """Raise ValueError where an array is no image."""
    if image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)) or image.dtype.kind not in "uif":
        raise ValueError(f"an image is a numeric array (H, W) or (H, W, 3), not {image.shape} of {image.dtype}")


def _three_channels(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) of (H, W) or (H, W, 3)."""
    return np.repeat(image[:, :, None], 3, axis=2) if image.ndim == 2 else image
