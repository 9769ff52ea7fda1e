"""The validation loss depends on weights and data only, and changes neither weights nor statistics."""

import pytest
import torch
from detectron2.utils.events import EventStorage, get_event_storage

from cellseg_d2.engine.errors import EvaluationInterrupted
from cellseg_d2.engine.validation import validation_losses

from .conftest import TinyModel, made_up_batches


def batches(count):
    source = made_up_batches(0, 3)
    return [next(source) for _ in range(count)]


def test_repeatable_and_without_side_effects():
    model = TinyModel().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first = validation_losses(model, batches(3))
    torch.rand(5)
    assert validation_losses(model, batches(3)) == first
    assert not model.training and not model.norm.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(parameter.grad is None for parameter in model.parameters())
    assert first["val/total_loss"] == pytest.approx(first["val/loss_a"] + first["val/loss_b"])


def test_mean_counts_images_not_batches():
    class Size(torch.nn.Module):
        def forward(self, batch):
            return {"loss_size": torch.tensor(float(len(batch)))}

    image = {"image": torch.zeros(1)}
    losses = validation_losses(Size(), [[image] * 3, [image]])
    assert losses["val/loss_size"] == pytest.approx((3 * 3 + 1) / 4)


def test_statistics_of_the_model_stay_out_of_the_runs_storage():
    class Chatty(TinyModel):
        def forward(self, batch):
            get_event_storage().put_scalar("roi_head/num_fg", 1.0)
            assert self.training and not self.norm.training
            return super().forward(batch)

    with EventStorage() as storage:
        validation_losses(Chatty(), batches(1))
    assert storage.latest() == {}


def test_interrupt_and_empty_data(caplog):
    with pytest.raises(EvaluationInterrupted):
        validation_losses(TinyModel(), batches(1), should_stop=lambda: True)
    with caplog.at_level("WARNING", logger="cellseg_d2"):
        assert validation_losses(TinyModel(), []) == {}
    assert "No image" in caplog.text
