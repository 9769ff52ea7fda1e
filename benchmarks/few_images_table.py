"""Rows of benchmarks/few_images.py, one a training, as a file and as tables."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.table import Table

from cellseg_d2.files import atomic_write, read_json

__all__ = ["COLUMNS", "Summary", "arms_of", "paired", "summarise", "tables", "write_csv"]

# Of results.csv: what was asked for, what was trained on, scores in percent, time of training with scoring
COLUMNS = ("size", "seed", "arm", "extend", "train_images", "train_cells")
COLUMNS += ("AP", "AP50", "AP75", "AFNR", "bbox_AP", "seconds", "cpu_seconds")
SHOWN = ("AP", "AP50", "AP75")
Row = Mapping[str, Any]


class Summary(NamedTuple):
    """Some values over seeds: how many, their mean, and their sample standard deviation (NaN for one value)."""

    count: int
    mean: float
    sd: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Summary":
        """That of these values.

        >>> Summary.of([1.0, 3.0])
        Summary(count=2, mean=2.0, sd=1.4142135623730951)
        """
        mean = float(np.mean(values)) if values else float("nan")
        return cls(len(values), mean, float(np.std(values, ddof=1)) if len(values) > 1 else float("nan"))

    def text(self, sign: str = "") -> str:
        """As it stands in a table: "41.3 ± 2.0 (3)", or "41.3 (1)"."""
        deviation = f" ± {self.sd:.1f}" if self.count > 1 else ""
        return f"{self.mean:{sign}.1f}{deviation} ({self.count})"


def arms_of(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Arms with the options of their extension: "plain" first."""
    return sorted({(row["arm"], row["extend"]) for row in rows}, key=lambda arm: (arm[0] != "plain", arm))


def summarise(rows: Sequence[Row], metric: str) -> dict[tuple[int, tuple[str, str]], Summary]:
    """Mean and deviation over seeds of each size and arm; scores that do not exist (None) are left out."""
    cases = sorted({(row["size"], (row["arm"], row["extend"])) for row in rows})
    return {(size, arm): Summary.of(list(_by_seed(rows, size, arm, metric).values())) for size, arm in cases}


def paired(rows: Sequence[Row], metric: str) -> dict[tuple[int, tuple[str, str]], dict[int, float]]:
    """By size and extended arm: for each seed that both have, the score with extension minus that without."""
    differences = {}
    for size in sorted({row["size"] for row in rows}):
        plain = _by_seed(rows, size, ("plain", ""), metric)
        for arm in arms_of(rows):
            both = _by_seed(rows, size, arm, metric) if arm[0] != "plain" else {}
            found = {seed: value - plain[seed] for seed, value in sorted(both.items()) if seed in plain}
            if found:
                differences[size, arm] = found
    return differences


def _by_seed(rows: Sequence[Row], size: int, arm: tuple[str, str], metric: str) -> dict[int, float]:
    """Scores of one size and arm."""
    own = [row for row in rows if row["size"] == size and (row["arm"], row["extend"]) == arm]
    return {row["seed"]: row[metric] for row in own if row[metric] is not None}


def tables(rows: Sequence[Row]) -> list[Table]:
    """Scores of all sizes and arms; differences where there are two arms."""
    scores = Table("images", "arm", *SHOWN, title="mean ± standard deviation (seeds), percent")
    summaries = {metric: summarise(rows, metric) for metric in SHOWN}
    for size, arm in summaries[SHOWN[0]]:
        texts = [summaries[metric][size, arm].text() for metric in SHOWN]
        scores.add_row(str(size), " ".join(arm).strip(), *texts)
    differences = Table("images", "arm", "score", "mean", "by seed", title="extended minus plain, same images and seed")
    for metric in SHOWN:
        for (size, arm), found in paired(rows, metric).items():
            each = ", ".join(f"{value:+.1f}" for value in found.values())
            differences.add_row(str(size), " ".join(arm), metric, Summary.of(list(found.values())).text("+"), each)
    return [scores, *([differences] if differences.row_count else [])]


def write_csv(folder: Path) -> list[dict[str, Any]]:
    """Put the row.json of all finished trainings below ``folder`` into its results.csv; returns them.

    Each training writes its own file, so that two processes can work in one folder.
    """
    rows = [read_json(path) for path in sorted(folder.glob("*/row.json"))]
    rows.sort(key=lambda row: (row["size"], row["arm"] != "plain", row["extend"], row["seed"]))
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    atomic_write(folder / "results.csv", lambda stream: stream.write(text.getvalue().encode()))
    return rows
