"""Small semantic models in folders, and a simulated image."""

from pathlib import Path

import pytest
import torch

from cellseg_d2.data.synthesis.phantom import PhantomSpec, simulate
from cellseg_d2.engine.setup import load_config
from cellseg_d2.inference.model_folder import load_model, save_model
from cellseg_d2.inference.runtimes.semantic import OnnxNetwork, make_network

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
SMALL = ("MODEL.DEVICE", "cpu", "MODEL.UNET.WIDTH", 4, "MODEL.SEMANTIC.MIN_AREA", 5)


def small_model(*options, config="unet.yaml", seed=0):
    """A configuration and its untrained model, with batch norms that do something."""
    from detectron2.modeling import build_model

    cfg = load_config(str(CONFIGS / config), [*SMALL, *options])
    torch.manual_seed(seed)
    model = build_model(cfg).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return cfg, model


@pytest.fixture(scope="session")
def make_model():
    """:func:`small_model`."""
    return small_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A U-Net, saved; its threshold is 0.375."""
    cfg, model = small_model()
    model.set_threshold(0.375)
    return save_model(tmp_path_factory.mktemp("models") / "unet", cfg, model, {"choice": "f1"})


@pytest.fixture(scope="module")
def network_file(folder):
    """The exported network of the model in ``folder``."""
    assert isinstance(make_network(load_model(folder)[1], "onnx", folder), OnnxNetwork)
    (path,) = folder.glob("*.onnx")
    return path


@pytest.fixture(scope="session")
def image():
    """(90, 70) uint8, cells on a background; no side is a multiple of a network's stride."""
    return simulate(PhantomSpec(height=90, width=70, cells=(4, 6)), seed=0).image
