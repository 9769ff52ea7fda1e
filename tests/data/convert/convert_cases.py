"""What tests of tools/dataset.py convert share: the command in this process, and what it wrote."""

import json
from argparse import ArgumentParser

import numpy as np
from pycocotools import mask as mask_util

from cellseg_d2.commands import convert
from cellseg_d2.data.rle import as_rle

HEIGHT, WIDTH = 40, 60
SQUARE = [[2, 3], [12, 3], [12, 9], [2, 9]]  # 10 x 6 pixels


def run(*options) -> int:
    parser = ArgumentParser()
    convert.add_arguments(parser)
    return convert.run(parser.parse_args([str(option) for option in options]))


def to_coco(kind, source, images, *more) -> tuple[list[dict], dict, int]:
    """Annotations with their ``mask``, the whole data set, and the exit code."""
    code = run("--from", kind, "--input", source, "--images", images, "--output", images.parent / "coco", *more)
    coco = json.loads((images.parent / "coco" / "annotations.json").read_text())
    names = {category["id"]: category["name"] for category in coco["categories"]}
    for annotation in coco["annotations"]:
        annotation["mask"] = mask_util.decode(as_rle(annotation["segmentation"], HEIGHT, WIDTH)).astype(bool)
        annotation["class"] = names[annotation["category_id"]]
    return coco["annotations"], coco, code


def box(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[y0:y1, x0:x1] = True
    return mask
