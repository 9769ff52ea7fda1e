"""The inference loop: every image reaches the evaluator and the consumers, and the model's mode comes back."""

import pytest
import torch
from torch import nn

from cellseg_d2.engine.errors import EvaluationInterrupted, NonFinitePredictionError, UserError
from cellseg_d2.engine.testing import run_inference


class Recorder:
    """An evaluator that remembers what it was given."""

    def reset(self):
        self.seen = []

    def process(self, inputs, outputs):
        self.seen += [(record["image_id"], output) for record, output in zip(inputs, outputs, strict=True)]

    def evaluate(self):
        return {"images": len(self.seen)}


def predict(model, batch):
    assert not model.training and torch.is_inference_mode_enabled()
    return [record["image_id"] * 10 for record in batch]


LOADER = [[{"image_id": 1}, {"image_id": 2}], [{"image_id": 3}]]


def test_all_images_are_predicted_in_evaluation_mode():
    model, evaluator, consumed = nn.Linear(1, 1).train(), Recorder(), []
    consumer = lambda record, output: consumed.append((record["image_id"], output))  # noqa: E731
    assert run_inference(model, LOADER, evaluator, predict, [consumer]) == {"images": 3}
    assert evaluator.seen == consumed == [(1, 10), (2, 20), (3, 30)]
    assert model.training


def test_a_prediction_that_is_no_number_is_an_error_of_the_user():
    class Strict(Recorder):
        def process(self, inputs, outputs):
            raise FloatingPointError("prediction for image a.tif has a box that is NaN or infinite")

    with pytest.raises(NonFinitePredictionError, match=r"a\.tif") as error:
        run_inference(nn.Linear(1, 1), LOADER, Strict(), predict)
    assert isinstance(error.value, UserError)


def test_a_stop_request_ends_it_after_the_batch():
    model, evaluator = nn.Linear(1, 1).train(), Recorder()
    with pytest.raises(EvaluationInterrupted):
        run_inference(model, LOADER, evaluator, predict, should_stop=lambda: True)
    assert len(evaluator.seen) == 2 and model.training
