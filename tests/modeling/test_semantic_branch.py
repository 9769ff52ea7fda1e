"""CenterMask with a semantic branch: one forward gives both, training learns both, CenterMask alone is unchanged."""

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from cellseg_d2.modeling.postprocess import predict_rle

CONFIG = "centermask_googlenet.yaml"
FEW = {"MODEL__FCOS__POST_NMS_TOPK_TEST": 20}


@pytest.fixture
def model(make_cfg):
    return build_model(make_cfg(CONFIG, **FEW))


def with_classes(record):
    """The input with a class map: the left half is cell."""
    height, width = record["image"].shape[1:]
    classes = (torch.arange(width) < width // 2).float().expand(height, width)
    return {**record, "sem_seg": torch.stack([classes, torch.ones(height, width)])}


def test_every_parameter_of_both_learns(model, make_input):
    batch = [with_classes(make_input(i, 96, 128, 6)) for i in range(2)]
    with EventStorage():
        losses = model(batch)
    assert set(losses) == {
        "loss_fcos_cls", "loss_fcos_loc", "loss_fcos_ctr", "loss_mask", "loss_maskiou", "loss_sem_seg"
    }  # fmt: skip
    sum(losses.values()).backward()
    learning = {n: p.grad for n, p in model.named_parameters() if p.requires_grad and ".scales." not in n}
    assert not [n for n, grad in learning.items() if grad is None or not grad.any()]


def test_one_forward_gives_instances_and_probability(model, make_input, filled):
    filled(model, seed=2)
    model.eval()
    batch = [make_input(0, 75, 131, 0), {**make_input(1, 64, 97, 0), "height": 128, "width": 194}]
    with torch.no_grad():
        outputs = model(batch)
        alone = predict_rle(model, batch)
    for x, output, rle in zip(batch, outputs, alone, strict=True):
        size = (x["height"], x["width"])
        assert output["probability"].shape == size and output["sem_seg"].shape == (1, *size)
        assert 0 <= output["probability"].min() and output["probability"].max() <= 1
        assert output["instances"].image_size == size and output["instances"].has("mask_scores")
        torch.testing.assert_close(rle.scores, output["instances"].scores)


def test_branch_does_not_change_centermask(model, make_cfg, make_input):
    plain = build_model(make_cfg(CONFIG, MODEL__META_ARCHITECTURE="GeneralizedRCNN", **FEW)).eval()
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("semantic.")})
    batch = [make_input(0, 64, 96, 0)]
    with torch.no_grad():
        (ours,), (theirs,) = model.eval()(batch), plain(batch)
    assert torch.equal(ours["instances"].scores, theirs["instances"].scores)


def test_unet_as_branch(make_cfg, make_input):
    cfg = make_cfg(
        CONFIG, MODEL__SEMANTIC__BRANCH="build_unet_backbone", MODEL__UNET__WIDTH=4,
        MODEL__SEM_SEG_HEAD__NAME="PixelHead", MODEL__SEM_SEG_HEAD__IN_FEATURES=["unet"], **FEW,
    )  # fmt: skip
    with torch.no_grad():
        (output,) = build_model(cfg).eval()([make_input(0, 50, 70, 0)])
    assert output["probability"].shape == (50, 70)


def test_a_branch_needs_a_backbone(make_cfg):
    with pytest.raises(ValueError, match="set MODEL.SEMANTIC.BRANCH"):
        build_model(make_cfg(CONFIG, MODEL__SEMANTIC__BRANCH=""))
