"""How fast a film's cells multiply: rate and doubling time of counts and confluence, with intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from ..growth import doubling_time

__all__ = ["Doubling", "growth", "time_axis_of"]

LEAST = 3  # frames with cells
RATIOS = np.concatenate([[0.0], np.logspace(-4, 4, 49)])  # variance of a step of growth over that of a count
NAMES = {"count": "cell count", "confluence": "confluence"}


@dataclass(frozen=True)
class Doubling:
    """Exponential growth of one quantity.

    Attributes:
        quantity: "count" or "confluence".
        unit: of time, "h" or "frames".
        frames: with cells, which the fit went through; those without have no logarithm and are left out.
        rate: of the logarithm, per unit of time; NaN where there is no fit.
        rate_interval: its 95 % interval.
        level: of the fitted curve level x exp(rate x time) at time 0.
        time: of doubling, in the unit; None where the interval of the rate reaches 0 or below.
        interval: 95 % of the doubling time, or None.
        text: all this in words.
    """

    quantity: str
    unit: str
    frames: int
    rate: float = float("nan")
    rate_interval: tuple[float, float] = (float("nan"), float("nan"))
    level: float = float("nan")
    time: float | None = None
    interval: tuple[float, float] | None = None
    text: str = ""


def growth(frames: pd.DataFrame, quantities: Sequence[str] = ("count", "confluence")) -> dict[str, Doubling]:
    """Growth rate and doubling time of each quantity, by a line through its logarithm.

    The logarithm is taken as a line plus a random walk (births and deaths come by chance, and what happened once stays)
    plus noise of its own in each frame (cells missed or found too often). The share of both is estimated by restricted
    maximum likelihood, the line by generalised least squares, its interval by Student's t with n - 2 degrees of
    freedom. Ordinary least squares, which knows no walk, gives intervals that are several times too narrow for a
    growing population.

    Args:
        frames: as :func:`.lineage.frames_table` gives them; frames may be missing.
    """
    times, unit = time_axis_of(frames)
    return {name: _growth(name, times, frames[name].to_numpy(dtype=np.float64), unit) for name in quantities}


def time_axis_of(frames: pd.DataFrame) -> tuple[np.ndarray, str]:
    """(T,) float64 and their unit: hours ("h") where every frame has them, otherwise frames."""
    hours = frames["time_h"].to_numpy(dtype=np.float64)
    return (hours, "h") if np.isfinite(hours).all() else (frames["t"].to_numpy(dtype=np.float64), "frames")


def _growth(quantity: str, times: np.ndarray, values: np.ndarray, unit: str) -> Doubling:
    there = values > 0
    name, count = NAMES.get(quantity, quantity), int(there.sum())
    if count < LEAST:
        text = f"{name}: no growth rate, this takes {LEAST} frames with cells or more, and there are {count}"
        return Doubling(quantity, unit, count, text=text)
    height, rate, error = _fit_line(times[there], np.log(values[there]))
    margin = float(stats.t.ppf(0.975, count - 2)) * error
    low, high = rate - margin, rate + margin
    each = "h" if unit == "h" else "frame"
    said = f"rate {rate:.3g} per {each}, 95 % interval {low:.3g} to {high:.3g}"
    found = {"rate": rate, "rate_interval": (low, high), "level": float(np.exp(height))}
    if low <= 0 <= high:
        return Doubling(quantity, unit, count, **found, text=f"{name}: no doubling measurable ({said}, includes 0)")
    time, ends = doubling_time(abs(rate)), sorted(doubling_time(abs(end)) for end in (low, high))
    span = f"{time:.3g} {unit}, 95 % interval {ends[0]:.3g} to {ends[1]:.3g} {unit}"
    if high < 0:
        return Doubling(quantity, unit, count, **found, text=f"{name}: it shrinks, half are left after {span}")
    return Doubling(
        quantity, unit, count, **found, time=time, interval=(ends[0], ends[1]), text=f"{name}: doubles in {span}"
    )


def _fit_line(times: np.ndarray, values: np.ndarray) -> tuple[float, float, float]:
    """Height at time 0, slope and its standard error of a line with a random walk and noise around it."""
    since = times - times[0]
    walk = np.minimum.outer(since, since) / np.diff(since).mean()
    spread, turn = np.linalg.eigh(walk)
    design, turned = turn.T @ np.column_stack([np.ones_like(since), since]), turn.T @ values
    weights = 1 / (1 + np.outer(RATIOS, np.maximum(spread, 0)))
    normal = np.einsum("rn,ni,nj->rij", weights, design, design)
    lines = np.linalg.solve(normal, np.einsum("rn,ni,n->ri", weights, design, turned)[..., None])[..., 0]
    squares = np.maximum((weights * (turned - lines @ design.T) ** 2).sum(axis=1), 1e-12)
    free = len(times) - 2
    likelihood = (np.log(weights).sum(axis=1) - np.linalg.slogdet(normal)[1] - free * np.log(squares)) / 2
    best = int(likelihood.argmax())
    variance = squares[best] / free * np.linalg.inv(normal[best])[1, 1]
    height, slope = lines[best]
    return float(height - slope * times[0]), float(slope), float(np.sqrt(variance))
