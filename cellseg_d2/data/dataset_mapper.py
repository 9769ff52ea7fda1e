"""From a dataset dict to what the model takes: read, check, augment, and transform all instances at once."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import transforms as T

from .cell_crops import CellInput, RandomCellCrop
from .image_io import CorruptImageError, read_image, stretch_to_uint8
from .instances import CellOutlines
from .synthesis.cell_bank import CellBank
from .synthesis.on_the_fly import AddCells
from .transforms import CHANNELWISE, build_augmentations

__all__ = ["CellDatasetMapper", "Extend"]

Extend = Callable[[np.ndarray, list[dict]], tuple[np.ndarray, list[dict]]]


class CellDatasetMapper:
    """Callable that turns a Detectron2 dataset dict into a model input.

    Crowd annotations are left out. What a crop, a turn or the seam of a circular shift leaves of an instance is clipped
    exactly and dropped where it is a sliver (fewer than 10 pixels or 10 % of its area); pieces on several sides of a
    seam are instances of their own. Boxes are those of the transformed masks.

    Args:
        augmentations: applied in this order. A grey image goes through as H x W where all of them are of
            :data:`~.transforms.CHANNELWISE`, else as three equal channels.
        with_instances: return ``instances`` (training, validation loss); else only the image.
        mask_format: "polygon" (fast, the default of Detectron2) or "bitmask". Annotations of either kind become it.
        image_format: "BGR" or "RGB".
        stretch: see :func:`~cellseg_d2.data.image_io.read_image`.
        extend: called before the augmentations where there are instances, with the image (H x W x 3 uint8, in the order
            of ``image_format``, not stretched yet) and all annotations; returns both anew, the image of the same size,
            with cells added.
    """

    @configurable
    def __init__(
        self,
        *,
        augmentations: Sequence[T.Augmentation],
        with_instances: bool,
        mask_format: str = "polygon",
        image_format: str = "BGR",
        stretch: Sequence[float] = (),
        extend: Extend | None = None,
    ) -> None:
        if mask_format not in ("polygon", "bitmask"):
            raise ValueError(f"INPUT.MASK_FORMAT: {mask_format!r} is neither 'polygon' nor 'bitmask'")
        if image_format not in ("BGR", "RGB"):
            raise ValueError(f"INPUT.FORMAT: {image_format!r} is neither 'BGR' nor 'RGB'")
        self.augmentations = T.AugmentationList(augmentations)
        self.channelwise = all(type(augmentation) in CHANNELWISE for augmentation in augmentations)
        self.around_cells = any(isinstance(augmentation, RandomCellCrop) for augmentation in augmentations)
        self.with_instances, self.mask_format = with_instances, mask_format
        self.image_format, self.stretch, self.extend = image_format, tuple(stretch), extend

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True, with_instances: bool | None = None) -> dict:
        """Arguments from a config; ``with_instances`` without ``is_train`` is the mapper of the validation loss."""
        return {
            "augmentations": build_augmentations(cfg, is_train),
            "with_instances": is_train if with_instances is None else with_instances,
            "mask_format": cfg.INPUT.MASK_FORMAT,
            "image_format": cfg.INPUT.FORMAT,
            "stretch": cfg.INPUT.STRETCH_PERCENTILES,
            "extend": _extension(cfg) if is_train and cfg.INPUT.EXTENSION.BANK else None,
        }

    def __call__(self, record: dict) -> dict:
        """Map one record, which is left as it is.

        Returns:
            ``image`` (3 x H x W uint8 tensor), ``file_name``, ``image_id``, ``height`` and ``width`` of the file, and
            ``instances`` (``gt_boxes``, ``gt_classes``, ``gt_masks``) where asked for.

        Raises:
            CorruptImageError: the image cannot be decoded or is not of the annotated size.
        """
        image = self._read(record)
        item = {key: record[key] for key in ("file_name", "image_id", "height", "width")}
        if not self.with_instances:
            aug_input = T.AugInput(self._narrowed(image))
            self.augmentations(aug_input)
            return item | {"image": _tensor(aug_input.image)}
        annotations = record["annotations"]
        if self.extend:
            image, annotations = self.extend(image, list(annotations))
            image = stretch_to_uint8(image, self.stretch) if self.stretch else image
        polygons = self.mask_format == "polygon"
        outlines = CellOutlines.of([one for one in annotations if not one.get("iscrowd", 0)], as_polygons=polygons)
        image = self._narrowed(image)
        aug_input = CellInput(image, outlines.centres()) if self.around_cells else T.AugInput(image)
        transforms = self.augmentations(aug_input)
        transformed = outlines.polygon_instances if polygons else outlines.bitmask_instances
        instances = transformed(transforms, aug_input.image.shape[:2])
        return item | {"image": _tensor(aug_input.image), "instances": instances}

    def _read(self, record: dict) -> np.ndarray:
        """The image, of the size that its record says."""
        grows = self.with_instances and self.extend  # cells are added to grey values as they are
        image = read_image(record["file_name"], () if grows else self.stretch)
        height, width = image.shape[:2]
        if (height, width) != (record["height"], record["width"]):
            raise CorruptImageError(
                record["file_name"],
                f"it has {width} x {height} pixels, its annotations say {record['width']} x {record['height']}",
            )
        return image if self.image_format == "BGR" else np.ascontiguousarray(image[:, :, ::-1])

    def _narrowed(self, image: np.ndarray) -> np.ndarray:
        """One channel (H x W) of a grey image (H x W x 3) where no augmentation minds; others as they are."""
        if not self.channelwise:
            return image
        first = image[:, :, 0]
        grey = (first == image[:, :, 1]).all() and (first == image[:, :, 2]).all()
        return np.ascontiguousarray(first) if grey else image


def _tensor(image: np.ndarray) -> torch.Tensor:
    """3 x H x W of an image of H x W x 3, or of H x W, the only channel of three."""
    if image.ndim == 2:
        return torch.from_numpy(np.repeat(image[None], 3, axis=0))
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def _extension(cfg: CfgNode) -> AddCells:
    """What adds cells to training images, as INPUT.EXTENSION says."""
    options = cfg.INPUT.EXTENSION
    return AddCells(CellBank(options.BANK), options.PROBABILITY, options.MOST)
