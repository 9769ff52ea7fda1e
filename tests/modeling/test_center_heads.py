"""ROI heads: matching in chunks, masks as polygons or bitmaps, mask-IoU targets with a known answer."""

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks, pairwise_iou
from detectron2.utils.events import EventStorage

from cellseg_d2.modeling.postprocess import postprocess_rle
from cellseg_d2.modeling.roi_heads import center_heads
from cellseg_d2.modeling.roi_heads.mask_iou import covered_share, mask_iou_loss, mask_iou_targets
from cellseg_d2.modeling.roi_heads.pooler import levels_by_ratio

LITE = "centermask_v19_slim_dw.yaml"


def square(x0, y0, x1, y1):
    return np.array([x0, y0, x1, y0, x1, y1, x0, y1], dtype=np.float64)


def test_chunked_matching_is_matching(make_cfg, monkeypatch):
    heads = build_model(make_cfg(LITE)).roi_heads
    g = torch.Generator().manual_seed(0)
    truth, found = (torch.rand(n, 2, generator=g) * 60 for n in (37, 501))
    truth, found = (Boxes(torch.cat([b, b + 8], dim=1)) for b in (truth, found))
    index, labels = heads.proposal_matcher(pairwise_iou(truth, found))
    monkeypatch.setattr(center_heads, "PAIRS_AT_ONCE", 1000)
    chunked_index, chunked_labels = heads._match(truth, found)
    assert torch.equal(index, chunked_index) and torch.equal(labels, chunked_labels)
    assert labels.any() and not labels.all()


def test_inference_in_chunks_is_inference(make_cfg, make_input, filled, monkeypatch):
    model = filled(build_model(make_cfg(LITE)), seed=2).eval()
    with torch.no_grad():
        whole = model.inference([make_input(0, 96, 128, 0)], do_postprocess=False)[0]
        monkeypatch.setattr(center_heads, "CELLS_AT_ONCE", 7)
        parts = model.inference([make_input(0, 96, 128, 0)], do_postprocess=False)[0]
    assert len(whole) > 14
    assert torch.allclose(whole.pred_masks, parts.pred_masks, atol=1e-5)
    assert torch.allclose(whole.mask_scores, parts.mask_scores, atol=1e-5)


@pytest.mark.parametrize("append", [True, False])
def test_ground_truth_as_proposals(make_cfg, make_input, append):
    """A fresh model proposes nothing: with the ground truth appended every cell is a sample, without none is."""
    model = build_model(make_cfg(LITE, MODEL__ROI_HEADS__PROPOSAL_APPEND_GT=append)).train()
    with EventStorage() as storage:
        model([make_input(0, 96, 128, 5)])
        assert storage.latest()["roi_head/num_fg_samples"][0] == (5 if append else 0)


def test_bitmaps_train_like_polygons(make_cfg, make_input):
    """The same cells as polygons and as bitmaps give nearly the same losses."""
    model = build_model(make_cfg(LITE)).train()
    batch = make_input(0, 96, 128, 5)
    truth = batch["instances"]
    bitmaps = Instances(truth.image_size, gt_boxes=truth.gt_boxes, gt_classes=truth.gt_classes)
    bitmaps.gt_masks = BitMasks.from_polygon_masks(truth.gt_masks, 96, 128)
    with EventStorage(), torch.no_grad():
        a, b = model([batch]), model([batch | {"instances": bitmaps}])
    assert float(a["loss_mask"]) == pytest.approx(float(b["loss_mask"]), rel=1e-2)
    assert float(a["loss_maskiou"]) == pytest.approx(float(b["loss_maskiou"]), rel=0.1)


@pytest.mark.parametrize("as_bitmap", [False, True])
def test_covered_share(as_bitmap):
    """Boxes over all, half and a quarter of a square of 20 pixels, beside it, and without area."""
    boxes = torch.tensor([[10, 10, 40, 40], [20, 10, 60, 60], [20, 20, 60, 60], [50, 50, 60, 60], [5, 5, 5, 9.0]])
    masks = PolygonMasks([[square(10, 10, 30, 30)]] * 5)
    if as_bitmap:
        masks = BitMasks.from_polygon_masks(masks, 64, 64)
    instances = Instances((64, 64), proposal_boxes=Boxes(boxes), gt_masks=masks)
    assert covered_share(instances).tolist() == pytest.approx([1, 0.5, 0.25, 0, 0], abs=0.03)


def test_cells_of_several_polygons_are_one():
    masks = PolygonMasks([[square(0, 0, 10, 10), square(20, 0, 30, 10)]])
    instances = Instances((64, 64), proposal_boxes=Boxes(torch.tensor([[0.0, 0, 15, 15]])), gt_masks=masks)
    assert covered_share(instances).item() == pytest.approx(0.5, abs=0.05)


def test_mask_iou_target_counts_what_the_box_does_not_show():
    """A perfect mask of the seen half of an object has an IoU of one half with the whole object."""
    truth = torch.zeros(3, 4, 4)
    truth[:2, :2] = 1
    logits = torch.where(truth > 0, 5.0, -5.0)
    logits[2] = 5.0  # the third predicts everything where there is nothing
    target = mask_iou_targets(logits, truth, torch.tensor([1.0, 0.5, 0.0]))
    assert target.tolist() == pytest.approx([1, 0.5, 0])


def test_mask_iou_loss_counts_positive_targets_only():
    pred = torch.tensor([0.5, 9.0], requires_grad=True)
    assert mask_iou_loss(pred, torch.tensor([1.0, 0.0])).item() == pytest.approx(0.125)
    nothing = mask_iou_loss(pred, torch.zeros(2))
    nothing.backward()
    assert nothing.item() == 0 and not pred.grad.any()


def test_levels_by_ratio_grow_with_the_box():
    boxes = torch.tensor([[0, 0, s, s] for s in (0.0, 1, 10, 26, 52, 104)])
    assert levels_by_ratio(boxes, 104.0 * 104, 3, 5).tolist() == [0, 0, 0, 0, 0, 2]
    assert levels_by_ratio(boxes, 104.0 * 104, 2, 5).tolist() == [0, 0, 0, 0, 1, 3]


def test_fifteen_thousand_proposals_and_three_thousand_cells(make_cfg):
    """A table of all pairs would be 180 MB, and twice that for intersections; no operation comes near it."""
    heads = build_model(make_cfg(LITE)).roi_heads
    g = torch.Generator().manual_seed(0)
    corner = torch.rand(3000, 2, generator=g) * 500
    boxes = torch.cat([corner, corner + 12], dim=1)
    found = boxes.repeat(5, 1) + torch.randn(15000, 4, generator=g)
    truth = Instances((520, 520), gt_boxes=Boxes(boxes), gt_classes=torch.zeros(3000, dtype=torch.int64))
    truth.gt_masks = PolygonMasks([[square(*b)] for b in boxes.tolist()])
    proposals = Instances((520, 520), proposal_boxes=Boxes(found), objectness_logits=torch.zeros(15000))
    with EventStorage(), torch.profiler.profile(
        profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]
    ) as profile:
        (sampled,) = heads.label_and_sample_proposals([proposals], [truth])
    assert len(sampled) == 750  # a quarter of BATCH_SIZE_PER_IMAGE, all with masks
    assert (pairwise_iou(sampled.proposal_boxes, Boxes(boxes)).amax(1) >= 0.5).all()
    assert max(e.cpu_memory_usage for e in profile.events()) < 64 << 20


@pytest.mark.slow
def test_a_dense_image_trains_and_predicts(make_cfg, make_input):
    """3,000 cells in one image of LIVECell's size, end to end: a stack of their masks would be 1.1 GB."""
    model = build_model(make_cfg(LITE))
    batch = make_input(0, 520, 704, 3000)
    truth = batch["instances"]
    given = Instances((520, 704), pred_boxes=truth.gt_boxes, pred_classes=truth.gt_classes, scores=torch.ones(3000))
    with EventStorage(), torch.profiler.profile(
        profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]
    ) as profile:
        sum(model.train()([batch]).values()).backward()
        with torch.no_grad():
            (raw,) = model.eval().inference([batch], [given], do_postprocess=False)
            rles = postprocess_rle(raw, 520, 704).pred_rles
    assert len(rles) == 3000
    assert max(e.cpu_memory_usage for e in profile.events()) < 700 << 20


def test_pooling_is_exact_far_from_the_origin_in_mixed_precision(make_cfg):
    """Boxes beyond 512 pixels are not rounded to what bfloat16 can hold."""
    heads = build_model(make_cfg(LITE)).roi_heads
    maps = [torch.randn(1, 128, 128 >> k, 160 >> k).bfloat16() for k in range(3)]
    boxes = [Boxes(torch.tensor([[1000.6, 601.3, 1024.9, 630.2], [514.1, 605.0, 580.3, 660.7]]))]
    mixed = heads._pool(maps, boxes, [(1024, 1280)])
    exact = heads._pool([m.float() for m in maps], boxes, [(1024, 1280)])
    assert mixed.dtype == torch.float32 and torch.equal(mixed, exact)
