"""The threshold that training chooses: on training images, kept by the model, the same curve that is written."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from torch import nn

from cellseg_d2.data.datasets import load, register_coco
from cellseg_d2.engine.calibration import calibrate
from cellseg_d2.engine.errors import ConfigError, EvaluationInterrupted, NonFinitePredictionError
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
    """Training cells are from .3 on, held-out ones from .2: the threshold that is best there finds only their white
    half here, 2 * 800 / (800 + 1600)."""
    cfg.TEST.ROC_CHOICE = "fpr=0.01"
    model = GreyAsLogit()
    model.logits = lambda inputs: [torch.where(x["image"] > 0.1, 8 * x["image"] - 4, 8 * 0.25 - 4) for x in inputs]
    scores = calibrate(cfg, model)["roc"]
    # background is .25 in both, above the dim cells of the held-out image and below those of the training image
    assert torch.tensor(8 * 0.25 - 4).sigmoid() < model.threshold <= torch.tensor(8 * 0.3 - 4).sigmoid() + 1e-3
    written = json.loads((Path(cfg.OUTPUT_DIR) / "roc.json").read_text())
    assert set(written["curves"]) == {"training", "t_roc_test"} and written["threshold"] == scores["threshold"]
    assert scores["F1_train"] == pytest.approx(100) and scores["F1"] == pytest.approx(200 / 3, rel=1e-4)


def test_each_member_of_an_ensemble_gets_its_own(cfg):
    """Types a and b are the training image with dim cells, and one with brighter ones; c has no image."""
    first = load("t_roc_train")
    names = iter("ab")
    DatasetCatalog.register("t_roc_types", lambda: [{**first[0], "cell_type": n, "image_id": n} for n in "ab"])
    MetadataCatalog.get("t_roc_types").set(thing_classes=["cell"])
    try:
        cfg.DATASETS.TRAIN, cfg.DATASETS.TEST, cfg.TEST.ROC_CHOICE = ("t_roc_types",), (), "f1"
        model = GreyAsLogit()
        model.members = nn.ModuleDict({name: GreyAsLogit() for name in "abc"})
        model.set_threshold = lambda value: [member.set_threshold(value) for member in model.members.values()]
        grey = model.logits
        model.logits = lambda inputs: [z + (1 if next(names) == "b" else 0) for z in grey(inputs)]
        calibrate(cfg, model)
    finally:
        DatasetCatalog.remove("t_roc_types")
        MetadataCatalog.remove("t_roc_types")
    a, b, c = (float(model.members[name].threshold.logit()) for name in "abc")
    assert b - a == pytest.approx(1, abs=0.01) and c == pytest.approx((a + b) / 2, abs=0.6)


def test_held_out_images_without_a_cell_have_no_area(cfg):
    records = load("t_roc_test")
    DatasetCatalog.register("t_roc_empty", lambda: [{**records[0], "annotations": []}])
    MetadataCatalog.get("t_roc_empty").set(thing_classes=["cell"])
    try:
        cfg.DATASETS.TEST = ("t_roc_empty",)
        scores = calibrate(cfg, GreyAsLogit())["roc"]
        assert math.isnan(scores["AUC"]) and math.isnan(scores["F1"]) and scores["AUC_train"] == pytest.approx(100)
        cfg.DATASETS.TRAIN = ("t_roc_empty",)
        with pytest.raises(ConfigError, match="no cell.*TEST.ROC_IMAGES"):
            calibrate(cfg, GreyAsLogit())
    finally:
        DatasetCatalog.remove("t_roc_empty")
        MetadataCatalog.remove("t_roc_empty")


def test_stop_and_nan(cfg):
    with pytest.raises(EvaluationInterrupted):
        calibrate(cfg, GreyAsLogit(), lambda: True)
    model = GreyAsLogit()
    model.logits = lambda inputs: [x["image"] * float("nan") for x in inputs]
    with pytest.raises(NonFinitePredictionError, match="a.tif"):
        calibrate(cfg, model)
