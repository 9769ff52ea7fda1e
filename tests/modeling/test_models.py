"""The contract of every model: trains, predicts, takes odd sizes and empty images, saves and loads."""

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from cellseg_d2.modeling.backbone import SPECS
from cellseg_d2.modeling.checkpoint import load_weights

LITE = "centermask_v19_slim_dw.yaml"


def losses_of(model, batch):
    """Training losses, each a float, after a backward pass."""
    model.train()
    model.zero_grad()
    with EventStorage():
        losses = model(batch)
    sum(losses.values()).backward()
    return {k: float(v) for k, v in losses.items()}


class ModelContract:
    """Inherit, name a config and what to change in it: three lines a model."""

    config = LITE
    overrides: dict = {}
    fields = {"pred_boxes", "scores", "pred_classes", "pred_masks", "mask_scores"}
    losses = {"loss_fcos_cls", "loss_fcos_loc", "loss_fcos_ctr", "loss_mask", "loss_maskiou"}
    num_classes = 1

    def build(self, make_cfg, **more):
        few = {"MODEL__FCOS__POST_NMS_TOPK_TEST": 30}  # the heads rule the time of a test
        return build_model(make_cfg(self.config, **(few | self.overrides | more)))

    @pytest.fixture
    def model(self, make_cfg):
        return self.build(make_cfg)

    def test_every_parameter_learns(self, model, make_input):
        batch = [make_input(i, 96, 128, 6, self.num_classes) for i in range(2)]
        losses = losses_of(model, batch)
        assert set(losses) == self.losses
        assert all(0 <= v < 1e4 for v in losses.values()), losses
        # but for the box scales of levels that have no cell of their size in these images
        learning = {n: p.grad for n, p in model.named_parameters() if p.requires_grad and ".scales." not in n}
        assert not [n for n, grad in learning.items() if grad is None or not grad.any()]

    def test_mixed_precision(self, model, make_input):
        batch = [make_input(i, 96, 128, n, self.num_classes) for i, n in enumerate((6, 0))]
        with torch.autocast("cpu", torch.bfloat16):
            losses = losses_of(model, batch)
        assert all(0 <= v < 1e4 for v in losses.values()), losses

    def test_images_without_cells(self, model, make_input):
        for cells in ([0, 0], [3, 0]):
            batch = [make_input(i, 64, 64, n, self.num_classes) for i, n in enumerate(cells)]
            batch[1]["instances"].remove("gt_masks")  # as Detectron2's own mapper leaves an image without cells
            losses = losses_of(model, batch)
            assert all(torch.isfinite(torch.tensor(list(losses.values()))))
            without = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
            assert not without  # else distributed training hangs on such a batch

    def test_odd_sizes_and_mixed_batches(self, model, make_input, filled):
        filled(model, seed=2)
        model.eval()
        batch = [make_input(0, 75, 131, 0), make_input(1, 64, 97, 0)]
        with torch.no_grad():
            outputs = [o["instances"] for o in model(batch)]
        assert any(len(found) for found in outputs)
        for x, found in zip(batch, outputs):
            assert set(found.get_fields()) == self.fields
            assert found.image_size == (x["height"], x["width"])
            assert (found.scores.diff() <= 0).all()

    def test_nothing_found(self, make_cfg, make_input):
        model = self.build(make_cfg, MODEL__FCOS__INFERENCE_TH_TEST=1.0).eval()
        with torch.no_grad():
            found = model([make_input(0, 64, 64, 0)])[0]["instances"]
        assert len(found) == 0 and set(found.get_fields()) == self.fields

    def test_saves_and_loads(self, model, make_cfg, make_input, filled, tmp_path):
        torch.save(filled(model, seed=2).state_dict(), tmp_path / "model.pth")
        other = self.build(make_cfg)
        load_weights(other, str(tmp_path / "model.pth"), complete=True)
        with torch.no_grad():
            ours, theirs = (m.eval()([make_input(0, 64, 96, 0)])[0]["instances"] for m in (model, other))
        assert torch.equal(ours.scores, theirs.scores)
        assert torch.equal(ours.pred_boxes.tensor, theirs.pred_boxes.tensor)


class TestLite(ModelContract):
    pass


class TestV99(ModelContract):
    config = "centermask_v99.yaml"


class TestP2(ModelContract):
    config = "centermask_v99_p2.yaml"
    overrides = {"MODEL__VOVNET__CONV_BODY": "V-19-slim-eSE"}


class TestManyClasses(ModelContract):
    overrides = {"MODEL__FCOS__NUM_CLASSES": 4, "MODEL__ROI_HEADS__NUM_CLASSES": 4}
    num_classes = 4


class TestBatchNorm(ModelContract):
    overrides = {"MODEL__VOVNET__NORM": "BN", "MODEL__FCOS__NORM": "BN", "MODEL__FPN__NORM": "BN"}


class TestGroupNormAreaPooling(ModelContract):
    overrides = {"MODEL__VOVNET__NORM": "GN", "MODEL__ROI_MASK_HEAD__ASSIGN_CRITERION": "area"}


class TestDeformable(ModelContract):
    overrides = {
        "MODEL__VOVNET__CONV_BODY": "V-19-slim-eSE",
        "MODEL__VOVNET__STAGE_WITH_DCN": (False, True, True, True),
        "MODEL__VOVNET__WITH_MODULATED_DCN": True,
        "MODEL__FCOS__USE_DEFORMABLE": True,
    }


class TestOtherFCOS(ModelContract):
    overrides = {
        "MODEL__FCOS__NORM": "none",
        "MODEL__FCOS__NUM_SHARE_CONVS": 1,
        "MODEL__FCOS__USE_SCALE": False,
        "MODEL__FCOS__THRESH_WITH_CTR": True,
        "MODEL__FCOS__CENTER_SAMPLE": False,
        "MODEL__FCOS__LOC_LOSS_TYPE": "iou",
    }


class TestFewerLevels(ModelContract):
    overrides = {
        "MODEL__FCOS__TOP_LEVELS": 1,
        "MODEL__FCOS__IN_FEATURES": ["p3", "p4", "p5", "p6"],
        "MODEL__FCOS__FPN_STRIDES": [8, 16, 32, 64],
        "MODEL__FCOS__SIZES_OF_INTEREST": [32, 64, 128],
        "MODEL__FCOS__LOC_LOSS_TYPE": "linear_iou",
    }


class TestOtherMaskHeads(ModelContract):
    overrides = {
        "MODEL__FCOS__NUM_CLASSES": 3,
        "MODEL__ROI_HEADS__NUM_CLASSES": 3,
        "MODEL__ROI_MASK_HEAD__CLS_AGNOSTIC_MASK": True,
        "MODEL__ROI_MASK_HEAD__POOLER_RESOLUTION": 12,
        "MODEL__ROI_HEADS__PROPOSAL_APPEND_GT": True,
    }
    num_classes = 3


class TestWithoutMaskScores(ModelContract):
    overrides = {"MODEL__MASKIOU_ON": False}
    fields = ModelContract.fields - {"mask_scores"}
    losses = ModelContract.losses - {"loss_maskiou"}


class TestBoxesOnly(ModelContract):
    overrides = {"MODEL__MASK_ON": False}
    fields = {"pred_boxes", "scores", "pred_classes"}
    losses = {"loss_fcos_cls", "loss_fcos_loc", "loss_fcos_ctr"}


@pytest.mark.parametrize("body", SPECS)
def test_variants(body, make_cfg, make_input):
    """Strides, widths and depths of all seven."""
    model = build_model(make_cfg("centermask_v99.yaml", MODEL__VOVNET__CONV_BODY=body)).eval()
    image = model.preprocess_image([make_input(0, 64, 64, 0)]).tensor
    with torch.no_grad():
        features = model.backbone.bottom_up(image)
    assert {k: tuple(v.shape[1:]) for k, v in features.items()} == {
        f"stage{i + 2}": (SPECS[body].out[i], 16 >> i, 16 >> i) for i in (1, 2, 3)
    }
    state = model.state_dict()
    blocks = [k for k in state if k.endswith("ese.fc.bias")]
    assert len(blocks) == sum(SPECS[body].blocks)


def test_freezing(make_cfg):
    model = build_model(make_cfg(LITE, MODEL__BACKBONE__FREEZE_AT=2, MODEL__VOVNET__NORM="BN"))
    bottom_up = model.backbone.bottom_up
    frozen = {n.split(".")[0] for n, p in bottom_up.named_parameters() if not p.requires_grad}
    assert frozen == {"stem", "stage2"}
    before = {k: v.clone() for k, v in bottom_up.stem.state_dict().items()}
    bottom_up.train()(torch.randn(2, 3, 64, 64))
    assert all(torch.equal(v, before[k]) for k, v in bottom_up.stem.state_dict().items())


@pytest.mark.parametrize(
    "overrides, message",
    [
        ({"MODEL__VOVNET__CONV_BODY": "V-20"}, "V-99-eSE"),
        ({"MODEL__FCOS__SIZES_OF_INTEREST": [64, 128]}, "SIZES_OF_INTEREST needs 4"),
        ({"MODEL__FCOS__FPN_STRIDES": [4, 8, 16, 32, 64]}, "FPN_STRIDES"),
        ({"MODEL__FCOS__IN_FEATURES": ["p2", "p3", "p4", "p5", "p6"]}, "no \\['p2'\\]"),
        ({"MODEL__ROI_HEADS__NUM_CLASSES": 3}, "set both"),
        ({"MODEL__FCOS__LOC_LOSS_TYPE": "l1"}, "LOC_LOSS_TYPE"),
        ({"MODEL__ROI_MASK_HEAD__ASSIGN_CRITERION": "size"}, "area or ratio"),
        ({"MODEL__VOVNET__STAGE_WITH_DCN": (False, False, False, True)}, "depthwise"),
        ({"MODEL__VOVNET__NORM": "gn"}, "no norm 'gn'"),
        ({"MODEL__FPN__IN_FEATURES": ["stage3", "stage4"]}, "stage5"),
        ({"MODEL__FPN__IN_FEATURES": ["stage2", "stage3", "stage4", "stage5"]}, "OUT_FEATURES"),
        ({"MODEL__FCOS__TOP_LEVELS": 3}, "TOP_LEVELS"),
    ],
)
def test_contradictions_are_named(overrides, message, make_cfg):
    with pytest.raises((ValueError, KeyError), match=message):
        build_model(make_cfg(LITE, **overrides))


def test_detections_per_image_has_no_effect_and_says_so(make_cfg, caplog):
    build_model(make_cfg(LITE, TEST__DETECTIONS_PER_IMAGE=100))
    assert "POST_NMS_TOPK_TEST" in caplog.text
