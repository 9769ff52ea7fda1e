"""What runs a CenterMask gives what the model gives: images of any size, any number of cells, any number of classes."""

import dataclasses
import importlib
import shutil
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pycocotools.mask as mask_util
import pytest
import torch
from detectron2.modeling import build_model
from detectron2.modeling.poolers import ROIPooler
from detectron2.structures import Boxes
from torch import nn

from cellseg_d2.engine.setup import load_config
from cellseg_d2.inference.runtimes import instance as instance_runtime
from cellseg_d2.inference.runtimes.instance import INSTANCE_RUNTIMES, default_threads, make_instance_network
from cellseg_d2.inference.runtimes.instance_export import (
    NETWORK_RECORD,
    ExportError,
    export_instances,
    read_networks,
    weights_hash,
)  # fmt: skip
from cellseg_d2.inference.runtimes.instance_network import fast
from cellseg_d2.inference.runtimes.roi_align import pool_channels_last
from cellseg_d2.inference.runtimes.semantic import RuntimeKindError
from cellseg_d2.modeling.backbone.vovnet import SPECS, VoVNetSpec
from cellseg_d2.modeling.postprocess import predict_rle
from cellseg_d2.modeling.roi_heads import RatioROIPooler
from cellseg_d2.modeling.roi_heads.sag_mask import select_class

TWO_AND_A_SIGNAL = """
import signal, sys
from cellseg_d2.inference.runtimes.instance import OpenVinoRun
runs = [OpenVinoRun(sys.argv[1], 1, "float32") for _ in range(2)]
while runs:
    runs.pop(0)
signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
signal.raise_signal(signal.SIGUSR1)
"""
pytestmark = pytest.mark.usefixtures("quiet_exporter")
CONFIG = Path(__file__).resolve().parents[3] / "configs" / "centermask_v19_slim_dw.yaml"
SMALL = (
    "MODEL.DEVICE", "cpu", "MODEL.FPN.OUT_CHANNELS", 64, "MODEL.ROI_MASK_HEAD.CONV_DIM", 64,
    "MODEL.ROI_MASKIOU_HEAD.CONV_DIM", 64, "MODEL.FCOS.NUM_CLS_CONVS", 1, "MODEL.FCOS.NUM_BOX_CONVS", 1,
    "MODEL.FCOS.TOP_LEVELS", 1, "MODEL.FCOS.IN_FEATURES", ["p3", "p4", "p5", "p6"],
    "MODEL.FCOS.FPN_STRIDES", [8, 16, 32, 64], "MODEL.FCOS.SIZES_OF_INTEREST", [32, 64, 128],
)  # fmt: skip


TINY = VoVNetSpec((16, 16, 16), (16, 16, 16, 16), (32, 32, 32, 32), 1, (1, 1, 1, 1), depthwise=True)
THREE = ("MODEL.FCOS.NUM_CLASSES", 3, "MODEL.ROI_HEADS.NUM_CLASSES", 3)


def small_model(*options, cells=40):
    """A configuration and an untrained model that finds ``cells`` cells, with batch norms that do something."""
    cfg = load_config(str(CONFIG), [*SMALL, *options])
    torch.manual_seed(0)
    with mock.patch.dict(SPECS, {cfg.MODEL.VOVNET.CONV_BODY: TINY}):
        model = build_model(cfg).eval()
    generator = model.proposal_generator
    head = generator.fcos_head
    with torch.no_grad():
        for layer, factor, bias in ((head.cls_logits, 3, 0.0), (head.ctrness, 8, 0.0), (head.bbox_pred, 3, 1.3)):
            layer.weight.mul_(factor)
            layer.bias.fill_(bias)
        for module in model.modules():
            if getattr(module, "running_mean", None) is not None:
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
    generator.test_limits = dataclasses.replace(generator.test_limits, post_nms_topk=cells)
    return cfg, model


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A configuration, its model of three classes and a folder with its networks."""
    cfg, model = small_model(*THREE)
    return cfg, model, export_instances(model, cfg, tmp_path_factory.mktemp("networks"))


def image(height, width, seed=0):
    values = torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed)) * 40 + 108
    return {"image": values}


def same(ours, theirs, atol=1e-4):
    """Whether detections agree; the order of two whose scores are nearly one may be another."""
    assert len(ours) == len(theirs) and len(ours) > 4 and ours.image_size == theirs.image_size
    a, b = (torch.cat([x.pred_boxes.tensor, 100 * x.scores[:, None], 1000 * x.pred_classes[:, None]], 1)
            for x in (ours, theirs))  # fmt: skip
    distance, index = torch.cdist(a, b, p=float("inf")).min(dim=1)
    assert distance.max() < 0.01 and len(index.unique()) == len(ours)
    for name in ("scores", "mask_scores"):
        assert (ours.get(name) - theirs.get(name)[index]).abs().max() < atol
    assert torch.equal(ours.pred_classes, theirs.pred_classes[index])
    pairs = [(mask, theirs.pred_rles[k]) for mask, k in zip(ours.pred_rles, index.tolist())]
    # Random weights make ragged masks, of which single pixels are at the threshold
    overlap = torch.tensor([float(mask_util.iou([a], [b], [0])[0, 0]) for a, b in pairs if mask_util.area(b) > 20])
    assert overlap.mean() > 0.95 and len(overlap) > 4


@pytest.mark.parametrize("runtime", INSTANCE_RUNTIMES)
def test_detections_are_those_of_the_model(exported, runtime):
    cfg, model, folder = exported
    if runtime == "openvino":
        pytest.importorskip("openvino")
    network = make_instance_network(model, cfg, runtime, folder, threads=1)
    for batch in (
        [image(96, 128)],
        [image(70, 131, 1) | {"height": 140, "width": 200}, image(65, 64, 2)],
        [image(33, 200)],
    ):
        expected = predict_rle(model, batch)
        for ours, theirs in zip(network(batch), expected, strict=True):
            same(ours, theirs)
        ordered = expected[0].scores.sort().values
        widest = ordered.diff().argmax()
        cut = float(ordered[widest : widest + 2].mean())
        assert len(network(batch, min_score=cut)[0]) == (expected[0].scores >= cut).sum()
    assert len(network([image(64, 64)], min_score=1.1)[0].pred_rles) == 0


def test_openvino_leaves_signals_as_they_were(exported):
    """Ctrl-C after two models were used and are gone ended the process, where each had a core of its own."""
    pytest.importorskip("openvino")
    command = [sys.executable, "-c", TWO_AND_A_SIGNAL, exported[2] / "trunk.onnx"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=CONFIG.parents[1])
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


def test_bfloat16_gives_nearly_the_same(exported):
    cfg, model, _ = exported
    (ours,), (theirs,) = (n([image(96, 128)]) for n in (fast(model, torch.bfloat16), fast(model)))
    assert ours.scores.dtype == torch.float32 and ours.mask_scores.dtype == torch.float32
    assert abs(float(ours.scores.mean() - theirs.scores.mean())) < 0.02


@pytest.mark.parametrize("options", [
    ("MODEL.VOVNET.NORM", "BN", "MODEL.FCOS.NORM", "BN", "MODEL.FPN.NORM", "BN", "MODEL.ROI_MASK_HEAD.NORM", "BN"),
    ("MODEL.FCOS.NUM_CLASSES", 3, "MODEL.ROI_HEADS.NUM_CLASSES", 3, "MODEL.FCOS.NUM_SHARE_CONVS", 1),
    ("MODEL.ROI_MASK_HEAD.ASSIGN_CRITERION", "area", "MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK", True),
], ids=["batch norms", "three classes", "levels by area"])  # fmt: skip
def test_what_is_prepared_is_the_model_and_leaves_it_alone(options):
    cfg, model = small_model(*options)
    before = weights_hash(model)
    ours, theirs = (
        make_instance_network(model, cfg, "torch", threads=1)([image(96, 128)]),
        predict_rle(model, [image(96, 128)]),
    )
    same(ours[0], theirs[0])
    assert weights_hash(model) == before


@pytest.mark.parametrize("missing", ["MODEL.MASKIOU_ON", "MODEL.MASK_ON"])
def test_models_without_scores_or_masks(missing):
    cfg, model = small_model(missing, False)
    (ours,), (theirs,) = fast(model)([image(64, 96)]), predict_rle(model, [image(64, 96)])
    assert len(ours) == len(theirs) and set(ours.get_fields()) == set(theirs.get_fields())


def test_exported_heads_take_any_number_of_cells_of_any_class(exported):
    _, model, folder = exported
    run = instance_runtime.OnnxRun(folder / "heads.onnx", 1)
    for cells in (0, 1, 7):
        pooled, classes = torch.rand(cells, 64, 14, 14), torch.arange(cells) % 3
        with torch.no_grad():
            masks = select_class(model.roi_heads.mask_head.layers(pooled), classes).sigmoid()
            iou = select_class(model.roi_heads.maskiou_head(pooled, masks), classes)
        for ours, theirs in zip(run(pooled, classes), (masks, iou), strict=True):
            assert ours.shape == theirs.shape and torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("kind, pooler_type, ratio", [
    (RatioROIPooler, "ROIAlignV2", 0), (ROIPooler, "ROIAlign", 0), (ROIPooler, "ROIAlignV2", 2),
])  # fmt: skip
def test_pooling_is_torchvision_s(kind, pooler_type, ratio):
    pooler = kind(output_size=14, scales=[1 / 8, 1 / 16], sampling_ratio=ratio, pooler_type=pooler_type)
    g = torch.Generator().manual_seed(0)
    maps = [torch.randn(1, 20, 30 >> k, 40 >> k, generator=g) for k in range(2)]
    centre, size = torch.rand(50, 2, generator=g) * 300, torch.rand(50, 2, generator=g) ** 2 * 400
    boxes = torch.cat([centre - size / 2, centre + size / 2], dim=1)  # many reach beyond the image
    boxes[:3] = torch.tensor([[0.0, 0, 0, 0], [10, 10, 5, 5], [-900, -900, -800, -800]])
    sizes = [[(240, 320)]] if kind is RatioROIPooler else []
    expected = pooler(maps, [Boxes(boxes)], *sizes)
    channels_last = [m.contiguous(memory_format=torch.channels_last)[0] for m in maps]
    ours = pool_channels_last(pooler, channels_last, Boxes(boxes), (240, 320))
    assert torch.allclose(ours, expected, atol=1e-5)
    pooler.level_poolers = nn.ModuleList([nn.Identity()])
    with pytest.raises(TypeError, match="POOLER_TYPE.*ROIAlign"):
        pool_channels_last(pooler, channels_last, Boxes(boxes), (240, 320))


def test_networks_that_are_damaged_or_of_other_weights_are_refused(exported, tmp_path):
    cfg, model, folder = exported
    copied = shutil.copytree(folder, tmp_path / "networks")
    (copied / "heads.onnx").write_bytes((folder / "heads.onnx").read_bytes()[:-1000])
    with pytest.raises(ExportError, match=r"heads.onnx.*damaged.*tools/export.py"):
        make_instance_network(model, cfg, "onnx", copied)
    (copied / "heads.onnx").unlink()
    with pytest.raises(ExportError, match=r"heads.onnx is missing"):
        make_instance_network(model, cfg, "onnx", copied)
    (copied / NETWORK_RECORD).write_text("{")
    with pytest.raises(ExportError, match="networks.json is missing or damaged"):
        make_instance_network(model, cfg, "onnx", copied)
    other = small_model(*THREE)[1]
    with torch.no_grad():
        other.proposal_generator.fcos_head.cls_logits.bias += 0.01
    with pytest.raises(ExportError, match="other weights"):
        read_networks(folder, other)


def test_networks_that_do_not_give_what_the_model_gives_are_refused(exported, monkeypatch):
    cfg, model, folder = exported
    run = instance_runtime.OnnxRun.__call__
    monkeypatch.setattr(instance_runtime.OnnxRun, "__call__", lambda self, *x: tuple(y + 0.01 for y in run(self, *x)))
    with pytest.raises(RuntimeKindError, match="do not give what the model gives"):
        make_instance_network(model, cfg, "onnx", folder)


def test_runtimes_that_cannot_be(exported, monkeypatch):
    cfg, model, folder = exported
    with pytest.raises(RuntimeKindError, match="torch, onnx, openvino"):
        make_instance_network(model, cfg, "fast")
    with pytest.raises(RuntimeKindError, match="float32, bfloat16"):
        make_instance_network(model, cfg, "torch", dtype="float16")
    with pytest.raises(RuntimeKindError, match="onnx computes in float32"):
        make_instance_network(model, cfg, "onnx", dtype="bfloat16")
    with pytest.raises(RuntimeKindError, match="Identity is no model with FCOS"):
        make_instance_network(nn.Identity(), cfg, "torch")
    find = importlib.import_module

    def without(name, *package):
        if name == "openvino":
            raise ImportError("no module of this name")
        return find(name, *package)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(RuntimeKindError, match=r"pip install 'cellseg_d2\[openvino\]'"):
        make_instance_network(model, cfg, "openvino", folder)


def test_models_that_cannot_be_exported(exported, tmp_path, monkeypatch):
    cfg, model, _ = exported
    with pytest.raises(ExportError, match="only models with FCOS"):
        export_instances(nn.Identity(), cfg, tmp_path)

    def fail(*arguments, **options):
        raise ValueError("in step 1") from RuntimeError("no such layer")

    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(ExportError, match="cannot be exported.*no such layer"):
        export_instances(model, cfg, tmp_path)


def test_worker_processes_take_one_thread(monkeypatch):
    assert default_threads() == torch.get_num_threads()
    monkeypatch.setattr("multiprocessing.parent_process", lambda: object())
    assert default_threads() == 1
