"""A trainer of a tiny model on made-up data: everything that does not need a detector."""

from pathlib import Path

import pytest
import torch
from detectron2.solver import LRMultiplier
from fvcore.common.param_scheduler import CosineParamScheduler
from torch import nn

from cellseg_d2.engine import Trainer, TrainerOptions


class TinyModel(nn.Module):
    """Two losses of a batch; draws random numbers, as the samplers of a detector do, and has running statistics."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(1, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.poison = float("nan")

    def forward(self, batch):
        images = torch.stack([record["image"] for record in batch])
        features = self.norm(self.conv(images))
        kept = features[torch.rand(features.shape) > 0.5]
        wrong = sum("bad" in record["file_name"] for record in batch)
        return {"loss_a": kept.square().mean() * (self.poison if wrong else 1), "loss_b": (kept - 1).abs().mean()}


def made_up_batches(start_iter, seed, bad_at=None):
    """Endless batches of two images that follow from (seed, iteration)."""
    iteration = start_iter
    while True:
        generator = torch.Generator().manual_seed(seed * 1000 + iteration)
        names = [f"bad_{n}.tif" if iteration == bad_at else f"good_{n}.tif" for n in range(2)]
        yield [{"image": torch.rand(1, 8, 8, generator=generator), "file_name": name} for name in names]
        iteration += 1


@pytest.fixture
def make_trainer(tmp_path):
    """make_trainer(max_iter, folder="run", **options): a Trainer built from parts."""

    def make(
        max_iter, folder="run", *, evaluations=(), build_loader=made_up_batches, precision=None, model=None, **options
    ):
        output_dir = tmp_path / folder
        output_dir.mkdir(exist_ok=True)
        model = model or TinyModel()
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        return Trainer(
            model=model,
            optimizer=optimizer,
            scheduler=LRMultiplier(optimizer, CosineParamScheduler(1, 0.1), max_iter),
            build_loader=build_loader,
            options=TrainerOptions(output_dir=str(output_dir), max_iter=max_iter, **options),
            precision=precision,
            evaluations=evaluations,
        )

    return make


@pytest.fixture
def scripted():
    """scripted(values): an evaluation that gives these values of segm/AP, one after the other."""

    def script(values):
        queue = iter(values)
        return lambda model, should_stop: {"segm": {"AP": next(queue)}}

    return script


def saved_weights(folder: Path, name: str = "model_final") -> dict:
    """The model in a checkpoint."""
    return torch.load(folder / f"{name}.pth", weights_only=True)["model"]
