#!/usr/bin/env python
"""A smaller copy of a COCO data set, with test images of other fields: for benchmarks/few_images.py.

    python benchmarks/few_images_data.py --part T98G/instances_train.json T98G/images \\
        --part T98G/instances_val.json T98G/images --scale 0.5 --hold-out 12 --seed 1 --output output/few/t98g

Images that show the same field, also moved (time points of a drifting stage), share the number under "field" in their
entries and stay on one side. OUTPUT gets images/, train.json and test.json. Exit code: 0 done, 2 unusable input.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from scipy.sparse.csgraph import connected_components

from cellseg_d2.data.datasets.coco_json import CocoFile, read_coco
from cellseg_d2.data.image_io import read_image
from cellseg_d2.data.merge import Part, merge
from cellseg_d2.data.rle import rle_to_polygons
from cellseg_d2.data.split import group_alike, group_by_key, provenance, select, split_by_group
from cellseg_d2.errors import DatasetError
from cellseg_d2.files import write_json

SIDE = 128  # of the thumbnails that are compared
SAME_FIELD = 0.13  # correlation at the best shift; T98G: .16 to .48 within its one drifting field, others up to .10


def fields(images: Sequence[np.ndarray], threshold: float = SAME_FIELD) -> np.ndarray:
    """Number images by field: one whose details are those of another at some circular shift has its number.

    Args:
        images: (H, W) arrays of any size.

    Returns:
        (N,) int group numbers from 0; likeness is passed on.
    """
    spectra = []
    for image in images:
        small = cv2.resize(image.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        detail = small - cv2.GaussianBlur(small, (0, 0), SIDE / 10)
        spectra.append(np.fft.rfft2(detail / (np.linalg.norm(detail) + 1e-6)))
    alike = np.eye(len(images), dtype=bool)
    for i, spectrum in enumerate(spectra):
        for j in range(i):
            alike[i, j] = np.fft.irfft2(spectrum * spectra[j].conj(), (SIDE, SIDE)).max() > threshold
    return connected_components(alike, directed=False)[1]


def order_of(groups: np.ndarray, seed: int) -> np.ndarray:
    """Places of all images in random order, in rounds: the first round has one of each group, and so on.

    The first n are the training images of size n, so that smaller sets are parts of larger ones.
    """
    order = np.random.default_rng(seed).permutation(len(groups))
    before: Counter[int] = Counter()
    rounds = []
    for group in groups[order].tolist():
        rounds.append(before[group])
        before[group] += 1
    return order[np.argsort(rounds, kind="stable")]


def groups_of(json_file: Path, images: Path) -> np.ndarray:
    """(N,) group numbers of the images of a data set: their "field", or images that look alike."""
    entries = read_coco(json_file).images
    if all("field" in image for image in entries):
        return group_by_key(entries, "field")[0]
    return group_alike([images / image["file_name"] for image in entries])


def scaled(annotation: dict[str, Any], x: float, y: float) -> dict[str, Any]:
    """An annotation of the image whose sides were multiplied by ``x`` and ``y``."""
    outline = annotation["segmentation"]
    polygons = rle_to_polygons(outline) if isinstance(outline, dict) else outline
    moved = [
        (np.asarray(polygon, dtype=float).reshape(-1, 2) * (x, y)).ravel().round(2).tolist() for polygon in polygons
    ]
    box = (np.asarray(annotation["bbox"], dtype=float) * (x, y, x, y)).round(2).tolist()
    return {**annotation, "segmentation": moved, "bbox": box, "area": round(annotation["area"] * x * y, 2)}


def write_images(content: dict[str, Any], scale: float, folder: Path) -> list[np.ndarray]:
    """Write the images of a data set (names relative to ``folder``) scaled below ``folder``/images, as 8-bit png.

    Entries and outlines of ``content`` become those of the written images, whose grey values are returned.
    """
    names = [f"{Path(image['file_name']).stem}.png" for image in content["images"]]
    if len(set(names)) < len(names):
        raise DatasetError("two images have the same file name in different folders: they cannot be put into one")
    (folder / "images").mkdir(parents=True, exist_ok=True)
    greys, factors = [], {}
    for image, name in zip(content["images"], names):
        pixels = read_image(folder / image["file_name"])
        height, width = (max(round(side * scale), 1) for side in pixels.shape[:2])
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
        grey = (pixels == pixels[:, :, :1]).all()
        if not cv2.imwrite(str(folder / "images" / name), pixels[:, :, 0] if grey else pixels):
            raise OSError(f"{folder / 'images' / name} cannot be written")
        factors[image["id"]] = width / image["width"], height / image["height"]
        image.update(file_name=name, width=width, height=height)
        greys.append(pixels[:, :, 0])
    content["annotations"] = [scaled(a, *factors[a["image_id"]]) for a in content["annotations"]]
    return greys


def run(args: argparse.Namespace) -> None:
    """Merge, scale, number the fields, split."""
    args.output.mkdir(parents=True, exist_ok=True)
    content = merge([Part("", Path(json), Path(images)) for json, images in args.part], args.output)
    groups = fields(write_images(content, args.scale, args.output))
    for image, group in zip(content["images"], groups.tolist()):
        image["field"] = group
    coco = CocoFile(args.output, content["images"], content["annotations"], content["categories"])
    held_out = split_by_group(groups, args.hold_out, args.seed)
    for side, chosen in (("train", ~held_out), ("test", held_out)):
        info = provenance(None, by="field", seed=args.seed, side=side, scale=args.scale)
        part = select(coco, {i["id"] for i, c in zip(coco.images, chosen) if c}, {"info": info})
        write_json(args.output / f"{side}.json", part)
        counts = f"{chosen.sum()} images of {len(set(groups[chosen].tolist()))} fields"
        print(f"{args.output / side}.json: {counts}, {len(part['annotations'])} cells")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", nargs=2, action="append", required=True, metavar=("JSON", "DIR"), help="a data set")
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the sides of the images")
    parser.add_argument("--hold-out", type=int, required=True, metavar="N", help="images in test.json")
    parser.add_argument("--seed", type=int, default=1, help="of the split")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    args = parser.parse_args()
    if not 0 < args.scale <= 1:
        parser.error(f"--scale {args.scale}: a factor above 0, up to 1")
    try:
        run(args)
    except (ValueError, OSError) as error:  # of these are the data sets' own errors
        print(f"few_images_data.py: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
