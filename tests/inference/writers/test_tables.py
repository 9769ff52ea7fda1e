"""Tables of several files: one schema, nothing lost, atomic."""

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from cellseg_d2.inference.measures.cells import measure_cells, measure_columns
from cellseg_d2.inference.writers import TableWriter


@pytest.fixture
def results(make_result, masks) -> list:
    rng = np.random.default_rng(0)
    return [
        make_result(masks, pixels=rng.random((40, 60)), pixel_size=0.5, name="a"),
        make_result(np.zeros((0, 40, 60)), name="empty, with a comma"),
        make_result(
            masks, ("cell", "dead"), tracks=range(1, 8), pixels=rng.random((40, 60, 2)), channels=("DAPI", "µ 2"),
            place={"t": 3}, name="b",
        ),
    ]  # fmt: skip


def test_files_of_all_kinds_in_one_table(tmp_path, results):
    columns = measure_columns([result.frame for result in results], tracked=True)
    tables = [measure_cells(result) for result in results]
    csv, parquet = tmp_path / "out" / "cells.csv", tmp_path / "out" / "cells.parquet"
    with TableWriter(csv, parquet, columns) as writer:
        for table in tables:
            writer.add(table)
        assert not csv.exists() and not parquet.exists()
    assert writer.rows == 14
    text, binary = pd.read_csv(csv), pq.read_table(parquet)
    assert list(text.columns) == binary.column_names == list(columns)
    assert pq.ParquetFile(parquet).num_row_groups == 2  # none of a file without cells
    for name, kind in columns.items():
        assert str(binary.schema.field(name).type) == {"str": "string", "float64": "double"}.get(kind, kind)
    for low, table in ((0, tables[0]), (7, tables[2])):
        rows, exact = text.iloc[low : low + 7].reset_index(drop=True), binary.slice(low, 7).to_pandas()
        for name in table.columns:
            pd.testing.assert_series_equal(exact[name], table[name], check_dtype=False)
            pd.testing.assert_series_equal(rows[name], table[name], check_dtype=False, rtol=1e-14)
        absent = [name for name in columns if name not in table.columns]
        assert absent and rows[absent].isna().all(axis=None) and exact[absent].isna().all(axis=None)
    assert not binary["at_border"].null_count and binary["t"].null_count == 7


def test_one_of_the_files_only(tmp_path, results):
    columns = measure_columns([results[0].frame])
    for csv, parquet in (("a.csv", None), (None, "a.parquet")):
        with TableWriter(csv and tmp_path / csv, parquet and tmp_path / parquet, columns) as writer:
            writer.add(measure_cells(results[0]))
    assert len(pd.read_csv(tmp_path / "a.csv")) == len(pd.read_parquet(tmp_path / "a.parquet")) == 7


def test_no_rows_are_a_table_with_columns(tmp_path, results):
    columns = measure_columns([results[0].frame])
    with TableWriter(tmp_path / "a.csv", tmp_path / "a.parquet", columns):
        pass
    assert list(pd.read_csv(tmp_path / "a.csv").columns) == pq.read_table(tmp_path / "a.parquet").column_names


def test_unknown_columns_are_no_loss_in_silence(tmp_path, results):
    with TableWriter(tmp_path / "a.csv", None, measure_columns([results[0].frame])) as writer:
        with pytest.raises(ValueError, match="mean_intensity_DAPI"):
            writer.add(measure_cells(results[2]))


def test_a_failure_leaves_the_older_files(tmp_path, results):
    for name in ("a.csv", "a.parquet"):
        (tmp_path / name).write_text("old")
    with pytest.raises(KeyError, match="stop"):
        with TableWriter(tmp_path / "a.csv", tmp_path / "a.parquet", measure_columns([results[0].frame])) as writer:
            writer.add(measure_cells(results[0]))
            raise KeyError("stop")
    assert {path.read_text() for path in tmp_path.iterdir()} == {"old"} and len(list(tmp_path.iterdir())) == 2
