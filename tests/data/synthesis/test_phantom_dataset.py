"""Data sets of phantoms: files, COCO JSON, workers, resuming, the command line."""

import json
import re

import numpy as np
import pytest
import tifffile
from pycocotools.coco import COCO

from cellseg_d2.data.synthesis.phantom import PhantomSpec, file_name, main, simulate, write_dataset

SPEC = PhantomSpec(height=64, width=96, cells=(0, 6))
NAME = re.compile(r"(?P<type>\w+)_Phase_(?P<well>[A-H]\d+)_(?P<location>\d)_\d\dd\d\dh\d\dm_(?P<crop>\d)\.tif")


def contents(folder):
    """Relative path -> bytes of all files."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_the_json_describes_the_images(tmp_path):
    done = []
    path = write_dataset(tmp_path / "set", SPEC, 6, seed=3, progress=done.append)
    assert path == tmp_path / "set" / "annotations.json" and done == [1, 2, 3, 4, 5, 6]
    coco = COCO(path)
    assert coco.loadCats(1)[0]["name"] == "cell" and len(coco.imgs) == 6
    assert sorted(coco.anns) == list(range(1, len(coco.anns) + 1)) and coco.anns
    for index, image in enumerate(coco.loadImgs(sorted(coco.imgs))):
        name = NAME.fullmatch(image["file_name"])
        assert name["type"] == SPEC.cell_types[index % 4]
        phantom = simulate(SPEC, np.random.SeedSequence(3, spawn_key=(index,)), name["type"])
        pixels = tifffile.imread(tmp_path / "set" / "images" / image["file_name"])
        assert pixels.shape == (image["height"], image["width"]) == (64, 96)
        assert (pixels == phantom.image).all()
        entries = coco.imgToAnns[image["id"]]
        assert len(entries) == len(phantom.cells)
        for number, entry in enumerate(entries, 1):
            truth = phantom.labels == number
            decoded = coco.annToMask(entry).astype(bool)
            assert (decoded & truth).sum() / (decoded | truth).sum() > 0.9
            assert entry["area"] == truth.sum() and entry["iscrowd"] == 0 and entry["category_id"] == 1
            x, y, w, h = entry["bbox"]
            assert truth[y : y + h, x : x + w].sum() == truth.sum() and x + w <= 96 and y + h <= 64
    assert not list(tmp_path.rglob("*.part"))


def test_workers_do_not_change_a_byte(tmp_path):
    write_dataset(tmp_path / "one", SPEC, 4, seed=1, workers=1)
    write_dataset(tmp_path / "two", SPEC, 4, seed=1, workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_a_longer_data_set_starts_with_the_shorter_one(tmp_path):
    write_dataset(tmp_path / "short", SPEC, 2, seed=1)
    write_dataset(tmp_path / "long", SPEC, 4, seed=1)
    short, long = contents(tmp_path / "short"), contents(tmp_path / "long")
    assert all(long[name] == data for name, data in short.items() if name.endswith(".tif"))


def test_file_names_never_repeat_and_look_like_livecell():
    names = [file_name("PHRound", number) for number in range(30000)]
    assert len(set(names)) == 30000 and all(NAME.fullmatch(name) for name in names)
    assert names[0] == "PHRound_Phase_A1_1_00d00h00m_1.tif" and names[8] == "PHRound_Phase_A1_1_00d04h00m_1.tif"
    with pytest.raises(ValueError, match="no file name left"):
        file_name("PHRound", 10**6)


def test_empty_images_and_an_empty_set_are_valid_coco(tmp_path):
    empty = PhantomSpec(height=48, width=48, cells=(0, 0))
    coco = COCO(write_dataset(tmp_path / "a", empty, 2, seed=0))
    assert len(coco.imgs) == 2 and not coco.anns
    assert not COCO(write_dataset(tmp_path / "b", empty, 0, seed=0)).imgs


def test_an_interrupted_run_leaves_no_json_and_can_be_repeated(tmp_path):
    def stop(done):
        if done == 2:
            raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        write_dataset(tmp_path / "set", SPEC, 4, seed=1, progress=stop)
    assert not (tmp_path / "set" / "annotations.json").exists()
    write_dataset(tmp_path / "set", SPEC, 4, seed=1)
    write_dataset(tmp_path / "fresh", SPEC, 4, seed=1)
    assert contents(tmp_path / "set") == contents(tmp_path / "fresh")


def test_a_complete_set_is_kept_and_another_one_is_not_overwritten(tmp_path):
    path = write_dataset(tmp_path, SPEC, 2, seed=1)
    before = path.stat().st_mtime_ns
    assert write_dataset(tmp_path, SPEC, 2, seed=1) == path and path.stat().st_mtime_ns == before
    with pytest.raises(FileExistsError, match="another data set"):
        write_dataset(tmp_path, SPEC, 2, seed=2)
    path.write_text("{}")
    with pytest.raises(FileExistsError, match="another data set"):
        write_dataset(tmp_path, SPEC, 2, seed=1)


def test_command_line(tmp_path, capsys):
    out = tmp_path / "cli"
    common = [str(out), "--images", "2", "--size", "64", "64", "--cells", "1", "3", "--types", "PHRound", "--seed", "7"]
    assert main(common) == 0
    path = out / "annotations.json"
    assert capsys.readouterr().out.strip() == str(path)
    assert all(1 <= len(COCO(path).getAnnIds(imgIds=[i])) <= 3 for i in (1, 2))
    assert len(json.loads(path.read_text())["images"]) == 2


@pytest.mark.parametrize(("extra", "message"), [
    (["--types", "HeLa"], "unknown cell types ['HeLa']"),
    (["--cells", "900", "900", "--size", "64", "64"], "of 900 cells"),
    (["--cells", "5", "2"], "lowest <= highest"),
    (["--workers", "0"], "0 workers"),
])
def test_command_line_says_what_is_wrong(tmp_path, capsys, extra, message):
    assert main([str(tmp_path / "x"), "--images", "1", *extra]) == 1
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "x" / "annotations.json").exists()


def test_command_line_with_an_output_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    assert main([str(tmp_path / "file" / "set"), "--images", "1"]) == 1
    assert "cannot write the data set" in capsys.readouterr().err.splitlines()[-1]
