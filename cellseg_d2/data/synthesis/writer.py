"""Data sets of phantoms on disk: LIVECell-like file names, TIFF images, COCO JSON."""

import json
import logging
import os
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import tifffile

from .records import Phantom, PhantomSpec
from .simulation import simulate
from .workers import in_order

__all__ = ["file_name", "write_dataset"]

logger = logging.getLogger(__name__)
CROPS, LOCATIONS, TIMES, WELLS = 4, 2, 18, 96  # as LIVECell: four crops of a field, one field every four hours


def file_name(cell_type: str, number: int) -> str:
    """Name of the ``number``-th image of a type: ``<Type>_Phase_<Well>_<Location>_<DDdHHhMMm>_<Crop>.tif``.

    Crops count first, then locations, times and wells, so that names never repeat (up to 460,000 a type).
    """
    rest, crop = divmod(number, CROPS)
    rest, location = divmod(rest, LOCATIONS)
    rest, time = divmod(rest, TIMES)
    later, well = divmod(rest, WELLS)
    days, quarter = divmod(time + TIMES * later, 6)
    if days > 99:
        raise ValueError(f"no file name left for image {number} of type {cell_type}: write several data sets")
    stamp = f"{days:02d}d{4 * quarter:02d}h00m"
    return f"{cell_type}_Phase_{'ABCDEFGH'[well // 12]}{well % 12 + 1}_{location + 1}_{stamp}_{crop + 1}.tif"


def write_dataset(folder: str | Path, spec: PhantomSpec, num_images: int, seed: int, workers: int = 1,
                  progress: Callable[[int], None] | None = None) -> Path:
    """Write ``images/*.tif`` and ``annotations.json`` under ``folder`` and return the path of the JSON.

    Image i shows cell type ``spec.cell_types[i % len]`` and depends on (spec, seed, i) alone: the number of workers
    does not change a byte. The JSON is written last, and every file in one step, so a JSON that is there is complete. A
    folder that already holds this very data set is left as it is; one that holds another raises FileExistsError.
    ``progress`` is called with the number of images done.

    With ``workers`` > 1 the processes are spawned: scripts need the usual ``if __name__ == "__main__":``.
    """
    if num_images < 0 or workers < 1 or seed < 0:
        raise ValueError(f"{num_images} images, {workers} workers, seed {seed}: give 0 or more, 1 or more, 0 or more")
    folder = Path(folder)
    target = folder / "annotations.json"
    info = _info(spec, num_images, seed)
    if target.exists():
        _check_same(target, info)
        logger.info("%s is complete already: nothing to do", folder)
        return target
    (folder / "images").mkdir(parents=True, exist_ok=True)
    coco = {"info": info, "licenses": [], "categories": [{"supercategory": "cell", "id": 1, "name": "cell"}],
            "images": [], "annotations": []}
    render = partial(_render_image, str(folder / "images"), spec, seed)
    rendered = in_order(render, range(num_images), min(workers, max(num_images, 1)))
    for done, (image, annotations) in enumerate(rendered, 1):
        coco["images"].append(image)
        first = len(coco["annotations"]) + 1
        coco["annotations"] += [{"id": first + k, **entry} for k, entry in enumerate(annotations)]
        if progress is not None:
            progress(done)
    _replace(target, json.dumps(coco).encode())
    return target


def _info(spec: PhantomSpec, num_images: int, seed: int) -> dict:
    """COCO's info block; ``phantom`` says how to make the same data set again."""
    recipe = {"spec": asdict(spec), "num_images": num_images, "seed": seed}
    return {"description": "Simulated phase-contrast cells; masks are the visible regions",
            "phantom": json.loads(json.dumps(recipe))}


def _check_same(target: Path, info: dict) -> None:
    """Raise FileExistsError unless ``target`` is a data set made by the same recipe."""
    try:
        found = json.loads(target.read_text())["info"]["phantom"]
    except (json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError):
        found = None
    if found != info["phantom"]:
        raise FileExistsError(f"{target} belongs to another data set: choose another folder, or delete that file")


def _render_image(folder: str, spec: PhantomSpec, seed: int, index: int) -> tuple[dict, list[dict]]:
    """Simulate and write image ``index``; return its COCO image entry and its annotations without ids."""
    cell_type = spec.cell_types[index % len(spec.cell_types)]
    name = file_name(cell_type, index // len(spec.cell_types))
    phantom = simulate(spec, np.random.SeedSequence(seed, spawn_key=(index,)), cell_type)
    part = Path(folder, f".{name}.part")
    tifffile.imwrite(part, phantom.image, photometric="minisblack", compression="zlib", metadata=None)
    os.replace(part, Path(folder, name))
    entry = {"id": index + 1, "width": spec.width, "height": spec.height, "file_name": name}
    return entry, _annotations(phantom, index + 1)


def _annotations(phantom: Phantom, image_id: int) -> list[dict]:
    """COCO annotations of the cells of one image."""
    return [
        {"image_id": image_id, "category_id": 1, "segmentation": [cell.polygon], "area": cell.area, "bbox": cell.bbox,
         "iscrowd": 0}
        for cell in phantom.cells
    ]


def _replace(target: Path, content: bytes) -> None:
    """Write ``content`` to ``target`` in one step."""
    part = target.with_name(f".{target.name}.part")
    part.write_bytes(content)
    os.replace(part, target)
