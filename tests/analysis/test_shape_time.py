"""Growth, means and correlations over time with answers by construction, and tools/dataset.py shapes as a whole."""

import json
import re
from argparse import ArgumentParser
from math import log

import cv2
import numpy as np
import pandas as pd
import pytest

from cellseg_d2.analysis.film import Cell, Film
from cellseg_d2.analysis.growth import doubling_time, exponential, fit_growth, logistic, phases, window_rates
from cellseg_d2.analysis.shape_time import correlations, growth, time_table
from cellseg_d2.analysis.surroundings import at_border, densities, require_near
from cellseg_d2.commands import shapes as command
from cellseg_d2.errors import DatasetError, MissingDataError

HOURS = np.arange(0, 60, 2.0)

# Growth


def test_doubling_time_of_an_exponential():
    fits = fit_growth(HOURS + 5, exponential(HOURS, 40, log(2) / 17))
    assert fits[0].name == "exponential" and doubling_time(fits[0].rate) == pytest.approx(17, rel=1e-3)
    assert fits[0](HOURS) == pytest.approx(exponential(HOURS, 40, log(2) / 17), rel=1e-3)


def test_doubling_time_with_noise_of_counting():
    counts = np.random.default_rng(0).poisson(exponential(HOURS, 200, log(2) / 24))
    best = next(fit for fit in fit_growth(HOURS, counts) if fit.name == "exponential")
    assert doubling_time(best.rate) == pytest.approx(24, rel=0.1)


def test_logistic_growth_is_told_from_exponential():
    fits = fit_growth(HOURS, logistic(HOURS, 20, log(2) / 5, 300))
    assert [fit.name for fit in fits] == ["logistic", "exponential"]
    assert fits[0].parameters == pytest.approx((20, log(2) / 5, 300), rel=1e-2)


@pytest.mark.parametrize("rate", [0.0, -0.02])
def test_what_does_not_grow_never_doubles(rate):
    counts = exponential(HOURS, 50, rate)
    fits = {fit.name: fit for fit in fit_growth(HOURS, counts)}
    assert fits["exponential"].rate == pytest.approx(rate, abs=1e-4)
    assert doubling_time(rate) == np.inf and set(phases(HOURS, counts)) == {"plateau"}


def test_phases():
    steps = np.concatenate([np.zeros(20), np.full(15, 0.08), np.zeros(20)])
    counts = 30 * np.exp(np.cumsum(steps))
    found = phases(np.arange(55.0), counts)
    assert found == sorted(found, key=["lag", "exponential", "plateau"].index)
    assert found.index("exponential") == pytest.approx(20, abs=2) and found.index("plateau") == pytest.approx(35, abs=2)
    assert window_rates(np.arange(55.0), counts)[[5, 27, 50]] == pytest.approx([0, 0.08, 0], abs=1e-9)


@pytest.mark.parametrize(("times", "counts"), [([0, 1], [5, 6]), ([0, 1, 2], [5, 0, 6])])
def test_too_little_for_a_curve(times, counts):
    with pytest.raises(ValueError, match="three points"):
        fit_growth(np.array(times), np.array(counts))


# Tables


def make_table(tracks=30, frames=12, seed=0):
    """Cells whose ``a`` grows with time in every track, ``b`` differs between tracks only, ``c`` is noise."""
    rng = np.random.default_rng(seed)
    rows = []
    for track in range(tracks):
        own = rng.normal(0, 5)
        for frame in range(frames):
            values = {"a": frame + 0.1 * rng.normal(), "b": own, "c": rng.normal(), "d": 3.0}
            rows.append({"track": track, "frame": frame, "time": 0.5 * frame, "age": np.nan, "density": own, **values})
    return pd.DataFrame(rows)


def test_means_over_time():
    found = time_table(make_table(), ["a", "b", "d"])
    assert found["cells"].tolist() == [30] * 12 and found["time"].tolist() == [0.5 * k for k in range(12)]
    assert found["a"].to_numpy() == pytest.approx(np.arange(12), abs=0.1)
    assert (found["b_low"] < found["b"]).all() and (found["b"] < found["b_high"]).all()
    widths = found["b_high"] - found["b_low"]
    assert widths.mean() == pytest.approx(2 * 1.96 * make_table()["b"].std() / 30**0.5, rel=0.15)
    assert (found["d_low"] == 3).all() and (found["d_high"] == 3).all()


def test_cells_of_one_track_are_not_independent():
    table = make_table(tracks=1)
    assert time_table(table, ["b"])[["b_low", "b_high"]].isna().all(axis=None)
    assert np.isnan(correlations(table, ["a"])["time"]["a"]["low"])


def test_correlations():
    found = correlations(make_table(), ["a", "b", "c", "d"])
    assert set(found) == {"time", "time_within", "density"}  # nobody has an age
    assert found["time"]["a"]["rho"] > 0.99 and found["time_within"]["a"]["low"] > 0.99
    assert abs(found["time"]["b"]["rho"]) < 1e-9 and np.isnan(found["time_within"]["b"]["rho"])
    assert found["density"]["b"]["rho"] == pytest.approx(1)
    assert found["time"]["c"]["low"] < 0 < found["time"]["c"]["high"] and np.isnan(found["time"]["d"]["rho"])


def test_time_within_a_track_is_not_hidden_by_tracks():
    table = make_table()
    table["e"] = table["a"] + 100 * table["b"]
    found = correlations(table, ["e"])
    assert found["time"]["e"]["rho"] < 0.3 and found["time_within"]["e"]["rho"] > 0.7


def test_cells_of_one_image_share_its_time():
    table = make_table(tracks=200, frames=4)
    table["image"], table["track"] = table["frame"], np.arange(len(table))
    table["f"] = table["c"] + np.array([1.0, -1.0, 1.0, -1.0])[table["frame"]]
    by_cell, by_image = (correlations(table, ["f"], unit=unit)["time"]["f"] for unit in ("track", "image"))
    assert by_cell["rho"] == by_image["rho"]
    assert by_image["high"] - by_image["low"] > 3 * (by_cell["high"] - by_cell["low"])


def test_means_without_tracks_vary_as_their_images_do():
    inside = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        table = pd.DataFrame({"image": np.repeat(np.arange(24), 40), "frame": np.repeat(np.arange(6), 160)})
        table = table.assign(time=table["frame"] * 1.0, track=np.arange(960))
        table["a"] = rng.normal(size=24)[table["image"]] + rng.normal(size=960)
        found = time_table(table, ["a"], seed, unit="image")
        inside += ((found["a_low"] < 0) & (found["a_high"] > 0)).tolist()
    assert np.mean(inside) > 0.75  # four images are few; over cells it is 0.3


def test_no_interval_for_a_single_image():
    table = make_table()
    table["image"] = table["frame"]
    table.loc[(table["frame"] == 3) & (table["track"] > 14), "image"] = 99
    found = time_table(table, ["b"], unit="image")
    assert found["b_low"].notna().tolist() == found["b_high"].notna().tolist() == [k == 3 for k in range(12)]


def film_of(places, counts=(0,), size=(200, 300)):
    """A film of one image of square cells, 6 pixels wide."""
    cells = [Cell(0, k, k, np.ones((6, 6), dtype=bool), x, y) for k, (x, y) in enumerate(places)]
    image = {"file_name": "a", "height": size[0], "width": size[1]}
    return Film("x", [image], np.zeros(1), "frames", "", cells, list(range(len(cells))), False, np.array(counts), 0)


def test_density_and_border():
    grid = [(x, y) for x in range(0, 295, 7) for y in range(0, 194, 7)]
    found = densities(film_of(grid))
    middle = 1e6 / 49
    assert found == pytest.approx(np.full(len(grid), middle), rel=0.35)  # at the frame, too
    assert np.median(found) == pytest.approx(middle, rel=0.1)
    assert densities(film_of([(20, 20), (280, 180)])).tolist() == [0, 0]
    assert at_border(film_of([(0, 9), (9, 0), (294, 9), (9, 194), (9, 9)])).tolist() == [True] * 4 + [False]


def film_of_steps(steps, side=8, size=400):
    """A film of square cells: ``steps`` is (times, tracks, 2), the upper left corner of each."""
    square = np.ones((side, side), dtype=bool)
    cells = [Cell(t, 0, k, square, int(x), int(y)) for t, row in enumerate(steps) for k, (x, y) in enumerate(row)]
    images, tracks = [{"width": size, "height": size}] * len(steps), list(range(len(steps[0])))
    return Film("x.json", images, np.arange(len(steps)), "frames", "", cells, tracks, True, np.zeros(len(steps)), 0)


@pytest.mark.parametrize("count", [4, 60])
@pytest.mark.parametrize("by_rows", [False, True])
def test_numbers_of_the_cells_of_unrelated_images_are_no_tracks(count, by_rows):
    places = np.random.default_rng(0).uniform(0, 390, (8, count, 2))
    if by_rows:
        places = np.stack([part[np.argsort(part[:, 1])] for part in places])
    with pytest.raises(DatasetError, match=rf"x.json: in \d+ of {7 * count} steps.*median step.*--track-key ''"):
        require_near(film_of_steps(places))


def test_tracks_of_fast_and_of_large_cells_are_tracks():
    rng = np.random.default_rng(0)
    start, way = rng.uniform(50, 300, (1, 20, 2)), rng.normal(0, 15, (8, 20, 2))
    require_near(film_of_steps(np.clip(start + np.cumsum(way, axis=0), 0, 390)))  # two diameters a step
    require_near(film_of_steps(np.clip(way[:, :2] * 4 + [[100, 100], [160, 100]], 0, 290), side=110))
    require_near(film_of_steps(rng.uniform(100, 130, (8, 1, 2))))  # one cell


def test_growth_of_a_film():
    times, cells, tracks = np.arange(9.0), [], 0
    for track in range(64):
        born = 0 if track < 16 else 4 if track < 32 else 8
        cells += [Cell(k, tracks, track, np.ones((6, 6), bool), 9, 9) for k in range(born, 9)]
    counts = np.bincount([cell.image for cell in cells])
    film = Film("x", [{}] * 9, times, "frames", "", cells, list(range(64)), True, counts, 0)
    found = growth(film)
    low, high = found.interval
    assert found.counts.tolist() == [16] * 4 + [32] * 4 + [64] and 3 < found.doubling < 6
    assert low < found.doubling < high < 10
    assert np.isnan(growth(film_of([(9, 9)], counts=[1])).doubling)


def test_growth_of_images_without_tracks():
    times = np.repeat(np.arange(6.0), 4)
    counts = np.random.default_rng(0).poisson(20 * 2 ** (times / 3))
    found = growth(Film("x", [{}] * 24, times, "hours", "", [], [], False, counts, 0))
    low, high = found.interval
    assert low < 3 < high and high - low < 2 and found.doubling == pytest.approx(3, rel=0.15)


# The command


@pytest.fixture
def film_files(tmp_path):
    """A film of 15 ellipses of their own aspect that get longer over 6 frames; one more is born in the third."""
    rng = np.random.default_rng(0)
    coco = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "cell"}]}
    aspects = rng.uniform(1.2, 2, 16)
    (tmp_path / "images").mkdir()
    for k in range(6):
        canvas = rng.integers(90, 110, (200, 200), dtype=np.uint8)
        coco["images"].append({"id": k, "file_name": f"t{k}.png", "width": 200, "height": 200, "frame": k})
        for track in range(15 if k < 2 else 16):
            place, grown = (25 + 50 * (track % 4), 25 + 50 * (track // 4)), aspects[track] * (1 + 0.1 * k)
            axes = int(10 * grown**0.5), int(10 / grown**0.5)
            points = cv2.ellipse2Poly(place, axes, int(rng.integers(180)), 0, 360, 12)[:-1]
            cv2.fillPoly(canvas, [points], 160)
            own = {"id": len(coco["annotations"]), "image_id": k, "category_id": 1, "label": f"cell {track}"}
            coco["annotations"].append({**own, "segmentation": [points.reshape(-1).tolist()]})
        cv2.imwrite(str(tmp_path / "images" / f"t{k}.png"), canvas)
    (tmp_path / "film.json").write_text(json.dumps(coco))
    return tmp_path


def run(folder, *options) -> int:
    parser = ArgumentParser()
    command.add_arguments(parser)
    common = ["--json", folder / "film.json", "--images", folder / "images", "--output", folder / "out"]
    return command.run(parser.parse_args([str(option) for option in (*common, "--epochs", 20, *options)]))


def test_command(film_files, capsys):
    assert run(film_files, "--latent", 2) == 0
    out = film_files / "out"
    assert sorted(path.name for path in out.iterdir()) == sorted(command.FILES)
    said = json.loads((out / "shapes.json").read_text())
    assert said["tracks"] == 16 and said["cells"] == 94 and said["options"]["latent"] == 2
    assert said["correlations"]["time_within"]["aspect_ratio"]["low"] > 0.8
    assert said["reconstruction"]["vae"] > 0.8 and said["growth"]["cells_an_image"] == [15, 15, 16, 16, 16, 16]
    table, over_time = pd.read_csv(out / "shapes.csv"), pd.read_csv(out / "time.csv")
    assert len(table) == 94 and {"z1", "z2", "iou", "held_out", "fourier6"} <= set(table) and "z3" not in table
    assert table.loc[table["track"] == "cell 15", "age"].tolist() == [0, 1, 2, 3]
    assert (over_time["aspect_ratio"].diff()[1:] > 0).all() and over_time["z1_low"].notna().all()
    page = (out / "shapes.html").read_text()
    assert page.count("<img") == 4 and not re.search(r"(?:src|href)=\"(?!data:)", page)
    assert cv2.imread(str(out / "shapes.png")).shape[1] > 1000
    assert "IoU" in capsys.readouterr().out


def test_command_repeats_itself_and_works_without_tracks(film_files):
    assert run(film_files, "--track-key", "", "--latent", 1) == 0
    first = {path.name: path.read_bytes() for path in (film_files / "out").iterdir()}
    assert json.loads(first["shapes.json"])["tracks"] is None
    assert run(film_files, "--track-key", "", "--latent", 1) == 0
    again = {name: (film_files / "out" / name).read_bytes() for name in first}
    assert [name for name in first if first[name] != again[name]] == []


def test_single_images_without_tracks_have_no_interval(film_files):
    assert run(film_files, "--track-key", "", "--latent", 1) == 0
    found = pd.read_csv(film_files / "out" / "time.csv")
    ends = [name for name in found if name.endswith(("_low", "_high"))]
    assert len(ends) > 20 and found[ends].isna().all(axis=None) and found["z1"].notna().all()


def test_command_refuses_instance_numbers_as_tracks(film_files):
    content, rng = json.loads((film_files / "film.json").read_text()), np.random.default_rng(0)
    for k in range(6):
        own = [a for a in content["annotations"] if a["image_id"] == k]
        for annotation, number in zip(own, rng.permutation(len(own)).tolist()):
            annotation["label"] = number + 1
    (film_files / "film.json").write_text(json.dumps(content))
    with pytest.raises(DatasetError, match="of 78 steps .* share no pixel .* not tracks"):
        run(film_files)
    assert not (film_files / "out").exists()
    assert run(film_files, "--track-key", "", "--latent", 1) == 0


def test_command_refuses(film_files):
    with pytest.raises(DatasetError, match="94 latents|latents for"):
        run(film_files, "--latent", 94)
    with pytest.raises(ValueError, match="epochs is 0"):
        run(film_files, "--epochs", 0)
    (film_files / "images" / "t3.png").unlink()
    with pytest.raises(MissingDataError, match="1 of 6 images are not below.*t3.png"):
        run(film_files)
    content = json.loads((film_files / "film.json").read_text())
    content["annotations"] = content["annotations"][:12]
    (film_files / "film.json").write_text(json.dumps(content))
    (film_files / "images" / "t3.png").write_bytes((film_files / "images" / "t2.png").read_bytes())
    with pytest.raises(DatasetError, match="take|takes 20 cells"):
        run(film_files)
    (film_files / "out").write_text("mine")
    with pytest.raises(DatasetError, match="is a file"):
        run(film_files)
