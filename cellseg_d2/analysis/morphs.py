"""Cells that could have been: a cell's grey values in a shape between its own and that of another cell of its image."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from ..data.synthesis.cutout import Cutout, Variant, signed_distance, solidity_of
from ..data.synthesis.measuring_loops import EDGE, noise_level
from ..data.synthesis.units import MARGIN
from ..errors import DatasetError
from ..files import sha256
from .alignment import FIELD, SIDE, Aligned, align, largest_piece
from .shape_vae import ShapeVAE, decode, encode, load_vae

__all__ = ["Morphs"]

_STEPS, _RATE = 12, 0.6  # towards the place whose depth is that of a pixel
_SMOOTH = 1.5  # pixels over which the way there is smoothed


@dataclass(frozen=True)
class Morphs:
    """One cell more for each whole cell of an image: z = (1 - share) z_own + share z_other, with z the code of the
    aligned mask and the other one drawn at random; place, direction, area and neighbourhood stay its own.

    Attributes:
        folder: of a trained autoencoder, the output of ``dataset.py shapes``.
        share: how far each shape goes towards the other one, in (0, 1].

    Raises:
        DatasetError: a share out of range.
    """

    folder: str
    share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise DatasetError(f"a share of {self.share} between two shapes is not above 0 and at most 1")

    def describe(self) -> dict[str, Any]:
        """For JSON.

        Raises:
            MissingDataError, DatasetError: see :func:`.load_vae`.
        """
        load_vae(self.folder)
        return {"network": sha256(Path(self.folder) / "vae.pth"), "share": self.share}

    def __call__(self, cutouts: Sequence[Cutout], seed: int) -> list[Variant]:
        """The cells.

        Args:
            cutouts: all cells of the image; those at its border or overlapped by others are left out.
            seed: decides which shape each cell goes towards.
        """
        whole = [place for place, cell in enumerate(cutouts) if not cell.at_border and not cell.overlapped]
        if len(whole) < 2:
            return []
        aligned = [align(cutouts[place].distance > 0) for place in whole]
        others = np.random.default_rng(seed).integers(1, len(whole), len(whole))
        others = (np.arange(len(whole)) + others) % len(whole)
        images = _between(_network(self.folder), np.stack([own.image for own in aligned]), others, self.share)
        result, group = [], max(cell.group for cell in cutouts) + 1
        for place, own, other, image in zip(whole, aligned, others.tolist(), images, strict=True):
            made = _reshaped(cutouts[place], own, image)
            if made is not None:
                result.append(Variant(replace(made, group=group + len(result)), place, whole[other], self.share))
        return result


@lru_cache(maxsize=1)
def _network(folder: str) -> ShapeVAE:
    """Kept by each process."""
    return load_vae(folder)


def _between(model: ShapeVAE, images: np.ndarray, others: np.ndarray, share: float) -> np.ndarray:
    """(N, SIDE, SIDE) shapes between aligned masks and others of them; by one thread, so that they are the same in
    every process."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        codes = encode(model, images)
        return decode(model, (1 - share) * codes + share * codes[others])
    finally:
        torch.set_num_threads(threads)


def _reshaped(cell: Cutout, own: Aligned, image: np.ndarray) -> Cutout | None:
    """A cell in another aligned shape; None where that has no pixel."""
    pad = int(np.ceil(FIELD / 2 * own.scale))  # the window's corners may lie outside of the patch
    before = np.pad(cell.distance > 0, pad)
    after = _placed(image, own, before)
    if after is None:
        return None
    rows, columns = (np.flatnonzero(after.any(axis=axis)) for axis in (1, 0))
    top, left = int(rows[0]) - MARGIN, int(columns[0]) - MARGIN
    window = slice(top, int(rows[-1]) + 1 + MARGIN), slice(left, int(columns[-1]) + 1 + MARGIN)
    distance = signed_distance(after)
    values = _moved(np.pad(cell.delta, pad), signed_distance(before), distance)[window]
    distance, mask = distance[window], after[window]
    quarters = np.clip(np.rint(4 * distance), -127, 127).astype(np.int8)
    return replace(
        cell, top=cell.top + top - pad, left=cell.left + left - pad, delta=values, distance=quarters,
        area=int(mask.sum()), outer_gap=cell.gap, outer_contact=cell.contact, solidity=solidity_of(mask),
        contrast=float(values[mask].mean()), noise=noise_level(values, mask),
        edge_noise=noise_level(values, np.abs(quarters) <= 4 * EDGE),
    )  # fmt: skip


def _placed(image: np.ndarray, own: Aligned, before: np.ndarray) -> np.ndarray | None:
    """H x W bool: an aligned shape where the cell (``before``) lies, as it lies, with its area; one piece."""
    rows, columns = np.nonzero(before)
    axis = np.array([np.cos(own.angle), np.sin(own.angle)])
    step = FIELD * own.scale / SIDE
    linear = np.stack([axis, [-axis[1], axis[0]]]) / step  # from the frame's pixels to the aligned mask's
    matrix = np.column_stack([linear, (SIDE - 1) / 2 - linear @ [columns.mean(), rows.mean()]])
    values = cv2.warpAffine(image, matrix, before.shape[::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    level = float(np.partition(values, -len(rows), axis=None)[-len(rows)])
    if level <= 0:
        return None
    return largest_piece(values[None] >= level)[0]


def _moved(delta: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Grey values (H x W float32) moved along with the outline: each pixel takes those of the nearest place of its own
    depth, in shares of the greatest depth inside and in pixels outside.

    Args:
        delta: H x W float32.
        before, after: H x W float32, pixels to the outline, positive inside.
    """
    before, after = (_smoothed(plane.astype(np.float32)) for plane in (before, after))  # outlines have steps
    wanted = np.where(after > 0, after * (before.max() / after.max()), after)
    down, right = np.gradient(before)
    length = np.maximum(np.hypot(down, right), 1e-3)
    fields = [field.astype(np.float32) for field in (before, down / length, right / length)]
    rows, columns = np.indices(delta.shape, np.float32)
    y, x = np.zeros_like(rows), np.zeros_like(rows)
    for _ in range(_STEPS):
        here, south, east = (cv2.remap(field, columns + x, rows + y, cv2.INTER_LINEAR) for field in fields)
        y = _smoothed(y + _RATE * (wanted - here) * south)
        x = _smoothed(x + _RATE * (wanted - here) * east)
    return cv2.remap(delta, columns + x, rows + y, cv2.INTER_LANCZOS4)


def _smoothed(plane: np.ndarray) -> np.ndarray:
    """Without what varies from pixel to pixel."""
    return cv2.GaussianBlur(plane, (0, 0), _SMOOTH)
