"""tools/dataset.py pca: phantoms against phantoms, provenance, groups, files, errors."""

import json
from argparse import ArgumentParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cellseg_d2.analysis.compare_report import verdict
from cellseg_d2.analysis.compare_tests import Outcome
from cellseg_d2.analysis.descriptor_tables import describe, source_of
from cellseg_d2.analysis.two_sample import TwoSample
from cellseg_d2.commands import pca as command
from cellseg_d2.data.datasets.columns import open_coco
from cellseg_d2.data.synthesis.phantom import PhantomSpec, write_dataset
from cellseg_d2.errors import DatasetError, MissingDataError

SPEC = {"height": 160, "width": 160, "cells": (14, 18), "cell_types": ("PHRound",), "overlap": 0.0}
Place = tuple[Path, Path]


def phantoms(folder: Path, images: int, seed: int, **changes) -> Place:
    path = write_dataset(folder, PhantomSpec(**SPEC | changes), images, seed)
    return path, folder / "images"


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Place:
    return phantoms(tmp_path_factory.mktemp("whole"), 24, 1)


@pytest.fixture(scope="module")
def larger(tmp_path_factory) -> Place:
    return phantoms(tmp_path_factory.mktemp("larger"), 12, 2, scale=1.3)


def half(place: Place, folder: Path, which: int) -> Place:
    """Every second image of a set, as a JSON of its own."""

    def act(coco):
        coco["images"] = coco["images"][which::2]
        kept = {image["id"] for image in coco["images"]}
        coco["annotations"] = [a for a in coco["annotations"] if a["image_id"] in kept]

    return changed(place, folder / f"half{which}.json", act)


def changed(place: Place, path: Path, act) -> Place:
    coco = json.loads(place[0].read_text())
    act(coco)
    path.write_text(json.dumps(coco))
    return path, place[1]


def run(output: Path, first: Place, second: Place | None = None, *options) -> dict:
    """The numbers of a run."""
    parser = ArgumentParser()
    command.add_arguments(parser)
    words = ["--json", first[0], "--images", first[1], "--output", output, *options]
    words += [] if second is None else ["--against", second[0], "--against-images", second[1]]
    assert command.run(parser.parse_args(list(map(str, words)))) == 0
    return json.loads((output / "pca.json").read_text(), parse_constant=pytest.fail)


def by_group(numbers: dict) -> dict[str, dict]:
    return {outcome["name"]: outcome["test"] for outcome in numbers["cells"]}


def test_two_halves_of_one_set_are_not_told_apart(whole, tmp_path, capsys):
    first, output = half(whole, tmp_path, 0), tmp_path / "out"
    numbers = run(output, first, half(whole, tmp_path, 1))
    test, distance = numbers["cells"][0]["test"], numbers["cells"][0]["distance"]
    assert test["low"] < 0.5 < test["high"] and "too few source images" in numbers["verdict"]
    assert distance["low"] < distance["floor_high"] and distance["value"] < 2 * distance["floor_high"]
    assert numbers["images"]["test"] is None and "12 and 12" in numbers["images"]["why"]
    out = capsys.readouterr().out
    assert "Undecided: too few" in out and "No annotation of the extended set has a provenance" in out
    written = {path.name for path in output.iterdir()}
    assert written == {*command.FILES, "pca_cells.png", "pca_images.png", "density.png", "giveaways.png"}
    cells, images = (pd.read_csv(output / f"{name}.csv") for name in ("cells", "images"))
    assert numbers["sets"]["original"]["cells"] == (cells["set"] == "original").sum()
    assert images["set"].value_counts().to_dict() == {"original": 12, "extended": 12}
    for part in (cells, images):  # axes are fitted on the original
        assert part.loc[part["set"] == "original", "pc1"].mean() == pytest.approx(0, abs=1e-4)
    with Image.open(output / "pca_cells.png") as picture:
        assert len(np.unique(np.asarray(picture.convert("L")))) > 20
    alone = run(output, first)
    assert "cells" not in alone and alone["pca"]["cells"]["explained"] == numbers["pca"]["cells"]["explained"]
    assert numbers["files"] == sorted(written) and alone["files"] == sorted(path.name for path in output.iterdir())
    assert not (output / "giveaways.png").exists()


def test_larger_cells_are_given_away_by_their_shape(whole, larger, tmp_path):
    numbers = run(tmp_path / "out", half(whole, tmp_path, 0), larger)
    tests = by_group(numbers)
    assert tests["all"]["low"] > 0.75 and "told apart" in numbers["verdict"]
    assert tests["shape"]["auc"] > max(tests[name]["auc"] for name in ("intensity", "texture", "neighbourhood"))
    best = numbers["descriptors"][0]
    assert best["group"] == "shape" and best["descriptor"] in ("area", "perimeter") and best["auc"] > 0.8
    assert numbers["cells"][0]["distance"]["low"] > numbers["cells"][0]["distance"]["floor_high"]
    page = (tmp_path / "out" / "pca.html").read_text()
    assert "area (shape): higher in the extended set" in page and 'src="http' not in page


def test_synthetic_cells_alone_are_compared_and_copies_stay_with_their_source(whole, tmp_path):
    first = half(whole, tmp_path, 0)
    ids = {image["id"]: image["file_name"] for image in json.loads(first[0].read_text())["images"]}

    def paste(coco):
        for image in coco["images"]:
            image["source_image"] = image["id"]
        for k, annotation in enumerate(coco["annotations"]):
            if k % 4:
                annotation["provenance"] = {"source": annotation["id"], "source_image": annotation["image_id"]}

    second = changed(first, tmp_path / "extended.json", paste)
    found = describe(open_coco(second[0]), second[1], ids)
    assert set(found.cells["source"]) == set(ids.values()) and not found.foreign
    numbers = run(tmp_path / "out", first, second, "--by", "cell_type")
    assert any("synthetic ones are compared" in note for note in numbers["notes"])
    assert numbers["sets"]["extended"]["cells"] < numbers["sets"]["original"]["cells"]
    test = by_group(numbers)["all"]
    assert test["low"] < 0.5 < test["high"] and test["images"] == [12, 12]
    assert [group["name"] for group in numbers["by"]["groups"]] == ["phround"]


def test_a_copy_is_held_out_with_the_image_that_it_was_cut_out_of(whole, tmp_path):
    """Copies of all cells, in images that say that they were made from another image."""
    first = half(whole, tmp_path, 0)
    entries = json.loads(first[0].read_text())["images"]
    ids = [entry["id"] for entry in entries]
    names = {entry["id"]: entry["file_name"] for entry in entries}
    other = {names[own]: names[of] for own, of in zip(ids, ids[1:] + ids[:1])}

    def paste(coco):
        for image in coco["images"]:
            image["source_image"] = other[image["file_name"]]
        for annotation in coco["annotations"]:
            annotation["provenance"] = {"source_image": annotation["image_id"]}
        coco["annotations"][0]["provenance"] = {"source": 1}  # names no image
        del coco["annotations"][1]["provenance"]

    second = changed(first, tmp_path / "extended.json", paste)
    found = describe(open_coco(second[0]), second[1], names)
    cells, own = found.cells, found.cells["image"].where(found.cells["cell"] > 2, found.cells["image"].map(other))
    assert cells["cell"].min() == 1 and (cells["source"] == own).all()
    assert dict(zip(found.images["image"], found.images["source"])) == other
    assert found.foreign == len(json.loads(first[0].read_text())["annotations"]) - 2
    numbers = run(tmp_path / "out", first, second)
    test = by_group(numbers)["all"]
    assert test["auc"] == pytest.approx(0.5, abs=0.03) and test["check"] == pytest.approx(0.5, abs=0.03)
    assert "cannot be told apart" in numbers["verdict"]
    note = next(note for note in numbers["notes"] if note.startswith(str(found.foreign)))
    assert "too low" in note and "easier" not in note


@pytest.mark.parametrize(
    ("boosting", "logistic", "said"),
    [
        ((0.52, 0.45, 0.58), (0.51, 0.46, 0.57), ("cannot be told apart", "AUC 0.52 (gradient boosting)")),
        ((0.52, 0.45, 0.58), (0.71, 0.62, 0.79), ("be told in part", "AUC 0.71 (logistic regression)", "0.62 to 0.79")),
        ((0.95, 0.91, 0.98), (0.71, 0.62, 0.79), ("almost always", "AUC 0.95 (gradient boosting)")),
        ((0.70, 0.49, 0.90), (0.55, 0.51, 0.59), ("hardly be told", "AUC 0.55 (logistic regression)")),
        ((0.55, 0.35, 0.75), (0.50, 0.45, 0.55), ("Undecided: too few source images", "0.35 to 0.75")),
        ((0.50, 0.45, 0.55), (0.55, 0.49, 0.61), ("Undecided: too few source images", "0.49 to 0.61")),
    ],
)  # fmt: skip
def test_the_verdict_is_of_the_stronger_classifier(boosting, logistic, said):
    sentence = verdict(Outcome("all", TwoSample(*boosting, *logistic, 400, (20, 20), 5, ("area",), {})))
    assert all(part in sentence for part in said)
    assert ("cannot be told apart" in sentence) == ("cannot be told apart" in said)


@pytest.mark.parametrize("told", [None, "{", '{"files": ["giveaways.png"]}'])
def test_figures_of_others_stay(larger, tmp_path, told):
    mine = [tmp_path / name for name in ("giveaways.png", "pca_deep_cells.png")]
    for path in mine:
        path.write_bytes(b"mine")
    if told is not None:
        (tmp_path / "pca.json").write_text(told)
    for _ in range(1 if told else 2):  # the second run finds its own pca.json
        run(tmp_path, larger)
        assert [path.read_bytes() for path in mine] == [b"mine", b"mine"]


@pytest.mark.parametrize(
    ("entry", "origins", "source"),
    [
        ({}, [], "b.tif"),
        ({"source_image": 7}, [], "a.tif"),
        ({"provenance": {"source_image": "c.tif"}}, [], "c.tif"),
        ({"provenance": "d.tif"}, [{"source_image": 7}], "d.tif"),
        ({}, [{"source_image": 7}, {"source_image": "a.tif"}], "a.tif"),
        ({}, [{"source_image": 7}, {"source_image": 8}], "b.tif"),
    ],
)
def test_source(entry, origins, source):
    assert source_of({"file_name": "b.tif", **entry}, origins, {7: "a.tif"}) == source


def test_input_that_cannot_be_used(larger, tmp_path):
    few = changed(larger, tmp_path / "few.json", lambda coco: coco.update(annotations=coco["annotations"][:19]))
    none = changed(larger, tmp_path / "none.json", lambda coco: coco.update(images=[], annotations=[]))
    for second, message in ((few, "20 complete rows"), (none, "'images' is empty")):
        with pytest.raises(DatasetError, match=message):
            run(tmp_path / "out", larger, second)
    with pytest.raises(MissingDataError, match="12 of 12 images"):
        run(tmp_path / "out", (larger[0], tmp_path))
    with pytest.raises(DatasetError, match="no image has a time"):
        nameless = changed(larger, tmp_path / "nameless.json", _rename(larger, tmp_path / "other"))
        run(tmp_path / "out", (nameless[0], tmp_path / "other"), None, "--by", "time")
    assert not (tmp_path / "out").exists()


def _rename(place: Place, folder: Path):
    """Gives the images names that say nothing, in another folder."""

    def act(coco):
        folder.mkdir()
        for image in coco["images"]:
            name = f"{image['id']}.tif"
            (folder / name).write_bytes((place[1] / image["file_name"]).read_bytes())
            image["file_name"] = name

    return act


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--against-images", "x"), "needs --against"),
        (("--weights", "x"), "belong together"),
        (("--seed", "-1"), "0 or more"),
        (("--weights", "x.pth", "--config-file", "x.yaml"), "no such file"),
    ],
)
def test_options_that_contradict_each_other(larger, tmp_path, options, message):
    with pytest.raises(DatasetError, match=message):
        run(tmp_path / "out", larger, None, *options)


def test_the_input_is_never_replaced(larger, tmp_path):
    place = changed(larger, tmp_path / "pca.json", lambda coco: None)
    with pytest.raises(DatasetError, match="the input itself"):
        run(tmp_path, place)
