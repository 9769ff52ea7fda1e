"""Extensions: the same bytes whatever happened on the way, what is in the folder, and input that cannot be used."""

import fcntl
import json
from dataclasses import replace

import pytest

from cellseg_d2.data.synthesis import image_work as module
from cellseg_d2.data.synthesis.bank_build import build_bank
from cellseg_d2.data.synthesis.extend import extend
from cellseg_d2.data.synthesis.journal import Journal
from cellseg_d2.data.synthesis.recipe import Plan, Recipe
from cellseg_d2.errors import DatasetError


@pytest.fixture
def run(phantoms, bank, recipe):
    """``run(folder, **changes of the recipe)``: extend the phantoms."""
    return lambda folder, **changes: extend(*phantoms, folder, replace(recipe, **changes), bank_file=bank.path)


@pytest.fixture
def break_off(monkeypatch):
    """``break_off(after, error)``: writing the image after so many of them raises."""

    def prepare(after, error):
        made = []

        def generate(*arguments):
            if len(made) == after:
                raise error
            made.append(arguments)
            return original(*arguments)

        original = module.generate
        monkeypatch.setattr(module, "generate", generate)

    return prepare


def test_workers_do_not_change_a_byte(phantoms, bank, tmp_path, recipe, contents, extended):
    extend(*phantoms, tmp_path, recipe, 2, bank.path)
    assert contents(tmp_path) == contents(extended)


@pytest.mark.slow  # processes start for seconds
def test_workers_do_not_change_a_byte_of_the_bank(phantoms, bank, tmp_path):
    assert build_bank(*phantoms, tmp_path / "cells.bank", 2).path.read_bytes() == bank.path.read_bytes()


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(run, tmp_path, extended, contents):
    run(tmp_path / "same")
    run(tmp_path / "other", seed=4)
    expected, other = contents(extended), contents(tmp_path / "other")
    assert contents(tmp_path / "same") == expected
    assert set(other) == set(expected)
    assert all((other[name] == expected[name]) == ("-x" not in name and "json" not in name) for name in expected)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(5, "input/output error")], ids=["key", "disk"])
@pytest.mark.parametrize("after", [0, 4])
def test_a_run_that_broke_off_goes_on_to_the_same_bytes(
    run, break_off, tmp_path, extended, contents, monkeypatch, after, error
):
    break_off(after, error)
    with pytest.raises(type(error)):
        run(tmp_path)
    assert not (tmp_path / "annotations.json").exists() and not list(tmp_path.rglob("*.part"))
    assert len(list(tmp_path.glob("images/*-x*.tif"))) == after
    monkeypatch.undo()
    run(tmp_path)
    assert contents(tmp_path) == contents(extended)


@pytest.mark.parametrize("cut", [1, 300])
def test_a_line_that_was_half_written_is_made_again(run, break_off, tmp_path, extended, contents, monkeypatch, cut):
    break_off(4, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    journal = tmp_path / "annotations.partial.jsonl"
    journal.write_bytes(journal.read_bytes()[:-cut])
    monkeypatch.undo()
    run(tmp_path)
    assert contents(tmp_path) == contents(extended)


def test_a_journal_that_was_begun_only(run, tmp_path, recipe, bank, extended, contents):
    """A crash right after the file was made, or within its first line."""
    first = json.dumps(recipe.as_dict(bank)).encode()
    (tmp_path / "annotations.partial.jsonl").write_bytes(b"")
    run(tmp_path)
    assert contents(tmp_path) == contents(extended)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "annotations.partial.jsonl").write_bytes(first[:20])
    with pytest.raises(DatasetError, match="belongs to another extension"):
        run(tmp_path / "b")  # it could be anything; the message says what to delete


def test_a_finished_folder_is_left_alone(run, tmp_path, break_off):
    before = run(tmp_path)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    break_off(0, AssertionError("nothing is to be made"))
    assert run(tmp_path) == before
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == stamps
    assert before.images == round(1.5 * 5)


@pytest.mark.parametrize("change", [{"seed": 9}, {"factor": 3.0}, {"density": "list:5"}, {"turn": "none"},
                                    {"originals": False}])
@pytest.mark.parametrize("finished", [True, False])
def test_a_folder_is_not_gone_on_with_by_another_recipe(run, break_off, tmp_path, contents, finished, change):
    if finished:
        run(tmp_path, factor=1.4)
    else:
        break_off(1, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, factor=1.4)
    before = contents(tmp_path)
    with pytest.raises(DatasetError, match="belongs to another extension.*another --output"):
        run(tmp_path, **{"factor": 1.4, **change})
    assert contents(tmp_path) == before


def test_originals_are_copies_that_may_be_changed(phantoms, extended):
    for path in phantoms[1].iterdir():
        copy = extended / "images" / path.name
        assert copy.read_bytes() == path.read_bytes() and copy.stat().st_ino != path.stat().st_ino


def test_a_second_process_has_to_wait(run, tmp_path):
    with open(tmp_path / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(DatasetError, match="another process is extending"):
            run(tmp_path)


def test_an_image_that_is_gone_is_noticed(run, break_off, tmp_path, monkeypatch):
    break_off(3, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    monkeypatch.undo()
    next((tmp_path / "images").glob("*-x00001.tif")).unlink()
    with pytest.raises(DatasetError, match="was made before and is gone"):
        run(tmp_path)


def test_without_originals(run, tmp_path, extended, phantoms):
    made = run(tmp_path, originals=False)
    content, whole = (json.loads((folder / "annotations.json").read_text()) for folder in (tmp_path, extended))
    originals = json.loads(phantoms[0].read_text())
    assert content["images"] == whole["images"][5:] and len(content["images"]) == made.images
    assert content["annotations"] == whole["annotations"][len(originals["annotations"]) :]
    assert {path.name for path in (tmp_path / "images").iterdir()} == {i["file_name"] for i in content["images"]}


@pytest.mark.parametrize(("factor", "images"), [(1.2, 1), (2, 5), (3.5, 12)])
def test_the_factor(bank, factor, images):
    assert Plan(bank, Recipe(factor=factor)).count == images


def test_images_without_cells_may_be_asked_for(run, tmp_path):
    made = run(tmp_path, density="list:0,4")
    assert made.cells == sum((0, 4)[k % 2] for k in range(made.images)) and made.short == 0


def test_names_of_originals_are_not_taken(phantoms, tmp_path, edited):
    """As where an extension is extended once more."""
    (tmp_path / "images").mkdir()
    names = [image["file_name"] for image in json.loads(phantoms[0].read_text())["images"]]
    taken = f"{names[0].removesuffix('.tif')}-x00000.tif"
    for name in names:
        (tmp_path / "images" / (taken if name == names[1] else name)).write_bytes((phantoms[1] / name).read_bytes())
    path = edited(lambda content: content["images"][1].update(file_name=taken))
    extend(path, tmp_path / "images", tmp_path / "out", Recipe(factor=2))
    content = json.loads((tmp_path / "out" / "annotations.json").read_text())
    assert len({image["file_name"] for image in content["images"]}) == len(content["images"])
    assert (tmp_path / "out" / "images" / taken).read_bytes() == (phantoms[1] / names[1]).read_bytes()


def test_a_journal_counts_only_whole_lines(tmp_path):
    journal = Journal(tmp_path, {"seed": 1})
    journal.append('{"a": 1}')
    journal.append('{"a": 2}')
    with open(journal.path, "ab") as file:
        file.write(b'{"a": 3')
    again = Journal(tmp_path, {"seed": 1})
    assert again.count == 2 and list(again.lines()) == [{"a": 1}, {"a": 2}]
