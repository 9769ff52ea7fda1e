"""How a population grows: exponential and logistic curves of its count, doubling time, and phases."""

from collections.abc import Callable
from dataclasses import dataclass
from math import log

import numpy as np
from scipy.optimize import curve_fit

__all__ = [
    "PHASES", "Fit", "doubling_time", "exponential", "fit_exponential", "fit_growth", "logistic", "phases",
    "window_rates",
]  # fmt: skip

PHASES = ("lag", "exponential", "plateau")
WINDOW = 0.2  # of the film, in which a rate is fitted; at least LEAST points of time
LEAST = 5
GROWING = 0.5  # of the largest rate: what grows so fast is in its exponential phase
FAR = 10.0  # times the largest count; a limit beyond is a guess
Curve = Callable[..., np.ndarray]


@dataclass(frozen=True)
class Fit:
    """A curve through counts.

    Attributes:
        name: "exponential" or "logistic".
        parameters: N0 and r; and K of the logistic curve.
        aicc: corrected Akaike criterion of least squares, n log(RSS / n) + 2k + 2k(k + 1) / (n - k - 1), k counting
            the variance, too; the lower the better; infinite where there are too few points for the curve.
    """

    name: str
    parameters: tuple[float, ...]
    aicc: float

    @property
    def rate(self) -> float:
        """r, per unit of time."""
        return self.parameters[1]

    def __call__(self, times: np.ndarray) -> np.ndarray:
        """The counts at times since the first one."""
        return (exponential if self.name == "exponential" else logistic)(times, *self.parameters)


def exponential(times: np.ndarray, start: float, rate: float) -> np.ndarray:
    """N(t) = N0 exp(r t)."""
    return start * np.exp(rate * times)


def logistic(times: np.ndarray, start: float, rate: float, limit: float) -> np.ndarray:
    """N(t) = K / (1 + (K / N0 - 1) exp(-r t)); it grows at the rate r (1 - N / K)."""
    return limit / (1 + (limit / start - 1) * np.exp(-rate * times))


def fit_growth(times: np.ndarray, counts: np.ndarray) -> list[Fit]:
    """Least-squares fits of both curves, the one of lower AICc first; N0 is the count at the first time.

    The logistic curve is left out where it does not converge or its limit K lies beyond ten times the largest count:
    counts that fall or hardly bend say nothing about it.

    Args:
        times: (T,) ascending, T >= 3.
        counts: (T,) positive.

    Raises:
        ValueError: fewer than three points of time, or a count that is not positive.
    """
    first = fit_exponential(times, counts)
    unit, span = _unit(times)
    counts, fits = np.asarray(counts, dtype=np.float64), [first]
    guess = (first.parameters[0], max(2 * first.rate * span, 0.5), 1.2 * counts.max())
    try:
        bent = _fitted("logistic", logistic, unit, counts, guess, (1e-9, 0, 1e-9))
    except RuntimeError:  # it did not converge
        return fits
    if bent.parameters[2] < FAR * counts.max():
        fits.append(Fit(bent.name, (bent.parameters[0], bent.rate / span, bent.parameters[2]), bent.aicc))
    return sorted(fits, key=lambda fit: fit.aicc)


def fit_exponential(times: np.ndarray, counts: np.ndarray) -> Fit:
    """The exponential curve of :func:`fit_growth`."""
    counts = np.asarray(counts, dtype=np.float64)
    if len(times) < 3 or not (counts > 0).all():
        raise ValueError("a growth curve takes three points of time or more, all with cells")
    unit, span = _unit(times)
    slope, height = np.polyfit(unit, np.log(counts), 1)
    found = _fitted("exponential", exponential, unit, counts, (np.exp(height), slope), (0, -np.inf))
    return Fit(found.name, (found.parameters[0], found.rate / span), found.aicc)


def doubling_time(rate: float) -> float:
    """log 2 / r in the unit of time; infinite where nothing grows."""
    return log(2) / rate if rate > 0 else np.inf


def window_rates(times: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(T,) specific growth rate d log N / dt at each time: the slope of a line through log N in a window around it.

    The window holds WINDOW of all points of time, at least LEAST of them (all, of fewer); at the film's ends it is the
    first or last such window.
    """
    size = min(max(round(WINDOW * len(times)), LEAST), len(times))
    rates = []
    for index in range(len(times)):
        first = min(max(index - size // 2, 0), len(times) - size)
        part = slice(first, first + size)
        rates.append(np.polyfit(times[part] - times[index], np.log(counts[part]), 1)[0])
    return np.array(rates)


def phases(times: np.ndarray, counts: np.ndarray) -> list[str]:
    """The phase of each time, one of :data:`PHASES`, by the growth rates of :func:`window_rates`.

    Exponential: from the first to the last time whose rate is at least half of the largest one. Before: lag; after:
    plateau. A population that never grows is on its plateau throughout.
    """
    rates = window_rates(np.asarray(times, dtype=np.float64), np.asarray(counts, dtype=np.float64))
    growing = np.flatnonzero(rates >= GROWING * rates.max()) if rates.max() > 1e-9 else np.array([], dtype=int)
    if not len(growing):
        return ["plateau"] * len(rates)
    first, last = growing[0], growing[-1]
    return ["lag" if k < first else "plateau" if k > last else "exponential" for k in range(len(rates))]


def _unit(times: np.ndarray) -> tuple[np.ndarray, float]:
    """Times from 0 to 1, so that hours and frames are as easy to fit, and the span that they were."""
    times = np.asarray(times, dtype=np.float64)
    span = float(times[-1] - times[0])
    return (times - times[0]) / span, span


def _fitted(name: str, curve: Curve, times: np.ndarray, counts: np.ndarray, guess: tuple, low: tuple) -> Fit:
    """One curve; RuntimeError where it does not converge."""
    found, _ = curve_fit(curve, times, counts, guess, bounds=(low, np.inf), maxfev=2000)
    squares = max(float(((curve(times, *found) - counts) ** 2).sum()), 1e-9 * float((counts**2).sum()))
    points, free = len(times), len(found) + 1
    extra = 2 * free * (free + 1) / (points - free - 1) if points > free + 1 else np.inf
    return Fit(name, tuple(map(float, found)), points * log(squares / points) + 2 * free + extra)
