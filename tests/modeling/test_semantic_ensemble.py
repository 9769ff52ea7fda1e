"""The ensemble: routing by cell type, losses, averages, thresholds and weights."""

import pytest
import torch
from semantic_samples import ENSEMBLE, UNET, losses_of, make_model, make_sample

from cellseg_d2.modeling.checkpoint import load_weights
from cellseg_d2.modeling.semantic.ensemble import CellTypeEnsemble
from cellseg_d2.modeling.semantic.probability import foreground_probability
from cellseg_d2.modeling.semantic.segmentor import CellSegmentor


@pytest.fixture
def ensemble() -> CellTypeEnsemble:
    """Two models that differ; logits spread around both sides of the threshold."""
    model = make_model(ENSEMBLE, {"MODEL.UNET.NORM": ""}).eval()
    for member in model.members.values():
        member.sem_seg_head.predictor.bias.data.zero_()
    return model


def test_ensemble_asks_the_model_of_the_type(ensemble):
    batch = [make_sample(i) for i in (0, 1, 2, 3)]
    batch[2]["cell_type"] = "BV2"
    with torch.no_grad():
        outputs, rles = ensemble(batch), ensemble.predict_rle(batch)
        for x, output, rle in zip(batch, outputs, rles):
            (alone,) = ensemble.members[x["cell_type"].lower()]([x])
            assert torch.allclose(output["sem_seg"], alone["sem_seg"], atol=1e-5)
            assert len(rle) == len(output["instances"]) and rle.has("pred_rles")
        logits = ensemble.logits(batch)
    assert all(torch.equal(a, b["sem_seg"]) for a, b in zip(logits, outputs))
    assert not torch.allclose(*(m.logits(batch[:1])[0] for m in ensemble.members.values()))


@pytest.mark.parametrize("norm", ["", "BN"])
def test_ensemble_losses_are_means_over_images(norm):
    model = make_model(ENSEMBLE, {"MODEL.UNET.NORM": norm}).train()
    batch = [make_sample(i) for i in (0, 2, 4, 1)]
    own = [model.members["huh7"](batch[:3])["loss_sem_seg"], model.members["bv2"](batch[3:])["loss_sem_seg"]]
    assert torch.allclose(losses_of(model, batch)["loss_sem_seg"], 0.75 * own[0] + 0.25 * own[1])


@pytest.mark.parametrize("optimizer", [torch.optim.RMSprop, torch.optim.AdamW, torch.optim.SGD])
def test_absent_type_stays_as_it_is(optimizer):
    """Also with momentum and decay, after it has learned before."""
    model = make_model(ENSEMBLE)
    steps = optimizer(model.parameters(), lr=0.01, weight_decay=0.1)
    for seeds in ((0, 1), (0, 2), (2, 4)):
        before = {k: v.clone() for k, v in model.state_dict().items()}
        steps.zero_grad()
        losses_of(model, [make_sample(seed) for seed in seeds])
        steps.step()
    moved = {k.split(".")[1] for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert moved == {"huh7"}


@pytest.mark.parametrize("num_classes", [1, 3])
def test_average_of_unknown_types(num_classes):
    classes = {"MODEL.SEM_SEG_HEAD.NUM_CLASSES": num_classes, "MODEL.ENSEMBLE.UNKNOWN": "average"}
    model = make_model(ENSEMBLE, classes).eval()
    model.members["huh7"].set_threshold(0.5)
    model.members["bv2"].set_threshold(0.1)
    batch = [make_sample(0, num_classes=num_classes), make_sample(1, num_classes=num_classes)]
    batch[0]["cell_type"] = "hela"
    with torch.no_grad():
        (output, known), rles = model(batch), model.predict_rle(batch)
        each = [foreground_probability(m.logits(batch[:1])[0]) for m in model.members.values()]
        assert torch.equal(known["sem_seg"], model.members["bv2"].logits(batch[1:])[0])
    assert torch.allclose(output["probability"], torch.stack(each).mean(0), atol=1e-5)
    cells = output["probability"] >= 0.3  # the mean of their thresholds
    assert 0 < cells.sum() < cells.numel() and torch.equal(output["instances"].pred_masks.any(0), cells)
    assert len(rles[0]) == len(output["instances"])


def test_thresholds_travel_with_the_weights(ensemble):
    ensemble.set_threshold(0.75)
    other = make_model(ENSEMBLE, {"MODEL.UNET.NORM": ""})
    assert other.threshold == 0.5
    other.load_state_dict(ensemble.state_dict())
    assert other.threshold == 0.75 and all(m.threshold == 0.75 for m in other.members.values())
    assert other.device == torch.device("cpu")


def test_ensemble_of_models_that_are_there():
    members = {name: make_model(UNET) for name in ("a172", "mcf7")}
    model = CellTypeEnsemble(members, unknown="average")
    assert all(isinstance(m, CellSegmentor) and model.members[name] is m for name, m in members.items())
    assert {key.split(".")[1] for key in model.state_dict()} == set(members)


@pytest.mark.parametrize("cell_type", ["hela", None])
@pytest.mark.parametrize(("unknown", "training"), [("error", True), ("error", False), ("average", True)])
def test_unknown_type_is_named(cell_type, unknown, training):
    model = make_model(ENSEMBLE, {"MODEL.ENSEMBLE.UNKNOWN": unknown}).train(training)
    x = make_sample(5) | {"cell_type": cell_type}
    with pytest.raises(ValueError, match=f"image_5.png.*{cell_type or 'not given'}.*huh7, bv2"):
        model([make_sample(0), x])


def test_a_single_model_starts_every_member(tmp_path):
    single = make_model(UNET)
    torch.save(single.state_dict(), tmp_path / "single.pth")
    ensemble = make_model(ENSEMBLE)
    load_weights(ensemble, str(tmp_path / "single.pth"), complete=True)
    for member in ensemble.members.values():
        for name, value in single.state_dict().items():
            assert torch.equal(member.state_dict()[name], value), name
