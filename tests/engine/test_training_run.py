"""How a run starts, ends, stops and goes on, with a tiny model."""

import json
import math
import os
import signal
from functools import partial

import pytest
import torch
from torch import nn

from cellseg_d2.engine import CheckpointError, ConfigError, TrainingDivergedError, TrainingInterrupted, interrupt
from cellseg_d2.engine.errors import EvaluationInterrupted
from cellseg_d2.engine.precision import Precision
from cellseg_d2.engine.trainer import MAX_SKIPPED_STEPS

from .conftest import TinyModel, made_up_batches, saved_weights


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=0, msg=name)


class Interrupting:
    """Batches that send this process a signal while the given iteration waits for its data."""

    def __init__(self, at, signum=signal.SIGINT):
        self.at, self.signum = at, signum

    def __call__(self, start_iter, seed):
        for iteration, batch in enumerate(made_up_batches(start_iter, seed), start=start_iter):
            if iteration == self.at:
                os.kill(os.getpid(), self.signum)
            yield batch


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_and_resumed_run_ends_with_the_weights_of_one_that_was_not(make_trainer, tmp_path, signum):
    make_trainer(6, "straight").train()

    before = signal.getsignal(signum)
    stopped = make_trainer(6, "stopped", build_loader=Interrupting(2, signum))
    with pytest.raises(TrainingInterrupted, match="--resume") as stop:
        stopped.train()
    assert stop.value.exit_code == 128 + signum
    assert signal.getsignal(signum) is before
    assert (tmp_path / "stopped/last_checkpoint").read_text() == "model_interrupted.pth"

    resumed = make_trainer(6, "stopped")
    resumed.resume_or_load(resume=True)
    assert resumed.start_iter == 3
    resumed.train()
    assert_same(saved_weights(tmp_path / "stopped"), saved_weights(tmp_path / "straight"))


def test_resume_from_a_periodic_checkpoint_is_exact_and_may_be_longer(make_trainer, tmp_path):
    make_trainer(6, "run", checkpoint_period=4).train()
    straight = saved_weights(tmp_path / "run")
    (tmp_path / "run/last_checkpoint").write_text("model_0000003.pth")
    resumed = make_trainer(6, "run")
    resumed.resume_or_load(resume=True)
    resumed.train()
    assert_same(saved_weights(tmp_path / "run"), straight)

    longer = make_trainer(8, "run")
    longer.resume_or_load(resume=True)
    # The first resumed step follows the longer schedule: 6 of 8 steps into the cosine
    expected = 0.01 * (0.1 + 0.9 * (1 + torch.cos(torch.tensor(torch.pi * 6 / 8))) / 2)
    assert longer.optimizer.param_groups[0]["lr"] == pytest.approx(float(expected))
    longer.train()
    assert longer.iter == 7 and not torch.equal(saved_weights(tmp_path / "run")["conv.weight"], straight["conv.weight"])


def test_the_seed_decides_and_a_resumed_run_keeps_it(make_trainer, tmp_path):
    runs = {}
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        make_trainer(3, name, seed=seed).train()
        runs[name] = saved_weights(tmp_path / name)
    assert_same(runs["a"], runs["b"])
    assert not torch.equal(runs["a"]["conv.weight"], runs["c"]["conv.weight"])
    other = make_trainer(4, "a", seed=5)
    other.resume_or_load(resume=True)
    assert other.seed == 1


def test_nan_loss_names_iteration_images_and_losses_and_spares_the_weights(make_trainer, tmp_path):
    trainer = make_trainer(6, build_loader=partial(made_up_batches, bad_at=4), checkpoint_period=4)
    with pytest.raises(TrainingDivergedError) as error:
        trainer.train()
    expected = ["loss is NaN or infinite at iteration 4", "loss_a=nan", "loss_b=", "bad_0.tif, bad_1.tif"]
    for part in [*expected, "SOLVER.BASE_LR", "--resume"]:
        assert part in str(error.value)
    assert isinstance(error.value, FloatingPointError)
    saved = saved_weights(tmp_path / "run", "model_0000003")
    weights = dict(trainer.model.named_parameters())
    assert_same(weights, {name: saved[name] for name in weights})
    assert (tmp_path / "run/last_checkpoint").read_text() == "model_0000003.pth"


def test_infinite_gradient_is_caught_before_the_weights_change(make_trainer):
    class Steep(TinyModel):
        def forward(self, batch):
            losses = super().forward(batch)
            return losses | {"loss_root": (self.conv.bias * 0).abs().sqrt().sum()}  # value 0, slope infinite

    trainer = make_trainer(2, model=Steep())
    before = {name: value.clone() for name, value in trainer.model.named_parameters()}
    with pytest.raises(TrainingDivergedError, match=r"gradient .*iteration 0.*good_0\.tif"):
        trainer.train()
    assert_same(dict(trainer.model.named_parameters()), before)


def test_early_stop_keeps_the_best_model_and_ends_in_order(make_trainer, scripted, tmp_path):
    trainer = make_trainer(20, evaluations=[scripted([10.0, 30.0, 20.0, 25.0])], eval_period=2, patience=2)
    results = trainer.train()
    assert trainer.iter == 7  # evaluations after 2, 4, 6 and 8; the second was the best
    assert results == {"segm/AP": 25.0}
    best = torch.load(tmp_path / "run/model_best.pth", weights_only=True)
    assert best["trainer"]["iteration"] == 3
    assert (tmp_path / "run/last_checkpoint").read_text() == "model_final.pth"
    assert not torch.equal(best["model"]["conv.weight"], saved_weights(tmp_path / "run")["conv.weight"])


def test_a_resumed_run_remembers_the_best_value(make_trainer, scripted, tmp_path):
    make_trainer(4, evaluations=[scripted([50.0, 10.0])], eval_period=2).train()
    best = saved_weights(tmp_path / "run", "model_best")
    resumed = make_trainer(6, evaluations=[scripted([20.0, 30.0])], eval_period=2)
    resumed.resume_or_load(resume=True)
    resumed.train()
    assert_same(saved_weights(tmp_path / "run", "model_best"), best)


def test_an_evaluation_that_was_lost_is_caught_up_on(make_trainer, scripted, tmp_path):
    first = make_trainer(6, evaluations=[scripted([])], eval_period=2, checkpoint_period=2)
    with pytest.raises(StopIteration):  # "crashes" in the first evaluation, after the checkpoint was written
        first.train()
    calls = []
    resumed = make_trainer(6, evaluations=[lambda m, s: calls.append(resumed.iter) or {"segm/AP": 1.0}], eval_period=2)
    resumed.resume_or_load(resume=True)
    resumed.train()
    assert calls == [1, 3, 5]


@pytest.mark.parametrize(("metric", "values", "best"), [("segm/AFNR", [60, 40, 50], 3), ("segm/AP", [60, 40, 50], 1)])
def test_the_direction_of_the_metric(make_trainer, tmp_path, metric, values, best):
    queue = iter(values)
    make_trainer(
        6, evaluations=[lambda model, should_stop: {metric: float(next(queue))}], eval_period=2, best_metric=metric
    ).train()
    assert torch.load(tmp_path / "run/model_best.pth", weights_only=True)["trainer"]["iteration"] == best


def test_a_run_that_stopped_early_stops_again_when_resumed(make_trainer, scripted, tmp_path):
    options = {"eval_period": 2, "checkpoint_period": 2}
    make_trainer(20, evaluations=[scripted([30.0, 20.0, 25.0])], patience=2, **options).train()
    stopped = saved_weights(tmp_path / "run")
    resumed = make_trainer(20, evaluations=[scripted([])], patience=2, **options)
    resumed.resume_or_load(resume=True)
    assert resumed.train() == {"segm/AP": 25.0} and resumed.iter == 5
    assert_same(saved_weights(tmp_path / "run"), stopped)
    patient = make_trainer(8, evaluations=[scripted([10.0])], patience=3, **options)
    patient.resume_or_load(resume=True)
    patient.train()
    assert patient.iter == 7


def test_a_resumed_run_takes_the_configured_learning_rate(make_trainer):
    make_trainer(4).train()
    resumed = make_trainer(8)
    resumed.scheduler.base_lrs = [0.002]  # as of a config with a fifth of SOLVER.BASE_LR
    resumed.resume_or_load(resume=True)
    expected = 0.002 * (0.1 + 0.9 * (1 + math.cos(math.pi * 4 / 8)) / 2)
    assert resumed.optimizer.param_groups[0]["lr"] == pytest.approx(expected)
    resumed.train()
    assert resumed.scheduler.base_lrs == [0.002]


def test_only_the_newest_periodic_checkpoints_stay(make_trainer, scripted, tmp_path):
    options = {"checkpoint_period": 1, "eval_period": 2, "checkpoints_to_keep": 2}
    make_trainer(6, evaluations=[scripted([1.0, 2.0, 3.0])], **options).train()
    names = {path.name for path in (tmp_path / "run").glob("*.pth")}
    assert names == {"model_0000003.pth", "model_0000004.pth", "model_best.pth", "model_final.pth"}
    checkpointer = make_trainer(6).checkpointer
    (tmp_path / "run/last_checkpoint").write_text("model_0000003.pth")
    checkpointer.prune(0)
    checkpointer.prune(1)
    assert {path.name for path in (tmp_path / "run").glob("*.pth")} == names  # the resumable one is kept too
    (tmp_path / "run/last_checkpoint").write_text("model_final.pth")
    checkpointer.prune(1)
    assert {path.name for path in (tmp_path / "run").glob("*.pth")} == names - {"model_0000003.pth"}


class Skipping(Precision):
    """As float16 with a gradient that stays infinite: no step is ever taken."""

    may_skip = True

    def gradient_norm(self, model, optimizer):
        return torch.tensor(float("inf"))

    def step(self, optimizer):
        pass


def test_a_gradient_that_stays_infinite_ends_the_run_in_float16_too(make_trainer, tmp_path):
    trainer = make_trainer(MAX_SKIPPED_STEPS + 5, precision=Skipping())
    with pytest.raises(TrainingDivergedError, match=f"gradient .*iteration {MAX_SKIPPED_STEPS - 1} "):
        trainer.train()
    few = make_trainer(MAX_SKIPPED_STEPS - 1, "few", precision=Skipping())
    few.train()
    text = (tmp_path / "few/metrics.json").read_text()
    assert "total_loss" in text and "grad_norm" not in text


def test_images_skipped_in_training_are_reported(make_trainer, caplog):
    class Loader:
        skipped = ("a.tif", "b.tif", "a.tif")

        def __iter__(self):
            return made_up_batches(0, 0)

    with caplog.at_level("WARNING", logger="cellseg_d2"):
        make_trainer(1, build_loader=lambda start_iter, seed: Loader()).train()
    assert "cannot be used 3 times" in caplog.text and "2 files: a.tif, b.tif" in caplog.text


def test_values_that_the_loader_refuses_are_errors_of_the_config(make_trainer):
    def refuse(start_iter, seed):
        raise ValueError("INPUT.X is wrong")

    with pytest.raises(ConfigError, match="training loader.*INPUT.X is wrong"):
        make_trainer(1, build_loader=refuse).train()


def test_unknown_metric_is_an_error_that_lists_the_known(make_trainer, scripted):
    with pytest.raises(ConfigError, match="segm/XX.*segm/AP"):
        make_trainer(2, evaluations=[scripted([1.0])], best_metric="segm/XX").train()


def test_metrics_file_has_losses_speed_and_results_of_all_evaluations(make_trainer, scripted, tmp_path):
    make_trainer(4, evaluations=[scripted([10.0, float("nan")])], eval_period=2).train()
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.json").read_text().splitlines()]
    assert {line["iteration"]: line["segm/AP"] for line in lines if "segm/AP" in line} == {1: 10.0}
    last = next(line for line in lines if line["iteration"] == 3)
    assert {"total_loss", "loss_a", "loss_b", "lr", "grad_norm"} <= last.keys()
    assert {"time", "data_time", "images_per_second", "eta_seconds"} <= last.keys()
    assert list((tmp_path / "run").glob("events.out.tfevents.*"))


def test_final_evaluation_reaches_the_metrics_file(make_trainer, scripted, tmp_path):
    make_trainer(4, evaluations=[scripted([42.0])]).train()
    assert '"segm/AP": 42.0' in (tmp_path / "run/metrics.json").read_text()


def test_interrupt_during_the_evaluation_saves_and_catches_up(make_trainer, scripted, tmp_path):
    def interrupted(model, should_stop):
        os.kill(os.getpid(), signal.SIGINT)
        assert should_stop()
        raise EvaluationInterrupted

    with pytest.raises(TrainingInterrupted, match="after iteration 2 of 4"):
        make_trainer(4, evaluations=[interrupted], eval_period=2).train()
    resumed = make_trainer(4, evaluations=[scripted([10.0, 20.0])], eval_period=2)
    resumed.resume_or_load(resume=True)
    assert resumed.train() == {"segm/AP": 20.0}
    make_trainer(4, "straight").train()
    assert_same(saved_weights(tmp_path / "run"), saved_weights(tmp_path / "straight"))


def twice_interrupted(start_iter, seed):
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGINT)
    yield from made_up_batches(start_iter, seed)


def test_second_signal_acts_at_once_unless_it_is_the_first_ones_echo(make_trainer, monkeypatch):
    with pytest.raises(TrainingInterrupted):
        make_trainer(4, build_loader=twice_interrupted).train()
    monkeypatch.setattr(interrupt, "SAME_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        make_trainer(4, build_loader=twice_interrupted).train()


def test_truncated_checkpoint_is_a_clear_error_that_names_the_others(make_trainer, tmp_path):
    make_trainer(4, checkpoint_period=2).train()
    path = tmp_path / "run/model_final.pth"
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(CheckpointError, match=r"model_final\.pth.*truncated.*model_0000001\.pth.*last_checkpoint"):
        make_trainer(4).resume_or_load(resume=True)


def test_missing_checkpoint_and_foreign_files_are_clear_errors(make_trainer, tmp_path):
    make_trainer(2).train()
    (tmp_path / "run/last_checkpoint").write_text("gone.pth")
    with pytest.raises(CheckpointError, match=r"gone\.pth, which does not exist.*model_final\.pth"):
        make_trainer(2).resume_or_load(resume=True)
    torch.save({"weights": torch.zeros(1)}, tmp_path / "run/gone.pth")
    with pytest.raises(CheckpointError, match="no 'model' entry"):
        make_trainer(2).resume_or_load(resume=True)


def test_checkpoint_of_another_model_or_optimizer_is_refused(make_trainer, tmp_path):
    make_trainer(2).train()
    other = TinyModel()
    other.conv = nn.Conv2d(1, 4, 5)
    with pytest.raises(CheckpointError, match=r"conv\.weight: shape \(4, 1, 3, 3\) there, \(4, 1, 5, 5\) here"):
        make_trainer(2, model=other).resume_or_load(resume=True)
    trainer = make_trainer(2)
    trainer.optimizer = torch.optim.SGD(trainer.model.parameters(), lr=0.1)
    with pytest.raises(CheckpointError, match="optimizer is AdamW.*SGD"):
        trainer.resume_or_load(resume=True)


def test_a_failed_save_leaves_the_last_checkpoint_usable(make_trainer, tmp_path, monkeypatch):
    trainer = make_trainer(2)
    trainer.train()
    good = (tmp_path / "run/model_final.pth").read_bytes()

    def fail(data, stream):
        stream.write(b"half a file")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        trainer.checkpointer.save("model_final")
    assert (tmp_path / "run/model_final.pth").read_bytes() == good
    assert {path.name for path in (tmp_path / "run").glob(".*")} == set()


def test_mixed_precision_on_the_cpu(make_trainer, tmp_path):
    make_trainer(3, "bf16", precision=Precision("cpu", torch.bfloat16)).train()
    make_trainer(3, "full").train()
    mixed, full = (saved_weights(tmp_path / name)["conv.weight"] for name in ("bf16", "full"))
    assert mixed.dtype is torch.float32 and not torch.equal(mixed, full)
    with pytest.raises(ConfigError, match="float16 needs a GPU.*bfloat16"):
        Precision("cpu", torch.float16)


def test_sync_bn_on_the_cpu_is_refused(make_trainer):
    model = TinyModel()
    model.norm = nn.SyncBatchNorm(4)
    with pytest.raises(ConfigError, match="SyncBN needs GPUs.*norm"):
        make_trainer(2, model=model)


def test_fresh_start_does_not_take_an_old_run_silently(make_trainer, caplog):
    make_trainer(2).train()
    with caplog.at_level("WARNING", logger="cellseg_d2"):
        trainer = make_trainer(2)
        trainer.resume_or_load(resume=False)
    assert trainer.start_iter == 0 and "--resume continues it" in caplog.text
