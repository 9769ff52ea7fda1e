#!/usr/bin/env python
"""A dense image with CenterMask on one thread: python benchmarks/dense.py [image|networks|memory] [--config NAME].

The image has 520 x 704 pixels, resized as LIVECell's tests are; random weights (seeded), with biases such that about
CELLS cells come out. Beside Detectron2's way with the same model in the same run and by turns, CPU seconds, the best of
some calls: all detections through the heads at once, masks pasted into a stack, encoded by pycocotools.
"""

import argparse
import dataclasses
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pycocotools.mask as mask_util
import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.structures import Instances
from rich.console import Console
from rich.table import Table
from scoring import peak_memory
from torch import nn

from cellseg_d2.data.synthesis.phantom import PhantomSpec, simulate
from cellseg_d2.engine.setup import load_config
from cellseg_d2.inference.runtimes.instance import make_instance_network
from cellseg_d2.inference.runtimes.instance_network import fast
from cellseg_d2.modeling.postprocess import predict_rle
from cellseg_d2.modeling.roi_heads import center_heads

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
HEIGHT, WIDTH, RESIZED = 520, 704, (800, 1083)
SPEC = PhantomSpec(height=HEIGHT, width=WIDTH, cells=(300, 300), cell_types=("PHRound",), scale=0.5)
CUT = 0.5  # of the detections are above the score of the row with a cut
Calls = dict[str, Callable[[], Any]]


def dense(config: str, cells: int) -> tuple[CfgNode, nn.Module, list[dict]]:
    """Configuration, model and input dicts that give ``cells`` detections."""
    cfg = load_config(str(CONFIGS / config), ["MODEL.DEVICE", "cpu"])
    torch.manual_seed(0)
    model = build_model(cfg).eval()
    generator = model.proposal_generator
    head = generator.fcos_head
    with torch.no_grad():
        for layer, factor, bias in ((head.cls_logits, 3, 0.0), (head.ctrness, 8, 0.0), (head.bbox_pred, 3, 1.3)):
            layer.weight.mul_(factor)
            layer.bias.fill_(bias)
    generator.test_limits = dataclasses.replace(generator.test_limits, post_nms_topk=cells)
    grey = torch.from_numpy(simulate(SPEC, seed=0).image.astype(np.float32))[None, None]
    image = F.interpolate(grey, size=RESIZED, mode="bilinear")[0].expand(3, -1, -1).contiguous()
    return cfg, model, [{"image": image, "height": HEIGHT, "width": WIDTH}]


@torch.no_grad()
def detectron2(model: nn.Module, inputs: list[dict]) -> list[Instances]:
    """Forward, paste, encode."""
    with mock.patch.object(center_heads, "CELLS_AT_ONCE", 1 << 20):
        (output,) = model(inputs)
    found = output["instances"]
    stack = found.pred_masks.numpy().astype(np.uint8)
    found.pred_rles = [mask_util.encode(np.asfortranarray(mask)) for mask in stack]
    found.remove("pred_masks")
    return [found]


def measure(calls: Calls, repeats: int) -> tuple[dict[str, float], dict[str, Any]]:
    """CPU seconds of the fastest call, by turns, and what each returned."""
    best, results = dict.fromkeys(calls, float("inf")), {}
    for _ in range(repeats):
        for name, call in calls.items():
            started = time.process_time()
            results[name] = call()
            best[name] = min(best[name], time.process_time() - started)
    return best, results


def apart(ours: Instances, theirs: Instances) -> str:
    """Largest differences of boxes (pixels) and scores; each of ours beside the nearest of theirs of those left."""
    distance, index = torch.cdist(ours.pred_boxes.tensor, theirs.pred_boxes.tensor, p=float("inf")).min(dim=1)
    unique = len(index.unique()) == len(ours)
    score = (ours.scores - theirs.scores[index]).abs().max()
    return f"{distance.max():.1g}, {score:.1g}{'' if unique else ', some twice'}"


def image(config: str, cells: int, repeats: int, names: list[str], folder: Path) -> Table:
    """End to end."""
    cfg, model, inputs = dense(config, cells)
    calls: Calls = {"Detectron2": lambda: detectron2(model, inputs), "predict_rle": lambda: predict_rle(model, inputs)}
    for name in names:
        runtime, _, dtype = name.partition(" ")
        network = make_instance_network(model, cfg, runtime, folder, 1, dtype or "float32")
        calls[name] = lambda network=network: network(inputs)
    cut = float(predict_rle(model, inputs)[0].scores.quantile(1 - CUT))
    network = make_instance_network(model, cfg, "torch", None, 1)
    calls[f"torch, score from {cut:.2f}"] = lambda: network(inputs, cut)
    best, results = measure(calls, repeats)
    table = Table(title=f"{config}: image to RLE, one thread", caption="apart: boxes in pixels, scores")
    for column in ("", "CPU seconds", "ratio", "cells", "apart"):
        table.add_column(column, justify="right" if column else "left")
    for name, spent in best.items():
        (found,), (reference,) = results[name], results["Detectron2"]
        numbers = f"{spent:.2f}", f"{best['Detectron2'] / spent:.2f}", str(len(found))
        table.add_row(name, *numbers, apart(found, reference))
    return table


@torch.inference_mode()
def networks(config: str, repeats: int, names: list[str], folder: Path) -> Table:
    """Trunk with FCOS on 544 x 704 pixels, and the heads of 128 cells."""
    cfg, model, _ = dense(config, 1)
    made = {name: make_instance_network(model, cfg, *name.split(" ")[:1], folder, 1) for name in names}
    generator, roi_heads, image = model.proposal_generator, model.roi_heads, torch.randn(1, 3, 544, 704)

    def trunk() -> list[torch.Tensor]:
        features = model.backbone(image)
        outputs = generator.fcos_head([features[name] for name in generator.in_features])
        return [*(x for kind in outputs for x in kind), *(features[name] for name in roi_heads.mask_in_features)]

    shape = model.backbone.output_shape()["p3"].channels, *roi_heads.mask_pooler.output_size
    pooled = torch.randn(128, *shape).relu().contiguous(memory_format=torch.channels_last)
    planar, classes = pooled.contiguous(), torch.zeros(128, dtype=torch.int64)

    def heads() -> list[torch.Tensor]:
        masks = roi_heads.mask_head.layers(planar)[:, 0].sigmoid()
        return [masks, roi_heads.maskiou_head(planar, masks)[:, 0]]

    table = Table(title=f"{config}: networks, one thread", caption="apart: of the largest value, at least 1")
    for column in ("", "CPU seconds", "ratio", "apart"):
        table.add_column(column, justify="right" if column else "left")
    for part, eager in (("trunk", trunk), ("heads", heads)):
        calls: Calls = {"eager": eager}
        for name, network in made.items():
            run, given = getattr(network, part), (image,) if part == "trunk" else (pooled, classes)
            calls[name] = lambda run=run, given=given: run(*given)
        best, results = measure(calls, repeats)
        for name, spent in best.items():
            pairs = zip(results[name], results["eager"])
            difference = max(float((a - b).abs().max() / b.abs().max().clamp(min=1)) for a, b in pairs)
            table.add_row(f"{part}, {name}", f"{spent:.3f}", f"{best['eager'] / spent:.2f}", f"{difference:.1g}")
    return table


def memory(config: str, cells: int, kind: str) -> str:
    """Peak memory of this process, of one image."""
    cfg, model, inputs = dense(config, cells)
    before = peak_memory()
    run = (lambda: predict_rle(model, inputs)) if kind == "predict_rle" else (lambda: fast(model)(inputs))
    (found,) = run()
    return f"{config}, {kind}: {len(found)} cells, {peak_memory():.0f} MB, of it {before:.0f} before the image"


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", choices=("image", "networks", "memory"), default="image")
    parser.add_argument("--config", default="centermask_v19_slim_dw.yaml")
    parser.add_argument("--cells", type=int, default=1700)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--runtimes", default="torch,onnx", help="torch,onnx,openvino, 'torch bfloat16'")
    parser.add_argument("--kind", choices=("predict_rle", "fast"), default="predict_rle", help="of memory")
    parser.add_argument("--folder", type=Path, help="exported networks are kept here (default: a temporary folder)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    names = options.runtimes.split(",")
    if options.what == "memory":
        Console().print(memory(options.config, options.cells, options.kind))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        if options.what == "image":
            Console().print(image(options.config, options.cells, options.repeats, names, folder))
        else:
            Console().print(networks(options.config, options.repeats, names, folder))


if __name__ == "__main__":
    main()
