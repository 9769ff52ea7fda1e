"""Augmentations of training and test images, made from the config."""

import sys

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import transforms as T

from .cell_crops import RandomCellCrop
from .datasets import SEMANTIC_ONLY
from .defocus import RandomDefocus
from .roll_and_rotate import IGNORED_CLASS, RandomRoll, RandomRotate

__all__ = ["CHANNELWISE", "RandomRot90", "RandomZoom", "Rot90Transform", "build_augmentations"]


class Rot90Transform(T.Transform):
    """A lossless turn by ``turns`` * 90 degrees, counter-clockwise as ``numpy.rot90``."""

    def __init__(self, height: int, width: int, turns: int) -> None:
        super().__init__()
        self.height, self.width, self.turns = height, width, turns % 4

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        """Turn an image of H x W or H x W x C."""
        return np.ascontiguousarray(np.rot90(img, self.turns, axes=(0, 1)))

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        """Turn a mask or label image of H x W."""
        return self.apply_image(segmentation)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        """Turn points (N x 2, x and y in continuous pixel coordinates)."""
        x, y = coords[:, 0], coords[:, 1]
        turned = {
            0: (x, y),
            1: (y, self.width - x),
            2: (self.width - x, self.height - y),
            3: (self.height - y, x),
        }
        return np.stack(turned[self.turns], axis=1)

    def inverse(self) -> "Rot90Transform":
        """The turn back."""
        height, width = (self.width, self.height) if self.turns % 2 else (self.height, self.width)
        return Rot90Transform(height, width, -self.turns)


class RandomRot90(T.Augmentation):
    """Turn by a random multiple of 90 degrees."""

    def get_transform(self, image: np.ndarray) -> Rot90Transform:
        """A turn of this image."""
        return Rot90Transform(*image.shape[:2], turns=int(np.random.randint(4)))


class RandomZoom(T.Augmentation):
    """Scale both sides by one factor, drawn uniformly from [low, high]."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        if not 0 < low <= high:
            raise ValueError(f"INPUT.RANDOM_ZOOM: {(low, high)} is not 0 < low <= high")
        self.low, self.high = low, high

    def get_transform(self, image: np.ndarray) -> T.ResizeTransform:
        """A scaling of this image."""
        height, width = image.shape[:2]
        factor = self._rand_range(self.low, self.high)
        return T.ResizeTransform(height, width, max(round(height * factor), 1), max(round(width * factor), 1))


# They treat each channel alone and take H x W; of exactly these types, as a subclass may do anything
CHANNELWISE = frozenset(
    [RandomCellCrop, RandomDefocus, RandomRoll, RandomRot90, RandomRotate, RandomZoom, T.RandomBrightness]
    + [T.RandomContrast, T.RandomCrop, T.RandomFlip, T.RandomRotation, T.Resize, T.ResizeShortestEdge]
)


def build_augmentations(cfg: CfgNode, is_train: bool) -> list[T.Augmentation]:
    """The augmentations in the order in which they are applied.

    Training: resize, shift circularly, turn by any angle, zoom, crop, flip, turn by 90 degrees, blur, brightness and
    contrast. Test: resize. A size of 0 means no resizing (``MIN_SIZE_*``) or no upper limit (``MAX_SIZE_*``).

    Raises:
        ValueError: an option out of range, or one that the mapper cannot follow.
    """
    if not is_train:
        return _resize(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST, "choice")
    augmentations = _resize(cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING)
    augmentations += _roll_rotate_zoom_crop(cfg)
    return augmentations + _flip(cfg.INPUT.RANDOM_FLIP) + _turn_and_jitter(cfg)


def _roll_rotate_zoom_crop(cfg: CfgNode) -> list[T.Augmentation]:
    """What chooses a part of the image: circular shift, turn by any angle, zoom, crop.

    Cells that a turn reflects have no instance; only semantic models, whose loss ignores these pixels, get to see them.
    """
    degrees, zoom = cfg.INPUT.RANDOM_ROTATION, tuple(cfg.INPUT.RANDOM_ZOOM)
    outside = "reflect" if cfg.MODEL.META_ARCHITECTURE in SEMANTIC_ONLY else "median"
    roll = [RandomRoll()] if cfg.INPUT.RANDOM_ROLL else []
    zooms = [RandomZoom(*zoom)] if zoom != (1.0, 1.0) else []
    crops = [_crop(cfg)] if cfg.INPUT.CROP.ENABLED else []
    if not degrees:
        return roll + zooms + crops
    if zooms or not crops or type(crops[0]) is not T.RandomCrop:  # others want to see what they crop
        return [*roll, RandomRotate(degrees, outside=outside), *zooms, *crops]
    return [*roll, RandomRotate(degrees, crops[0], outside)]


def _crop(cfg: CfgNode) -> T.Augmentation:
    """A random crop: anywhere, around cells, or with several classes."""
    crop = _plain_crop(cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE)
    share, favour = cfg.INPUT.CROP.SINGLE_CATEGORY_MAX_AREA, cfg.INPUT.CROP.FAVOUR_CELLS
    if not 0 <= favour <= 1:
        raise ValueError(f"INPUT.CROP.FAVOUR_CELLS: {favour} is not a share of the crops in [0, 1]")
    if favour:
        _require_mapper(cfg, "FAVOUR_CELLS above 0", "CellDatasetMapper")
    if share < 1:
        _require_mapper(cfg, "SINGLE_CATEGORY_MAX_AREA below 1", "SemanticMapper")
        return T.RandomCrop_CategoryAreaConstraint(crop.crop_type, crop.crop_size, share, IGNORED_CLASS)
    return RandomCellCrop(crop.crop_type, crop.crop_size, favour) if favour else crop


def _require_mapper(cfg: CfgNode, what: str, mapper: str) -> None:
    """The option is for one of the mappers."""
    if cfg.INPUT.MAPPER != mapper:
        raise ValueError(f"INPUT.CROP.{what} needs INPUT.MAPPER {mapper!r}; set it, or leave the option out")


def _resize(min_size: int | tuple[int, ...], max_size: int, sampling: str) -> list[T.Augmentation]:
    """Resize the shorter side."""
    sizes = (min_size,) if isinstance(min_size, int) else tuple(min_size)
    if not any(sizes):
        return []
    if sampling == "range" and len(sizes) == 1:
        sizes *= 2
    return [T.ResizeShortestEdge(sizes, max_size or sys.maxsize, sampling)]


def _plain_crop(crop_type: str, size: tuple[float, float]) -> T.RandomCrop:
    """A crop anywhere; absolute sizes are pixels, relative ones shares of the image."""
    if crop_type.startswith("absolute"):
        if any(side < 1 or side != int(side) for side in size):
            raise ValueError(f"INPUT.CROP.SIZE: {tuple(size)} are not pixels, but INPUT.CROP.TYPE is {crop_type!r}")
        return T.RandomCrop(crop_type, tuple(int(side) for side in size))
    if any(not 0 < side <= 1 for side in size):
        raise ValueError(
            f"INPUT.CROP.SIZE: {tuple(size)} are not shares of the image in (0, 1], but INPUT.CROP.TYPE is "
            f"{crop_type!r}; for a size in pixels set it to 'absolute'"
        )
    return T.RandomCrop(crop_type, tuple(size))


def _flip(direction: str) -> list[T.Augmentation]:
    """A random flip: "horizontal", "vertical" or "none"."""
    if direction == "none":
        return []
    if direction not in ("horizontal", "vertical"):
        raise ValueError(f"INPUT.RANDOM_FLIP: {direction!r} is not one of horizontal, vertical, none")
    return [T.RandomFlip(horizontal=direction == "horizontal", vertical=direction == "vertical")]


def _turn_and_jitter(cfg: CfgNode) -> list[T.Augmentation]:
    """Turns by 90 degrees; blur up to DEFOCUS_JITTER; brightness and contrast within 1 +- INTENSITY_JITTER."""
    jitter = cfg.INPUT.INTENSITY_JITTER
    if not 0 <= jitter < 1:
        raise ValueError(f"INPUT.INTENSITY_JITTER: {jitter} is not in [0, 1)")
    turn = [RandomRot90()] if cfg.INPUT.RANDOM_ROT90 else []
    blur = [RandomDefocus(cfg.INPUT.DEFOCUS_JITTER)] if cfg.INPUT.DEFOCUS_JITTER else []
    colour = [T.RandomBrightness(1 - jitter, 1 + jitter), T.RandomContrast(1 - jitter, 1 + jitter)] if jitter else []
    return turn + blur + colour
