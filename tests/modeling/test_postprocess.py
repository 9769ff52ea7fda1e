"""Run-length masks equal Detectron2's pasted masks, byte for byte, and never become a stack."""

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from detectron2.layers import paste_masks_in_image
from detectron2.modeling import build_model

from cellseg_d2.modeling.postprocess import masks_to_rles, masks_to_rles_by_torch, predict_rle

both = pytest.mark.parametrize("paste", [masks_to_rles, masks_to_rles_by_torch])


def random_cells(n, height, width, seed, largest=60.0):
    """Smooth random masks (n, 28, 28) and boxes inside the image, among them slivers and whole-image boxes."""
    g = torch.Generator().manual_seed(seed)
    centre = torch.rand(n, 2, generator=g) * torch.tensor([width, height])
    size = torch.rand(n, 2, generator=g) ** 2 * largest + 0.3
    boxes = torch.cat([centre - size / 2, centre + size / 2], dim=1)
    boxes[: n // 10] = torch.tensor([0.0, 0.0, width, height])
    boxes[:, 0::2].clamp_(0, width)
    boxes[:, 1::2].clamp_(0, height)
    boxes = boxes[((boxes[:, 2:] - boxes[:, :2]) > 0).all(1)]
    coarse = torch.rand(len(boxes), 1, 5, 5, generator=g)
    return torch.nn.functional.interpolate(coarse, size=28, mode="bilinear")[:, 0], boxes


def encode(mask):
    return mask_util.encode(np.asfortranarray(mask.numpy().astype(np.uint8)))["counts"].decode()


@pytest.mark.parametrize("height, width", [(97, 131), (1, 50), (50, 1), (64, 64)])
@pytest.mark.parametrize("seed", range(3))
@both
def test_equal_to_detectron2(height, width, seed, paste):
    masks, boxes = random_cells(60, height, width, seed)
    rles = paste(masks, boxes, height, width)
    assert [r["counts"] for r in rles] == [encode(m) for m in paste_masks_in_image(masks, boxes, (height, width))]
    assert all(r["size"] == [height, width] for r in rles)


@pytest.mark.parametrize("step", [2, 8])
@both
def test_equal_to_detectron2_at_ties(step, paste):
    """Probabilities of a few levels, boxes at whole and half pixels: many samples lie at the threshold."""
    g = torch.Generator().manual_seed(step)
    masks = torch.randint(0, step + 1, (80, 28, 28), generator=g) / step
    corners = torch.randint(0, 60, (80, 2), generator=g) / 2
    boxes = torch.cat([corners, corners + torch.randint(1, 80, (80, 2), generator=g) / 2], dim=1)
    expected = paste_masks_in_image(masks, boxes, (80, 90))
    assert [r["counts"] for r in paste(masks, boxes, 80, 90)] == [encode(m) for m in expected]


@both
@pytest.mark.parametrize("size", [0.0, 1e-30])
def test_boxes_without_an_extent_are_empty_cells(size, paste):
    box = torch.tensor([[5.0, 5.0, 5.0 + size, 9.0]])
    (rle,) = paste(torch.ones(1, 28, 28), box, 20, 20)
    assert mask_util.area(rle) == 0 and rle["size"] == [20, 20]


@pytest.mark.parametrize("value, area", [(0.0, 0), (1.0, 40 * 30)])
@both
def test_empty_and_full(value, area, paste):
    (rle,) = paste(torch.full((1, 28, 28), value), torch.tensor([[10.0, 20.0, 50.0, 50.0]]), 100, 100)
    assert mask_util.area(rle) == area


def test_without_a_compiler_torch_does_it(monkeypatch):
    masks, boxes = random_cells(20, 40, 50, seed=0)
    expected = masks_to_rles(masks, boxes, 40, 50)
    monkeypatch.setattr("numba.config.DISABLE_JIT", True)
    monkeypatch.setattr("cellseg_d2.modeling.postprocess.paste_runs", None)
    assert masks_to_rles(masks, boxes, 40, 50) == expected


@both
def test_no_cells(paste):
    assert paste(torch.zeros(0, 28, 28), torch.zeros(0, 4), 10, 10) == []


@both
def test_memory_of_a_dense_image(paste):
    """3,000 cells in 2048 x 2048: a stack would be 12.6 GB; no operation takes more than 100 MB here."""
    masks, boxes = random_cells(3000, 2048, 2048, seed=0, largest=40.0)
    boxes, masks = boxes[300:], masks[300:]
    with torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        rles = paste(masks, boxes, 2048, 2048)
    assert len(rles) == len(boxes)
    assert max(e.cpu_memory_usage for e in profile.events()) < 100 << 20


def test_predict_rle_is_the_model_s_own_output(make_cfg, make_input, filled):
    """Same boxes, scores and masks as the model's forward, at another output size too."""
    model = filled(build_model(make_cfg("centermask_v19_slim_dw.yaml")), seed=2).eval()
    batch = [make_input(0, 96, 128, 0), make_input(1, 80, 80, 0) | {"height": 160, "width": 120}]
    with torch.no_grad():
        expected = [o["instances"] for o in model(batch)]
    got = predict_rle(model, batch)
    assert sum(len(g) for g in got) > 10
    for e, g in zip(expected, got):
        assert torch.equal(e.pred_boxes.tensor, g.pred_boxes.tensor)
        assert torch.equal(e.scores, g.scores) and torch.equal(e.mask_scores, g.mask_scores)
        assert [encode(m) for m in e.pred_masks] == [r["counts"] for r in g.pred_rles]
