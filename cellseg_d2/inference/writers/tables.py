"""Measurements of many images in one table, CSV and Parquet."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from .spool import spooled

__all__ = ["TableWriter"]

_TYPES = {"str": pa.string(), "int64": pa.int64(), "float64": pa.float64(), "bool": pa.bool_()}


class TableWriter:
    """Writes tables below each other; both files come into place when the block ends, and not where it fails.

    >>> columns = measure_columns(frames)  # doctest: +SKIP
    >>> with TableWriter("cells.csv", "cells.parquet", columns) as writer:  # doctest: +SKIP
    ...     writer.add(measure_cells(result))

    Args:
        csv, parquet: the files; None for none. Parquet has a row group for each table that is added.
        columns: names and types of :func:`~cellseg_d2.inference.measure.measure_columns`, of all files together.
    """

    def __init__(self, csv: str | Path | None, parquet: str | Path | None, columns: Mapping[str, str]):
        self.csv, self.parquet, self.columns = csv, parquet, dict(columns)
        self.schema = pa.schema([(name, _TYPES[kind]) for name, kind in self.columns.items()])
        self.rows = 0
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:  # so that the first file goes where the second one cannot be opened
            self._text = self._table = None
            if self.csv is not None:
                self._text = stack.enter_context(spooled(self.csv))
                self._text.write(pd.DataFrame(columns=list(self.columns)).to_csv(index=False).encode())
            if self.parquet is not None:
                stream = stack.enter_context(spooled(self.parquet))
                self._table = stack.enter_context(pq.ParquetWriter(stream, self.schema, compression="zstd"))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind, error, trace) -> None:
        self._stack.__exit__(kind, error, trace)

    def add(self, table: pd.DataFrame) -> None:
        """Add rows; what they have no column of stays empty (null in Parquet).

        Raises:
            ValueError: a column that was not declared.
        """
        unknown = [name for name in table.columns if name not in self.columns]
        if unknown:
            raise ValueError(f"columns {unknown} were not declared; the table has {list(self.columns)}")
        if not len(table):
            return
        rows = table.reindex(columns=list(self.columns))
        if self._text is not None:
            self._text.write(rows.to_csv(index=False, header=False).encode())
        if self._table is not None:
            self._table.write_table(pa.Table.from_pandas(rows, self.schema, preserve_index=False))
        self.rows += len(rows)
