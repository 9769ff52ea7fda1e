"""Data sets by name: LIVECell (registered on import) and any COCO JSON with its image folder."""

from ...errors import DatasetError, MissingDataError
from . import livecell
from .catalog import SEMANTIC_ONLY, check_cell_types, check_num_classes, follow_num_classes, load, note_data, resolve
from .custom import register_coco

__all__ = [
    "SEMANTIC_ONLY",
    "DatasetError",
    "MissingDataError",
    "check_cell_types",
    "check_num_classes",
    "follow_num_classes",
    "load",
    "note_data",
    "register_coco",
    "resolve",
]

livecell.register_all()
