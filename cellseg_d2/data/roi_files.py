"""Outlined cells from ImageJ: a zip of the ROI Manager, or a single .roi file."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from skimage.draw import polygon

from ..crops import encode_crop
from ..errors import DatasetError

if TYPE_CHECKING:
    from roifile import ImagejRoi

__all__ = ["ROI_SUFFIXES", "open_rois", "read_rois", "require_one_slice", "roi_segmentations"]

ROI_SUFFIXES = (".zip", ".roi")


def read_rois(path: str | Path, height: int, width: int) -> list[dict]:
    """The outlines of the cells of a single image, as :func:`roi_segmentations` gives them.

    Raises:
        DatasetError: those of :func:`open_rois`, :func:`require_one_slice` and :func:`roi_segmentations`.
        OSError: the file is not there or may not be read.
    """
    rois = open_rois(path)
    require_one_slice(path, rois)
    return roi_segmentations(path, rois, height, width)


def open_rois(path: str | Path) -> list["ImagejRoi"]:
    """What is in a zip or a .roi file, in its order.

    Raises:
        DatasetError: a damaged file, or another one.
        OSError: the file is not there or may not be read.
    """
    import roifile  # here, as nothing else needs it

    try:
        read = roifile.roiread(path)
    except OSError:
        raise
    except Exception as error:  # the parser raises anything from struct.error to BadZipFile on damaged files
        raise DatasetError(f"{path}: not a file of ImageJ outlines ({error}, {type(error).__name__})") from error
    return read if isinstance(read, list) else [read]


def require_one_slice(path: str | Path, rois: Sequence["ImagejRoi"]) -> None:
    """Raise DatasetError where outlines lie on several slices of a stack."""
    slices = {(roi.position, roi.c_position, roi.z_position, roi.t_position) for roi in rois} - {(0, 0, 0, 0)}
    if len(slices) > 1:
        raise DatasetError(f"{path}: outlines of {len(slices)} slices of a stack; save one file for each image")


def roi_segmentations(path: str | Path, rois: Sequence["ImagejRoi"], height: int, width: int) -> list[dict]:
    """The pixels of outlines, whatever slice they lie on.

    A pixel belongs to a cell when its centre lies inside of the outline, as in ImageJ; what lies outside of the image
    is left out. Cells may overlap.

    Args:
        path: for messages.
        rois: the outlines.
        height, width: of the image in pixels.

    Returns:
        Compressed COCO run lengths of each outline, in their order.

    Raises:
        DatasetError: a line, point or text among the outlines, or an outline outside of the image.
    """
    segmentations = []
    for roi in rois:
        mask = _inside(path, roi, height, width)
        columns = np.flatnonzero(mask.any(axis=0))
        if not len(columns):
            raise DatasetError(
                f"{path}: outline {roi.name!r} covers no pixel of its image of {width} x {height}; was it drawn on "
                f"another image? Else remove it in ImageJ's ROI Manager"
            )
        segmentations.append(encode_crop(mask[:, columns[0] : columns[-1] + 1], [int(columns[0]), 0], height, width))
    return segmentations


def _inside(path: str | Path, roi: "ImagejRoi", height: int, width: int) -> np.ndarray:
    """H x W bool, what is inside of an outline; of several paths, what is inside of an odd number of them (holes)."""
    paths = [np.asarray(points, dtype=np.float64) for points in roi.coordinates(multi=True)]
    is_area = roi.roitype.name in ("POLYGON", "FREEHAND", "TRACED", "RECT", "OVAL")
    if not is_area or roi.subtype.name in ("TEXT", "IMAGE", "ARROW") or max(map(len, paths), default=0) < 3:
        kind = roi.roitype.name if roi.subtype.name == "UNDEFINED" else roi.subtype.name
        raise DatasetError(
            f"{path}: {roi.name!r} is not the outline of an area but {kind.lower()}; remove it in ImageJ's ROI Manager"
        )
    mask = np.zeros((height, width), dtype=bool)
    for points in paths:
        mask[polygon(points[:, 1] - 0.5, points[:, 0] - 0.5, mask.shape)] ^= True
    return mask
