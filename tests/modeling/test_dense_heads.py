"""Dense scenes: cells that cannot reach the output are not looked at, and the others are what they are without."""

import pytest
import torch
from detectron2.modeling import build_model

from cellseg_d2.modeling.postprocess import predict_rle
from cellseg_d2.modeling.roi_heads import center_heads

LITE = "centermask_v19_slim_dw.yaml"
SMALL = {
    "MODEL__FPN__OUT_CHANNELS": 64, "MODEL__ROI_MASK_HEAD__CONV_DIM": 64, "MODEL__ROI_MASKIOU_HEAD__CONV_DIM": 64,
}  # fmt: skip


@pytest.fixture
def make_model(make_cfg, filled):
    def make(**options):
        return filled(build_model(make_cfg(LITE, **SMALL, **options)), seed=2).eval()

    return make


def same(ours, theirs):
    assert torch.equal(ours.pred_boxes.tensor, theirs.pred_boxes.tensor)
    assert torch.equal(ours.scores, theirs.scores) and torch.equal(ours.pred_classes, theirs.pred_classes)
    assert torch.allclose(ours.mask_scores, theirs.mask_scores, atol=1e-6)
    assert ours.pred_rles == theirs.pred_rles


def test_a_score_cut_leaves_the_other_detections_as_they_are(make_model, make_input, monkeypatch):
    model, batch = make_model(), [make_input(0, 96, 128, 0), make_input(1, 80, 90, 0) | {"height": 160, "width": 180}]
    whole = predict_rle(model, batch)
    cut = float(torch.cat([found.scores for found in whole]).quantile(0.6))
    seen, predict = [], model.roi_heads._predict_masks

    def counted(maps, detected):
        seen.append(len(detected))
        return predict(maps, detected)

    monkeypatch.setattr(model.roi_heads, "_predict_masks", counted)
    for ours, all_of_them in zip(predict_rle(model, batch, min_score=cut), whole, strict=True):
        kept = (all_of_them.scores >= cut).nonzero()[:, 0].tolist()
        rles = all_of_them.pred_rles
        all_of_them.remove("pred_rles")
        expected = all_of_them[kept]
        expected.pred_rles = [rles[k] for k in kept]
        same(ours, expected)
    assert 5 < sum(seen) < sum(map(len, whole)) / 2


def test_a_cut_above_all_scores_leaves_nothing(make_model, make_input):
    (found,) = predict_rle(make_model(), [make_input(0, 96, 128, 0)], min_score=1.1)
    assert len(found) == 0 and found.pred_rles == [] and found.mask_scores.shape == (0,)


def test_cells_in_chunks_are_cells(make_model, make_input, monkeypatch):
    model, batch = make_model(), [make_input(0, 96, 128, 0)]
    (whole,) = predict_rle(model, batch)
    monkeypatch.setattr(center_heads, "CELLS_AT_ONCE", 3)
    (parts,) = predict_rle(model, batch)
    assert len(whole) > 9
    same(parts, whole)


def test_heads_hold_little_memory(make_model):
    """Of 1,000 cells, no operation makes more than 64 need, but for the masks that are returned."""
    heads = make_model().roi_heads
    corner = torch.rand(1000, 2, generator=torch.Generator().manual_seed(0)) * 80
    found = center_heads.Instances((96, 96), pred_boxes=center_heads.Boxes(torch.cat([corner, corner + 12], dim=1)))
    found.pred_classes, found.scores = torch.zeros(1000, dtype=torch.int64), torch.ones(1000)
    features = {f"p{k}": torch.randn(1, 64, 96 >> k, 96 >> k) for k in (3, 4, 5)}
    with (
        torch.no_grad(),
        torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as profile,
    ):
        (done,) = heads.forward_with_given_boxes(features, [found])
    assert done.pred_masks.shape == (1000, 1, 28, 28)
    returned = done.pred_masks.numel() * 4
    assert max(event.cpu_memory_usage for event in profile.events()) <= max(returned, 64 * 64 * 28 * 28 * 4)


def test_models_without_heads_of_their_own_are_cut_at_the_end(make_input):
    class Semantic(torch.nn.Module):
        def predict_rle(self, batched_inputs):
            found = center_heads.Instances((4, 4), scores=torch.tensor([0.2, 0.9, 0.5]))
            found.pred_rles = ["a", "b", "c"]
            return [found]

    (found,) = predict_rle(Semantic(), [{}], min_score=0.5)
    assert found.pred_rles == ["b", "c"] and found.scores.tolist() == pytest.approx([0.9, 0.5])
