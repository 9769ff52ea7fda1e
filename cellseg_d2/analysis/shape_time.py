"""Shapes over time: means of each time, correlations, growth, with intervals over resampled tracks or images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from ..evaluation.bootstrap import resamples
from .film import Film
from .growth import Fit, doubling_time, fit_exponential, fit_growth, phases, window_rates

__all__ = ["DRIVERS", "Growth", "correlations", "growth", "limits", "time_table"]

RESAMPLES = 500
LIMITS = (2.5, 97.5)  # percent
LEAST_CELLS = 10  # for a correlation
DRIVERS = ("time", "time_within", "density", "age")


@dataclass(frozen=True)
class Growth:
    """The population over time.

    Attributes:
        times: (T,) points of time, ascending.
        counts: (T,) cells an image.
        fits: curves, the better one first; empty where there are fewer than three points of time or one without cells.
        doubling: of the exponential curve, in the film's unit; infinite where nothing grows, NaN without a curve.
        interval: 95 % of it over resampled tracks, or over resampled images where cells are not tracked. Its upper end
            is infinite where growth is not sure.
        rates: (T,) local growth rate, see :func:`.growth.window_rates`; NaN without curves.
        phases: of each time; empty without curves.
    """

    times: np.ndarray
    counts: np.ndarray
    fits: list[Fit]
    doubling: float
    interval: tuple[float, float]
    rates: np.ndarray
    phases: list[str]


def time_table(table: pd.DataFrame, columns: Sequence[str], seed: int = 0, unit: str = "track") -> pd.DataFrame:
    """A row a time: ``frame``, ``time``, ``cells``, and the mean of each column with its ``_low`` and ``_high`` end.

    The interval is the 95 % percentile interval over 500 resamples of the units, as cells of one unit are no
    independent ones. NaN where a time has fewer than two units; with two or three it is too narrow, as any of so few.

    Args:
        table: a row a cell with ``frame``, ``time``, the unit and the columns.
        unit: see :func:`correlations`.
    """
    frames, frame_of = np.unique(table["frame"], return_inverse=True)
    units, unit_of = np.unique(table[unit], return_inverse=True)
    weights = resamples(np.ones(len(units), dtype=bool), RESAMPLES, seed)
    rows = []
    for index, frame in enumerate(frames):
        own = frame_of == index
        values, drawn = table.loc[own, list(columns)].to_numpy(dtype=np.float64), weights[:, unit_of[own]]
        with np.errstate(invalid="ignore"):
            means = drawn @ values / drawn.sum(axis=1, keepdims=True)
        sure = len(np.unique(unit_of[own])) > 1
        low, high = limits(means) if sure else np.full((2, len(columns)), np.nan)
        row = {"frame": int(frame), "time": float(table.loc[own, "time"].iloc[0]), "cells": int(own.sum())}
        for name, mean, below, above in zip(columns, values.mean(axis=0), low, high):
            row |= {name: mean, f"{name}_low": below, f"{name}_high": above}
        rows.append(row)
    return pd.DataFrame(rows)


def correlations(
    table: pd.DataFrame, columns: Sequence[str], seed: int = 0, unit: str = "track"
) -> dict[str, dict[str, dict]]:
    """Spearman's rank correlation of each column with each of :data:`DRIVERS`.

    ``time_within`` is time again, ranks of both minus their means over the track: what changes in a cell while it is
    followed, without what differs between cells. Intervals (95 %) are over 500 resamples of units; ranks are those
    among all cells, not made anew for every resample.

    Args:
        table: a row a cell with ``track``, ``time``, ``density``, ``age``, the unit and the columns.
        unit: column whose groups are independent of each other: ``track``, or ``image`` without tracks, as all cells of
            an image have the same time and conditions.

    Returns:
        driver -> column -> ``rho``, ``low``, ``high``; a driver that fewer than ten cells have, or that has one value
        only, is left out, and a column that has one value only has NaN.
    """
    track_of, (units, unit_of) = pd.factorize(table["track"])[0], np.unique(table[unit], return_inverse=True)
    weights = resamples(np.ones(len(units), dtype=bool), RESAMPLES, seed)
    found: dict[str, dict[str, dict]] = {}
    for driver in DRIVERS:
        cause = table[driver.removesuffix("_within")].to_numpy(dtype=np.float64)
        known = np.isfinite(cause)
        if known.sum() < LEAST_CELLS:
            continue
        own = unit_of[known]
        ranks = rankdata(np.column_stack([cause[known], table.loc[known, list(columns)]]), axis=0)
        if driver == "time_within":
            ranks -= _track_means(ranks, track_of[known])
        if np.ptp(ranks[:, 0]) == 0:
            continue
        once, drawn = _weighted(ranks, np.ones((1, len(units))), own)[0], _weighted(ranks, weights, own)
        sure = len(np.unique(own)) > 1
        low, high = limits(drawn) if sure else np.full((2, len(columns)), np.nan)
        rows = np.column_stack([once, low, high]).tolist()
        found[driver] = {name: dict(zip(("rho", "low", "high"), row)) for name, row in zip(columns, rows)}
    return found


def limits(drawn: np.ndarray) -> np.ndarray:
    """(2, K) ends of the 95 % percentile interval of each of (B, K) resampled values; NaN where none exists."""
    ends, some = np.full((2, drawn.shape[1]), np.nan), np.isfinite(drawn).any(axis=0)
    ends[:, some] = np.nanpercentile(drawn[:, some], LIMITS, axis=0)
    return ends


def growth(film: Film, seed: int = 0, count: int = 200) -> Growth:
    """The population's growth: annotated cells an image at each time, curves, doubling time and phases.

    Args:
        count: resamples for the interval of the doubling time.
    """
    times, index = np.unique(film.times, return_inverse=True)
    counts = np.bincount(index, film.counts) / np.bincount(index)
    unknown = np.full(len(times), np.nan)
    if len(times) < 3 or not (counts > 0).all():
        return Growth(times, counts, [], np.nan, (np.nan, np.nan), unknown, [])
    fits = fit_growth(times, counts)
    rates = (_rates_of_tracks if film.tracked else _rates_of_images)(film, times, index, seed, count)
    interval = (np.nan, np.nan)
    if len(rates):
        low, high = np.percentile(rates, LIMITS)
        interval = doubling_time(high), doubling_time(low)
    best = next(fit for fit in fits if fit.name == "exponential")
    local = window_rates(times, counts)
    return Growth(times, counts, fits, doubling_time(best.rate), interval, local, phases(times, counts))


def _rates_of_tracks(film: Film, times: np.ndarray, index: np.ndarray, seed: int, count: int) -> np.ndarray:
    """Rates of the exponential curve through the cells of resampled tracks; those without cells at a time left out."""
    present = np.zeros((len(film.tracks), len(times)))
    for cell in film.cells:
        present[cell.track, index[cell.image]] += 1
    drawn = resamples(np.ones(len(film.tracks), dtype=bool), count, seed) @ present / np.bincount(index)
    return np.array([fit_exponential(times, counts).rate for counts in drawn if (counts > 0).all()])


def _rates_of_images(film: Film, times: np.ndarray, index: np.ndarray, seed: int, count: int) -> np.ndarray:
    """Rates of the exponential curve through the counts of resampled images; fewer than three times left out."""
    rates = []
    for weights in resamples(np.ones(len(index), dtype=bool), count, seed):
        images, cells = np.bincount(index, weights), np.bincount(index, weights * film.counts)
        there = images > 0
        if there.sum() > 2:
            rates.append(fit_exponential(times[there], cells[there] / images[there]).rate)
    return np.array(rates)


def _weighted(ranks: np.ndarray, weights: np.ndarray, own: np.ndarray) -> np.ndarray:
    """(B, K) Pearson correlation of the first column of ranks with the others, cells weighted by their units.

    Args:
        ranks: (N, K + 1).
        weights: (B, units).
        own: (N,) unit of each cell.
    """
    ranks = ranks - ranks.mean(axis=0)
    first, others = ranks[:, :1], ranks[:, 1:]
    terms = np.hstack([np.ones_like(first), first, first**2, others, others**2, first * others])
    sums = np.zeros((weights.shape[1], terms.shape[1]))
    np.add.at(sums, own, terms)
    drawn = weights @ sums
    with np.errstate(invalid="ignore", divide="ignore"):
        drawn = drawn[:, 1:] / drawn[:, :1]
        x, xx, (y, yy, xy) = drawn[:, :1], drawn[:, 1:2], np.split(drawn[:, 2:], 3, axis=1)
        spread = (xx - x**2) * (yy - y**2)
        return (xy - x * y) / np.sqrt(np.where(spread > 1e-9, spread, np.nan))


def _track_means(ranks: np.ndarray, own: np.ndarray) -> np.ndarray:
    """(N, K) mean of each cell's track."""
    sums = np.zeros((own.max() + 1, ranks.shape[1]))
    np.add.at(sums, own, ranks)
    return sums[own] / np.bincount(own)[own][:, None]
