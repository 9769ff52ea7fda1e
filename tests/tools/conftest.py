"""Command lines that run in this process, and untrained models in folders."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model

from cellseg_d2.engine.setup import load_config
from cellseg_d2.inference.model_folder import save_model

ROOT = Path(__file__).resolve().parents[2]


def load(name):
    """tools/NAME.py as a module."""
    spec = importlib.util.spec_from_file_location(f"{name}_tool", ROOT / "tools" / f"{name}.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool


@pytest.fixture(scope="session")
def load_tool():
    """:func:`load`."""
    return load


@pytest.fixture
def call_tool(monkeypatch, capsys):
    """A tool's module and its arguments to the exit code, what went to the screen, and what to the errors."""

    def run(tool, *arguments):
        monkeypatch.setattr(sys, "argv", [Path(tool.__file__).name, *map(str, arguments)])
        try:
            code = tool.main()
        except SystemExit as stop:
            code = stop.code
        return code or 0, *capsys.readouterr()

    return run


@pytest.fixture
def predict(call_tool):
    """tools/predict.py: arguments to the exit code and what went to the errors."""
    tool = load("predict")

    def run(*arguments):
        code, _, errors = call_tool(tool, *arguments)
        return code, errors

    return run


@pytest.fixture(scope="session")
def save_untrained():
    """A folder, the name of a configuration and options to an untrained model in that folder."""

    def save(folder, name, options):
        cfg = load_config(str(ROOT / "configs" / name), options)
        torch.manual_seed(0)
        model = build_model(cfg).eval()
        if hasattr(model, "set_threshold"):  # of a semantic model: it parts its probabilities
            model.set_threshold(0.1)
        return save_model(folder, cfg, model, {})

    return save
