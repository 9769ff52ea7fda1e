"""One semantic model a cell type behind one interface, which asks the model of each image's type."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import Instances
from torch import Tensor, nn

from .segmentor import CellSegmentor

__all__ = ["AverageSegmentor", "CellTypeEnsemble"]

# Keeps the logit of a probability of 0 or 1 finite.
EPSILON = 1e-6


class AverageSegmentor(CellSegmentor):
    """The mean of models' probabilities as one model, for prediction: it has no weights and no input of its own.

    Its options of cells are those of the first model, its threshold the mean of all.

    Args:
        members: models with the same number of classes; they stay where they are.
    """

    def __init__(self, members: Iterable[CellSegmentor]) -> None:
        nn.Module.__init__(self)
        self.members = tuple(members)  # a tuple, so that they are not registered a second time
        self.cells = self.members[0].cells
        self.eval()

    @property
    def threshold(self) -> Tensor:
        """Mean of the models' thresholds, 0-d float32."""
        return torch.stack([member.threshold for member in self.members]).mean()

    @property
    def device(self) -> torch.device:
        """Of the first model."""
        return self.members[0].device

    def logits(self, batched_inputs: list[dict[str, Any]]) -> list[Tensor]:
        """(K, H, W) float32 logits of each image whose probabilities are the means of all models'."""
        each = [member.logits(batched_inputs) for member in self.members]
        return [_average(torch.stack(logits)) for logits in zip(*each)]


@META_ARCH_REGISTRY.register()
class CellTypeEnsemble(nn.Module):
    """One :class:`CellSegmentor` a cell type; each image goes to the model of its ``cell_type``.

    Args:
        members: models by cell type, lower case.
        unknown: images of no or another cell type are an "error", or cells of the "average" probability of all models
            (training always needs the type).

    Raises:
        ValueError: no members, a name that cannot be one, or synchronised batch norm.
    """

    @configurable
    def __init__(self, members: Mapping[str, CellSegmentor], *, unknown: str = "error") -> None:
        super().__init__()
        if unknown not in ("error", "average"):
            raise ValueError(f"MODEL.ENSEMBLE.UNKNOWN: error or average, not {unknown!r}")
        self.unknown = unknown
        self.members = nn.ModuleDict(members)
        if any(isinstance(module, nn.SyncBatchNorm) for module in self.modules()):
            # A process whose images lack a type does not run its model, and the others would wait for it for ever.
            raise ValueError("MODEL.META_ARCHITECTURE CellTypeEnsemble: its models cannot have the norm SyncBN; use BN")

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """A CellSegmentor of the configuration for each of MODEL.ENSEMBLE.CELL_TYPES."""
        types = [str(name).lower() for name in cfg.MODEL.ENSEMBLE.CELL_TYPES]
        wrong = [name for name in types if not name or "." in name or hasattr(nn.ModuleDict, name)]
        if not types or wrong or len(set(types)) < len(types):
            raise ValueError(
                "MODEL.ENSEMBLE.CELL_TYPES: one or more different names without dots, which are not words of PyTorch "
                f"such as 'type'; not {list(cfg.MODEL.ENSEMBLE.CELL_TYPES)}"
            )
        return {"members": {name: CellSegmentor(cfg) for name in types}, "unknown": cfg.MODEL.ENSEMBLE.UNKNOWN}

    @property
    def device(self) -> torch.device:
        """Where the models are."""
        return self._average().device

    @property
    def threshold(self) -> Tensor:
        """Mean of the models' thresholds, 0-d float32; :meth:`set_threshold` changes them."""
        return self._average().threshold

    def set_threshold(self, threshold: float) -> None:
        """Pixels of at least this foreground probability are cells from now on, whatever their type."""
        for member in self.members.values():
            member.set_threshold(threshold)

    def forward(self, batched_inputs: list[dict[str, Any]]) -> dict[str, Tensor] | list[dict[str, Any]]:
        """Losses in training; else one dict an image, in their order; see :meth:`CellSegmentor.forward`.

        Args:
            batched_inputs: as of CellSegmentor, with ``cell_type``.

        Raises:
            ValueError: the cell type of an image is missing or unknown.
        """
        if self.training:
            return self._losses(batched_inputs)
        return self._in_order(batched_inputs, lambda model, inputs: model(inputs))

    def logits(self, batched_inputs: list[dict[str, Any]]) -> list[Tensor]:
        """(K, H, W) logits of each image at output size."""
        return self._in_order(batched_inputs, lambda model, inputs: model.logits(inputs))

    def predict_rle(self, batched_inputs: list[dict[str, Any]]) -> list[Instances]:
        """The cells of each image with ``pred_rles`` instead of masks, see :meth:`CellSegmentor.predict_rle`."""
        return self._in_order(batched_inputs, lambda model, inputs: model.predict_rle(inputs))

    def _losses(self, batched_inputs: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Means over the images of the batch. Models without an image of their type get no gradient, not even of zero,
        with which momentum and decay would go on moving them."""
        losses: dict[str, Tensor] = {}
        for name, places in self._route(batched_inputs).items():
            for key, loss in self.members[name]([batched_inputs[i] for i in places]).items():
                losses[key] = losses.get(key, 0) + loss * (len(places) / len(batched_inputs))
        return losses

    def _in_order(
        self, batched_inputs: list[dict[str, Any]], predict: Callable[[CellSegmentor, list[dict[str, Any]]], Sequence]
    ) -> list:
        """What ``predict`` gives for each image, with the model of its type."""
        outputs: list = [None] * len(batched_inputs)
        for name, places in self._route(batched_inputs).items():
            model = self._average() if name is None else self.members[name]
            for place, output in zip(places, predict(model, [batched_inputs[i] for i in places])):
                outputs[place] = output
        return outputs

    def _route(self, batched_inputs: list[dict[str, Any]]) -> dict[str | None, list[int]]:
        """Positions in the batch of the images of each cell type; of unknown types under None."""
        routes: dict[str | None, list[int]] = {}
        for i, x in enumerate(batched_inputs):
            name = str(x.get("cell_type") or "").lower()
            known = name in self.members
            if not known and (self.training or self.unknown == "error"):
                hint = "" if self.training else ", or set MODEL.ENSEMBLE.UNKNOWN average"
                raise ValueError(
                    f"{x.get('file_name', f'image {i} of the batch')}: its cell type is {name or 'not given'}; there "
                    f'are models for {", ".join(self.members)}. Put one of these under "cell_type"{hint}'
                )
            routes.setdefault(name if known else None, []).append(i)
        return routes

    def _average(self) -> AverageSegmentor:
        return AverageSegmentor(self.members.values())


def _average(logits: Tensor) -> Tensor:
    """(M, K, H, W) logits of M models -> (K, H, W) logits of the mean probabilities."""
    logits = logits.float()
    if logits.shape[1] == 1:
        return logits.sigmoid().mean(0).logit(EPSILON)
    return logits.softmax(1).mean(0).clamp_min(EPSILON).log()
