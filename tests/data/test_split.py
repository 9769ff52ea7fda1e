"""Holding images out: groups stay together, and numbers are kept or said."""

import json
import subprocess
import sys
from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellseg_d2.commands import split
from cellseg_d2.data.datasets import roots
from cellseg_d2.data.split import group_alike, group_by_key, nearest_count, split_by_group
from cellseg_d2.errors import DatasetError

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
        entry = {"height": 64, "width": 64, "kind": kind, "patient": k // 2}
        images.append({"id": k, "file_name": f"{k}.png", **entry})
    return write_all(tmp_path, images)


def write_all(folder, images, **more):
    """all.json with one cell an image."""
    polygon = [1, 1, 10, 1, 10, 10, 1, 10]
    box = {"category_id": 1, "bbox": [1, 1, 9, 9], "segmentation": [polygon], "area": 81, "iscrowd": 0}
    annotations = [{"id": k, "image_id": k, **box} for k in range(len(images))]
    tables = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cell"}]}
    (folder / "all.json").write_text(json.dumps({**tables, **more}))
    return folder


def named(*parts):
    """Image entries with LIVECell's names of (type, well, location, time) each."""
    names = [f"{kind}_Phase_{well}_{place}_{time}_{k}.tif" for k, (kind, well, place, time) in enumerate(parts)]
    return [{"id": k, "file_name": name, "height": 64, "width": 64} for k, name in enumerate(names)]


def run(folder, *options):
    parser = ArgumentParser()
    split.add_arguments(parser)
    args = ["--json", str(folder / "all.json"), "--output", str(folder / "out"), *options]
    return split.run(parser.parse_args(args))


def read_sides(folder):
    return {path.stem: json.loads(path.read_text()) for path in sorted((folder / "out").glob("*.json"))}


def ids_of(part):
    return {image["id"] for image in part["images"]}


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


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=2, max_size=8), st.integers(0, 99), st.data())
def test_every_number_that_whole_groups_make_is_met(sizes, seed, data):
    groups = np.repeat(np.arange(len(sizes)), sizes)
    subsets = (np.arange(1, 2 ** len(sizes) - 1)[:, None] >> np.arange(len(sizes))) & 1
    possible = set((subsets @ np.array(sizes)).tolist())
    number = data.draw(st.integers(1, len(groups) - 1))
    nearest = nearest_count(groups, number)
    assert abs(nearest - number) == min(abs(p - number) for p in possible) and nearest in possible
    held = split_by_group(groups, nearest, seed)
    assert held.sum() == nearest and all(len(set(held[groups == g])) == 1 for g in range(len(sizes)))
    if number not in possible:
        with pytest.raises(DatasetError, match=f"exactly {number} .*{nearest}"):
            split_by_group(groups, number, seed)


def test_numbers_that_were_met_before_give_the_same_groups():
    groups = np.repeat(np.arange(40), 1 + np.arange(40) % 4)
    for seed in range(5):
        held = np.zeros(len(groups), dtype=bool)
        for group in np.random.default_rng(seed).permutation(40):  # each that still fits
            if held.sum() + (groups == group).sum() <= 23:
                held |= groups == group
        assert held.sum() == 23 and (split_by_group(groups, 23, seed) == held).all()


def test_groups_of_names_are_as_fine_as_they_must_be():
    images = named(
        ("A172", "C7", 1, "00d04h00m"), ("A172", "C7", 2, "00d00h00m"), ("BV2", "C7", 1, "00d04h00m"),
        ("A172", "C10", 1, "00d00h00m"), ("A172", "C7", 1, "00d00h00m"),
    )  # fmt: skip
    assert group_by_key(images, "well")[1] == ["a172 C7", "a172 C10", "bv2 C7"]
    assert group_by_key(images, "well")[0].tolist() == [0, 0, 2, 1, 0]
    assert group_by_key(images, "location")[0].tolist() == [0, 1, 3, 2, 0]
    numbers, times = group_by_key(images, "time")
    assert numbers.tolist() == [1, 0, 1, 0, 0] and times == ["00d00h00m", "00d04h00m"]
    keyed = [{**image, "well": k % 2} for k, image in enumerate(images)]
    assert group_by_key(keyed, "well")[0].tolist() == [0, 1, 0, 1, 0]


def test_command(folder, capsys):
    assert run(folder, "--images", str(folder), "--hold-out", "4", "--where", "kind=a", "--seed", "1") == 0
    sides = read_sides(folder)
    train, val = sides["train"], sides["val"]
    assert ids_of(train) | ids_of(val) == set(range(11)) and not ids_of(train) & ids_of(val) and len(ids_of(val)) == 4
    assert all({a["image_id"] for a in part["annotations"]} == ids_of(part) for part in (train, val))
    shown = capsys.readouterr().out
    held = min(ids_of(val))
    assert "val.json: 4 images in 1 groups, 4 cells" in shown and f"like {held}.png (4)" in shown


def test_three_sides_by_a_share_and_what_the_file_had_stays(tmp_path, capsys):
    wells = [well for well in "ABCDEF" for _ in range(4)]
    images = named(*[("SKOV3", f"{well}1", k % 4, "00d00h00m") for k, well in enumerate(wells)])
    write_all(tmp_path, images, info={"year": 2021}, licenses=[{"id": 1}])
    assert run(tmp_path, "--by", "well", "--hold-out", "0.2", "--test", "8", "--seed", "3") == 0
    sides = read_sides(tmp_path)
    assert {side: len(part["images"]) for side, part in sides.items()} == {"test": 8, "train": 12, "val": 4}
    owners = [{image["file_name"].split("_")[2] for image in part["images"]} for part in sides.values()]
    assert len(set().union(*owners)) == sum(map(len, owners)) == 6
    for side, part in sides.items():
        assert part["info"] == {"year": 2021, "split": {"by": "well", "seed": 3, "side": side}}
        assert part["licenses"] == [{"id": 1}]
    shown = capsys.readouterr().out
    assert "val: 0.2 of 24 images is 4.8; whole groups make 4" in shown
    assert f"skov3 {min(owners[0])} (4)" in shown

    (tmp_path / "all.json").write_text(json.dumps(sides["train"]))
    assert run(tmp_path, "--by", "well", "--hold-out", "4") == 0
    assert read_sides(tmp_path)["val"]["info"]["split"]["of"] == {"by": "well", "seed": 3, "side": "train"}
    assert "test.json is not of this split" in capsys.readouterr().out


def test_any_key_of_the_image_entries(folder):
    assert run(folder, "--by", "patient", "--hold-out", "0.3") == 0
    patients = [{image["patient"] for image in part["images"]} for part in read_sides(folder).values()]
    assert sorted(map(len, patients)) == [2, 4] and not patients[0] & patients[1]


@pytest.mark.parametrize("options, message", [
    (["--by", "patient", "--hold-out", "5"], "exactly 5 images.* 6 groups .*: 4 or 6 is possible"),
    (["--by", "patient", "--hold-out", "4", "--where", "kind=z"], "no image of .* kind=z"),
    (["--by", "patient", "--hold-out", "99"], "can hold out 1 to 11"),
    (["--by", "well", "--hold-out", "4"], "--by well: 12 of 12 images have no LIVECell file name .* 0.png"),
    (["--by", "plate", "--hold-out", "4"], "12 of 12 images have no text or number under 'plate'"),
    (["--by", "patient", "--where", "patient=1", "--hold-out", "0.5"], "all 2 images are of one group"),
    (["--hold-out", "4"], "give their folder"),
])  # fmt: skip
def test_errors_write_nothing(folder, options, message):
    with pytest.raises(DatasetError, match=message):
        run(folder, *options)
    assert not (folder / "out").exists()


@pytest.mark.parametrize("text", ["0", "1.0", "-3", "1.5", "many", "nan", "0.0"])
def test_amounts_that_are_none(text):
    with pytest.raises(ArgumentTypeError, match="neither a number of images"):
        split.amount(text)


def test_one_line_error_of_the_tool(folder):
    options = ["--json", folder / "all.json", "--output", folder / "out", "--by", "well", "--hold-out", "4"]
    done = subprocess.run([sys.executable, TOOL, "split", *options], capture_output=True, text=True)
    assert done.returncode == 2 and "--by well" in done.stderr and "Traceback" not in done.stderr


def test_locations_of_livecell(tmp_path):
    source = (roots.find("livecell") or tmp_path) / "livecell_coco_test.json"
    if not source.is_file():
        pytest.skip(f"livecell/livecell_coco_test.json is in none of {', '.join(map(str, roots.searched()))}")
    (tmp_path / "all.json").symlink_to(source)
    assert run(tmp_path, "--by", "location", "--hold-out", "0.3") == 0
    sides = read_sides(tmp_path)
    places = [{i["file_name"].rsplit("_", 2)[0] for i in part["images"]} for part in sides.values()]
    assert places[0] and places[1] and not places[0] & places[1]
    whole = json.loads(source.read_text())
    assert sum(len(part["annotations"]) for part in sides.values()) == len(whole["annotations"])
