"""The demo's path from simulation to summary, on a few tiny images and two iterations."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).resolve().parents[2] / "tools" / "demo.py"
SMALL = "SOLVER.MAX_ITER 2 SOLVER.IMS_PER_BATCH 2 INPUT.CROP.SIZE [64,64] TEST.OVERLAYS 1".split()


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    """Output folder of a demo with two images a split, run twice: the second call finds everything done."""
    folder = tmp_path_factory.mktemp("demo")
    script = (
        f"import importlib.util as u, sys; s = u.spec_from_file_location('demo', {str(DEMO)!r})\n"
        "demo = u.module_from_spec(s); s.loader.exec_module(demo)\n"
        "demo.SPLITS = {'train': (2, 1), 'val': (2, 2)}\n"
        f"args = demo.parse(['--output', {str(folder)!r}, *{SMALL!r}])\n"
        "demo.run(args)\n"
    )
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
    (folder / "stdout.txt").write_text(done.stdout)
    return folder


def test_summary(output):
    summary = json.loads((output / "summary.json").read_text())
    for task in ("segm", "bbox"):
        assert {"AP", "AP50", "AP75"} <= set(summary[task])
        assert all(value is None or -1 <= value <= 100 for value in summary[task].values())


def test_predictions_and_pictures(output):
    predictions = json.loads((output / "predictions.json").read_text())
    assert isinstance(predictions, list)
    assert len(list((output / "overlays" / "custom_val").glob("*.png"))) == 1
    assert (output / "model_final.pth").is_file()


def test_what_it_says(output):
    said = (output / "stdout.txt").read_text()
    assert all(word in said for word in ("summary.json", "predictions.json", "finetune_example.yaml"))


def test_the_repository_s_settings_are_the_demo_s():
    spec = importlib.util.spec_from_file_location("demo", DEMO)
    demo = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(demo)
    assert demo.CONFIG.is_file() and demo.SPLITS["val"][1] != demo.SPLITS["train"][1]
