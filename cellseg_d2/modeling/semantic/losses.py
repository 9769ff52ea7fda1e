"""Losses on pixels: weighted cross entropy, soft Dice and the focal loss, none of which sees ignored pixels."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .probability import foreground_probability

__all__ = ["SemanticLoss"]

# Keeps a power of zero differentiable for exponents below 1; far below the spacing of float32 numbers near 1.
TINY = 1e-12


class SemanticLoss(nn.Module):
    """Weighted sum of three losses on a batch of label images, in float32.

    With c the cross entropy of a pixel (binary for one class), w its weight, p its probability of foreground and
    g = 1 for foreground, over the pixels of the batch whose class is not ``ignore_value``::

        cross entropy   sum(w c) / sum(w)
        dice            1 - (2 sum(p g) + 1) / (sum(p^2) + sum(g^2) + 1)      Milletari et al. 2016
        focal           sum(w (1 - exp(-c))^gamma c) / sum(w)                 Lin et al. 2017

    The one pixel added in Dice makes it zero where there is nothing to find and nothing is found.

    Args:
        cross_entropy, dice, focal: their weights; a loss of weight 0 is not computed.
        focal_gamma: how much the focal loss favours pixels that are hard; 0 is cross entropy.
        num_classes: 1 (one logit: foreground) or more (class 0 is background).
        ignore_value: class of pixels that do not count.
    """

    def __init__(
        self,
        *,
        cross_entropy: float = 1.0,
        dice: float = 0.0,
        focal: float = 0.0,
        focal_gamma: float = 2.0,
        num_classes: int = 1,
        ignore_value: int = 255,
    ):
        super().__init__()
        if min(cross_entropy, dice, focal, focal_gamma) < 0 or not cross_entropy + dice + focal > 0:
            raise ValueError(
                "MODEL.SEMANTIC: of the weights CROSS_ENTROPY, DICE and FOCAL at least one is to be above 0, and none "
                f"of them nor FOCAL_GAMMA below; not {cross_entropy}, {dice}, {focal} and {focal_gamma}"
            )
        self.cross_entropy, self.dice, self.focal, self.focal_gamma = cross_entropy, dice, focal, focal_gamma
        self.num_classes, self.ignore_value = num_classes, ignore_value

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The loss of a batch.

        Args:
            logits: (N, K, H, W).
            targets: (N, 2, H, W) class and weight of each pixel, or (N, H, W) classes (all weights 1).

        Returns:
            float32 scalar; 0, still connected to the network, where no pixel counts.

        Raises:
            ValueError: shapes do not belong together, or there is a class that the model has not.
        """
        classes, weights = self._read(logits, targets)
        logits, valid = logits.float(), classes != self.ignore_value
        weights, classes = weights * valid, classes.where(valid, 0)
        loss = logits.new_zeros(())
        if self.cross_entropy or self.focal:
            entropy = self._entropy(logits, classes)
            loss = loss + self.cross_entropy * _mean(entropy, weights)
        if self.focal:
            hardness = (-torch.expm1(-entropy)).clamp_min(TINY) ** self.focal_gamma
            loss = loss + self.focal * _mean(hardness * entropy, weights)
        if self.dice:
            loss = loss + self.dice * _dice(foreground_probability(logits) * valid, (classes > 0) & valid)
        return loss

    def _read(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """(N, H, W) int64 classes and (N, H, W) float32 weights."""
        n, k, *size = logits.shape
        if k != self.num_classes or targets.shape not in {(n, *size), (n, 2, *size)}:
            raise ValueError(
                f"logits {tuple(logits.shape)} and targets {tuple(targets.shape)}: expected (N, {self.num_classes}, "
                "H, W), and (N, 2, H, W) class and weight or (N, H, W) class"
            )
        planes = targets.ndim == 4
        classes = (targets[:, 0] if planes else targets).long()
        highest = max(self.num_classes, 2) - 1
        wrong = (classes != self.ignore_value) & ((classes < 0) | (classes > highest))
        if wrong.any():
            raise ValueError(
                f"sem_seg has pixels of class {int(classes[wrong][0])}; MODEL.SEM_SEG_HEAD.NUM_CLASSES "
                f"{self.num_classes} means classes 0 .. {highest}, and {self.ignore_value} for ignored"
            )
        return classes, targets[:, 1].float() if planes else torch.ones_like(classes, dtype=torch.float32)

    def _entropy(self, logits: Tensor, classes: Tensor) -> Tensor:
        """(N, H, W) cross entropy of each pixel."""
        if self.num_classes == 1:
            return F.binary_cross_entropy_with_logits(logits[:, 0], classes.float(), reduction="none")
        return F.cross_entropy(logits, classes, reduction="none")


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean; 0 where all weights are."""
    total = weights.sum()
    return (weights * values).sum() / total.where(total > 0, 1)


def _dice(probability: Tensor, truth: Tensor) -> Tensor:
    """Soft Dice loss of the batch as one volume."""
    both = (probability * truth).sum()
    return 1 - (2 * both + 1) / (probability.square().sum() + truth.sum() + 1)
