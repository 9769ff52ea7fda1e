"""Weight files: published styles load, and what does not fit is said."""

import pickle
from collections import OrderedDict

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model

from cellseg_d2.modeling.checkpoint import WeightsError, load_weights

LITE = "centermask_v19_slim_dw.yaml"


@pytest.fixture
def model(make_cfg):
    return build_model(make_cfg(LITE))


@pytest.fixture
def weights(make_cfg, filled):
    """A state dict that differs from a fresh model's in every tensor."""
    return OrderedDict(filled(build_model(make_cfg(LITE)), seed=3).state_dict())


def same(model, weights, prefix=""):
    return all(torch.equal(v, weights[k]) for k, v in model.state_dict().items() if k.startswith(prefix))


def test_detectron2_checkpoint(model, weights, tmp_path):
    torch.save({"model": weights, "iteration": 7, "best": np.float64(1.5)}, tmp_path / "m.pth")
    report = load_weights(model, str(tmp_path / "m.pth"), complete=True)
    assert same(model, weights) and not (report.missing or report.unexpected or report.mismatched)


def test_data_parallel_names(model, weights, tmp_path):
    torch.save({"module." + k: v for k, v in weights.items()}, tmp_path / "m.pth")
    load_weights(model, str(tmp_path / "m.pth"), complete=True)
    assert same(model, weights)


@pytest.mark.parametrize("kept", ["", "backbone.", "backbone.bottom_up."])
def test_backbone_only(model, weights, tmp_path, kept):
    """ImageNet files name the backbone's tensors with or without the prefixes of the whole model."""
    bottom_up = {k: v for k, v in weights.items() if k.startswith("backbone.bottom_up.")}
    names = {k.removeprefix(kept): v for k, v in bottom_up.items()}
    torch.save(names | {"classifier.weight": torch.zeros(3)}, tmp_path / "b.pth")
    report = load_weights(model, str(tmp_path / "b.pth"))
    assert same(model, weights, "backbone.bottom_up.")
    assert set(report.loaded) == set(bottom_up)
    assert len(report.unexpected) == 1 and report.unexpected[0].endswith("classifier.weight")
    assert "roi_heads.mask_head" in str(report)
    with pytest.raises(WeightsError, match="incomplete"):
        load_weights(model, str(tmp_path / "b.pth"), complete=True)


def test_model_zoo_pickle(model, weights, tmp_path):
    arrays = {k: v.numpy() for k, v in weights.items()}
    (tmp_path / "m.pkl").write_bytes(pickle.dumps({"model": arrays, "__author__": "somebody"}))
    load_weights(model, str(tmp_path / "m.pkl"), complete=True)
    assert same(model, weights)


def test_other_number_of_classes(model, weights, tmp_path):
    for name in [k for k in weights if "cls_logits" in k]:
        weights[name] = weights[name].repeat(80, *[1] * (weights[name].dim() - 1))
    torch.save({"model": weights}, tmp_path / "m.pth")
    before = model.proposal_generator.fcos_head.cls_logits.weight.clone()
    with pytest.raises(WeightsError, match="NUM_CLASSES"):
        load_weights(model, str(tmp_path / "m.pth"))
    report = load_weights(model, str(tmp_path / "m.pth"), reinit_mismatched=True)
    assert torch.equal(model.proposal_generator.fcos_head.cls_logits.weight, before)
    assert [name for name, *_ in report.mismatched] == [k for k in weights if "cls_logits" in k]
    assert not report.missing
    with pytest.raises(WeightsError, match="incomplete"):
        load_weights(model, str(tmp_path / "m.pth"), reinit_mismatched=True, complete=True)


def test_nothing_of_the_right_shape(model, weights, tmp_path):
    torch.save({k: torch.zeros(1, 2, 3, 4, 5) for k in weights}, tmp_path / "m.pth")
    with pytest.raises(WeightsError, match="Nothing of this file fits"):
        load_weights(model, str(tmp_path / "m.pth"), reinit_mismatched=True)


def test_other_pixel_statistics_are_reported(model, weights, tmp_path, caplog):
    weights["pixel_mean"] = torch.tensor([103.5, 116.3, 123.7]).view(3, 1, 1)
    torch.save({"model": weights}, tmp_path / "m.pth")
    report = load_weights(model, str(tmp_path / "m.pth"))
    assert "MODEL.PIXEL_MEAN" in caplog.text and not report.unexpected


class Command:
    """Runs a command when unpickled."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('code of the file ran')",))


@pytest.mark.parametrize("kind", ["truncated.pth", "truncated.pkl", "text.pth", "empty.pth", "code.pth", "code.pkl"])
def test_unusable_files(model, weights, tmp_path, kind):
    path = tmp_path / kind
    torch.save({"model": weights}, tmp_path / "whole.pth")
    content = {
        "truncated.pth": lambda: (tmp_path / "whole.pth").read_bytes()[:100_000],
        "truncated.pkl": lambda: pickle.dumps({"model": {"a": np.ones(1000)}})[:900],
        "text.pth": lambda: b"<html>404</html>",
        "empty.pth": lambda: b"",
        "code.pth": lambda: b"",
        "code.pkl": lambda: pickle.dumps({"model": Command()}),
    }[kind]()
    path.write_bytes(content)
    if kind == "code.pth":
        torch.save({"model": Command()}, path)
    with pytest.raises(WeightsError, match=kind):
        load_weights(model, str(path))


def test_nothing_matches(model, tmp_path):
    torch.save({"layer1.0.weight": torch.zeros(3)}, tmp_path / "m.pth")
    with pytest.raises(WeightsError, match="none of its 1 entries"):
        load_weights(model, str(tmp_path / "m.pth"))


def test_no_file(model):
    with pytest.raises(WeightsError, match="no file"):
        load_weights(model, "nowhere.pth")
