"""Putting weights of others into a model, and saying exactly what did not fit."""

import logging
from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .weights_file import WeightsError, read_weights

__all__ = ["LoadReport", "WeightsError", "load_weights"]

logger = logging.getLogger(__name__)

# Where a file's names may begin below our own: whole models, wrapped models, backbones alone.
PREFIXES = ("", "backbone.bottom_up.", "backbone.")
# Not weights: the mean and deviation of pixels are configuration.
IGNORED = ("pixel_mean", "pixel_std")


@dataclass(frozen=True)
class LoadReport:
    """What happened to the entries of a weight file.

    Attributes:
        path: the file.
        loaded: names in the model that were filled.
        missing: names in the model that the file has not; they keep their values.
        unexpected: names in the file that the model has not.
        mismatched: names with another shape in the file: (name, shape in the file, shape in the model).
    """

    path: str
    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]

    def __str__(self) -> str:
        total = len(self.loaded) + len(self.missing) + len(self.mismatched)
        lines = [f"{self.path}: {len(self.loaded)} of {total} tensors loaded"]
        if self.missing:
            lines.append("  not in the file, left as initialised: " + _grouped(self.missing))
        if self.unexpected:
            lines.append("  in the file but not in the model, unused: " + _grouped(self.unexpected))
        lines += [f"  other shape: {n} is {list(a)} in the file, {list(b)} in the model" for n, a, b in self.mismatched]
        return "\n".join(lines)


def load_weights(
    model: nn.Module, path: str, *, reinit_mismatched: bool = False, complete: bool = False, trust: bool = False
) -> LoadReport:
    """Fill a model from a weight file: a whole model, or a backbone alone (ImageNet weights).

    Args:
        model: changed in place.
        path: see :func:`weights_file.read_weights`.
        reinit_mismatched: leave layers as initialised whose shape differs, for transfer to another number of
            classes; else that is an error.
        complete: require that the file fills every entry of the model (as evaluation does).
        trust: see :func:`weights_file.read_weights`.

    Returns:
        The report, which is logged too.

    Raises:
        WeightsError: the file cannot be read, nothing matched, shapes differ, or entries are missing.
    """
    own = model.state_dict()
    state = read_weights(path, trust=trust)
    if all(k.startswith("module.") for k in state):  # saved from a data-parallel wrapper
        state = {k.removeprefix("module."): v for k, v in state.items()}
    _compare_pixel_statistics(model, state, path)
    state = _rename(state, own)
    fitting = {k: v for k, v in state.items() if k in own and v.shape == own[k].shape}
    mismatched = tuple(
        (k, tuple(v.shape), tuple(own[k].shape)) for k, v in state.items() if k in own and v.shape != own[k].shape
    )
    wanted = [k for k in own if not k.endswith("num_batches_tracked")]
    report = LoadReport(
        path,
        loaded=tuple(k for k in wanted if k in fitting),
        missing=tuple(k for k in wanted if k not in state),
        unexpected=tuple(k for k in state if k not in own),
        mismatched=mismatched,
    )
    _judge(report, reinit_mismatched, complete, state, own)
    model.load_state_dict(fitting, strict=False)
    complaints = report.missing or report.unexpected or report.mismatched
    (logger.warning if complaints else logger.info)("%s", report)
    return report


def _judge(report: LoadReport, reinit_mismatched: bool, complete: bool, state: dict, own: dict) -> None:
    if not report.loaded and not report.mismatched:
        raise WeightsError(
            f"{report.path}: none of its {len(state)} entries belongs to this model. The file has {_some(state)}; the "
            f"model has {_some(own)}. Is the file of another architecture (MODEL.VOVNET.CONV_BODY)?"
        )
    if report.mismatched and not reinit_mismatched:
        raise WeightsError(
            f"{report}\nThe model was built for other widths or another number of classes than the file. Set "
            "MODEL.FCOS.NUM_CLASSES and MODEL.ROI_HEADS.NUM_CLASSES (or MODEL.VOVNET.CONV_BODY) as in the file; or, to "
            "train for new classes from these weights, set MODEL.REINIT_MISMATCHED True"
        )
    if not report.loaded:
        raise WeightsError(f"{report}\nNothing of this file fits the configured model (MODEL.VOVNET.CONV_BODY?)")
    if complete and (report.missing or report.mismatched):
        raise WeightsError(f"{report}\nEvaluation needs all weights; this file is incomplete for the configured model")


def _rename(state: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
    """The file's entries under the model's names: the prefix under which most of them are known.

    Every member of an ensemble gets the entries of a file of a single model.
    """
    members = sorted({".".join(k.split(".")[:2]) + "." for k in own if k.startswith("members.")})
    if members and not any(k.startswith("members.") for k in state):
        single = {k.removeprefix(members[0]): v for k, v in own.items() if k.startswith(members[0])}
        return {member + k: v for k, v in _rename(state, single).items() for member in members}
    known = {prefix: sum(prefix + k in own for k in state) for prefix in PREFIXES}
    best = max(PREFIXES, key=lambda prefix: known[prefix])
    renamed = {best + k: v for k, v in state.items() if k not in IGNORED}
    return {k: v for k, v in renamed.items() if k in own or not k.endswith("num_batches_tracked")}


def _compare_pixel_statistics(model: nn.Module, state: dict[str, Tensor], path: str) -> None:
    """Say so when the file was trained with another pixel mean or deviation than the model has."""
    for name in IGNORED:
        buffer, value = getattr(model, name, None), state.get(name)
        if buffer is None or value is None or value.numel() != buffer.numel():
            continue
        if not torch.allclose(buffer.flatten().cpu().float(), value.flatten().float(), rtol=1e-3):
            logger.warning(
                "%s was trained with %s %s, the configuration has %s: set MODEL.%s to it",
                path, name, value.flatten().tolist(), buffer.flatten().tolist(), name.upper(),
            )  # fmt: skip


def _grouped(names: tuple[str, ...]) -> str:
    """Names counted by their first two parts: "roi_heads.mask_head (12), ..."."""
    counts = Counter(".".join(n.split(".")[:2]) for n in names)
    return ", ".join(f"{part} ({count})" for part, count in counts.items())


def _some(names: dict) -> str:
    return ", ".join(list(names)[:3]) + (", ..." if len(names) > 3 else "")
