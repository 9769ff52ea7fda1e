"""Crops that favour dense areas: some are placed around cells, and the cells' centres go through what comes before."""

import numpy as np
from detectron2.data import transforms as T
from fvcore.transforms.transform import CropTransform, Transform

__all__ = ["CellInput", "RandomCellCrop"]


class CellInput(T.AugInput):
    """An image with the centres of its cells, which augmentations may ask for as ``centres``.

    Args:
        image: H x W or H x W x C.
        centres: N x 2 float64, x and y in continuous pixel coordinates; some may come to lie outside of the image.
    """

    def __init__(self, image: np.ndarray, centres: np.ndarray) -> None:
        super().__init__(image)
        self.centres = centres

    def transform(self, tfm: Transform) -> None:
        """Change image and centres in place."""
        super().transform(tfm)
        self.centres = tfm.apply_coords(self.centres.copy())


class RandomCellCrop(T.RandomCrop):
    """Crop at random, some of the crops around a cell; so areas are drawn in proportion to their cells.

    Args:
        crop_type, crop_size: as ``T.RandomCrop``.
        favour: in (0, 1], the share of crops that contain the centre of a cell drawn at random, which lies at a random
            place in them: each position of the crop that contains it is as likely. Images without a cell are cropped
            anywhere.
    """

    def __init__(self, crop_type: str, crop_size: tuple[float, float], favour: float) -> None:
        super().__init__(crop_type, crop_size)
        self.favour = favour

    def get_transform(self, image: np.ndarray, centres: np.ndarray) -> CropTransform:
        """A crop of this image."""
        size = np.array(image.shape[1::-1])
        crop = np.array(self.get_crop_size(image.shape[:2])[::-1])
        low, high = np.zeros(2, dtype=int), size - crop
        inside = centres[((centres >= 0) & (centres < size)).all(axis=1)]
        if np.random.rand() < self.favour and len(inside):
            pixel = inside[np.random.randint(len(inside))].astype(int)
            low, high = np.maximum(pixel - crop + 1, 0), np.minimum(pixel, high)
        x, y = (int(np.random.randint(first, last + 1)) for first, last in zip(low, high, strict=True))
        return CropTransform(x, y, int(crop[0]), int(crop[1]))
