"""Where LIVECell is published, under which licence, and the names of its files."""

from collections.abc import Collection, Sequence

from ..datasets.livecell import CELL_TYPES, PERCENTS, SPLITS

__all__ = ["BASE_URL", "IMAGES", "LICENCE", "MORE", "PARTS", "wanted_files"]

# The authors' bucket, as the README of sartorius-research/LIVECell on GitHub names it (there with http)
BASE_URL = "https://livecell-dataset.s3.eu-central-1.amazonaws.com/LIVECell_dataset_2021"
LICENCE = (
    "LIVECell (C. Edlund et al., Nature Methods 18, 2021; sartorius-research/LIVECell on GitHub) is licensed CC BY-NC "
    "4.0: not for commercial use, and whoever publishes results or copies names the authors."
)
IMAGES = "images.zip"
PARTS = ("annotations", "images", "all")
MORE = ("single-cells", "sizes")


def wanted_files(part: str = "all", splits: Sequence[str] = SPLITS, more: Collection[str] = ()) -> list[str]:
    """Paths below the base address, which are the paths below the data set's folder, too.

    Args:
        part: one of :data:`PARTS`.
        splits: of the annotations of all cells and of single cell types.
        more: of :data:`MORE`; annotations a cell type, and those of 2 to 50 % of the training images.

    >>> wanted_files("annotations", ["val"])
    ['annotations/LIVECell/livecell_coco_val.json']
    """
    files: list[str] = []
    if part in ("annotations", "all"):
        files += [f"annotations/LIVECell/livecell_coco_{split}.json" for split in splits]
        if "single-cells" in more:
            folder = "annotations/LIVECell_single_cells"
            files += [f"{folder}/{cell_type}/{split}.json" for cell_type in CELL_TYPES for split in splits]
        if "sizes" in more:
            folder = "annotations/LIVECell_dataset_size_split"
            files += [f"{folder}/{number}_train{percent}percent.json" for number, percent in enumerate(PERCENTS)]
    if part in ("images", "all"):
        files.append(IMAGES)
    return files
