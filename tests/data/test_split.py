"""Holding images out: alike images stay together, and the number is kept."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from cellseg_d2.data.split import group_alike, split_by_group

TOOL = Path(__file__).resolve().parents[2] / "tools" / "dataset.py"


@pytest.fixture
def folder(tmp_path):
    """Three acquisitions of four images each: the same brightness within one, another between them."""
    rng = np.random.default_rng(0)
    images = []
    for k in range(12):
        image = rng.normal(40 * (k % 3 + 1), 4, (64, 64)).clip(0, 255).astype(np.uint8)
        cv2.imwrite(str(tmp_path / f"{k}.png"), image)
        kind = "a" if k < 11 else "b"
        images.append({"id": k, "file_name": f"{k}.png", "height": 64, "width": 64, "kind": kind})
    polygon = [1, 1, 10, 1, 10, 10, 1, 10]
    box = {"category_id": 1, "bbox": [1, 1, 9, 9], "segmentation": [polygon], "area": 81, "iscrowd": 0}
    annotations = [{"id": k, "image_id": k, **box} for k in range(12)]
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cell"}]}
    (tmp_path / "all.json").write_text(json.dumps(content))
    return tmp_path


def run(folder, *options):
    command = [sys.executable, str(TOOL), "split", "--json", str(folder / "all.json"), "--images", str(folder)]
    return subprocess.run([*command, "--output", str(folder / "out"), *options], capture_output=True, text=True)


def test_groups_are_the_acquisitions(folder):
    groups = group_alike([folder / f"{k}.png" for k in range(12)])
    assert groups.max() == 2
    assert all(groups[k] == groups[k % 3] for k in range(12))


def test_a_shifted_grey_value_is_another_group_but_the_same_field_is_not(tmp_path):
    field = np.random.default_rng(0).normal(60, 20, (64, 64)).clip(1, 255)
    field = cv2.GaussianBlur(field, (0, 0), 6) * 3 - 120
    for k, factor in enumerate((1.0, 0.5)):
        cv2.imwrite(str(tmp_path / f"{k}.png"), (field * factor).clip(0, 255).astype(np.uint8))
    assert group_alike([tmp_path / "0.png", tmp_path / "1.png"]).tolist() == [0, 0]


def test_whole_groups_are_held_out():
    groups = np.array([0, 0, 0, 1, 1, 2, 3, 3, 4])
    held = split_by_group(groups, 4, seed=0)
    assert held.sum() == 4
    assert all(len(set(held[groups == g])) == 1 for g in range(5))
    assert (held == split_by_group(groups, 4, seed=0)).all()


@pytest.mark.parametrize("number", [0, 9, 1])
def test_impossible_numbers(number):
    with pytest.raises(ValueError, match="hold out"):
        split_by_group(np.array([0, 0, 0, 0, 0, 1, 1, 1, 1]), number, seed=0)


def test_command(folder):
    done = run(folder, "--hold-out", "4", "--where", "kind=a", "--seed", "1")
    assert done.returncode == 0, done.stderr
    train, val = (json.loads((folder / "out" / f"{name}.json").read_text()) for name in ("train", "val"))
    ids = [{i["id"] for i in part["images"]} for part in (train, val)]
    assert ids[0] | ids[1] == set(range(11)) and not ids[0] & ids[1] and len(ids[1]) == 4
    assert all({a["image_id"] for a in part["annotations"]} == own for part, own in zip((train, val), ids))


@pytest.mark.parametrize(
    "options, message",
    [
        (["--hold-out", "5"], "another seed"),
        (["--hold-out", "4", "--where", "kind=z"], "no image"),
        (["--hold-out", "99"], "can hold"),
    ],
)
def test_one_line_errors(folder, options, message):
    done = run(folder, *options)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
