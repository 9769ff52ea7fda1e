"""tools/dataset.py: help pages with an example, and exit codes."""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from cellseg_d2.commands import COMMANDS

TOOL = Path(__file__).resolve().parents[2] / "tools" / "dataset.py"


@pytest.fixture
def call(load_tool, monkeypatch):
    """``call("check", ...)``: the tool's exit code."""
    tool = load_tool("dataset")

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["dataset.py", *map(str, arguments)])
        return tool.main()

    return run


@pytest.mark.parametrize("command", [command.__name__.rpartition(".")[2] for command in COMMANDS])
def test_each_command_has_a_page_with_an_example(call, capsys, command):
    with pytest.raises(SystemExit) as stopped:
        call(command, "--help")
    assert stopped.value.code == 0
    assert f"tools/dataset.py {command} --" in capsys.readouterr().out


@pytest.fixture
def data(tmp_path):
    """Two images of noise with a square cell each."""
    square = {"category_id": 1, "iscrowd": 0, "area": 100, "bbox": [5, 5, 10, 10]}
    square["segmentation"] = [[5, 5, 15, 5, 15, 15, 5, 15]]
    images, cells = [], []
    for k in range(2):
        cv2.imwrite(str(tmp_path / f"{k}.png"), np.random.default_rng(k).integers(0, 255, (40, 50), np.uint8))
        images.append({"id": k, "file_name": f"{k}.png", "height": 40, "width": 50})
        cells.append({"id": k, "image_id": k, **square})
    content = {"images": images, "annotations": cells, "categories": [{"id": 1, "name": "cell"}]}
    (tmp_path / "all.json").write_text(json.dumps(content))
    return tmp_path


def test_exit_codes(call, data, capsys):
    common = ["--json", data / "all.json", "--images", data]
    assert call("check", *common) == 0
    content = json.loads((data / "all.json").read_text())
    content["annotations"].append({**content["annotations"][0], "id": 7})
    (data / "all.json").write_text(json.dumps(content))
    assert call("check", *common, "--report", data / "report.json") == 1
    (finding,) = json.loads((data / "report.json").read_text())["findings"]
    assert (finding["kind"], finding["count"]) == ("duplicate_contours", 1) and len(finding["where"]) == 1
    (data / "all.json").write_text("{")
    capsys.readouterr()
    for command in (["check", *common], ["convert", "--to", "labels", *common, "--output", data / "out"]):
        assert call(*command) == 2
        assert capsys.readouterr().err.startswith(f"dataset.py: {data / 'all.json'}: not a valid JSON file")


def test_inputs_are_never_replaced(call, data, capsys):
    before = (data / "all.json").read_bytes()
    assert call("merge", "--part", "x", data / "all.json", data, "--output", data / "all.json") == 2
    assert call("check", "--json", data / "all.json", "--images", data, "--report", data / "all.json") == 2
    assert capsys.readouterr().err.count("give another") == 2 and (data / "all.json").read_bytes() == before


def test_a_fix_that_would_keep_nothing_is_refused(call, data, capsys):
    content = json.loads((data / "all.json").read_text())
    for annotation in content["annotations"]:
        annotation["image_id"] = str(annotation["image_id"])
    (data / "all.json").write_text(json.dumps(content))
    options = ["--json", data / "all.json", "--images", data, "--fix", "--output", data / "out"]
    assert call("check", *options, "--report", data / "report.json") == 2
    assert "none of its 2 annotations can be kept" in capsys.readouterr().err
    assert not (data / "out" / "all_clean.json").exists() and (data / "report.json").exists()


def test_a_fault_of_the_program_is_no_finding(call, data, monkeypatch, capsys):
    monkeypatch.setattr("cellseg_d2.commands.check.survey", lambda *args: 1 / 0)
    assert call("check", "--json", data / "all.json", "--images", data) == 2
    assert "ZeroDivisionError" in capsys.readouterr().err
