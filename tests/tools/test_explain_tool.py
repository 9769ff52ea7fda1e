"""The command line as a user runs it: image and models in, one page out; one line and status 2 for unusable input."""

import re
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
import torch
from detectron2.modeling import build_model

from cellseg_d2.data.synthesis.phantom import PhantomSpec, simulate
from cellseg_d2.engine.setup import load_config
from cellseg_d2.inference.model_folder import save_model

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools" / "explain.py"
BRIEF = ("--samples", "2", "--min-score", "0")
MODELS = {
    "centermask": (
        "centermask_v19_slim_dw.yaml",
        'MODEL: {DEVICE: "cpu", FCOS: {INFERENCE_TH_TEST: 0.009, POST_NMS_TOPK_TEST: 12}}\nINPUT: {MIN_SIZE_TEST: 0}\n',
    ),
    "unet": ("unet.yaml", 'MODEL: {DEVICE: "cpu", UNET: {WIDTH: 2}, SEMANTIC: {THRESHOLD: 0.02}}\n'),
    "ensemble": (
        "unet_ensemble.yaml",
        'MODEL: {DEVICE: "cpu", UNET: {WIDTH: 2, VARIANT: "unet"}, SEMANTIC: {THRESHOLD: 0.02}, '
        'ENSEMBLE: {CELL_TYPES: ["a172", "bv2"]}}\n',
    ),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """cells.png, and the configuration and untrained weights of three models."""
    folder = tmp_path_factory.mktemp("explain")
    cv2.imwrite(str(folder / "cells.png"), simulate(PhantomSpec(height=96, width=128, cells=(4, 8)), seed=0).image)
    for name, (base, text) in MODELS.items():
        (folder / f"{name}.yaml").write_text(f'_BASE_: "{ROOT / "configs" / base}"\n{text}')
        torch.manual_seed(0)
        model = build_model(load_config(str(folder / f"{name}.yaml")))
        torch.save({"model": model.state_dict()}, folder / f"{name}.pth")
        save_model(folder / name, load_config(str(folder / f"{name}.yaml")), model, {})
    return folder


@pytest.fixture
def run(load_tool, call_tool, files, tmp_path):
    """run(models, *arguments, image=...): exit status, what was said, and the page (None where there is none)."""

    tool = load_tool("explain")

    def call(models, *arguments, image="cells.png"):
        given = [a for m in models for a in ("--model", f"{files / m}.yaml:{files / m}.pth" if m in MODELS else m)]
        page = tmp_path / "page.html"
        status, said, errors = call_tool(tool, files / image, *given, "--output", page, *arguments)
        return status, said + errors, page.read_text() if page.is_file() else None

    return call


def test_end_to_end(files, tmp_path):
    page = tmp_path / "both.html"
    models = [a for name in ("centermask", "unet") for a in ("--model", f"{files / name}.yaml:{files / name}.pth")]
    command = [sys.executable, str(TOOL), str(files / "cells.png"), *models, "--output", str(page), *BRIEF]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"wrote {page}" in done.stdout.replace("\n", "")
    text = page.read_text()
    assert "Traceback" not in done.stderr and not re.search(r"https?:", text)
    for words in ("p3", "down 1", "up 1", "Spatial attention", "SmoothGrad", "class logit of FCOS", "mean foreground"):
        assert words in text
    assert text.count('class="plot"') == 2 and text.count('class="model"') == 8


def test_a_page_is_the_same_again(run):
    first, second = (run(["unet"], *BRIEF)[2] for _ in range(2))
    times = re.compile(r"\d+\.\d\d s on")
    assert first and times.sub("", first) == times.sub("", second)


def test_a_folder_is_its_configuration_and_weights(run, files):
    pages = [run([model], *BRIEF)[2] for model in ("unet", str(files / "unet"))]
    pictures = [re.findall(r"src=\"([^\"]*)", page) for page in pages]
    assert len(pictures[0]) > 7 and pictures[0] == pictures[1]
    (files / "unet" / "model.json").rename(files / "model.json")
    status, said, _ = run([str(files / "unet")])
    (files / "model.json").rename(files / "unet" / "model.json")
    assert status == 2 and "lacks model.json" in said


def test_nothing_found_is_said(run):
    status, said, text = run(["centermask"], "--min-score", "1.0")
    assert status == 0 and "0 cells. The model finds no cell in this image." in said
    assert "The model finds no cell in this image." in text and "stage5" in text


def test_a_model_of_an_ensemble(run):
    status, said, _ = run(["ensemble"], *BRIEF)
    assert status == 2 and "--cell-type a172 or bv2" in said
    status, said, text = run(["ensemble"], *BRIEF, "--cell-type", "BV2")
    assert status == 0 and "bv2" in text


@pytest.mark.parametrize(
    ("models", "arguments", "words"),
    [
        (["unet"], ["--cell", "500,3"], "outside the image"),
        (["unet"], ["--cell", "middle"], "not X,Y"),
        (["nowhere"], [], "neither a folder of a model nor CONFIG.yaml:WEIGHTS.pth"),
        (["gone.yaml:gone.pth"], [], "gone.yaml"),
        (["unet"] * 3, [], "two side by side"),
        (["unet"], ["--samples", "0"], "at least 1"),
        (["unet"], ["--noise", "-1"], "0 or more"),
    ],
)
def test_unusable_input_is_one_line(run, models, arguments, words):
    status, said, text = run(models, *arguments)
    assert status == 2 and words in said and text is None and "Traceback" not in said


def test_images_that_cannot_be_read(run, files):
    (files / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n no more")
    for name in ("broken.png", "missing.png"):
        status, said, text = run(["unet"], image=name)
        assert status == 2 and name in said and text is None
