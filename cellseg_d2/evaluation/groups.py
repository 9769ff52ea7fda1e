"""Sets of images that are scored on their own: by cell type, by well, by time point."""

from ..data.livecell_names import parse_name
from ..errors import DatasetError
from .tables import ImageTable

__all__ = ["GROUPINGS", "group_labels"]

GROUPINGS = ("cell_type", "well", "time")


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
