"""A small COCO data set of discs, and a config for it."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from detectron2.config import CfgNode, get_cfg

from cellseg_d2 import add_cellseg_config


def disc(x: float, y: float, radius: float, corners: int = 16) -> list[float]:
    """A polygon [x0, y0, x1, y1, ...] around (x, y)."""
    angles = np.arange(corners) * 2 * np.pi / corners
    return np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], axis=1).reshape(-1).tolist()


def make_coco(images: int = 4, height: int = 48, width: int = 64, cells: int = 3, seed: int = 0) -> dict:
    """A COCO data set of discs that lie inside their images."""
    rng = np.random.default_rng(seed)
    annotations = []
    for image_id in range(1, images + 1):
        for _ in range(cells):
            radius = float(rng.uniform(4, 7))
            x, y = rng.uniform(8, width - 8), rng.uniform(8, height - 8)
            box = [x - radius, y - radius, 2 * radius, 2 * radius]
            annotations.append(
                {"id": len(annotations) + 1, "image_id": image_id, "category_id": 1, "iscrowd": 0, "bbox": box}
                | {"area": np.pi * radius**2, "segmentation": [disc(x, y, radius)]}
            )
    entries = [{"id": i, "file_name": f"image{i}.tif", "height": height, "width": width} for i in range(1, images + 1)]
    return {"images": entries, "annotations": annotations, "categories": [{"id": 1, "name": "cell"}]}


def write_coco(folder: Path, coco: dict, seed: int = 0) -> tuple[Path, Path]:
    """Write the JSON and one random image an entry; returns the JSON's and the images' place."""
    rng = np.random.default_rng(seed)
    for image in coco["images"]:
        path = folder / "images" / image["file_name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path, rng.integers(0, 256, (image["height"], image["width"]), dtype=np.uint8))
    (folder / "set.json").write_text(json.dumps(coco))
    return folder / "set.json", folder / "images"


@pytest.fixture
def discs() -> Callable[..., dict]:
    """:func:`make_coco`."""
    return make_coco


@pytest.fixture
def written() -> Callable[..., tuple[Path, Path]]:
    """:func:`write_coco`."""
    return write_coco


@pytest.fixture
def cfg() -> CfgNode:
    """The default config without resizing and flips, loading in the main process."""
    torch.set_num_threads(1)
    config = get_cfg()
    add_cellseg_config(config)
    config.INPUT.MIN_SIZE_TRAIN, config.INPUT.MIN_SIZE_TEST = (0,), 0
    config.INPUT.RANDOM_FLIP = "none"
    config.DATALOADER.NUM_WORKERS = 0
    return config
