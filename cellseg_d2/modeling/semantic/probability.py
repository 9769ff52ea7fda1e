"""From the logits of a semantic head to the probability of cells."""

from torch import Tensor

__all__ = ["foreground_probability"]


def foreground_probability(logits: Tensor) -> Tensor:
    """Probability that a pixel belongs to a cell.

    Args:
        logits: (..., K, H, W); K = 1: one foreground logit; K = 3: background, interior and edge.

    Returns:
        (..., H, W) float32: sigmoid(logit), or 1 - softmax(background).
    """
    logits = logits.float()
    return logits[..., 0, :, :].sigmoid() if logits.shape[-3] == 1 else 1 - logits.softmax(-3)[..., 0, :, :]
