"""make mes-demo in small: a fold from training to a model folder that predicts, what it writes, and that it goes on."""

import importlib.util
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cellseg_d2.data.synthesis.phantom import PhantomSpec, write_dataset

ROOT = Path(__file__).resolve().parents[2]
QUICK = [
    "SOLVER.MAX_ITER", "4", "SOLVER.CHECKPOINT_PERIOD", "2", "SOLVER.IMS_PER_BATCH", "2", "SOLVER.WARMUP_ITERS", "1",
    "INPUT.CROP.SIZE", "[64, 64]", "DATALOADER.NUM_WORKERS", "0", "MODEL.SEMANTIC.MIN_AREA", "4",
]  # fmt: skip
NAMES = {"pixel_auc", "pixel_f1", "instance_f1_50", "seconds_per_frame", "train_minutes", "pixel_f1_whole_frame"}


def run(tool, *arguments):
    call = [sys.executable, str(ROOT / "tools" / tool), *map(str, arguments)]
    return subprocess.run(call, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    folder = tmp_path_factory.mktemp("frames")
    json_file = write_dataset(folder, PhantomSpec(height=96, width=128, cells=(4, 6), scale=0.7), 3, seed=0)
    return json_file.parent / "images", json_file


def test_a_fold_and_its_model(frames, tmp_path):
    images, masks = frames
    command = ["--images", images, "--masks", masks, "--output", tmp_path / "out", *QUICK]
    done = run("mes_demo.py", *command)
    assert done.returncode == 0, done.stderr[-2000:]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert set(summary) == NAMES
    assert all(0 < summary[name] <= 1 for name in ("pixel_auc", "pixel_f1", "pixel_f1_whole_frame"))
    assert 0 <= summary["instance_f1_50"] <= 1
    assert summary["pixel_f1_whole_frame"] == pytest.approx(summary["pixel_f1"], abs=0.02)  # the same, without margin
    held_out = sorted(images.iterdir())[-1]
    assert (tmp_path / "out" / f"{held_out.stem}.png").stat().st_size > 10_000

    again = run("mes_demo.py", *command)
    assert again.returncode == 0 and "going on after iteration 4" in again.stdout
    repeated = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert repeated["pixel_auc"] == summary["pixel_auc"]

    other = run("mes_demo.py", *command[:6], "--hold-out", "0", *QUICK)
    assert other.returncode == 2 and "a run with other DATASETS" in other.stderr

    found = run("predict.py", held_out, "--model", tmp_path / "out" / "model", "--output", tmp_path / "predicted")
    assert found.returncode == 0, found.stderr
    assert tifffile.imread(tmp_path / "predicted" / "labels" / f"{held_out.stem}.tif").shape == (96, 128)


@pytest.mark.slow
def test_each_frame_in_turn(frames, tmp_path):
    images, masks = frames
    once = ["SOLVER.MAX_ITER", "1", "TEST.ROC_IMAGES", "1"]
    done = run(
        "mes_demo.py", "--images", images, "--masks", masks, "--output", tmp_path, "--leave-one-out", *QUICK, *once
    )
    assert done.returncode == 0, done.stderr[-2000:]
    content = json.loads((tmp_path / "leave_one_out.json").read_text())
    assert set(content["folds"]) == {path.stem for path in images.iterdir()}
    for name, row in content["spread"].items():
        values = [fold[name] for fold in content["folds"].values()]
        assert row["mean"] == pytest.approx(sum(values) / 3) and row["min"] == min(values)


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("mes_demo_tool", ROOT / "tools" / "mes_demo.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--images", "a"], "--images needs --masks"),
        (["--masks", "a"], "--masks needs --images"),
        (["--leave-one-out", "--hold-out", "a"], "leave --hold-out out"),
    ],
)
def test_options_that_do_not_go_together(tool, capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        tool.parse(arguments)
    assert stopped.value.code == 2 and message in capsys.readouterr().err


def test_specks_are_smaller_than_the_cells_to_learn_from(tool, tmp_path):
    """Cells of 100 pixels that touch, parted by their edges, to learn from; the held-out frame has one of 4."""
    mask, edges, last = (np.zeros((64, 64), np.uint8) for _ in range(3))
    mask[10:20, 10:40] = last[30:32, 30:32] = 255
    edges[10:20, 19:21] = edges[10:20, 29:31] = 255
    for folder, images in {"images": [mask, last], "masks": [mask, last], "edges": [edges, 0 * edges]}.items():
        (tmp_path / folder).mkdir()
        for name, image in zip("ab", images):
            tifffile.imwrite(tmp_path / folder / f"{name}.tif", image)
    options = [f"DATASETS.MES.{key}={tmp_path / key.lower()}".split("=") for key in ("IMAGES", "MASKS", "EDGES")]
    margin = ["DATASETS.MES.MARGIN", "2"]
    assert tool.smallest_part([*sum(options, []), *margin]) == ["MODEL.SEMANTIC.MIN_AREA", "20"]


def test_a_fold_without_a_score_is_left_out_of_the_spread(tool):
    assert tool.spread([0.9, math.nan, 0.7]) == pytest.approx({"mean": 0.8, "sd": 0.02**0.5, "min": 0.7, "frames": 2})
    row = tool.spread([math.nan])
    assert row.pop("frames") == 0 and all(map(math.isnan, row.values()))
