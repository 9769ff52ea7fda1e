"""Blur of an image that is out of focus."""

import cv2
import numpy as np
from detectron2.data import transforms as T
from fvcore.transforms.transform import Transform

__all__ = ["DefocusTransform", "RandomDefocus"]


class DefocusTransform(Transform):
    """A Gaussian blur of the image; masks and points stay where they are.

    Args:
        sigma: standard deviation in pixels, 0 or more.
    """

    def __init__(self, sigma: float) -> None:
        super().__init__()
        self.sigma = sigma

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        """Blur an image of H x W or H x W x C (uint8 or float32)."""
        if not self.sigma:
            return img
        blurred = cv2.GaussianBlur(img, (0, 0), self.sigma, borderType=cv2.BORDER_REFLECT_101)
        return blurred.reshape(img.shape)  # OpenCV drops a single channel's axis

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        """Masks, label and class maps stay."""
        return segmentation

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        """Points stay."""
        return coords


class RandomDefocus(T.Augmentation):
    """Blur by a sigma drawn uniformly from [0, ``sigma``] pixels of the image as the model gets it."""

    def __init__(self, sigma: float) -> None:
        super().__init__()
        if sigma < 0:
            raise ValueError(f"INPUT.DEFOCUS_JITTER: {sigma} is a negative number of pixels; 0 is no blur")
        self.sigma = sigma

    def get_transform(self, image: np.ndarray) -> DefocusTransform:
        """A blur of this image."""
        return DefocusTransform(float(self._rand_range(0, self.sigma)))
