"""What a trained network's feature pyramid makes of each cell and of each image."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from detectron2.modeling import build_model
from torchvision.ops import roi_align

from ..data.image_io import read_image
from ..data.loader import MAPPERS
from ..engine.errors import ConfigError, config_errors
from ..engine.setup import load_config
from ..modeling.checkpoint import load_weights

__all__ = ["deep_extractor"]

LEVEL = "p3"  # the finest level that all our pyramids have
SIDE = 7  # of the grid over a cell's box


def deep_extractor(
    config_file: str | Path, weights: str | Path
) -> Callable[[str, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """A function of a trained model that gives features of cells and of whole images.

    Args:
        config_file: YAML of a model with a feature pyramid (CenterMask and its like).
        weights: its checkpoint, which must fill the whole model; read with weights_only=True.

    Returns:
        A function: path of an image and (N, 4) boxes x0, y0, x1, y1 in its pixels -> (N, C) float32, mean of ROIAlign
        (7 x 7) of level p3 over each box, and (C,) float32, mean of p3 over the image. On the CPU.

    Raises:
        ConfigError: the configuration cannot be used, or its model has no level p3.
        WeightsError: the weights cannot be read, or are of another model.
    """
    cfg = load_config(str(config_file), ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", ""])
    with config_errors(f"the model of {config_file}"):
        model = build_model(cfg).eval()
    backbone = getattr(model, "backbone", None)
    shapes = backbone.output_shape() if hasattr(backbone, "output_shape") else {}
    if LEVEL not in shapes:
        raise ConfigError(f"--config-file {config_file}: its model has no feature level {LEVEL}; give a CenterMask")
    load_weights(model, str(weights), complete=True)
    mapper = MAPPERS[cfg.INPUT.MAPPER](cfg, is_train=False)
    scale = 1 / shapes[LEVEL].stride

    @torch.no_grad()
    def extract(path: str, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        height, width = read_image(path).shape[:2]
        record = {"file_name": path, "image_id": 0, "height": height, "width": width}
        image = mapper(record)["image"]
        level = backbone(model.preprocess_image([{"image": image}]).tensor)[LEVEL]
        rows, columns = (int(np.ceil(side * scale)) for side in image.shape[1:])
        factor = torch.tensor([image.shape[2] / width, image.shape[1] / height] * 2)
        rois = roi_align(level, [torch.from_numpy(boxes) * factor], SIDE, scale, aligned=True)
        return rois.mean(dim=(2, 3)).numpy(), level[0, :, :rows, :columns].mean(dim=(1, 2)).numpy()

    return extract
