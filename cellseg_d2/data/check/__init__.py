"""What is wrong with a data set, in words."""

from .findings import KINDS, Findings, Item
from .fix import fix
from .pictures import write_sheets
from .survey import Survey, survey

__all__ = ["KINDS", "Findings", "Item", "Survey", "fix", "survey", "write_sheets"]
