"""What the documents promise: links lead somewhere, examples run, every configuration builds."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import cv2
import pytest
import torch
from detectron2.modeling import build_model

import cellseg_d2
from cellseg_d2.data import datasets
from cellseg_d2.data.synthesis.phantom import PhantomSpec, simulate
from cellseg_d2.engine.setup import load_config

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = ["README.md", "CONTRIBUTING.md", "datasets/README.md"]
DOCUMENTS += sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))
LEAVES = sorted(p.name for p in (ROOT / "configs").glob("*.yaml") if not p.name.startswith("Base-"))
MODULES = sorted(m.name for m in pkgutil.walk_packages(cellseg_d2.__path__, "cellseg_d2.") if "__main__" not in m.name)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_files_that_are_named_exist(name):
    text = (ROOT / name).read_text()
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith("http")]
    named = re.findall(r"(?:configs|tools|tests|docs|scripts|cellseg_d2)/[\w/.-]+\.(?:py|yaml|md|png|sh)", text)
    assert [path for path in links + named if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("module", MODULES)
def test_examples_in_docstrings(module):
    failed, _ = doctest.testmod(importlib.import_module(module))
    assert failed == 0


@pytest.mark.parametrize("name", LEAVES)
def test_configuration_builds(name):
    single = ["DATASETS.CELL_TYPE", "SK-OV-3"] if "single_cell_type" in name else []
    cfg = load_config(str(ROOT / "configs" / name), [*single, "MODEL.DEVICE", "cpu"])
    if all(dataset.startswith("livecell_") for dataset in cfg.DATASETS.TRAIN + cfg.DATASETS.TEST):
        datasets.resolve(cfg)
    else:
        assert set(cfg.DATASETS.TRAIN + cfg.DATASETS.TEST) <= {"custom_train", "custom_val", "mes_train", "mes_test"}
    if single:
        assert cfg.DATASETS.TRAIN == ("livecell_skov3_train",)
    if cfg.MODEL.ENSEMBLE.CELL_TYPES:
        cfg.MODEL.UNET.WIDTH = 2  # eight deep U-Nets of full width take gigabytes
    model = build_model(cfg)
    if "CenterMask" in cfg.MODEL.META_ARCHITECTURE or "RCNN" in cfg.MODEL.META_ARCHITECTURE:
        assert model.proposal_generator.strides == cfg.MODEL.FCOS.FPN_STRIDES
    documents = (ROOT / "README.md").read_text() + (ROOT / "docs" / "semantic.md").read_text()
    assert f"`{name}`" in documents or name in ("demo.yaml", "mes_demo.yaml")


def test_the_readmes_python_runs(tmp_path, monkeypatch, capsys):
    """The five lines, with an untrained model and a simulated image in the places that they name."""
    cfg = load_config(str(ROOT / "configs" / "demo.yaml"), ["MODEL.FCOS.PRIOR_PROB", 0.6])
    torch.manual_seed(0)
    (tmp_path / "output" / "demo").mkdir(parents=True)
    torch.save({"model": build_model(cfg).state_dict()}, tmp_path / "output" / "demo" / "model_best.pth")
    (tmp_path / "output" / "demo" / "config.yaml").write_text(cfg.dump())
    image = simulate(PhantomSpec(height=96, width=128, cells=(4, 8)), seed=0).image
    assert cv2.imwrite(str(tmp_path / "image.tif"), image)
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    said = capsys.readouterr().out
    assert re.search(r"\d+ cells area +\S+", said) and (tmp_path / "cells.zip").stat().st_size > 0
