"""Sets of images that are scored on their own: by cell type, by well, by time point."""

import re
from collections.abc import Mapping
from pathlib import PurePath

from ..errors import DatasetError
from .tables import ImageTable

__all__ = ["GROUPINGS", "group_labels", "parse_name"]

GROUPINGS = ("cell_type", "well", "time")
# <Type>_Phase_<Well>_<Location>_<DDdHHhMMm>_<Crop>.tif
_NAME = re.compile(
    r"(?P<cell_type>[^_]+)_Phase_(?P<well>[A-Za-z]+\d+)_(?P<location>\d+)_(?P<time>\d+d\d+h\d+m)_(?P<crop>\d+)$"
)


def parse_name(file_name: str) -> Mapping[str, str]:
    """What a LIVECell file name says; empty where it is none.

    >>> parse_name("images/SkBr3_Phase_E3_2_00d04h00m_1.tif")["time"]
    '00d04h00m'
    >>> parse_name("holiday.png")
    {}
    """
    match = _NAME.match(PurePath(file_name).stem)
    return match.groupdict() if match else {}


def group_labels(images: ImageTable, by: str, column: str | None = None) -> list[str | None]:
    """The group of each image, from a key of its entry, else from its LIVECell file name; None: in no group.

    Args:
        by: one of :data:`GROUPINGS`.
        column: a key of the ground truth's image entries; None: the key named ``by``.

    Raises:
        DatasetError: no image has the column that was asked for.
    """
    if column is not None and column not in images.columns:
        raise DatasetError(
            f"no image of the ground truth has the key {column!r}; there are {', '.join(images.columns) or 'none'}"
        )
    given = images.columns.get(column or by, [None] * len(images))
    return [parse_name(name).get(by) if value is None else str(value) for name, value in zip(images.file_names, given)]
