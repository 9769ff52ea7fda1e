"""Small inputs for model tests: images and ground truth by construction."""

import sys
from pathlib import Path

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.structures import Boxes, Instances, PolygonMasks

from cellseg_d2 import add_cellseg_config

ROOT = Path(__file__).resolve().parents[2]
# test folders are no packages: what tests share is imported from here
sys.path[:0] = [str(ROOT / "tests" / "oracle"), str(ROOT / "tests" / "modeling")]

import fill  # noqa: E402  (the fixtures' own generator of weights, images and cells)


@pytest.fixture
def make_cfg():
    """``make_cfg("centermask_v99.yaml", KEY=value)``: a config of configs/, on the CPU; dots in keys as "__"."""

    def make(name: str, **overrides):
        cfg = get_cfg()
        add_cellseg_config(cfg)
        cfg.merge_from_file(str(ROOT / "configs" / name))
        cfg.MODEL.DEVICE = "cpu"
        cfg.merge_from_list([x for key, value in overrides.items() for x in (key.replace("__", "."), value)])
        return cfg

    return make


@pytest.fixture
def make_input():
    """``make_input(seed, h, w, cells)``: one of Detectron2's input dicts, with ``cells`` polygons."""

    def make(seed: int, height: int, width: int, cells: int, num_classes: int = 1) -> dict:
        truth = fill.sample_cells(seed, height, width, cells, radius=(4.0, 20.0), num_classes=num_classes)
        instances = Instances((height, width))
        instances.gt_boxes = Boxes(torch.as_tensor(truth["boxes"]).reshape(-1, 4))
        instances.gt_classes = torch.as_tensor(truth["classes"])
        instances.gt_masks = PolygonMasks([[p] for p in truth["polygons"]])
        image = torch.as_tensor(fill.sample_image(seed, height, width).transpose(2, 0, 1).copy())
        return {"image": image, "instances": instances, "height": height, "width": width}

    return make


@pytest.fixture
def filled():
    """``filled(model, seed)``: the model with the fixtures' deterministic weights, which detect something."""
    return fill.fill_


@pytest.fixture(autouse=True)
def _one_seed():
    torch.manual_seed(0)
