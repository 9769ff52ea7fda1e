"""Augmentations that use a whole image again and again: circular shifts and turns by any angle.

Label, class and weight maps go through them with :func:`transform_classes` and :func:`transform_weights` here and
:func:`~cellseg_d2.data.label_maps.transform_labels`, polygons with
:meth:`~cellseg_d2.data.polygons.PolygonSet.transformed`: a seam makes several cells of one.
"""

import cv2
import numpy as np
from detectron2.data import transforms as T
from fvcore.transforms.transform import CropTransform, Transform, TransformList

__all__ = [
    "IGNORED_CLASS", "IGNORED_LABEL", "RandomRoll", "RandomRotate", "RollTransform", "RotateTransform",
    "flat_list", "transform_classes", "transform_map", "transform_weights",
]  # fmt: skip

# What pixels become that a rotation brings in from outside of the annotated image
IGNORED_CLASS = 255
IGNORED_LABEL = -1


class RollTransform(Transform):
    """A circular shift: what leaves the image at one side comes in at the other.

    Args:
        height, width: of the image.
        down, right: shift in pixels, of either sign.
    """

    def __init__(self, height: int, width: int, down: int, right: int) -> None:
        super().__init__()
        self.height, self.width, self.down, self.right = height, width, down % height, right % width

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        """Shift an image of H x W or H x W x C."""
        _check_size(self, img)
        return np.roll(img, (self.down, self.right), axis=(0, 1))

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        """Shift points (N x 2, x and y in continuous pixel coordinates), each on its own."""
        return (coords + [self.right, self.down]) % [self.width, self.height]

    def apply_polygons(self, polygons: list[np.ndarray]) -> list[np.ndarray]:
        """A seam may cut a polygon, of which two remain: NotImplementedError."""
        raise NotImplementedError("polygons go through a circular shift with PolygonSet.transformed, not one by one")

    def inverse(self) -> "RollTransform":
        """The shift back."""
        return RollTransform(self.height, self.width, -self.down, -self.right)


class RotateTransform(Transform):
    """A turn by any angle about the centre; the image keeps its size.

    Pixels from outside are 255 in class maps (uint8), -1 in label maps (int32), and 0 in weight maps.

    Args:
        height, width: of the image.
        degrees: counter-clockwise, as :class:`~cellseg_d2.data.transforms.Rot90Transform`.
        window: x, y, width and height of the part of the turned image that is wanted; None for all of it.
        fill: what pixels from outside become in the image, a value for each channel; None: a reflection.
    """

    def __init__(
        self,
        height: int,
        width: int,
        degrees: float,
        window: tuple[int, int, int, int] | None = None,
        fill: tuple[float, ...] | None = None,
    ) -> None:
        super().__init__()
        self.fill = fill
        self.height, self.width, self.degrees, self.window = height, width, degrees, window
        x, y, out_width, out_height = window or (0, 0, width, height)
        self.output_size = out_height, out_width
        self._matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
        self._matrix[:, 2] -= [x, y]

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        """Turn an image of H x W or H x W x C (uint8, uint16 or float), interpolated linearly."""
        if self.fill is None:
            return self._warp(img, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        return self._warp(img, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=self.fill)

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        """Turn a class map (H x W uint8) or a label map (H x W int32).

        Raises:
            TypeError: another type, for which nothing says what to ignore.
        """
        if segmentation.dtype not in (np.uint8, np.int32):
            raise TypeError(f"a map of classes is uint8 and one of labels int32, not {segmentation.dtype}")
        outside = IGNORED_CLASS if segmentation.dtype == np.uint8 else IGNORED_LABEL
        return self._warp(segmentation, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=outside)

    def apply_weights(self, weights: np.ndarray) -> np.ndarray:
        """Turn a weight map (H x W float32), interpolated linearly."""
        return self._warp(weights, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        """Turn points (N x 2, x and y in continuous pixel coordinates); they may land outside."""
        return coords @ self._matrix[:, :2].T + self._matrix[:, 2]

    def cropped(self, crop: CropTransform) -> "RotateTransform":
        """This turn and a crop after it."""
        x, y = self.window[:2] if self.window else (0, 0)
        window = x + crop.x0, y + crop.y0, crop.w, crop.h
        return RotateTransform(self.height, self.width, self.degrees, window, self.fill)

    def inverse(self) -> "RotateTransform":
        """The turn back; what was turned out of the image does not return.

        Raises:
            NotImplementedError: only a window of the turned image was kept.
        """
        if self.window:
            raise NotImplementedError("a turn that kept only a window of the image has no inverse")
        return RotateTransform(self.height, self.width, -self.degrees, fill=self.fill)

    def _warp(self, img: np.ndarray, interpolation: int, **border: object) -> np.ndarray:
        """The turned image. OpenCV's coordinates are those of pixel centres, half a pixel from the continuous ones."""
        _check_size(self, img)
        matrix = self._matrix.copy()
        matrix[:, 2] += matrix[:, :2].sum(axis=1) / 2 - 0.5
        size = self.output_size[::-1]
        turned = cv2.warpAffine(np.ascontiguousarray(img), matrix, size, flags=interpolation, **border)
        return turned.reshape(*turned.shape[:2], *img.shape[2:])  # OpenCV drops a single channel's axis


class RandomRoll(T.Augmentation):
    """Shift by any number of pixels in both directions, circularly."""

    def get_transform(self, image: np.ndarray) -> RollTransform:
        """A shift of this image."""
        height, width = image.shape[:2]
        return RollTransform(height, width, int(np.random.randint(height)), int(np.random.randint(width)))


class RandomRotate(T.Augmentation):
    """Turn by an angle drawn uniformly from [-``degrees``, ``degrees``].

    Args:
        degrees: in (0, 180].
        crop: cut this out of the turned image, in one step that costs what is left.
        outside: what the image shows where the turn looks beyond its frame. "reflect": a reflection, for losses that
            ignore these pixels, as it looks like more of the same. "median": the median of every fourth pixel in x and
            y, for instances: a reflected cell is one that nobody annotated, and finding it would be punished.
    """

    def __init__(self, degrees: float, crop: T.RandomCrop | None = None, outside: str = "reflect") -> None:
        super().__init__()
        if outside not in ("reflect", "median"):
            raise ValueError(f"outside = {outside!r} of a RandomRotate is neither 'reflect' nor 'median'")
        if not 0 < degrees <= 180:
            raise ValueError(f"INPUT.RANDOM_ROTATION: {degrees} is not in (0, 180] degrees")
        self.degrees, self.crop, self.outside = degrees, crop, outside

    def get_transform(self, image: np.ndarray) -> RotateTransform:
        """A turn of this image."""
        degrees = float(self._rand_range(-self.degrees, self.degrees))
        fill = None
        if self.outside == "median":
            fill = tuple(np.atleast_1d(np.median(image[::4, ::4], axis=(0, 1))).tolist())
        turn = RotateTransform(*image.shape[:2], degrees, fill=fill)
        return turn.cropped(self.crop.get_transform(image)) if self.crop else turn


def flat_list(transforms: Transform) -> list[Transform]:
    """The single transforms of a transform or a list of them, which may hold lists itself."""
    if not isinstance(transforms, TransformList):
        return [transforms]
    return [single for transform in transforms.transforms for single in flat_list(transform)]


def transform_map(values: np.ndarray, transform: Transform) -> np.ndarray:
    """Carry a class map (uint8) or label map (int32), H x W, through one transform, without mixing values."""
    if isinstance(transform, T.ResizeTransform):
        # Detectron2 takes pixel centres for uint8 and pixel corners for int32, so that labels and classes would differ
        size = transform.new_w, transform.new_h
        return cv2.resize(np.ascontiguousarray(values), size, interpolation=cv2.INTER_NEAREST_EXACT)
    return transform.apply_segmentation(values)


def transform_classes(classes: np.ndarray, transforms: Transform) -> np.ndarray:
    """Carry a class map (H x W uint8) through a transform or a list of them; brightness and the like leave it."""
    for transform in flat_list(transforms):
        classes = transform_map(classes, transform)
    return np.ascontiguousarray(classes)


def transform_weights(weights: np.ndarray, transforms: Transform) -> np.ndarray:
    """Carry a weight map (H x W float32) through a transform or a list of them; brightness and the like leave it.

    Linear interpolation spreads the weight 0 of ignored pixels, and theirs, over the border between them: set the
    weights of pixels that the class map ignores to 0 afterwards.
    """
    for transform in flat_list(transforms):
        if isinstance(transform, RotateTransform):
            weights = transform.apply_weights(weights)
        elif isinstance(transform, T.ResizeTransform):
            size = transform.new_w, transform.new_h
            weights = cv2.resize(np.ascontiguousarray(weights), size, interpolation=cv2.INTER_LINEAR)
        else:
            weights = transform.apply_segmentation(weights)
    return np.ascontiguousarray(weights)


def _check_size(transform: RollTransform | RotateTransform, image: np.ndarray) -> None:
    """The transform was made for images of this size."""
    if image.shape[:2] != (transform.height, transform.width):
        raise ValueError(
            f"{type(transform).__name__} is for {transform.width} x {transform.height} pixels, "
            f"the image has {image.shape[1]} x {image.shape[0]}"
        )
