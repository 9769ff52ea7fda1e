"""The predictor gives what the model gives, as COCO results."""

from pathlib import Path

import cv2
import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch

from cellseg_d2.data.image_io import stretch_to_uint8
from cellseg_d2.data.synthesis.phantom import PhantomSpec, simulate
from cellseg_d2.engine.setup import load_config
from cellseg_d2.inference import Predictor

CONFIG = str(Path(__file__).resolve().parents[2] / "configs" / "centermask_v19_slim_dw.yaml")
OPTIONS = ("MODEL.DEVICE", "cpu", "INPUT.MIN_SIZE_TEST", 128, "MODEL.FCOS.INFERENCE_TH_TEST", 0.009)


@pytest.fixture(scope="module", params=[(), (0.1, 99.9)], ids=["as it is", "stretched"])
def predictor(tmp_path_factory, request):
    """An untrained model with a threshold so low that it finds something, through a weight file."""
    from detectron2.modeling import build_model

    torch.manual_seed(0)
    model = build_model(load_config(CONFIG, list(OPTIONS)))
    path = tmp_path_factory.mktemp("weights") / "model.pth"
    torch.save({"model": model.state_dict()}, path)
    return Predictor.from_files(CONFIG, str(path), *OPTIONS, "INPUT.STRETCH_PERCENTILES", request.param)


@pytest.fixture(scope="module")
def image():
    return simulate(PhantomSpec(height=96, width=128, cells=(4, 8)), seed=0).image


def test_results_are_coco(predictor, image):
    cells = predictor(image)
    assert cells
    for cell in cells:
        assert set(cell) == {"image_id", "category_id", "bbox", "score", "mask_score", "segmentation"}
        assert cell["segmentation"]["size"] == [96, 128]
        assert mask_util.decode(cell["segmentation"]).shape == (96, 128)
        x, y, w, h = cell["bbox"]
        assert 0 <= x and 0 <= y and x + w <= 128 and y + h <= 96
    scores = [cell["score"] for cell in cells]
    assert scores == sorted(scores, reverse=True)
    limit = scores[len(scores) // 2]
    assert [c["score"] for c in predictor(image, min_score=limit)] == [s for s in scores if s >= limit]


def test_a_file_and_its_array_are_the_same(predictor, image, tmp_path):
    cv2.imwrite(str(tmp_path / "cells.png"), image)
    from_file = predictor(tmp_path / "cells.png")
    assert {c["image_id"] for c in from_file} == {"cells.png"}
    assert [c | {"image_id": ""} for c in from_file] == predictor(image)


def test_grey_is_three_equal_channels(predictor, image):
    if predictor.stretch:  # percentiles of three copies fall between other grey values
        image = stretch_to_uint8(image, predictor.stretch)
        predictor = Predictor(predictor.model, load_config(CONFIG, list(OPTIONS)))
    assert predictor(np.repeat(image[:, :, None], 3, axis=2)) == predictor(image)


def test_sixteen_bits_are_stretched(predictor, image):
    deep = (image.astype(np.uint16) * 200) + 1000
    stretched = Predictor(predictor.model, load_config(CONFIG, [*OPTIONS, "INPUT.STRETCH_PERCENTILES", (0.1, 99.9)]))
    scores = [[c["score"] for c in p(x)] for p, x in ((predictor, deep), (stretched, image))]
    assert scores[0] == pytest.approx(scores[1], abs=1e-3)


@pytest.mark.parametrize("array", [np.zeros((8, 8), bool), np.zeros((8, 8, 4), np.uint8), np.zeros(8, np.uint8)])
def test_other_arrays_are_refused(predictor, array):
    with pytest.raises(ValueError, match="numeric array"):
        predictor(array)
