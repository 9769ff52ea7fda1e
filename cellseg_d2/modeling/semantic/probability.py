"""From the logits of a semantic head to the probability of cells."""

from torch import Tensor

__all__ = ["foreground_logit", "foreground_probability"]


def foreground_probability(logits: Tensor) -> Tensor:
    """Probability that a pixel belongs to a cell.

    Args:
        logits: (..., K, H, W); K = 1: one foreground logit; K = 3: background, interior and edge.

    Returns:
        (..., H, W) float32: sigmoid(logit), or 1 - softmax(background).
    """
    logits = logits.float()
    return logits[..., 0, :, :].sigmoid() if logits.shape[-3] == 1 else 1 - logits.softmax(-3)[..., 0, :, :]


def foreground_logit(logits: Tensor) -> Tensor:
    """Log odds that a pixel belongs to a cell, exact where the probability is 0 or 1 in float32.

    Args:
        logits: as of :func:`foreground_probability`.

    Returns:
        (..., H, W) float32: z for K = 1, log(exp z1 + exp z2) - z0 for K = 3.
    """
    logits = logits.float()
    if logits.shape[-3] == 1:
        return logits[..., 0, :, :]
    return logits[..., 1:, :, :].logsumexp(-3) - logits[..., 0, :, :]
