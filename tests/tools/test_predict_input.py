"""Bad images, full disks, limits, broken-off runs and killed processes, through the command line."""

import errno
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image

from cellseg_d2.data.synthesis.phantom import PhantomSpec, simulate
from cellseg_d2.inference.runs import worker as worker_module
from cellseg_d2.inference.runs.worker import Worker

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools" / "predict.py"
UNET = ["MODEL.DEVICE", "cpu", "MODEL.UNET.WIDTH", 4, "MODEL.SEMANTIC.MIN_AREA", 0, "MODEL.SEMANTIC.HOLE_AREA", 0]
CENTERMASK = ["MODEL.DEVICE", "cpu", "MODEL.FCOS.PRIOR_PROB", 0.3, "INPUT.MIN_SIZE_TEST", 0]


@pytest.fixture(scope="module")
def work(tmp_path_factory, save_untrained):
    """Models, and images good and bad."""
    folder = tmp_path_factory.mktemp("input")
    save_untrained(folder / "model", "unet.yaml", UNET)
    images = folder / "images"
    images.mkdir()
    good = [simulate(PhantomSpec(height=72, width=90, cells=(3, 5)), seed=seed).image for seed in range(4)]
    tifffile.imwrite(images / "good.tif", good[0])
    tifffile.imwrite(images / "film.tif", np.stack(good), imagej=True, metadata={"axes": "TYX"})
    content = (images / "film.tif").read_bytes()
    (images / "truncated.tif").write_bytes(content[: len(content) // 2])
    (images / "empty.tif").write_bytes(b"")
    (images / "text.png").write_text("no image")
    Image.new("L", (1, 1)).save(images / "pixel.png")
    tifffile.imwrite(images / "nan.tif", np.where(good[0] > 100, np.nan, good[0]).astype(np.float32))
    tifffile.imwrite(images / "five.tif", np.zeros((2, 3, 2, 30, 40), np.uint8))
    tifffile.imwrite(images / "channels.tif", np.zeros((2, 30, 40), np.uint8), imagej=True, metadata={"axes": "CYX"})
    (images / "gone.tif").symlink_to(folder / "nowhere.tif")
    return folder


REASONS = {
    "truncated.tif": "cut off",
    "empty.tif": "empty",
    "text.png": "text.png",
    "nan.tif": "values are not finite",
    "five.tif": "--axes",
    "channels.tif": "--channel",
    "gone.tif": "No such file",
}


def test_each_bad_image_has_its_reason_and_the_others_are_done(work, predict, tmp_path):
    options = ["--model", work / "model", "--output", tmp_path, "--save", "coco,labels,csv"]
    status, said = predict(work / "images", *options)
    assert status == 1 and "Traceback" not in said
    run = json.loads((tmp_path / "run.json").read_text())
    failures = {Path(failure["file"]).name: failure["error"] for failure in run["failures"]}
    failures = {"gone.tif" if name == "nowhere.tif" else name: error for name, error in failures.items()}
    assert failures.keys() == REASONS.keys()
    for name, words in REASONS.items():
        assert words in failures[name], (name, failures[name])
    assert {image["name"]: image["frames"] for image in run["images"]} == {"good": 1, "film": 4, "pixel": 1}
    assert tifffile.imread(tmp_path / "labels" / "film.tif").shape == (4, 72, 90)
    table, coco = pd.read_csv(tmp_path / "cells.csv"), json.loads((tmp_path / "cells.json").read_text())
    assert len(table) == len(coco["annotations"]) > 0
    assert {image["file_name"] for image in coco["images"]} >= {"good.tif", "film_t003.tif", "pixel.png"}


def test_axes_and_channel_make_images_usable(work, predict, tmp_path):
    options = ["--model", work / "model", "--save", "labels"]
    five = ["--axes", "TZCYX", "--channel", 1, "--output", tmp_path / "a"]
    assert predict(work / "images" / "five.tif", *options, *five)[0] == 0
    assert tifffile.imread(tmp_path / "a" / "labels" / "five.tif").shape == (2, 3, 30, 40)
    assert predict(work / "images" / "channels.tif", *options, "--channel", 1, "--output", tmp_path / "b")[0] == 0
    status, said = predict(work / "images" / "channels.tif", *options, "--channel", "GFP", "--output", tmp_path / "c")
    assert status == 1 and "GFP" in said


def test_a_full_disk_is_said_and_the_run_goes_on_from_there(work, predict, tmp_path, monkeypatch):
    options = [work / "images" / "good.tif", work / "images" / "film.tif", "--model", work / "model"]
    options += ["--output", tmp_path, "--save", "labels,coco"]
    write, done = worker_module.write_file_outputs, []

    def full_at_the_second(results, name, outputs):
        if done:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        done.append(name)
        write(results, name, outputs)

    monkeypatch.setattr(worker_module, "write_file_outputs", full_at_the_second)
    status, said = predict(*options)
    assert status == 2 and "the disk is full" in said and "--resume" in said and said.count("\n") == 1
    assert [image["name"] for image in json.loads((tmp_path / "run.json").read_text())["images"]] == ["good"]
    before = (tmp_path / "labels" / "good.tif").stat().st_mtime_ns
    monkeypatch.setattr(worker_module, "write_file_outputs", write)
    assert predict(*options, "--resume")[0] == 0
    assert (tmp_path / "labels" / "good.tif").stat().st_mtime_ns == before
    coco = json.loads((tmp_path / "cells.json").read_text())
    assert [image["file_name"] for image in coco["images"]][0] == "good.tif" and len(coco["images"]) == 5


def test_resume_does_again_what_changed(work, predict, tmp_path):
    image = tmp_path / "a.tif"
    tifffile.imwrite(image, simulate(PhantomSpec(height=60, width=60, cells=(2, 3)), seed=1).image)
    options = [image, "--model", work / "model", "--output", tmp_path / "out", "--save", "labels"]
    labels = tmp_path / "out" / "labels" / "a.tif"

    def written(*more):
        before = labels.stat().st_mtime_ns if labels.exists() else 0
        assert predict(*options, *more)[0] == 0
        return labels.stat().st_mtime_ns != before

    assert written() and not written("--resume") and written("--resume", "--min-area", 3)
    assert not written("--resume", "--min-area", 3)
    tifffile.imwrite(image, simulate(PhantomSpec(height=60, width=60, cells=(2, 3)), seed=2).image)
    assert written("--resume", "--min-area", 3)
    (tmp_path / "out" / "parts" / "a.json").write_text('{"version"')
    assert written("--resume", "--min-area", 3)


def test_no_cell_and_more_cells_than_the_limit(work, predict, save_untrained, tmp_path):
    image = work / "images" / "good.tif"
    assert predict(image, "--model", work / "model", "--output", tmp_path / "a", "--threshold", "0.9999")[0] == 0
    assert len(pd.read_csv(tmp_path / "a" / "cells.csv")) == 0
    assert tifffile.imread(tmp_path / "a" / "labels" / "good.tif").max() == 0
    save_untrained(tmp_path / "centermask", "centermask_v19_slim_dw.yaml", CENTERMASK)
    options = ["--model", tmp_path / "centermask", "--min-score", "0", "--max-cells", 1, "--save", "coco,csv"]
    assert predict(image, *options, "--output", tmp_path / "b")[0] == 0
    run = json.loads((tmp_path / "b" / "run.json").read_text())
    (note,) = run["images"][0]["notes"]
    assert "1 cells" in note and "--max-cells" in note and run["images"][0]["cells"] == 1
    status, said = predict(image, *options[:2], "--output", tmp_path / "c", "--threshold", "0.5")
    assert status == 2 and "--threshold is for a semantic model" in said
    status, said = predict(image, "--model", work / "model", "--output", tmp_path / "c", "--max-cells", 7)
    assert status == 2 and "--max-cells is for a model that finds instances" in said


def test_ctrl_c_keeps_what_is_done(work, predict, tmp_path, monkeypatch):
    do, seen = Worker._do, []

    def stopped_at_the_second(self, jobs):
        if seen:
            raise KeyboardInterrupt
        seen.append(jobs)
        return do(self, jobs)

    monkeypatch.setattr(Worker, "_do", stopped_at_the_second)
    options = [
        work / "images" / "good.tif",
        work / "images" / "pixel.png",
        "--model",
        work / "model",
        "--output",
        tmp_path,
    ]
    status, said = predict(*options)
    assert status == 130 and "--resume" in said
    assert [image["name"] for image in json.loads((tmp_path / "run.json").read_text())["images"]] == ["good"]
    monkeypatch.setattr(Worker, "_do", do)
    assert predict(*options, "--resume")[0] == 0
    assert len(json.loads((tmp_path / "run.json").read_text())["images"]) == 2


def test_a_film_is_followed(work, predict, tmp_path):
    film = work / "images" / "film.tif"
    frame = tifffile.imread(film)[0]
    moving = np.stack([np.roll(frame, 2 * k, axis=1) for k in range(4)])
    tifffile.imwrite(tmp_path / "film.tif", moving, imagej=True, metadata={"axes": "TYX", "finterval": 600.0})
    options = ["--model", work / "model", "--save", "coco,labels,rois,geojson,csv,overlay", "--track"]
    assert predict(tmp_path / "film.tif", *options, "--output", tmp_path / "out")[0] == 0
    table = pd.read_csv(tmp_path / "out" / "cells.csv")
    labels = tifffile.imread(tmp_path / "out" / "labels" / "film.tif")
    for t in range(4):
        assert set(np.unique(labels[t])) - {0} <= set(table.loc[table["t"] == t, "track_id"])
    tracks = pd.read_csv(tmp_path / "out" / "tracks" / "film" / "tracks.csv")
    assert len(tracks) == len(table) and set(tracks["track_id"]) == set(table["track_id"])
    fits = json.loads((tmp_path / "out" / "tracks" / "film" / "growth.json").read_text())
    assert fits.keys() == {"count", "confluence"} and fits["count"]["unit"] == "h" and fits["count"]["text"]
    assert Image.open(tmp_path / "out" / "tracks" / "film" / "growth.png").width > 500
    coco = json.loads((tmp_path / "out" / "cells.json").read_text())
    assert sorted(a["track_id"] for a in coco["annotations"]) == sorted(table["track_id"])


def test_a_stack_of_times_and_depths_is_followed_plane_by_plane(work, predict, tmp_path):
    frame = tifffile.imread(work / "images" / "film.tif")[0]
    stack = np.stack([[np.roll(frame, 2 * t, axis=1), np.roll(frame, 3 - 2 * t, axis=0)] for t in range(3)])
    tifffile.imwrite(tmp_path / "tz.tif", stack, imagej=True, metadata={"axes": "TZYX"})
    options = ["--model", work / "model", "--save", "coco,labels,csv,overlay", "--track", "--output", tmp_path / "out"]
    assert predict(tmp_path / "tz.tif", *options)[0] == 0
    table, labels = pd.read_csv(tmp_path / "out" / "cells.csv"), tifffile.imread(tmp_path / "out" / "labels" / "tz.tif")
    assert table["track_id"].notna().all() and labels.shape[:2] == (3, 2)
    first, second = (set(table.loc[table["z"] == z, "track_id"]) for z in range(2))
    assert first and second and not first & second
    for (t, z), rows in table.groupby(["t", "z"]):
        assert set(np.unique(labels[t, z])) - {0} <= set(rows["track_id"])
    for z, ids in enumerate((first, second)):
        assert set(pd.read_csv(tmp_path / "out" / "tracks" / f"tz_z{z}" / "tracks.csv")["track_id"]) == ids
    assert len(list((tmp_path / "out" / "overlays" / "tz").iterdir())) == 6


def test_stage_positions_have_files_of_their_own(work, predict, tmp_path):
    frames = tifffile.imread(work / "images" / "film.tif")
    with tifffile.TiffWriter(tmp_path / "plate.ome.tif", ome=True) as writer:
        for position in (frames[:2], frames[2:]):
            writer.write(position, photometric="minisblack", metadata={"axes": "TYX"})
    options = ["--model", work / "model", "--save", "coco,labels,rois,csv", "--output", tmp_path / "out"]
    assert predict(tmp_path / "plate.ome.tif", *options)[0] == 0
    coco, table = json.loads((tmp_path / "out" / "cells.json").read_text()), pd.read_csv(tmp_path / "out" / "cells.csv")
    assert len({image["labels"] for image in coco["images"]}) == 2 and set(table["p"]) == {0, 1}
    for image in coco["images"]:
        labels = tifffile.imread(tmp_path / "out" / image["labels"])
        assert labels.shape == (2, 72, 90)
        rows = table[(table["p"] == image["p"]) & (table["t"] == image["t"])]
        assert set(np.unique(labels[image["t"]])) - {0} <= set(rows["id"])
        assert {a["label"] for a in coco["annotations"] if a["image_id"] == image["id"]} == set(rows["id"])
    assert predict(tmp_path / "plate.ome.tif", *options[:-1], tmp_path / "out", "--threshold", 0.9)[0] == 0
    assert len(list((tmp_path / "out" / "labels").iterdir())) == 2


def test_a_wrong_option_leaves_earlier_results(work, predict, tmp_path):
    options = [work / "images" / "film.tif", "--model", work / "model", "--output", tmp_path, "--save", "coco,labels"]
    assert predict(*options)[0] == 0
    before = (tmp_path / "labels" / "film.tif").read_bytes(), (tmp_path / "cells.json").read_bytes()
    status, said = predict(*options, "--channel", "DAPI")
    assert status == 1 and "DAPI" in said and "1 of 1 images" in said
    assert ((tmp_path / "labels" / "film.tif").read_bytes(), (tmp_path / "cells.json").read_bytes()) == before
    run = json.loads((tmp_path / "run.json").read_text())
    assert len(run["failures"]) == 1 and len(run["images"]) == 1
    for wrong, words in ((["--threads", -1], "--threads -1"), (["--device", "foo"], "--device foo"),
                         (["--min-score", "nan"], "--min-score nan"), (["--workers", 0], "--workers 0"),
                         (["--overlap", -1], "--overlap -1"), (["--ray-address", "x"], "--engine ray"),
                         (["--tracker-model", "x"], "--tracker trackastra"),
                         (["--tracker", "laptrack"], "--tracker is for --track")):  # fmt: skip
        status, said = predict(*options, *wrong)
        assert status == 2 and words in said and said.count("\n") == 1


def test_images_of_several_sizes_are_no_film(work, predict, tmp_path):
    for number, side in enumerate((60, 60, 70)):
        tifffile.imwrite(tmp_path / f"{number}.tif", simulate(PhantomSpec(side, side, cells=(2, 3)), seed=number).image)
    film = work / "images" / "film.tif"
    options = ["--model", work / "model", "--save", "csv", "--output", tmp_path / "out"]
    status, said = predict(tmp_path / "0.tif", tmp_path / "1.tif", tmp_path / "2.tif", film, *options, "--track")
    assert status == 1 and "2.tif has (70, 70)" in said
    table = pd.read_csv(tmp_path / "out" / "cells.csv")
    assert table["track_id"].notna().sum() == (table["file"] == str(film)).sum() > 0
    status, said = predict(film, *options[:-1], tmp_path / "none", "--threshold", "0.9999", "--track")
    assert status == 0 and len(pd.read_csv(tmp_path / "none" / "cells.csv")) == 0


def test_one_run_at_a_time_in_a_folder(work, predict, tmp_path):
    from cellseg_d2.inference.runs.protection import alone

    with alone(tmp_path):
        status, said = predict(work / "images" / "good.tif", "--model", work / "model", "--output", tmp_path)
    assert status == 2 and "another run writes there now" in said and not list(tmp_path.iterdir())


def test_a_folder_has_the_results_of_one_run(work, predict, tmp_path):
    options = [work / "images" / "film.tif", "--model", work / "model", "--output", tmp_path]
    assert predict(*options, "--save", "coco,labels", "--track")[0] == 0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    for more, words in (
        (["--save", "coco,labels"], "has tracks of an earlier run"),
        (["--save", "coco,labels", "--resume"], "add --track, or"),
        (["--save", "labels", "--track"], "has coco of an earlier run"),
        (["--save", "csv"], "has coco, labels, tracks of an earlier run"),
    ):
        status, said = predict(*options, *more)
        assert status == 2 and words in said, said
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before
    assert predict(*options, "--save", "coco,labels,csv", "--track")[0] == 0 and (tmp_path / "cells.csv").is_file()


def test_a_run_without_a_usable_image_writes_no_table(work, predict, tmp_path):
    options = ["--model", work / "model", "--output", tmp_path, "--save", "csv,parquet,coco"]
    assert predict(work / "images" / "text.png", *options)[0] == 1
    assert not (tmp_path / "cells.csv").exists() and not (tmp_path / "cells.parquet").exists()
    assert json.loads((tmp_path / "run.json").read_text())["outputs"].keys() == {"cells.json"}


def test_resume_knows_its_parts_whatever_runs_them(work, predict, tmp_path):
    long = tmp_path / ("b" * 240 + ".tif")
    tifffile.imwrite(long, tifffile.imread(work / "images" / "good.tif"))
    options = [long, "--model", work / "model", "--output", tmp_path / "out"]
    assert predict(*options, "--save", "csv,labels", "--threads", 1)[0] == 0
    (labels,) = (tmp_path / "out" / "labels").iterdir()
    before = labels.stat().st_mtime_ns
    others = ["--save", "labels,csv", "--threads", 2, "--device", "cpu", "--batch", 3]
    assert predict(*options, *others, "--resume")[0] == 0
    assert labels.stat().st_mtime_ns == before
    assert not any(
        "earlier_run" in image for image in json.loads((tmp_path / "out" / "run.json").read_text())["images"]
    )
