"""tools/train_net.py as a user runs it: the smallest CenterMask on five tiny images, on the CPU."""

import importlib.util
import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.engine import default_argument_parser

from cellseg_d2.modeling.checkpoint import WeightsError

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "configs" / "centermask_v19_slim_dw.yaml"
SCRIPT = ROOT / "tools" / "train_net.py"
TINY = """
    SOLVER.MAX_ITER 4 SOLVER.IMS_PER_BATCH 2 SOLVER.WARMUP_ITERS 0 SOLVER.STEPS () SOLVER.BASE_LR 0.001 SEED 3
    TEST.EVAL_PERIOD 2 TEST.OVERLAYS 1 DATALOADER.NUM_WORKERS 0 MODEL.DEVICE cpu INPUT.MIN_SIZE_TRAIN (96,)
    INPUT.MIN_SIZE_TEST 96 DATASETS.TRAIN ('custom_train',) DATASETS.TEST ('custom_val',)
    MODEL.FCOS.POST_NMS_TOPK_TRAIN 50 MODEL.FCOS.POST_NMS_TOPK_TEST 50 MODEL.FCOS.INFERENCE_TH_TEST 0.0001
""".split()
IMAGES = 5


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """COCO JSON and folder of five 96 x 96 images of discs; the last one has none."""
    folder = tmp_path_factory.mktemp("discs")
    generator = np.random.default_rng(0)
    images, annotations = [], []
    for number in range(IMAGES):
        picture = np.full((96, 96), 120, dtype=np.uint8)
        for x, y in generator.integers(20, 76, (3 if number < IMAGES - 1 else 0, 2)).tolist():
            cv2.circle(picture, (x, y), 10, 150, -1)
            angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
            outline = np.stack([x + 10 * np.cos(angles), y + 10 * np.sin(angles)], axis=1).ravel().tolist()
            annotations.append(
                {
                    "id": len(annotations), "image_id": number, "category_id": 7, "iscrowd": 0, "area": 310.0,
                    "bbox": [x - 10, y - 10, 20, 20], "segmentation": [outline],
                }
            )  # fmt: skip
        cv2.imwrite(str(folder / f"disc_{number}.png"), picture)
        images.append({"id": number, "file_name": f"disc_{number}.png", "height": 96, "width": 96})
    coco = {"images": images, "annotations": annotations, "categories": [{"id": 7, "name": "cell"}]}
    (folder / "coco.json").write_text(json.dumps(coco))
    return folder


def data_options(folder):
    return [
        word
        for split in ("TRAIN", "VAL")
        for word in (f"DATASETS.CUSTOM.{split}_JSON", folder / "coco.json", f"DATASETS.CUSTOM.{split}_IMAGES", folder)
    ]


def command_line(dataset, output, *flags, options=()):
    """Arguments of a run of four iterations into ``output``."""
    words = ["--config-file", CONFIG, *flags, *TINY, *data_options(dataset), "OUTPUT_DIR", output, *options]
    return [str(word) for word in words]


def run_here(dataset, output, *flags, options=()):
    """Run the script's ``main`` in this process (starting Python anew takes longer than the run); logs are kept out."""
    spec = importlib.util.spec_from_file_location("train_net_script", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    loggers = [logging.getLogger(name) for name in ("cellseg_d2", "detectron2", "fvcore")]
    before = [(log.level, log.propagate, list(log.handlers)) for log in loggers]
    try:
        return script.main(default_argument_parser().parse_args(command_line(dataset, output, *flags, options=options)))
    finally:
        for log, (level, propagate, handlers) in zip(loggers, before, strict=True):
            log.level, log.propagate, log.handlers = level, propagate, handlers


def run_apart(*words):
    """Run Python with these arguments in a process of its own, on the CPU."""
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, *map(str, words)]
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def trained(dataset, tmp_path_factory):
    """Output folder of a finished run in one process."""
    output = tmp_path_factory.mktemp("trained")
    run_here(dataset, output, options=["SOLVER.CHECKPOINT_PERIOD", 2])
    return output


def weights(path):
    return torch.load(path, weights_only=True)["model"]


def assert_same(first, second):
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=0, msg=name)


def test_a_run_leaves_what_the_readme_promises(trained):
    names = {str(path.relative_to(trained)) for path in trained.rglob("*")}
    folder = "inference/custom_val"
    assert {"model_final.pth", "model_best.pth", "last_checkpoint", "metrics.json", "config.yaml", "log.txt"} <= names
    assert {f"{folder}/coco_instances_results.json", f"{folder}/metrics.json"} <= names
    assert "overlays/custom_val/disc_0.png" in names
    results = json.loads((trained / folder / "coco_instances_results.json").read_text())
    assert {row["category_id"] for row in results} == {7}
    assert {"bbox", "image_id", "mask_score", "score", "segmentation"} <= results[0].keys()
    scores = json.loads((trained / folder / "metrics.json").read_text())
    assert {"AP", "AP50", "AR2000", "AFNR"} <= scores["segm"].keys()
    assert (scores["images"], scores["skipped"]) == (IMAGES, 0)
    lines = [json.loads(line) for line in (trained / "metrics.json").read_text().splitlines()]
    assert {line["iteration"] for line in lines if {"segm/AP", "val/total_loss"} <= line.keys()} == {1, 4}


@pytest.mark.parametrize("workers", [0, 2])
def test_resume_with_and_without_workers_ends_with_the_same_weights(dataset, trained, tmp_path, workers):
    shutil.copy(trained / "model_0000001.pth", tmp_path)
    (tmp_path / "last_checkpoint").write_text("model_0000001.pth")
    run_here(dataset, tmp_path, "--resume", options=["DATALOADER.NUM_WORKERS", workers])
    assert "Resuming after iteration 2 of 4" in (tmp_path / "log.txt").read_text()
    assert_same(weights(tmp_path / "model_final.pth"), weights(trained / "model_final.pth"))


def test_eval_only_gives_the_scores_of_the_trained_model(dataset, trained, tmp_path):
    scores = run_here(dataset, tmp_path, "--eval-only", options=["MODEL.WEIGHTS", trained / "model_final.pth"])
    name = "inference/custom_val/metrics.json"
    assert scores["segm"]["AR2000"] == json.loads((trained / name).read_text())["segm"]["AR2000"]
    assert (tmp_path / name).read_text() == (trained / name).read_text()


def test_evaluation_counts_the_images_it_skips(dataset, trained, tmp_path):
    damaged = shutil.copytree(dataset, tmp_path / "damaged")
    (damaged / "disc_1.png").write_bytes(b"")
    weights_of = ["MODEL.WEIGHTS", trained / "model_final.pth"]
    options = [*weights_of, *data_options(damaged), "DATALOADER.SKIP_CORRUPT_IMAGES", True]
    run_here(dataset, tmp_path / "out", "--eval-only", options=options)
    scores = json.loads((tmp_path / "out/inference/custom_val/metrics.json").read_text())
    assert (scores["images"], scores["skipped"]) == (IMAGES - 1, 1)
    assert "disc_1.png" in (tmp_path / "out/log.txt").read_text()


def test_two_processes_train_alike_and_evaluate_all_images(dataset, tmp_path):
    program = tmp_path / "two.py"
    program.write_text(
        "import sys, torch\n"
        f"sys.path.insert(0, {str(ROOT / 'tools')!r})\n"
        "import train_net\n"
        "from detectron2.engine import default_argument_parser\n"
        "from detectron2.utils import comm\n"
        "def main(args):\n"
        "    cfg = train_net.setup_cfg(args)\n"
        "    trainer = train_net.Trainer(cfg)\n"
        "    trainer.resume_or_load(resume=False)\n"
        "    trainer.train()\n"
        "    torch.save(trainer.model.module.state_dict(), f'{cfg.OUTPUT_DIR}/rank{comm.get_rank()}.pth')\n"
        "    args.opts += ['DATASETS.TEST', '()', 'MODEL.VOVNET.NORM', 'BN', 'MODEL.BACKBONE.FREEZE_AT', '0']\n"
        "    args.opts += ['SOLVER.MAX_ITER', '1', 'OUTPUT_DIR', cfg.OUTPUT_DIR + '/bn']\n"
        "    cfg = train_net.setup_cfg(args)\n"
        "    trainer = train_net.Trainer(cfg)\n"
        "    trainer.train()\n"
        "    torch.save(trainer.model.module.state_dict(), f'{cfg.OUTPUT_DIR}/rank{comm.get_rank()}.pth')\n"
        "train_net.launch(main, default_argument_parser().parse_args())\n"
    )
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2]
    result = run_apart(*launcher, program, *command_line(dataset, tmp_path))
    assert result.returncode == 0, result.stderr
    ranks = [torch.load(tmp_path / f"rank{rank}.pth", weights_only=True) for rank in range(2)]
    assert_same(*ranks)
    assert_same(ranks[0], weights(tmp_path / "model_final.pth"))
    ranks = [torch.load(tmp_path / f"bn/rank{rank}.pth", weights_only=True) for rank in range(2)]
    assert sum("running_var" in name for name in ranks[0]) > 20
    assert_same(*ranks)  # without an evaluation the running statistics agree too
    assert_same(ranks[0], weights(tmp_path / "bn/model_final.pth"))
    rows = json.loads((tmp_path / "inference/custom_val/coco_instances_results.json").read_text())
    assert {row["image_id"] for row in rows} == set(range(IMAGES))
    assert "Predicted 3 images" in (tmp_path / "log.txt").read_text()
    assert "Predicted 2 images" in (tmp_path / "log.txt.rank1").read_text()


def test_bad_input_ends_with_one_line_and_status_two(dataset, tmp_path):
    (tmp_path / "file").write_text("in the way")
    result = run_apart(SCRIPT, *command_line(dataset, tmp_path / "file" / "out"))
    assert result.returncode == 2
    (line,) = [line for line in result.stderr.splitlines() if "rror" in line]
    assert line.startswith("error: OUTPUT_DIR") and "cannot be written" in line


def test_truncated_weights(dataset, trained, tmp_path):
    broken = tmp_path / "broken.pth"
    broken.write_bytes((trained / "model_final.pth").read_bytes()[:10000])
    with pytest.raises(WeightsError, match="broken.pth"):
        run_here(dataset, tmp_path / "out", options=["MODEL.WEIGHTS", broken])
