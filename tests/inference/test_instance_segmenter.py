"""CellSegmenter with CenterMask gives what the model gives on its mapper's input, at the scale of its training."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.modeling import build_model

from cellseg_d2 import CellSegmenter
from cellseg_d2.data.dataset_mapper import CellDatasetMapper
from cellseg_d2.data.synthesis.phantom import PhantomSpec, simulate
from cellseg_d2.engine.errors import UserError
from cellseg_d2.engine.setup import load_config
from cellseg_d2.evaluation.records import instances_to_results
from cellseg_d2.modeling.postprocess import predict_rle

CONFIG = str(Path(__file__).resolve().parents[2] / "configs" / "centermask_v19_slim_dw.yaml")
OPTIONS = ["MODEL.DEVICE", "cpu", "INPUT.MIN_SIZE_TEST", 128, "INPUT.FRAME_SIDE", 96, "MODEL.FCOS.PRIOR_PROB", 0.1]


@pytest.fixture(scope="module", params=[(), (0.1, 99.9)], ids=["as it is", "stretched"])
def work(tmp_path_factory, request):
    """The output folder of a training, as far as prediction looks at it: an untrained model."""
    folder = tmp_path_factory.mktemp("run")
    cfg = load_config(CONFIG, [*OPTIONS, "INPUT.STRETCH_PERCENTILES", request.param])
    torch.manual_seed(0)
    model = build_model(cfg).eval()
    torch.save({"model": model.state_dict()}, folder / "model_final.pth")
    (folder / "config.yaml").write_text(cfg.dump())
    return folder, cfg, model


@pytest.fixture(scope="module")
def image():
    return simulate(PhantomSpec(height=96, width=128, cells=(4, 8)), seed=0).image


def same(ours, theirs):
    """As much the same as another order of sums leaves them."""
    assert len(ours) == len(theirs) > 3
    for one, other in zip(ours, theirs):
        assert np.allclose(one["bbox"], other["bbox"], atol=0.01) and one["category_id"] == other["category_id"]
        assert abs(one["score"] - other["score"]) < 1e-4 and abs(one["mask_score"] - other["mask_score"]) < 1e-4


def test_as_in_evaluation(work, image, tmp_path):
    folder, cfg, model = work
    cv2.imwrite(str(tmp_path / "a.png"), image)
    record = {"file_name": str(tmp_path / "a.png"), "height": 96, "width": 128, "image_id": 1}
    (expected,) = predict_rle(model, [CellDatasetMapper(cfg, is_train=False)(record)])
    segmenter = CellSegmenter.from_pretrained(folder, device="cpu", min_score=0.0)
    result = segmenter(tmp_path / "a.png")
    same(result.cells, instances_to_results(expected, 1, ""))
    assert [list(cell["segmentation"]["size"]) for cell in result.cells] == [[96, 128]] * len(result)
    limit = result.cells[len(result) // 2]["score"]
    fewer = CellSegmenter.from_pretrained(folder, device="cpu", min_score=limit)(image)
    same(fewer.cells, [cell for cell in result.cells if cell["score"] >= limit])


def test_grey_is_three_equal_channels(work, image):
    segmenter = CellSegmenter.from_pretrained(work[0], device="cpu", min_score=0.0)
    if not work[1].INPUT.STRETCH_PERCENTILES:  # percentiles of three copies fall between other grey values
        same(segmenter(np.repeat(image[:, :, None], 3, axis=2)).cells, segmenter(image).cells)


def test_sixteen_bits_are_stretched(work, image):
    segmenter = CellSegmenter.from_pretrained(work[0], device="cpu", min_score=0.0)
    assert len(segmenter(image.astype(np.uint16) * 200 + 1000)) > 3


def test_tiles_have_the_scale_of_frames(work, image):
    segmenter = CellSegmenter.from_pretrained(work[0], device="cpu", tile=256)
    seen = []
    segmenter.detector.network = lambda inputs, least: seen.append([x["image"].shape for x in inputs]) or []
    with pytest.raises(ValueError):
        segmenter(np.tile(image, (4, 4)))
    assert seen == [[(3, 341, 341)]]  # 256 * 128 / 96


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"min_score": 2.0}, "--min-score 2.0"),
        ({"max_cells": 0}, "--max-cells 0"),
        ({"threshold": 0.5}, "--threshold is for a semantic model"),
        ({"runtime": "tensorrt"}, "tensorrt"),
        ({"precision": "int8"}, "int8"),
        ({"device": "cuda:9"}, "no GPU"),
    ],
)
def test_options_that_do_not_fit(work, options, words):
    if "device" in options and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises((UserError, ValueError), match=words):
        CellSegmenter.from_pretrained(work[0], **{"device": "cpu", **options})
    with pytest.raises(TypeError, match="colour"):
        CellSegmenter.from_pretrained(work[0], colour="red")
