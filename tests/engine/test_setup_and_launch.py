"""What is refused before anything runs, and in which words."""

import argparse
import logging
from pathlib import Path

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils import comm
from torch import nn

from cellseg_d2.data.datasets import DatasetError
from cellseg_d2.engine import ConfigError, LaunchError, OutputError, Trainer, TrainingInterrupted, UserError
from cellseg_d2.engine.errors import config_errors
from cellseg_d2.engine.launch import launch
from cellseg_d2.engine.options import TrainerOptions
from cellseg_d2.engine.setup import load_config, setup_cfg
from cellseg_d2.engine.solver import build_optimizer, build_scheduler
from cellseg_d2.engine.testing import evaluate_only

CLASSES = ["MODEL.FCOS.NUM_CLASSES", "1", "MODEL.ROI_HEADS.NUM_CLASSES", "1"]


@pytest.fixture(autouse=True)
def keep_loggers():
    """setup_cfg configures loggers for the whole process: put them back."""
    loggers = [logging.getLogger(name) for name in ("cellseg_d2", "detectron2", "fvcore")]
    before = [(log.level, log.propagate, list(log.handlers)) for log in loggers]
    yield
    for log, (level, propagate, handlers) in zip(loggers, before, strict=True):
        log.level, log.propagate, log.handlers = level, propagate, handlers


@pytest.fixture
def one_class():
    """Name of a registered data set of one class and one image."""
    DatasetCatalog.register("engine_test", lambda: [{"image_id": 1, "file_name": "a", "height": 9, "width": 9}])
    MetadataCatalog.get("engine_test").set(thing_classes=["cell"])
    yield "engine_test"
    DatasetCatalog.remove("engine_test")
    MetadataCatalog.remove("engine_test")


def arguments(*opts, **values):
    defaults = {
        "config_file": "", "eval_only": False, "resume": False, "num_gpus": 1, "num_machines": 1, "machine_rank": 0,
        "dist_url": "tcp://127.0.0.1:50000",
    }  # fmt: skip
    return argparse.Namespace(**({"opts": [str(word) for word in opts]} | defaults | values))


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (["SOLVER.BASE_RL", "0.1"], "no configuration key SOLVER.BASE_RL; did you mean .*SOLVER.BASE_LR"),
        (["SOLVER.BASE_LR"], "pairs KEY VALUE"),
        (["SOLVER.MAX_ITER", "many"], "SOLVER.MAX_ITER"),
    ],
)
def test_wrong_options(opts, message):
    with pytest.raises(ConfigError, match=message):
        load_config("", opts)


def test_wrong_config_files(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: no such file"):
        load_config(str(tmp_path / "nowhere.yaml"))
    path = tmp_path / "a.yaml"
    path.write_text("MODEL:\n  FCOS:\n    NUM_CLASES: 1\n")
    with pytest.raises(ConfigError, match=r"a\.yaml.*MODEL.FCOS.NUM_CLASES; did you mean MODEL.FCOS.NUM_CLASSES"):
        load_config(str(path))
    path.write_text("MODEL: [unclosed\n")
    with pytest.raises(ConfigError, match=r"a\.yaml"):
        load_config(str(path))


def test_output_folder_that_cannot_be_used(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="OUTPUT_DIR .*cannot be written"):
        setup_cfg(arguments("OUTPUT_DIR", tmp_path / "file" / "sub"))
    with pytest.raises(OutputError, match="OUTPUT_DIR is empty"):
        setup_cfg(arguments("OUTPUT_DIR", ""))


def test_unknown_and_missing_data_sets(tmp_path, one_class):
    with pytest.raises(DatasetError, match="livecel_train"):
        setup_cfg(arguments("OUTPUT_DIR", tmp_path, "DATASETS.TRAIN", "('livecel_train',)"))
    with pytest.raises(ConfigError, match="DATASETS.TRAIN names no data set"):
        setup_cfg(arguments("OUTPUT_DIR", tmp_path))
    with pytest.raises(ConfigError, match="--eval-only, but DATASETS.TEST"):
        setup_cfg(arguments("OUTPUT_DIR", tmp_path, eval_only=True))
    with pytest.raises(DatasetError, match="NUM_CLASSES"):
        setup_cfg(arguments("OUTPUT_DIR", tmp_path, "DATASETS.TRAIN", f"('{one_class}',)"))


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (["TEST.ROC_CHOICE", "F1"], "TEST.ROC_CHOICE: 'F1' is none of 'youden', 'f1'"),
        (["MODEL.META_ARCHITECTURE", "CellSegmentor"], "CellSegmentor needs INPUT.MAPPER SemanticMapper"),
    ],
)
def test_what_semantic_models_would_stumble_over_later(tmp_path, one_class, opts, message):
    with pytest.raises(ConfigError, match=message):
        setup_cfg(arguments("OUTPUT_DIR", tmp_path, "DATASETS.TRAIN", f"('{one_class}',)", *CLASSES, *opts))


@pytest.mark.skipif(torch.cuda.is_available(), reason="about machines without a GPU")
def test_without_a_gpu_the_run_goes_to_the_cpu_and_says_so(tmp_path, one_class, caplog):
    opts = ["OUTPUT_DIR", tmp_path, "DATASETS.TRAIN", f"('{one_class}',)", *CLASSES, "MODEL.DEVICE", "cuda"]
    cfg = setup_cfg(arguments(*opts))
    assert cfg.MODEL.DEVICE == "cpu" and cfg.is_frozen()
    assert "running on the CPU" in caplog.text
    assert load_config(str(tmp_path / "config.yaml")).MODEL.DEVICE == "cpu"


def test_eval_only_without_weights(tmp_path):
    config = Path(__file__).resolve().parents[2] / "configs" / "centermask_v19_slim_dw.yaml"
    cfg = load_config(str(config), ["MODEL.DEVICE", "cpu", "OUTPUT_DIR", str(tmp_path)])
    with pytest.raises(ConfigError, match="--eval-only needs weights: set MODEL.WEIGHTS.*--resume"):
        evaluate_only(cfg)


def test_evaluation_needs_no_training_data_and_keeps_the_config_of_the_training(tmp_path, one_class, caplog):
    (tmp_path / "config.yaml").write_text("of the training run")
    train = ["DATASETS.TRAIN", "('custom_train', 'livecell_{cell_type}_train')", "DATASETS.CELL_TYPE", "A172"]
    gone = ["DATASETS.CUSTOM.TRAIN_JSON", tmp_path / "gone.json"]
    opts = ["OUTPUT_DIR", tmp_path, *train, *gone, "DATASETS.TEST", f"('{one_class}',)", *CLASSES]
    cfg = setup_cfg(arguments(*opts, "MODEL.DEVICE", "cpu", eval_only=True))
    assert cfg.DATASETS.TRAIN == () and "CUSTOM.TRAIN_JSON is set" not in caplog.text
    assert (tmp_path / "config.yaml").read_text() == "of the training run"
    assert load_config(str(tmp_path / "config_eval.yaml")).DATASETS.TEST == (one_class,)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("MODEL.VOVNET.CONV_BODY", "V-0", "the model.*MODEL.VOVNET.CONV_BODY.*'V-0'"),
        ("MODEL.FCOS.LOC_LOSS_TYPE", "diou", "the model.*MODEL.FCOS.LOC_LOSS_TYPE.*'diou'"),
        ("MODEL.META_ARCHITECTURE", "Nothing", "the model.*Nothing"),
    ],
)
def test_values_that_the_model_refuses_are_errors_of_the_config(tmp_path, key, value, message):
    config = Path(__file__).resolve().parents[2] / "configs" / "centermask_v19_slim_dw.yaml"
    cfg = load_config(str(config), ["MODEL.DEVICE", "cpu", "OUTPUT_DIR", str(tmp_path), key, value])
    for build in (Trainer, evaluate_only):
        with pytest.raises(ConfigError, match=message) as error:
            build(cfg)
        assert "\n" not in str(error.value)


def test_config_errors_leaves_errors_with_a_meaning_of_their_own():
    for error in (DatasetError("no image"), ConfigError("as it was"), IndexError("a bug")):
        with pytest.raises(type(error)) as caught, config_errors("anything"):
            raise error
        assert caught.value is error


def test_unusable_output_folder_of_the_main_process_stops_all_and_is_shown_once(monkeypatch, capsys):
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    monkeypatch.setattr(comm, "all_gather", lambda own: ["OUTPUT_DIR x cannot be written to", own])
    with pytest.raises(SystemExit) as status:
        launch(setup_cfg, arguments())
    assert status.value.code == 2 and capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("opts", "values", "message"),
    [
        ([], {"num_gpus": 4}, "--num-gpus 4, but torchrun started 2"),
        ([], {"num_machines": 2}, "--nnodes"),
        (["MODEL.DEVICE", "cuda:0"], {}, "MODEL.DEVICE cuda:0 would put all .* set it to cuda"),
    ],
)
def test_options_that_contradict_torchrun(monkeypatch, opts, values, message):
    for name, value in {"RANK": 0, "WORLD_SIZE": 2, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 2, "CELLSEG_DEBUG": 1}.items():
        monkeypatch.setenv(name, str(value))
    with pytest.raises(LaunchError, match=message):
        launch(lambda args: None, arguments(*opts, **values))


def test_best_metric_must_exist():
    cfg = load_config("", ["TEST.BEST_METRIC", "segm/AP", "MODEL.MASK_ON", "False"])
    with pytest.raises(ConfigError, match="'segm/AP'.*bbox/AP"):
        TrainerOptions.from_config(cfg, 0)
    cfg = load_config("", ["DATASETS.TEST", "('a', 'b')", "TEST.BEST_METRIC", "bbox/AP50"])
    assert TrainerOptions.from_config(cfg, 0).best_metric == "a/bbox/AP50"


def test_optimizers_decay_norms_apart_and_clip():
    model = nn.Sequential(nn.Linear(2, 2), nn.GroupNorm(1, 2))
    for name, kind in (("SGD", torch.optim.SGD), ("ADAMW", torch.optim.AdamW)):
        cfg = load_config("", ["SOLVER.OPTIMIZER", name, "SOLVER.CLIP_GRADIENTS.ENABLED", "True"])
        optimizer = build_optimizer(cfg, model)
        assert isinstance(optimizer, kind) and type(optimizer).__name__.endswith("WithGradientClip")
        decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
        assert decays[id(model[1].weight)] == 0 and decays[id(model[0].weight)] == cfg.SOLVER.WEIGHT_DECAY
    with pytest.raises(ConfigError, match="'LION': choose SGD, ADAMW or RMSPROP"):
        build_optimizer(load_config("", ["SOLVER.OPTIMIZER", "LION"]), model)


def test_warm_up_ends_at_the_base_rate_and_unknown_schedules_are_refused():
    opts = ["SOLVER.WARMUP_ITERS", "4", "SOLVER.MAX_ITER", "10", "SOLVER.STEPS", "(8,)", "SOLVER.WARMUP_FACTOR", "0.5"]
    cfg = load_config("", opts)
    optimizer = build_optimizer(cfg, nn.Linear(2, 2))
    scheduler = build_scheduler(cfg, optimizer)
    rates = []
    for _ in range(10):
        rates.append(optimizer.param_groups[0]["lr"] / cfg.SOLVER.BASE_LR)
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx([0.5, 0.625, 0.75, 0.875, 1, 1, 1, 1, 0.1, 0.1])
    cfg.SOLVER.LR_SCHEDULER_NAME = "Zigzag"
    with pytest.raises(ConfigError, match="Zigzag.*WarmupCosineLR"):
        build_scheduler(cfg, optimizer)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_gpus": 1000}, "--num-gpus 1000, but torch sees .*torchrun"),
        ({"num_machines": 2, "num_gpus": 0, "machine_rank": 2}, "--machine-rank 2 is not below --num-machines 2"),
        ({"num_gpus": -1}, "these are counts"),
        ({"num_machines": 2, "num_gpus": 0}, "--num-gpus 0 would be independent runs.*torchrun"),
        ({"num_gpus": 2, "opts": ["MODEL.DEVICE", "cpu"]}, "MODEL.DEVICE is cpu.*torchrun"),
        ({"num_gpus": 2, "opts": ["MODEL.DEVICE", "cuda:0"]}, "MODEL.DEVICE cuda:0 .*set it to cuda"),
    ],
)
def test_processes_that_cannot_be(values, message, monkeypatch, capsys):
    monkeypatch.setenv("CELLSEG_DEBUG", "1")
    with pytest.raises(LaunchError, match=message):
        launch(lambda args: None, arguments(**values))
    monkeypatch.delenv("CELLSEG_DEBUG")
    with pytest.raises(SystemExit) as status:
        launch(lambda args: None, arguments(**values))
    assert status.value.code == 2 and capsys.readouterr().err.startswith("error: ")


def test_exit_status_of_errors_and_interruptions(capsys):
    def wrong(args):
        raise UserError("put this right")

    def stopped(args):
        raise TrainingInterrupted("saved", exit_code=130)

    for main, code in ((wrong, 2), (stopped, 130)):
        with pytest.raises(SystemExit) as status:
            launch(main, arguments())
        assert status.value.code == code
    assert capsys.readouterr().err == "error: put this right\nsaved\n"
    with pytest.raises(ZeroDivisionError):  # a bug of ours keeps its traceback
        launch(lambda args: 1 / 0, arguments())


def test_zero_gpus_means_the_cpu():
    assert launch(lambda args: args.opts, arguments("SEED", 1, num_gpus=0)) == ["SEED", "1", "MODEL.DEVICE", "cpu"]
