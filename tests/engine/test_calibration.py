"""The threshold that training chooses: on training images, kept by the model, the same curve that is written."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from torch import nn

from cellseg_d2.data.datasets import register_coco
from cellseg_d2.engine.calibration import calibrate
from cellseg_d2.engine.errors import EvaluationInterrupted, NonFinitePredictionError
from cellseg_d2.engine.setup import load_config


class GreyAsLogit(nn.Module):
    """Its logit of a pixel is the grey value, from -4 (black) to 4 (white)."""

    def __init__(self):
        super().__init__()
        self.register_buffer("threshold", torch.tensor(0.5))

    def logits(self, inputs):
        assert all("height" not in x for x in inputs)
        return [8 * x["image"] - 4 for x in inputs]

    def set_threshold(self, threshold):
        self.threshold.fill_(threshold)


def write_squares(folder: Path, grey_of_cells: int) -> tuple[Path, Path]:
    """One image of 40 x 60 pixels: black left third, white right third, cells of ``grey_of_cells`` between them."""
    image = np.zeros((40, 60), np.uint16)
    image[:, 20:40], image[:, 40:] = grey_of_cells, 1000
    folder.mkdir()
    tifffile.imwrite(folder / "a.tif", image)
    box = [20, 0, 40, 40]
    annotation = {"id": 1, "image_id": 1, "category_id": 1, "bbox": box, "area": 1600.0, "iscrowd": 0}
    annotation["segmentation"] = [[20, 0, 60, 0, 60, 40, 20, 40]]
    coco = {"images": [{"id": 1, "file_name": "a.tif", "height": 40, "width": 60}], "annotations": [annotation]}
    coco["categories"] = [{"id": 1, "name": "cell"}]
    (folder / "set.json").write_text(json.dumps(coco))
    return folder / "set.json", folder


@pytest.fixture
def cfg(tmp_path):
    register_coco("t_roc_train", *write_squares(tmp_path / "train", 300))
    register_coco("t_roc_test", *write_squares(tmp_path / "test", 200))
    words = [
        "DATASETS.TRAIN", "('t_roc_train',)", "DATASETS.TEST", "('t_roc_test',)", "INPUT.MAPPER", "SemanticMapper",
        "INPUT.STRETCH_PERCENTILES", "(0.0, 100.0)", "MODEL.PIXEL_MEAN", "[0.0]", "MODEL.PIXEL_STD", "[1.0]",
        "MODEL.SEM_SEG_HEAD.NUM_CLASSES", "1", "INPUT.MIN_SIZE_TEST", "0", "DATALOADER.NUM_WORKERS", "0",
        "OUTPUT_DIR", str(tmp_path / "out"),
    ]  # fmt: skip
    return load_config("", words)


@pytest.mark.parametrize("choice", ["f1", "youden", "fpr=0.01"])
def test_threshold_parts_cells_from_background(cfg, choice):
    cfg.TEST.ROC_CHOICE = choice
    model = GreyAsLogit()
    scores = calibrate(cfg, model)["roc"]
    darkest = torch.tensor(8 * 0.3 - 4).sigmoid()  # of the training image's cells
    assert torch.tensor(-4.0).sigmoid() < model.threshold <= darkest + 1e-3
    assert scores["threshold"] == pytest.approx(float(model.threshold), rel=1e-6)
    assert scores["AUC_train"] == scores["AUC"] == pytest.approx(100)
    assert scores["F1_train"] == pytest.approx(100)


def test_held_out_images_do_not_choose(cfg):
    """Their dimmer cells are below the threshold: F1 there is that of the white half, 2 * 800 / (800 + 1600)."""
    cfg.TEST.ROC_CHOICE = "f1"
    model = GreyAsLogit()
    scores = calibrate(cfg, model)["roc"]
    written = json.loads((Path(cfg.OUTPUT_DIR) / "roc.json").read_text())
    assert set(written["curves"]) == {"training", "t_roc_test"} and written["threshold"] == scores["threshold"]
    expected = 100 if model.threshold <= torch.tensor(8 * 0.2 - 4).sigmoid() else 200 / 3
    assert scores["F1"] == pytest.approx(expected, rel=1e-4)


def test_stop_and_nan(cfg):
    with pytest.raises(EvaluationInterrupted):
        calibrate(cfg, GreyAsLogit(), lambda: True)
    model = GreyAsLogit()
    model.logits = lambda inputs: [x["image"] * float("nan") for x in inputs]
    with pytest.raises(NonFinitePredictionError, match="a.tif"):
        calibrate(cfg, model)
