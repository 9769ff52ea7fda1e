"""Synthetic cells added to training images as they are read: other densities without a file on disk."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from detectron2.structures import BoxMode

from ..label_maps import rasterise
from .background import split_background
from .cell_bank import BankImage, CellBank
from .cutout import free_pixels
from .generate import annotate
from .recipe import LEAST_CELLS, alike, draw_like
from .render import Scene, Target
from .units import CROWD, MARGIN

__all__ = ["AddCells"]

logger = logging.getLogger(__name__)


class AddCells:
    """Callable that puts more cells, of images of the same kind, where a training image has room.

    The image's own cells and annotations stay as they are; no added cell lies on them. Everything is drawn from NumPy's
    global generator, which the loader seeds for each sample.

    Args:
        bank: cell bank of 8-bit images, as ``dataset.py bank`` makes it.
        probability: that an image gets cells.
        most: at most so many cells are added for each one that is there; the number is drawn uniformly up to that.

    Raises:
        ValueError: a probability out of [0, 1], ``most`` not above 0, or a bank of images of more than 8 bits, whose
            grey values are not those that training sees.
    """

    def __init__(self, bank: CellBank, probability: float = 0.5, most: float = 1.0) -> None:
        if not 0 <= probability <= 1 or most <= 0:
            raise ValueError(f"INPUT.EXTENSION: PROBABILITY {probability} is not in [0, 1], or MOST {most} not above 0")
        other = next((image for image in bank.images if np.dtype(image.dtype) != np.uint8), None)
        if other is not None:
            raise ValueError(f"INPUT.EXTENSION.BANK: {other.file_name} has values of type {other.dtype}, not 8 bits")
        self.bank, self.probability, self.most = bank, probability, most
        self._usable = np.flatnonzero(bank.cells["usable"])
        self._classes = {category["id"]: place for place, category in enumerate(bank.categories)}

    def __call__(self, image: np.ndarray, annotations: Sequence[dict]) -> tuple[np.ndarray, list[dict]]:
        """Add cells.

        Args:
            image: H x W x 3 uint8 with three equal channels; colour images stay as they are.
            annotations: of a dataset dict.

        Returns:
            Image and annotations anew; the same ones where the image has no cell or no room, is in colour, or is of a
            kind of which the bank has fewer than ten cells.
        """
        rng = np.random.default_rng(np.random.randint(0, 2**31, 4))
        grey = image[:, :, 0]
        skipped = rng.random() >= self.probability or not annotations
        if skipped or (image != grey[:, :, None]).any():
            return image, list(annotations)
        labels = rasterise(annotations, *grey.shape)
        areas = np.bincount(labels[labels > 0])[1:]
        background = split_background(grey, free_pixels(labels != 0, MARGIN), 2 * np.sqrt(np.median(areas)), rng)
        if background is None:
            return image, list(annotations)
        residual = grey - background.smooth
        like = _described(labels, residual, areas, background.smooth, background.noise)
        target = Target(cells=round(rng.uniform(0, self.most) * len(areas)))
        kin = np.array([alike(like, other) for other in self.bank.images])
        cells = self._usable[kin[self.bank.cells["image"][self._usable]]]
        if len(cells) < LEAST_CELLS:
            logger.info("An image is of a kind of which the bank has %d cells; it stays as it is", len(cells))
            return image, list(annotations)
        scene = Scene(background.smooth, residual, CROWD * float(np.sqrt(like.area)), labels != 0)
        scene.fill(self.bank, draw_like(self.bank, like, cells, target), target, "free", rng)
        added = [self._as_record(annotation) for annotation in annotate(scene, self.bank, 0)]
        return np.repeat(scene.picture("uint8")[:, :, None], 3, axis=2), [*annotations, *added]

    def _as_record(self, annotation: dict[str, Any]) -> dict[str, Any]:
        """A COCO annotation as one of a dataset dict."""
        kept = {key: annotation[key] for key in ("segmentation", "area", "bbox", "iscrowd")}
        return {**kept, "category_id": self._classes[annotation["category_id"]], "bbox_mode": BoxMode.XYWH_ABS}


def _described(
    labels: np.ndarray, residual: np.ndarray, areas: np.ndarray, smooth: np.ndarray, noise: float
) -> BankImage:
    """An image in the bank's terms."""
    inside = labels > 0
    sums = np.bincount(labels[inside], residual[inside], len(areas) + 1)[1:]
    there = areas > 0
    return BankImage(
        "", 0, "", None, *labels.shape, "|u1", int(there.sum()), float(inside.mean()), float(np.median(smooth)), noise,
        float(np.median(sums[there] / areas[there])), float(np.median(areas[there])), float((labels == 0).mean()),
    )  # fmt: skip
