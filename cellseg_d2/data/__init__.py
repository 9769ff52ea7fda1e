"""Data sets, reading, augmentation and loading.

Importing :mod:`.datasets` registers the ``livecell_*`` data sets. The package itself, :mod:`.image_io` and :mod:`.rle`
need neither torch nor Detectron2.
"""
