"""The moving average of the weights: its numbers, and that evaluations, checkpoints and resumed runs take it."""

import signal

import pytest
import torch
from detectron2.engine import HookBase
from torch import nn

from cellseg_d2.engine import ConfigError, TrainingInterrupted
from cellseg_d2.engine.averaging import WeightAverage

from .conftest import TinyModel, saved_weights
from .test_training_run import Interrupting, assert_same


class Recorder(HookBase):
    """The weights after each step."""

    def __init__(self, model):
        self.model, self.seen = model, []

    def after_step(self):
        self.seen.append({k: v.detach().clone() for k, v in self.model.state_dict().items()})


def averaged(seen, start, decay):
    """The formula of the documentation, number by number."""
    average = {k: v.double() for k, v in start.items() if v.is_floating_point()}
    for t, weights in enumerate(seen):
        d = min(decay, (1 + t) / (10 + t))
        average = {k: d * a + (1 - d) * weights[k].double() for k, a in average.items()}
    return average


def test_checkpoints_and_evaluations_have_the_average_of_all_steps(make_trainer, tmp_path):
    evaluated = []

    def evaluate(model, should_stop):
        evaluated.append({k: v.clone() for k, v in model.state_dict().items()})
        return {"segm": {"AP": 1.0}}

    model = TinyModel()
    start = {k: v.clone() for k, v in model.state_dict().items()}
    trainer = make_trainer(30, model=model, ema_decay=0.7, evaluations=[evaluate])
    recorder = Recorder(model)
    trainer.register_hooks([recorder])
    trainer.train()
    expected = averaged(recorder.seen, start, 0.7)
    names = ("weight", "bias", "running_mean", "running_var")
    assert expected.keys() == {"conv.weight", "conv.bias", *(f"norm.{name}" for name in names)}
    assert not torch.allclose(expected["conv.weight"].float(), recorder.seen[-1]["conv.weight"], atol=1e-4)
    trainer.checkpointer.save("model_afterwards")
    saved = [saved_weights(tmp_path / "run", f"model_{name}") for name in ("final", "best", "afterwards")]
    for found in (*saved, evaluated[-1], model.state_dict()):
        for name, value in expected.items():
            torch.testing.assert_close(found[name].double(), value, rtol=1e-5, atol=1e-6)
    assert saved_weights(tmp_path / "run")["norm.num_batches_tracked"] == 30


def test_the_average_leaves_training_as_it_is(make_trainer):
    models = [TinyModel(), TinyModel()]
    recorders = [Recorder(model) for model in models]
    for model, recorder, decay in zip(models, recorders, (0.0, 0.9)):
        evaluate = lambda model, should_stop: {"segm": {"AP": 1.0}}  # noqa: E731
        trainer = make_trainer(6, str(decay), model=model, ema_decay=decay, evaluations=[evaluate], eval_period=2)
        trainer.register_hooks([recorder])
        trainer.train()
    for one, other in zip(*(recorder.seen for recorder in recorders), strict=True):
        assert_same(one, other)


def test_interrupted_and_resumed_run_ends_with_the_same_average(make_trainer, tmp_path):
    make_trainer(6, "straight", ema_decay=0.9).train()
    with pytest.raises(TrainingInterrupted):
        make_trainer(6, "stopped", ema_decay=0.9, build_loader=Interrupting(2, signal.SIGINT)).train()
    resumed = make_trainer(6, "stopped", ema_decay=0.9)
    resumed.resume_or_load(resume=True)
    resumed.train()
    assert_same(saved_weights(tmp_path / "stopped"), saved_weights(tmp_path / "straight"))


def test_a_run_that_gets_an_average_later_begins_it_with_its_weights(make_trainer, tmp_path):
    make_trainer(200, checkpoint_period=199).train()
    (tmp_path / "run" / "last_checkpoint").write_text("model_0000198.pth")
    before = saved_weights(tmp_path / "run", "model_0000198")
    model = TinyModel()
    trainer = make_trainer(200, model=model, ema_decay=0.9)
    recorder = Recorder(model)
    trainer.register_hooks([recorder])
    trainer.resume_or_load(resume=True)
    trainer.train()
    expected = 0.9 * before["conv.weight"] + 0.1 * recorder.seen[0]["conv.weight"]
    torch.testing.assert_close(saved_weights(tmp_path / "run")["conv.weight"], expected)


def test_applied_may_be_nested_and_ends_after_an_error():
    layer = nn.Linear(1, 1, bias=False)
    averages = WeightAverage(layer, 0.5)
    average = layer.weight.item()
    layer.weight.data.fill_(7)
    with averages.applied(), averages.applied():
        assert layer.weight.item() == average
    with pytest.raises(RuntimeError), averages.applied():
        raise RuntimeError
    assert layer.weight.item() == 7


@pytest.mark.parametrize("decay", [1.0, -0.1, 2.0])
def test_impossible_decay(make_trainer, decay):
    with pytest.raises(ConfigError, match="EMA_DECAY"):
        make_trainer(2, ema_decay=decay)
