"""What runs a network gives what the model gives; it is exported once, and again where it does not fit."""

import shutil

import numpy as np
import pytest
import torch
from torch import nn

from cellseg_d2.inference.model_folder import load_model, read_record
from cellseg_d2.inference.runtimes import semantic as runtime
from cellseg_d2.inference.runtimes.semantic import EagerNetwork, OnnxNetwork, RuntimeKindError, make_network
from cellseg_d2.inference.runtimes.semantic_export import ExportedNetwork
from cellseg_d2.inference.runtimes.winograd import Winograd

TINY_FCN = ("MODEL.GOOGLENET.OUT_FEATURES", ["inception3a"], "MODEL.SEM_SEG_HEAD.IN_FEATURES", ["inception3a"])


def test_the_network_is_exported_once(folder, network_file, monkeypatch):
    model = load_model(folder)[1]
    monkeypatch.setattr(runtime, "export_network", lambda model: pytest.fail("exported again"))
    assert isinstance(make_network(model, "auto", folder), OnnxNetwork)
    assert network_file.name == f"network-{read_record(folder)['sha256'][:16]}.onnx"


def test_networks_that_are_damaged_are_exported_again(folder, network_file, tmp_path, caplog, monkeypatch):
    copied, content = shutil.copytree(folder, tmp_path / "model"), network_file.read_bytes()
    (copied / network_file.name).write_bytes(content[:-5000])
    monkeypatch.setattr(runtime, "export_network", lambda model: content)
    assert isinstance(make_network(load_model(copied)[1], "onnx", copied), OnnxNetwork)
    assert "is exported again" in caplog.text
    assert (copied / network_file.name).read_bytes() == content


def test_networks_of_other_models_are_exported_again(folder, network_file, tmp_path, caplog):
    copied = shutil.copytree(folder, tmp_path / "model")
    configuration = (copied / "config.yaml").read_text()
    (copied / "config.yaml").write_text(configuration.replace("PIXEL_STD:\n  - 0.25", "PIXEL_STD:\n  - 0.2"))
    model, image = load_model(copied)[1], np.random.default_rng(0).random((1, 50, 40), dtype=np.float32)
    network = make_network(model, "onnx", copied)
    assert "is exported again" in caplog.text
    assert (network(image) - EagerNetwork(model)(image)).abs().max() < 1e-3
    assert (copied / network_file.name).read_bytes() != network_file.read_bytes()


@pytest.mark.parametrize(
    ("config", "options"),
    [
        ("googlenet_fcn.yaml", TINY_FCN),
        ("googlenet_fcn.yaml", (*TINY_FCN, "MODEL.GOOGLENET.NORM", "", "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 3)),
        ("unet.yaml", ("MODEL.UNET.NORM", "GN", "MODEL.UNET.WIDTH", 32, "MODEL.PIXEL_MEAN", [0.3, 0.4, 0.5],
                       "MODEL.PIXEL_STD", [0.2, 0.3, 0.4])),
    ],
    ids=["fully convolutional", "three classes", "three channels, group norm"],
)  # fmt: skip
def test_exported_networks_take_any_size(make_model, config, options):
    model = make_model(*options, config=config)[1]
    network, generator = make_network(model, "onnx"), np.random.default_rng(0)
    for size in ((17, 90), (64, 33), (8, 8)):
        image = generator.random((len(model.pixel_mean), *size), dtype=np.float32)
        ours, theirs = EagerNetwork(model)(image), network(image)
        assert ours.shape == theirs.shape
        assert (ours - theirs).abs().max() < 1e-4 * max(1, ours.abs().max())


@pytest.mark.parametrize(
    ("config", "options"),
    [("unet.yaml", ("MODEL.UNET.NORM", "BN", "MODEL.UNET.WIDTH", 64)),
     ("unet.yaml", ("MODEL.UNET.NORM", "GN", "MODEL.UNET.WIDTH", 64)), ("googlenet_fcn.yaml", ())],
    ids=["batch norm", "group norm", "GoogLeNet"],
)  # fmt: skip
def test_the_faster_network_agrees_and_leaves_the_model_alone(make_model, config, options):
    model = make_model(*options, config=config)[1]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    network = make_network(model, "torch")
    assert any(isinstance(vars(layer).get("forward"), Winograd) for layer in network.model.modules())
    image = np.random.default_rng(0).random((1, 99, 120), dtype=np.float32)
    ours, theirs = EagerNetwork(model)(image), network(image)
    assert (ours - theirs).abs().max() < 1e-4 * max(1, ours.abs().max())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any("forward" in vars(layer) for layer in model.modules())
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in network.model.modules())


def test_what_is_exported_is_the_model_and_leaves_it_alone(make_model):
    model = make_model(*TINY_FCN, config="googlenet_fcn.yaml")[1]
    nn.init.normal_(model.sem_seg_head.predictor.bias)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    exported, image = ExportedNetwork(model).eval(), torch.rand(1, 1, 64, 96)
    with torch.no_grad():
        assert (exported(image)[0] - EagerNetwork(model)(image[0].numpy())).abs().max() < 1e-5
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_wrong_exports_are_refused(folder, network_file, monkeypatch):
    model = load_model(folder)[1]
    with torch.no_grad():
        model.sem_seg_head.predictor.bias += 0.01
    monkeypatch.setattr(runtime, "export_network", lambda model: network_file.read_bytes())
    with pytest.raises(RuntimeKindError, match="use --runtime torch"):
        make_network(model, "onnx")


def test_runtimes_that_cannot_be(folder):
    model = load_model(folder)[1]
    assert make_network(model, "eager").model is model
    with pytest.raises(RuntimeKindError, match="auto, eager, torch, onnx"):
        make_network(model, "fast")
    with pytest.raises(RuntimeKindError, match="cannot be exported.*no such layer.*use --runtime torch"):
        model.backbone.down[0][1] = Unknown()
        make_network(model, "onnx")


class Unknown(nn.Module):
    """A layer that no exporter takes."""

    def forward(self, x):
        raise RuntimeError("no such layer")
