"""The export tool as a user calls it: CenterMasks and semantic models to ONNX files with a record."""

import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model

from cellseg_d2.engine.setup import load_config
from cellseg_d2.files import read_json, sha256
from cellseg_d2.inference.model_folder import save_model
from cellseg_d2.inference.runtimes.instance_export import read_networks, weights_hash
from cellseg_d2.modeling.backbone.vovnet import SPECS, VoVNetSpec

pytestmark = pytest.mark.usefixtures("quiet_exporter")
ROOT = Path(__file__).resolve().parents[2]
SMALL = [
    "MODEL.DEVICE", "cpu", "MODEL.FPN.OUT_CHANNELS", 64, "MODEL.ROI_MASK_HEAD.CONV_DIM", 64, "MODEL.MASKIOU_ON", False,
    "MODEL.FCOS.NUM_CLS_CONVS", 1, "MODEL.FCOS.NUM_BOX_CONVS", 1, "MODEL.FCOS.TOP_LEVELS", 0,
    "MODEL.FCOS.IN_FEATURES", ["p3", "p4", "p5"], "MODEL.FCOS.FPN_STRIDES", [8, 16, 32],
    "MODEL.FCOS.SIZES_OF_INTEREST", [32, 64],
]  # fmt: skip


TINY = VoVNetSpec((16, 16, 16), (16, 16, 16, 16), (32, 32, 32, 32), 1, (1, 1, 1, 1), depthwise=True)


@pytest.fixture(scope="module")
def tool(load_tool):
    return load_tool("export")


@pytest.fixture
def call(tool, call_tool):
    """Exit code, what went to the screen, and what to the errors, of a command line."""
    return partial(call_tool, tool)


def test_a_centermask(call, tmp_path, monkeypatch):
    config = str(ROOT / "configs" / "centermask_v19_slim_dw.yaml")
    monkeypatch.setitem(SPECS, "V-19-slim-dw-eSE", TINY)
    torch.manual_seed(0)
    model = build_model(load_config(config, SMALL))
    torch.save({"model": model.state_dict()}, tmp_path / "model.pth")
    output = tmp_path / "exported"
    code, shown, errors = call(
        "--model", config, "--weights", tmp_path / "model.pth", "--output", output, "--runtime", "onnx", *SMALL
    )
    assert (code, errors) == (0, "") and "trunk.onnx" in shown
    record = read_json(output / "networks.json")
    assert record["weights"] == weights_hash(model) and "V-19-slim-dw-eSE" in record["config"]
    assert record["files"] == {name: sha256(output / name) for name in ("trunk.onnx", "heads.onnx")}
    assert set(read_networks(output, model)) == {"trunk", "heads"}


def test_a_semantic_model_folder(call, tool, tmp_path, monkeypatch):
    monkeypatch.setattr(tool, "exported_network", lambda model, path: path.write_bytes(b"network"))
    cfg = load_config(str(ROOT / "configs" / "unet.yaml"), ["MODEL.DEVICE", "cpu", "MODEL.UNET.WIDTH", 4])
    torch.manual_seed(0)
    save_model(tmp_path / "model", cfg, build_model(cfg), {})
    code, shown, errors = call("--model", tmp_path / "model", "--output", tmp_path / "exported")
    assert (code, errors) == (0, "") and "network.onnx" in shown
    assert list(read_json(tmp_path / "exported" / "networks.json")["files"]) == ["network.onnx"]


def test_wrong_calls_say_what_is_wrong(call, tmp_path, monkeypatch):
    code, _, errors = call("--model", tmp_path / "none", "--output", tmp_path)
    assert code == 2 and "no such file or folder" in errors
    code, _, errors = call("--model", ROOT / "configs" / "unet.yaml", "--output", tmp_path)
    assert code == 2 and "--weights FILE" in errors
    code, _, errors = call("--model", tmp_path, "--output", tmp_path, "--runtime", "fast")
    assert code == 2 and "onnx,openvino" in errors
    monkeypatch.setitem(sys.modules, "openvino", None)
    code, _, errors = call("--model", tmp_path, "--output", tmp_path, "--runtime", "openvino")
    assert code == 2 and "pip install 'cellseg_d2[openvino]'" in errors
