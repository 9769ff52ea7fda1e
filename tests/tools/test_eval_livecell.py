"""The command line as a user runs it: files in, table and files out, one line and status 2 for unusable input."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pycocotools.mask as mask_util
import pytest

TOOL = Path(__file__).resolve().parents[2] / "tools" / "eval_livecell.py"
NAMES = ["A172_Phase_C7_1_00d00h00m_1.tif", "A172_Phase_C7_1_00d04h00m_1.tif", "BV2_Phase_B4_2_00d04h00m_3.tif"]
SIZE = (80, 100)


def square(x, y, side):
    mask = np.zeros(SIZE, np.uint8, order="F")
    mask[y : y + side, x : x + side] = 1
    encoded = mask_util.encode(mask)
    return {"size": list(SIZE), "counts": encoded["counts"].decode()}


def corners(image, moved=0):
    """Four cells of 16 x 16 pixels; in the third image the results are ``moved``."""
    return [(x + moved * (image == 2), y, 16) for x in (5, 60) for y in (5, 50)]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Ground truth of three images; results that are perfect, and results that are moved by 4 pixels in the third."""
    folder = tmp_path_factory.mktemp("scores")
    images = [{"id": n, "file_name": name, "height": SIZE[0], "width": SIZE[1]} for n, name in enumerate(NAMES)]
    cells = [(image, cell) for image in range(3) for cell in corners(image)]
    annotations = [
        {"id": n, "image_id": i, "category_id": 1, "iscrowd": 0, "area": 256, "bbox": [x, y, s, s],
         "segmentation": [[x, y, x + s, y, x + s, y + s, x, y + s]]}
        for n, (i, (x, y, s)) in enumerate(cells, start=1)
    ]  # fmt: skip
    truth = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cell"}]}
    (folder / "gt.json").write_text(json.dumps(truth))
    (folder / "others.json").write_text(json.dumps(truth, indent=1))  # stands for other images
    for name, moved in (("perfect", 0), ("moved", 4)):
        rows = [
            {"image_id": i, "category_id": 1, "score": 0.9 - 0.01 * n, "bbox": [x, y, s, s],
             "segmentation": square(x, y, s)}
            for i in range(3)
            for n, (x, y, s) in enumerate(corners(i, moved))
        ]  # fmt: skip
        (folder / f"{name}.json").write_text(json.dumps(rows))
    return folder


def run(files, *arguments, pred="moved", gt="gt", **environment):
    command = [sys.executable, TOOL, "--gt", files / f"{gt}.json", "--pred", files / f"{pred}.json", *arguments]
    environment = {**os.environ, **environment}
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, env=environment)


@pytest.fixture(scope="module")
def scored(files):
    """A run with everything, and what it wrote."""
    output = files / "out"
    options = ("--by", "well", "--by", "time", "--compare", files / "perfect.json", "--bootstrap", "50")
    done = run(files, *options, "--score-threshold", "best", "--output", output)
    assert done.returncode == 0, done.stderr
    return done.stdout, output


def test_metrics_are_the_known_ones(scored):
    metrics = json.loads((scored[1] / "metrics.json").read_text())
    # Moved by 4 of 16: IoU = 12 / 20 = .6, found at 3 of 10 thresholds (.50, .55, .60)
    assert metrics["by_cell_type"]["BV2"]["segm"]["AP"] == pytest.approx(30)
    assert metrics["by_cell_type"]["A172"]["AP"] == metrics["by_cell_type"]["A172"]["F1"] == pytest.approx(100)
    assert metrics["by_cell_type"]["BV2"]["AFNR"] == pytest.approx(70)
    assert metrics["segm"]["AR2000"] == pytest.approx(100 * (8 + 4 * 0.3) / 12)
    assert metrics["by_cell_type"]["BV2"]["F1"] == pytest.approx(75)  # 12 of 16 columns in common
    assert metrics["segm"]["APl"] is None and metrics["bbox"]["AP50"] == pytest.approx(100)
    assert set(metrics["by_well"]) == {"B4", "C7"} and set(metrics["by_time"]) == {"00d00h00m", "00d04h00m"}
    low, high = metrics["intervals"]["segm"]["AP"]
    assert low < metrics["segm"]["AP"] < high
    assert metrics["comparison"]["segm"]["AP"]["difference"] < 0
    assert metrics["protocol"]["max_dets"] == [100, 500, 2000]


def test_tables_are_whole(scored):
    table = pd.read_csv(scored[1] / "per_image.csv")
    assert table["file_name"].tolist() == NAMES and table["cells"].tolist() == [4, 4, 4]
    assert table["AP"].tolist() == pytest.approx([100, 100, 30])
    report = (scored[1] / "report.html").read_text()
    assert "BV2" in report and "<html" in report


def test_the_terminal_shows_scores_groups_and_reasons(scored):
    said = scored[0]
    for words in ("AFNR", "BV2", "no annotated large cell", "chosen on these very images", "paired over images"):
        assert words in " ".join(said.split()), words
    assert all(len(line) <= 80 for line in said.splitlines() if "wrote" not in line)


def test_a_chosen_threshold_is_used_on_other_images(files, scored):
    chosen = json.loads((scored[1] / "threshold.json").read_text())
    assert chosen["score_threshold"] == pytest.approx(0.87) and chosen["instance_F1_50"] == pytest.approx(100)
    options = ("--score-threshold", scored[1] / "threshold.json", "--bootstrap", 0, "--output", files / "again")
    done = run(files, *options, gt="others")
    protocol = json.loads((files / "again" / "metrics.json").read_text())["protocol"]
    assert done.returncode == 0 and "chosen on these very images" not in done.stdout
    assert protocol["score_threshold"] == chosen["score_threshold"]
    assert "threshold.json" in protocol["score_threshold_source"]


def test_a_threshold_that_was_chosen_on_these_images_is_never_silent(files, scored):
    notes = json.loads((scored[1] / "metrics.json").read_text())["notes"]
    assert any("chosen on these very images" in note for note in notes)
    done = run(files, "--score-threshold", scored[1] / "threshold.json", "--bootstrap", 0)
    assert "chosen on these very images" in " ".join(done.stdout.split())


def test_one_image_on_a_narrow_terminal_that_knows_ascii_only(files):
    truth = json.loads((files / "gt.json").read_text())
    truth["images"] = truth["images"][:1] + [{**truth["images"][1], "id": 8, "cell_type": "[/odd]"}]
    truth["annotations"] = [a for a in truth["annotations"] if a["image_id"] == 0]
    (files / "one.json").write_text(json.dumps(truth))
    rows = json.loads((files / "perfect.json").read_text())
    (files / "one_pred.json").write_text(json.dumps([row for row in rows if row["image_id"] == 0]))
    done = run(files, pred="one_pred", gt="one", PYTHONIOENCODING="ascii", COLUMNS="80")
    assert done.returncode == 0, done.stderr
    assert "APl: no annotated large cell" in " ".join(done.stdout.replace("|", " ").split())
    row = next(line for line in done.stdout.splitlines() if line.strip("|").split()[:1] == ["AP"])
    assert row.replace("|", " ").split()[1] == "100.00" and "[/odd]" in done.stdout


def test_a_comparison_without_resamples_has_no_interval(files):
    done = run(files, "--bootstrap", 0, "--compare", files / "perfect.json", "--output", files / "compared")
    assert done.returncode == 0, done.stderr
    row = json.loads((files / "compared" / "metrics.json").read_text())["comparison"]["segm"]["AP"]
    assert row["difference"] < 0 and row["interval"] == [None, None] and row["first_higher"] is None


def test_a_comparison_says_what_is_odd_about_the_other_file(files):
    (files / "empty.json").write_text("[]")
    done = run(files, "--bootstrap", 0, "--compare", files / "empty.json")
    assert "has no results" in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--score-threshold", "abc"), "neither a number, nor best"),
        (("--score-threshold", "nan"), "give a finite number"),
        (("--bootstrap", "-5"), "bootstrap must be 0 or at least 2"),
        (("--threads", "0"), "threads must be at least 1"),
        (("--images", "nowhere"), "no such folder"),
        (("--cell-type-key", "kind"), "no image of the ground truth has the key 'kind'"),
    ],
)
def test_options_that_make_no_sense(files, options, message):
    done = run(files, *options)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr


def test_pycocotools_gives_the_same_numbers(files, scored):
    options = ("--backend", "pycocotools", "--bootstrap", 0, "--output", files / "oracle")
    assert run(files, *options).returncode == 0
    ours, theirs = (json.loads((files / name / "metrics.json").read_text()) for name in ("out", "oracle"))
    assert theirs["protocol"]["backend"] == "pycocotools"
    for task in ("segm", "bbox"):
        for name in ("AP", "AP50", "AP75", "APs", "AR100", "AR2000", "recall55"):
            assert ours[task][name] == pytest.approx(theirs[task][name], abs=1e-10)
            first, second = (m["by_cell_type"]["BV2"][task][name] for m in (ours, theirs))
            assert first == pytest.approx(second, abs=1e-10)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"image_id": 0, "cat', "not a valid JSON file"),
        ('[{"image_id": 9, "category_id": 1, "score": 0.5, "bbox": [0, 0, 2, 2]}]', "no image with id 9"),
    ],
)
def test_unusable_input_is_one_line_and_status_two(files, content, message):
    (files / "bad.json").write_text(content)
    done = run(files, pred="bad")
    assert done.returncode == 2 and message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
