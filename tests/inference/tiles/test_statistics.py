"""Tiles with the statistics of the whole image give what the whole image gives."""

import numpy as np
import pytest
import torch
from torch import nn

from cellseg_d2.inference.tiles.statistics import SharedStatistics
from cellseg_d2.inference.tiles.tiling import plan_tiles, stitch
from cellseg_d2.modeling.backbone.vovnet import ESE

HEIGHT, WIDTH = 50, 70


class Network(nn.Module):
    """Layers that look at each pixel alone but for their global statistics; the norm is called twice."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.ese = nn.Conv2d(3, 8, 1), nn.GroupNorm(4, 8), ESE(8)

    def forward(self, image):
        x = self.norm(self.ese(self.first(image))).relu()
        return self.norm(x * image.mean(1, keepdim=True)).sum(1)[0]


@pytest.fixture
def scene():
    """A network, an image whose left is darker than its right, and tiles."""
    torch.manual_seed(0)
    model = Network().eval()
    nn.init.normal_(model.norm.weight)
    image = torch.randn(1, 3, HEIGHT, WIDTH) + torch.linspace(-2, 2, WIDTH)
    return model, image, plan_tiles(HEIGHT, WIDTH, 32, 8)


@torch.no_grad()
def by_tiles(model, image, tiles):
    return stitch(tiles, [model(image[:, :, *tile.slices]).numpy() for tile in tiles])


@torch.no_grad()
def test_tiles_give_what_the_whole_image_gives(scene):
    model, image, tiles = scene
    whole, own = model(image).numpy(), by_tiles(model, image, tiles)
    shared = SharedStatistics(model)
    shared.measure(tiles, lambda tile: model(image[:, :, *tile.slices]), passes=3)
    with shared.applied():
        together = by_tiles(model, image, tiles)
    assert abs(own - whole).max() > 0.5
    assert np.allclose(together, whole, atol=1e-4)


@torch.no_grad()
def test_the_model_is_as_before_afterwards(scene):
    model, image, tiles = scene
    before, shared = model(image), SharedStatistics(model)
    with shared.applied():  # nothing measured
        assert torch.equal(model(image), before)
    shared.measure(tiles, lambda tile: model(image[:, :, *tile.slices]))
    with pytest.raises(RuntimeError, match="stop"), shared.applied():
        raise RuntimeError("stop")
    assert torch.equal(model(image), before)
    assert not any(layer._forward_hooks for layer in model.modules())
