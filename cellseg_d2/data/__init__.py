"""Data sets, reading, augmentation and loading. Importing this package registers the ``livecell_*`` data sets."""

from . import datasets

__all__ = ["datasets"]
