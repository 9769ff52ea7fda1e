"""The commands bank and extend, full disks, and everything that they refuse."""

import errno
import json
import resource
import shutil
from argparse import ArgumentParser

import pytest
import tifffile

from cellseg_d2.commands import bank as bank_command
from cellseg_d2.commands import extend as extend_command
from cellseg_d2.data.synthesis import image_work as module
from cellseg_d2.data.synthesis.extend import extend
from cellseg_d2.data.synthesis.journal import Journal
from cellseg_d2.data.synthesis.recipe import Recipe
from cellseg_d2.errors import DatasetError


@pytest.fixture
def command(phantoms, tmp_path):
    """``command("--factor", 2)``: extend the phantoms into ``out``."""

    def run(*extra, json_file=phantoms[0], page=extend_command, output="out"):
        parser = ArgumentParser()
        page.add_arguments(parser)
        options = ["--json", json_file, "--images", phantoms[1], "--output", tmp_path / output, *extra]
        return page.run(parser.parse_args(list(map(str, options))))

    return run


def files(folder):
    """Names of all files in a folder, hidden ones, too."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_the_commands(command, tmp_path, capsys, bank):
    assert command(page=bank_command, output="cells.bank") == 0
    said = capsys.readouterr().out
    assert f"{bank.cells['usable'].sum()} of {len(bank.cells)} cells" in " ".join(said.split())
    assert (tmp_path / "cells.bank").read_bytes() == bank.path.read_bytes()
    options = "--factor", 2, "--density", "list:8", "--bank", tmp_path / "cells.bank", "--synthetic-only"
    assert command(*options) == 0
    assert "5 synthetic images with 40 cells" in " ".join(capsys.readouterr().out.split())
    content = json.loads((tmp_path / "out" / "annotations.json").read_text())
    assert (len(content["images"]), len(content["annotations"])) == (5, 40)
    assert len(files(tmp_path / "out")) == 6


def test_only_some_cell_types_are_extended(command, tmp_path, edited):
    def change(content):
        for place, image in enumerate(content["images"]):
            image["cell_type"] = "Left" if place < 2 else "Right"

    path = edited(change)
    command("--factor", 3, "--cell-types", "RIGHT", json_file=path)
    content = json.loads((tmp_path / "out" / "annotations.json").read_text())
    sources = {image["file_name"]: image["cell_type"] for image in content["images"]}
    made = [image for image in content["images"] if "provenance" in image]
    assert len(content["images"]) == 5 + 6 and len(made) == 6
    assert all(image["cell_type"] == "right" for image in made)
    assert {sources[image["provenance"]["source_image"]] for image in made} == {"Right"}
    cells = [a["provenance"]["source_image"] for a in content["annotations"] if "provenance" in a]
    assert {sources[name] for name in cells} == {"Right"}
    with pytest.raises(DatasetError, match="no image of cell type blue; there is left, right"):
        command("--cell-types", "blue", json_file=path, output="other")


@pytest.mark.parametrize("density", ["list:100000", "uniform:0.9:0.99"])
def test_a_density_that_cannot_be_reached(command, tmp_path, density):
    with pytest.raises(DatasetError) as caught:
        command("--density", density)
    said = str(caught.value)
    assert "cannot be reached" in said and "160 x 160 pixels are full with" in said and "ask for less" in said
    assert not (tmp_path / "out" / "images").exists()


def test_after_a_density_that_cannot_be_reached_less_can_be_asked_for(command, tmp_path):
    with pytest.raises(DatasetError, match="ask for less"):
        command("--density", "list:100000", "--factor", 1.2)
    assert command("--density", "list:5", "--factor", 1.2) == 0


def test_too_few_cells_of_a_type(command, edited):
    def change(content):
        content["images"][0]["cell_type"] = "rare"
        kept = [a for a in content["annotations"] if a["image_id"] == content["images"][0]["id"]][:3]
        others = [a for a in content["annotations"] if a["image_id"] != content["images"][0]["id"]]
        content["annotations"] = kept + others

    with pytest.raises(DatasetError, match=r"cell type rare has only \d usable cells, and 10 are needed.*--cell-types"):
        command(json_file=edited(change))


def test_a_bank_without_cells(command, tmp_path, edited):
    def change(content):
        content["annotations"] = [a for a in content["annotations"] if a["bbox"][0] <= 0]

    with pytest.raises(DatasetError, match="no cell that can be cut out"):
        command(json_file=edited(change))
    assert not (tmp_path / "out").exists() or files(tmp_path / "out") == []


def test_growth_without_times(command):
    with pytest.raises(DatasetError, match="at least 4 times"):
        command("--density", "growth")


def test_the_bank_of_another_data_set(command, bank, edited, tmp_path):
    path = edited(lambda content: content["annotations"].pop())
    with pytest.raises(DatasetError, match="cell bank of another data set"):
        command("--bank", bank.path, json_file=path)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("options", "message"), [
    (["--workers", 0], "--workers 0: give 1 or more"), (["--workers", -2], "--workers -2"),
    (["--factor", 1], "extends nothing"), (["--factor", "nan"], "extends nothing"), (["--factor", 1e9], "extends"),
    (["--seed", -1], "seed -1"), (["--density", "dense"], "none of these"), (["--cell-types", "x"], "cell type x"),
])  # fmt: skip
def test_options_that_make_no_sense(command, options, message):
    with pytest.raises(DatasetError, match=message):
        command(*options)


def test_an_output_that_is_a_file(command, tmp_path):
    (tmp_path / "out").write_text("in the way")
    with pytest.raises(DatasetError, match="out is a file"):
        command()
    assert (tmp_path / "out").read_text() == "in the way"
    with pytest.raises(DatasetError, match="--workers 0"):
        command("--workers", 0, page=bank_command, output="b.bank")


def test_image_ids_that_are_text(command, edited):
    def change(content):
        for annotation in content["annotations"]:
            annotation["image_id"] = str(annotation["image_id"])
        for image in content["images"]:
            image["id"] = str(image["id"])

    with pytest.raises(DatasetError, match="no whole number"):
        command("--factor", 1.2, json_file=edited(change))


def test_a_full_disk(phantoms, bank, recipe, tmp_path, monkeypatch, extended, contents):
    """One line that says what to do; nothing half written stays; the same call goes on where it was."""
    full, calls = OSError(errno.ENOSPC, "no space left on device"), []

    def imwrite(path, *arguments, **options):
        calls.append(path)
        if len(calls) == 4:
            path.write_bytes(b"half")
            raise full
        return original(path, *arguments, **options)

    original = module.tifffile.imwrite
    monkeypatch.setattr(module.tifffile, "imwrite", imwrite)
    with pytest.raises(DatasetError, match="no space is left on the disk; make room and call the same command again"):
        extend(*phantoms, tmp_path, recipe, bank_file=bank.path)
    assert not list(tmp_path.rglob("*.part")) and not (tmp_path / "annotations.json").exists()
    calls += range(10)
    extend(*phantoms, tmp_path, recipe, bank_file=bank.path)
    assert contents(tmp_path) == contents(extended)


def test_a_disk_that_is_full_at_the_json(phantoms, bank, recipe, tmp_path, monkeypatch, extended, contents):
    def fail(*_):
        raise OSError(errno.EDQUOT, "quota exceeded")

    monkeypatch.setattr("cellseg_d2.files.os.fsync", fail)
    with pytest.raises(DatasetError, match="no space is left"):
        extend(*phantoms, tmp_path, recipe, bank_file=bank.path)
    assert "annotations.json" not in files(tmp_path) and not list(tmp_path.glob(".annotations*"))
    monkeypatch.undo()
    extend(*phantoms, tmp_path, recipe, bank_file=bank.path)
    assert contents(tmp_path) == contents(extended)


@pytest.mark.parametrize("length", [
    3000,
    100_000,
])
def test_a_line_that_finds_no_room_leaves_nothing(tmp_path, length):
    """The kernel takes a part of the line and refuses the rest, as on a disk that is full."""
    journal = Journal(tmp_path, {"seed": 1})
    journal.append('{"a": 1}')
    before, limits = journal.path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + length // 2, limits[1]))
    try:
        with pytest.raises(OSError):
            journal.append(json.dumps({"a": "x" * length}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert journal.path.read_bytes() == before


def test_another_bank_of_the_same_name(phantoms, tmp_path, edited):
    """Within one process, a folder is made anew after the data set was changed."""
    recipe = Recipe(factor=1.2, density="list:5")
    path = edited(lambda content: content["images"].__setitem__(slice(None), content["images"][::-1]))
    extend(*phantoms, tmp_path / "out", recipe)
    for name in ("annotations.json", "cells.bank"):
        (tmp_path / "out" / name).unlink()
    extend(path, phantoms[1], tmp_path / "out", recipe)
    extend(path, phantoms[1], tmp_path / "fresh", recipe)
    there, fresh = (json.loads((tmp_path / name / "annotations.json").read_text()) for name in ("out", "fresh"))
    assert there == fresh


def test_the_bank_of_the_same_json_with_other_images(phantoms, bank, recipe, tmp_path):
    shutil.copytree(phantoms[1], tmp_path / "images")
    path = next((tmp_path / "images").iterdir())
    tifffile.imwrite(path, tifffile.imread(path) // 2)
    with pytest.raises(DatasetError, match="or of other images"):
        extend(phantoms[0], tmp_path / "images", tmp_path / "out", recipe, bank_file=bank.path)
