"""Features of a network: of boxes and of the whole image, from a checkpoint of random weights."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from detectron2.modeling import build_model

from cellseg_d2.analysis.deep_features import deep_extractor
from cellseg_d2.engine.errors import ConfigError
from cellseg_d2.engine.setup import load_config
from cellseg_d2.modeling.checkpoint import WeightsError

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "model.pth"
    torch.save({"model": build_model(load_config(str(CONFIGS / "demo.yaml"))).state_dict()}, path)
    return path


def test_features_follow_the_image(weights, tmp_path):
    extract = deep_extractor(CONFIGS / "demo.yaml", weights)
    rng = np.random.default_rng(0)
    image = np.full((160, 192), 128, dtype=np.uint8)
    image[:, 96:] = rng.integers(0, 255, (160, 96))
    tifffile.imwrite(tmp_path / "a.tif", image)
    boxes = np.array([[20, 60, 44, 84], [24, 64, 48, 88], [140, 60, 164, 84], [0, 0, 192, 160]], dtype=np.float32)
    cells, whole = extract(str(tmp_path / "a.tif"), boxes)
    assert cells.shape == (4, len(whole)) and np.isfinite(cells).all() and np.isfinite(whole).all()
    even, textured = np.linalg.norm(cells[0] - cells[1]), np.linalg.norm(cells[0] - cells[2])
    assert even < 0.3 * textured
    assert np.linalg.norm(cells[3] - whole) < 0.3 * np.linalg.norm(whole)
    none, _ = extract(str(tmp_path / "a.tif"), np.zeros((0, 4), dtype=np.float32))
    assert none.shape == (0, len(whole))


def test_models_that_cannot_be_used(weights, tmp_path):
    with pytest.raises(ConfigError, match="no feature level p3"):
        deep_extractor(CONFIGS / "unet.yaml", weights)
    with pytest.raises(ConfigError, match="no such file"):
        deep_extractor(tmp_path / "none.yaml", weights)
    with pytest.raises(WeightsError, match="none.pth"):
        deep_extractor(CONFIGS / "demo.yaml", tmp_path / "none.pth")
