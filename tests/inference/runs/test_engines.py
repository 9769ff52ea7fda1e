"""Engines: several processes and Ray give what one process gives; a process that dies loses nothing else."""

import json
import os
import re
import signal
import sys
from pathlib import Path

import pytest
import tifffile
import torch
from detectron2.modeling import build_model

from cellseg_d2.data.synthesis.phantom import PhantomSpec, simulate
from cellseg_d2.engine.setup import load_config
from cellseg_d2.inference.loading import ModelOptions
from cellseg_d2.inference.model_folder import save_model
from cellseg_d2.inference.reading.image_options import ImageOptions
from cellseg_d2.inference.runs import engines
from cellseg_d2.inference.runs.collect import collect
from cellseg_d2.inference.runs.outputs import OutputOptions
from cellseg_d2.inference.runs.parts import Job, digest, read_part
from cellseg_d2.inference.runs.worker import RunOptions

CONFIG = Path(__file__).resolve().parents[3] / "configs" / "unet.yaml"
SMALL = ["MODEL.DEVICE", "cpu", "MODEL.UNET.WIDTH", 4, "MODEL.SEMANTIC.MIN_AREA", 0]


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A model, and images, one of them damaged."""
    folder = tmp_path_factory.mktemp("engines")
    cfg = load_config(str(CONFIG), SMALL)
    torch.manual_seed(0)
    model = build_model(cfg).eval()
    model.set_threshold(0.1)
    save_model(folder / "model", cfg, model, {})
    for number in range(4):
        tifffile.imwrite(folder / f"{number}.tif", simulate(PhantomSpec(72, 90, cells=(3, 5)), seed=number).image)
    (folder / "bad.tif").write_bytes((folder / "0.tif").read_bytes()[:1000])
    return folder


def options_for(work, output, **images):
    model = ModelOptions(str(work / "model"), device="cpu", runtime="torch", threads=1)
    outputs = OutputOptions(output, ("coco", "labels", "csv", "parquet", "rois", "geojson"))
    return RunOptions("sha", model, ImageOptions(**images), outputs)


def jobs_of(work):
    return [Job(path, path.stem) for path in sorted(work.glob("*.tif"))]


def content(folder):
    """Results of a run, without times."""
    files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    parts = {name: json.loads(text) for name, text in files.items() if re.match(r"parts/.*\.json", name)}
    for part in parts.values():
        del part["seconds"]
    return {**files, **parts}


@pytest.fixture(scope="module")
def expected(work, tmp_path_factory):
    """What one process gives."""
    folder = tmp_path_factory.mktemp("expected")
    options = options_for(work, folder)
    parts = list(engines.local(jobs_of(work), options))
    assert [bool(part.error) for part in parts] == [False] * 4 + [True]
    collect(jobs_of(work), options.outputs)
    return content(folder)


def test_processes_give_what_one_gives(work, expected, tmp_path):
    options = options_for(work, tmp_path)
    parts = list(engines.local(jobs_of(work), options, workers=2))
    assert sorted(part.job.name for part in parts) == ["0", "1", "2", "3", "bad"]
    collect(jobs_of(work), options.outputs)
    assert content(tmp_path) == expected


def test_batches_of_files_give_the_same_and_a_bad_one_stops_no_other(work, expected, tmp_path):
    options = options_for(work, tmp_path, batch=3)
    parts = list(engines.local(jobs_of(work), options))
    assert [part.job.name for part in parts if part.error] == ["bad"]
    collect(jobs_of(work), options.outputs)
    found = content(tmp_path)
    assert found["cells.json"] == expected["cells.json"] and found["cells.csv"] == expected["cells.csv"]


def _killer(options):
    """Stands in for the loading of the model in a process: the worker kills its process at one image."""
    engines._worker = lambda jobs: os.kill(os.getpid(), signal.SIGKILL) if jobs[0].name == "1" else []


def test_a_killed_process_loses_one_image_only(work, tmp_path, monkeypatch):
    monkeypatch.setattr(engines, "_begin", _killer)
    monkeypatch.setattr(engines.multiprocessing, "get_context", lambda kind: _fork())
    options = options_for(work, tmp_path)
    parts = list(engines.local(jobs_of(work), options, workers=2))
    (part,) = parts
    assert part.job.name == "1" and "was killed" in part.error
    assert read_part(tmp_path, part.job).error == part.error


def _fork():
    import multiprocessing.context

    return multiprocessing.context.ForkContext()


def test_a_model_that_cannot_be_loaded_is_told_at_once(work, tmp_path):
    options = options_for(work, tmp_path)
    with pytest.raises(Exception, match="no such file or folder"):
        next(engines.local(jobs_of(work), _with_model(options, "nothing/here"), workers=2))


def _with_model(options, name):
    return RunOptions("sha", ModelOptions(name), options.images, options.outputs)


def test_parts_come_back_as_they_were(work, tmp_path):
    options = options_for(work, tmp_path)
    (part,) = engines.local(jobs_of(work)[:1], options)
    again = read_part(tmp_path, part.job)
    assert again.made_by == part.made_by and list(again.stamp) == list(part.stamp) == part.job.stamp
    assert [list(result.cells) for result in again.results] == [list(result.cells) for result in part.results]
    for one, other in zip(again.tables, part.tables):
        assert one.equals(other) or (one.fillna(-1).values.tolist() == other.fillna(-1).values.tolist())
    assert again.results[0].frame.size == (72, 90)
    with pytest.raises(RuntimeError, match="let go"):
        again.results[0].frame.pixels[0:1, 0:1]
    assert read_part(tmp_path, Job(work / "1.tif", "0")) is None and digest(1) != digest(2)


@pytest.mark.slow
def test_ray_gives_what_one_process_gives(work, expected, tmp_path):
    pytest.importorskip("ray", reason="Ray is an extra")
    options = options_for(work, tmp_path)
    parts = list(engines.ray(jobs_of(work), options, workers=1))
    assert sorted(part.job.name for part in parts) == ["0", "1", "2", "3", "bad"]
    collect(jobs_of(work), options.outputs)
    assert content(tmp_path) == expected


class _DyingActor(engines._Actor):
    """Kills its process at one image, the first time."""

    def __call__(self, batch):
        flag = self.worker.options.outputs.folder / "died"
        if "1" in batch["name"].tolist() and not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(batch)


@pytest.mark.slow
def test_ray_starts_a_killed_worker_again(work, expected, tmp_path, monkeypatch):
    ray = pytest.importorskip("ray", reason="Ray is an extra")
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    monkeypatch.setattr(engines, "_Actor", _DyingActor)
    options = options_for(work, tmp_path)
    parts = list(engines.ray(jobs_of(work), options, workers=1))
    assert (tmp_path / "died").exists() and len(parts) == 5
    (tmp_path / "died").unlink()
    collect(jobs_of(work), options.outputs)
    assert content(tmp_path) == expected
