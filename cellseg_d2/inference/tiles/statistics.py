"""Statistics of the whole image for layers that would take those of one tile.

Effective squeeze-and-excitation takes the mean of its input, group normalisation mean and variance: of a tile they are
others than of the whole image, and so are the cells that a model finds in it. Measured over all tiles first and then
given to each, they make tiles give what the whole image would.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...modeling.backbone.vovnet import ESE
from .tiling import Tile

__all__ = ["SharedStatistics"]


class SharedStatistics:
    """Mean and mean square of the channels that each call of such a layer gets, over the cores of all tiles.

    Args:
        model: whose layers are meant; images one at a time, in a forward pass that calls them in the same order.

    Examples:
        >>> shared = SharedStatistics(model)                                          # doctest: +SKIP
        >>> shared.measure(tiles, lambda tile: model.backbone(images[tile]))          # doctest: +SKIP
        >>> with shared.applied():                                                    # doctest: +SKIP
        ...     cells = predictor(image[tile.slices])
    """

    def __init__(self, model: nn.Module):
        self.layers = [layer for layer in model.modules() if isinstance(layer, (ESE, nn.GroupNorm))]
        self.whole: list[Tensor] = []  # of each call: (2, C) float64, mean and mean square

    @torch.no_grad()
    def measure(self, tiles: Sequence[Tile], forward: Callable[[Tile], object], passes: int = 2) -> None:
        """Measure over all tiles.

        Args:
            forward: runs the layers on a tile.
            passes: what a layer gets depends on the statistics of those before it; each pass takes them from the last.
        """
        for _ in range(passes):
            sums: list[Tensor] = []  # of each call: (2, C + 1), the last column the pixels
            for tile in tiles:
                seen: list[Tensor] = []
                with self._hooks(lambda call, layer, x: seen.append(_core_sums(x, tile))), self.applied():  # noqa: B023
                    forward(tile)
                sums = [a + b for a, b in zip(sums, seen, strict=True)] if sums else seen
            self.whole = [total[:, :-1] / total[:, -1:] for total in sums]

    @contextmanager
    def applied(self) -> Iterator[None]:
        """While it lasts, the layers work with what was measured; with their own statistics where nothing was."""
        with self._hooks(lambda call, layer, x: _normalized(layer, x, self.whole[call]) if self.whole else None):
            yield

    @contextmanager
    def _hooks(self, act: Callable[[int, nn.Module, Tensor], Tensor | None]) -> Iterator[None]:
        """Call ``act`` after each layer with the number of the call, the layer and its input."""
        calls = iter(range(1 << 30))
        hooks, whole = [], len(self.whole)

        def hook(layer: nn.Module, inputs: tuple[Tensor], _: Tensor) -> Tensor | None:
            call = next(calls)
            return act(call % whole if whole else call, layer, inputs[0])

        try:
            hooks = [layer.register_forward_hook(hook) for layer in self.layers]
            yield
        finally:
            for handle in hooks:
                handle.remove()


def _core_sums(x: Tensor, tile: Tile) -> Tensor:
    """(2, C + 1) float64: sums and sums of squares of a map (1, C, h, w) over the tile's core, and its pixels."""
    rows, columns = (
        slice(round(part.start * n / full), max(round(part.stop * n / full), round(part.start * n / full) + 1))
        for part, n, full in zip(tile.core_inside, x.shape[2:], tile.size)
    )
    core = x[0, :, rows, columns].flatten(1).double()
    pixels = core.new_full((2, 1), core.shape[1])
    return torch.cat([torch.stack([core.sum(1), core.square().sum(1)]), pixels], dim=1)


def _normalized(layer: nn.Module, x: Tensor, moments: Tensor) -> Tensor:
    """What the layer makes of ``x`` with given (2, C) moments."""
    if isinstance(layer, ESE):
        return x * F.hardsigmoid(layer.fc(moments[0, None, :, None, None].to(x.dtype)))
    groups = moments.reshape(2, layer.num_groups, -1).mean(2)
    mean, square = groups.repeat_interleave(x.shape[1] // layer.num_groups, dim=1)
    mean, variance = mean.to(x.dtype), (square - mean.square()).to(x.dtype)
    return F.batch_norm(x, mean, variance, layer.weight, layer.bias, eps=layer.eps)
