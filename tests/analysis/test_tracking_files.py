"""Tables, files and growth of followed cells, with answers by construction."""

import cv2
import numpy as np
import pandas as pd
import pytest
import tifffile
from pycocotools import mask as mask_util

from cellseg_d2.analysis.tracking import (
    frames_table,
    growth,
    lineage_table,
    link,
    plot_growth,
    points_table,
    write_ctc,
    write_tracks,
)  # fmt: skip
from cellseg_d2.inference.records import Frame, FrameCells

SIZE = (100, 120)


def square(x, y, side=10):
    mask = np.zeros(SIZE, np.uint8, order="F")
    mask[y : y + side, x : x + side] = 1
    rle = mask_util.encode(mask)
    segmentation = {"size": list(SIZE), "counts": rle["counts"].decode("ascii")}
    return {"category_id": 0, "bbox": [x, y, side, side], "score": 1.0, "segmentation": segmentation}


def film(frames, **known):
    return [
        FrameCells(Frame(None, f"film_t{t:03d}", np.zeros(SIZE), place={"t": t}, **known), cells)
        for t, cells in enumerate(frames)
    ]


FRAMES = [
    [square(50, 40, 14), square(10, 10)], [square(50, 40, 14)], [square(45, 42), square(55, 42), square(10, 10)], [],
]  # fmt: skip


def table_of(values, step=1.0):
    """A table of frames with these counts."""
    hours = step * np.arange(len(values))
    return pd.DataFrame({"t": np.arange(len(values)), "time_h": hours, "count": values, "confluence": 0.001 * values})


def test_tables():
    results = film(FRAMES, pixel_size=0.5, interval=1800.0)
    tracks = link([result.cells for result in results])
    lineage = lineage_table(tracks)
    rows = lineage[["first", "last", "parent", "generation", "founder", "length", "found"]].to_numpy().tolist()
    assert rows == [[0, 2, 0, 0, 1, 3, 2], [0, 1, 0, 0, 2, 2, 2], [2, 2, 2, 1, 2, 1, 1], [2, 2, 2, 1, 2, 1, 1]]
    points = points_table(results, tracks)
    assert len(points) == 6 and points["track_id"].tolist() == [1, 1, 2, 2, 3, 4]
    first = points.iloc[0]
    assert (first.x_px, first.y_px, first.area_px, first.x_um, first.area_um2) == (14.5, 14.5, 100, 7.25, 25)
    assert points["time_h"].tolist() == [0, 1, 0, 0.5, 1, 1] and points["cell"].tolist() == [2, 3, 1, 1, 1, 2]


def test_frames_table():
    frames = frames_table(film([*FRAMES, [square(0, 0, 20), square(10, 10, 20)]], interval=1800.0))
    assert frames["count"].tolist() == [2, 1, 3, 0, 2]
    covered = (frames["confluence"] * SIZE[0] * SIZE[1]).tolist()
    assert covered == pytest.approx([296, 196, 300, 0, 700])  # a pixel in two cells counts once
    assert frames["area_mean_px"].tolist() == pytest.approx([148, 196, 100, np.nan, 400], nan_ok=True)
    assert frames["time_h"].tolist() == [0, 0.5, 1, 1.5, 2] and frames["area_mean_um2"].isna().all()


def test_files(tmp_path):
    results = film(FRAMES)
    tracks = link([result.cells for result in results])
    written = write_tracks(tmp_path, results, tracks)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(written)
    assert pd.read_csv(written["lineage.csv"])["parent"].tolist() == [0, 0, 2, 2]
    assert pd.read_csv(written["tracks.csv"])["time_s"].isna().all()
    assert np.loadtxt(written["res_track.txt"], dtype=int).tolist() == tracks.table.tolist()


def test_challenge_folder_has_no_gaps(tmp_path):
    results = film(FRAMES)
    folder = write_ctc(tmp_path / "02_RES", results, link([result.cells for result in results]))
    rows = np.loadtxt(folder / "res_track.txt", dtype=int).tolist()
    assert sorted(rows) == [[1, 0, 0, 0], [2, 0, 1, 0], [3, 2, 2, 2], [4, 2, 2, 2], [5, 2, 2, 1]]
    masks = [tifffile.imread(path) for path in sorted(folder.glob("mask*.tif"))]
    assert [sorted(set(mask.ravel().tolist()) - {0}) for mask in masks] == [[1, 2], [2], [3, 4, 5], []]
    assert masks[0].shape == SIZE and masks[0][12, 12] == 1 and masks[2][12, 12] == 5


@pytest.mark.parametrize("frames", [[], [[]]])
def test_nothing_at_all(frames, tmp_path):
    results = film(frames)
    write_tracks(tmp_path, results, link(frames))
    assert (tmp_path / "res_track.txt").read_bytes() == b""
    assert "no growth rate" in growth(frames_table(results))["count"].text
    plot_growth(tmp_path / "growth.png", frames_table(results))


# Growth


def test_exact_doubling_time():
    found = growth(table_of(50 * 2 ** (np.arange(30) / 12), step=0.5))
    assert [found[name].time for name in ("count", "confluence")] == pytest.approx([6, 6], rel=1e-3)
    assert (
        found["count"].interval[0] <= 6.001 and found["count"].unit == "h" and "doubles in 6 h" in found["count"].text
    )


@pytest.mark.parametrize("walks", [False, True])
def test_interval_covers_the_rate(walks):
    generator, rate, hits = np.random.default_rng(1), 0.03, 0
    for _ in range(120):
        counts = generator.poisson(80 * np.exp(rate * np.arange(30)))
        if walks:  # births by chance, all cells counted
            counts[0] = 80
            for t in range(1, 30):
                counts[t] = counts[t - 1] + generator.binomial(counts[t - 1], np.expm1(rate))
        low, high = growth(table_of(counts), ["count"])["count"].rate_interval
        hits += low <= rate <= high
    assert 0.85 <= hits / 120 <= 1


def test_no_growth_has_no_doubling_time():
    counts = np.random.default_rng(0).poisson(100, 20)
    for values in (counts, np.full(20, 50)):
        found = growth(table_of(values))["count"]
        assert found.time is None and found.interval is None and "no doubling measurable" in found.text
    found = growth(table_of(200 * np.exp(-0.1 * np.arange(20))))["count"]
    assert found.time is None and "shrinks, half are left after 6.93 h" in found.text


@pytest.mark.parametrize("values", [[3], [3, 5], [3, 0, 0, 5]])
def test_too_few_frames(values, tmp_path):
    table = table_of(np.array(values)).assign(area_median_um2=np.nan, area_median_px=9.0)
    found = growth(table)
    assert found["count"].time is None and f"there are {sum(v > 0 for v in values)}" in found["count"].text
    plot_growth(tmp_path / "growth.png", table, found)


def test_gaps_empty_frames_and_frames_without_times(tmp_path):
    values = np.round(1000 * 2 ** (np.arange(20) / 5))
    values[7] = 0
    table = table_of(values).assign(time_h=np.nan, area_median_um2=np.nan, area_median_px=50.0).drop(index=[3, 4])
    found = growth(table)["count"]
    assert found.unit == "frames" and found.frames == 17 and found.time == pytest.approx(5, rel=1e-2)
    path = plot_growth(tmp_path / "growth.png", table)
    assert cv2.imread(str(path)).shape[1] > 1000
