"""What is in a data set: number, size, density and brightness of its cells, as tables, numbers and a picture."""

from .cells import Measures, measure_image
from .plots import write_figure
from .summary import SIZE_LIMITS, group_column, grouped, summarise
from .tables import GROUPS, Tables, cell_table, image_table, measure

__all__ = [
    "GROUPS", "SIZE_LIMITS", "Measures", "Tables", "cell_table", "group_column", "grouped", "image_table", "measure",
    "measure_image", "summarise", "write_figure",
]  # fmt: skip
