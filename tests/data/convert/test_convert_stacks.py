"""Stacks of labels and masks become single images; their labels, which are track ids, stay."""

import json
from argparse import ArgumentParser
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cellseg_d2.commands import convert
from cellseg_d2.data.image_io import read_raw
from cellseg_d2.data.label_files import read_labels


def run(*options) -> int:
    parser = ArgumentParser()
    convert.add_arguments(parser)
    return convert.run(parser.parse_args([str(option) for option in options]))


def to_coco(source: Path, images: Path, output: Path, kind: str = "labels") -> dict:
    run("--from", kind, "--input", source, "--images", images, "--output", output)
    return json.loads((output / "annotations.json").read_text())


def from_coco(json_file: Path, images: Path, output: Path, kind: str) -> int:
    return run("--to", kind, "--json", json_file, "--images", images, "--output", output)


@pytest.mark.parametrize(("axes", "letter"), [("TYX", "t"), ("ZYX", "z")])
def test_a_stack_becomes_single_images_and_labels_are_tracks(tmp_path, capsys, axes, letter):
    labels = np.zeros((12, 20, 30), np.uint16)
    for t in range(12):
        labels[t, 2 + t // 2 : 8 + t // 2, 3:9], labels[t, 12:16, 10 + t : 14 + t] = 5, 300
    images = np.random.default_rng(0).integers(0, 60_000, labels.shape, np.uint16)
    for kind, values in (("images", images), ("masks", labels)):
        (tmp_path / kind).mkdir()
        tifffile.imwrite(tmp_path / kind / "film.tif", values, imagej=True, metadata={"axes": axes})
    tifffile.imwrite(tmp_path / "images" / "one.png.tif", images[0])
    tifffile.imwrite(tmp_path / "masks" / "one.png.tif", labels[0])
    coco = to_coco(tmp_path / "masks", tmp_path / "images", tmp_path / "out")
    assert "12 pages of stacks were written as single images" in capsys.readouterr().out
    names = [image["file_name"] for image in coco["images"]]
    assert names[:12] == [f"film_{letter}{t:03d}.tif" for t in range(12)]
    root = tmp_path / "out" / "images"
    assert all((read_raw(root / name) == images[t]).all() for t, name in enumerate(names[:12]))
    assert (read_raw(root / names[12]) == images[0]).all()  # stays where it is
    assert [a["label"] for a in coco["annotations"]] == [5, 300] * 13
    assert from_coco(tmp_path / "out" / "annotations.json", root, tmp_path / "back", "labels") == 0
    assert all((read_labels(tmp_path / "back" / name) == labels[t]).all() for t, name in enumerate(names[:12]))


def test_a_stack_of_masks(tmp_path):
    masks = np.zeros((3, 9, 12), np.uint8)
    masks[0, 2:4, 2:5], masks[0, 6:, 6:], masks[2, 1, 1] = 255, 255, 255
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
        tifffile.imwrite(tmp_path / kind / "film.tif", masks, photometric="minisblack")
    coco = to_coco(tmp_path / "masks", tmp_path / "images", tmp_path / "out", "masks")
    assert sorted((a["image_id"], a["area"]) for a in coco["annotations"]) == [(1, 6), (1, 18), (3, 1)]
    assert len(coco["images"]) == 3


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((4, 9, 9), {}, "film.tif has 4 pages and its image .*film.tif has 3 pages"),
        ((9, 9), {}, "film.tif has no pages and its image"),
        ((3, 9, 8), {}, "film.tif, page 1 has 8 x 9 pixels, but its image has 9 x 9"),
        ((3, 9, 9), {"imagej": True, "metadata": {"axes": "CYX"}}, "a TIFF of 3 channels, not of frames"),
    ],
)
def test_stacks_that_do_not_fit(tmp_path, shape, options, message):
    for kind, size, more in (("images", (3, 9, 9), {}), ("masks", shape, options)):
        (tmp_path / kind).mkdir()
        tifffile.imwrite(tmp_path / kind / "film.tif", np.ones(size, np.uint8), photometric="minisblack", **more)
    with pytest.raises(ValueError, match=message):
        to_coco(tmp_path / "masks", tmp_path / "images", tmp_path / "out")
