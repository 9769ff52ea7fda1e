"""The JSON text of polygons to numbers: millions of them at the cost of reading their characters once."""

from collections.abc import Iterable, Sequence

import msgspec
import numpy as np
from numba import njit

from .polygons import Polygons

__all__ = ["parse"]

POWERS = 10.0 ** np.arange(23)  # these are exact
_LONG, _WRONG = 1, 2
_decoder = msgspec.json.Decoder(list[list[float]])


def parse(texts: Sequence[bytes]) -> Polygons:
    """Read the JSON of N segmentations ``[[x0, y0, x1, y1, ...], ...]``.

    A number of up to 15 digits is an integer divided or multiplied by a power of ten that float64 holds exactly, so
    one operation gives the nearest float64; any other text goes through msgspec.

    Raises:
        msgspec.DecodeError: a text is something else than lists of lists of numbers; its index is ``error.index``.

    >>> parse([b"[[1, 2.5, 3e1, 4]]"]).points.tolist()
    [[1.0, 2.5], [30.0, 4.0]]
    """
    offsets = np.concatenate([[0], np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)))])
    joined = b"".join([*texts, b"]"])  # the last bracket stops a number that is cut off
    values, starts, objects, states = _parse(np.frombuffer(joined, dtype=np.uint8), offsets)
    if (states == _WRONG).any():
        return Polygons.from_lists(_decode(texts, range(len(texts))))
    long = np.flatnonzero(states == _LONG)
    for n, outline in zip(long, _decode(texts, long)):
        exact = [number for polygon in outline for number in polygon]
        values[starts[objects[n]] : starts[objects[n + 1]]] = exact
    return Polygons(values.reshape(-1, 2), starts // 2, objects)


def _decode(texts: Sequence[bytes], places: Iterable[int]) -> list[list[list[float]]]:
    """The lists in the texts at ``places``, by msgspec."""
    outlines = []
    for index in places:
        try:
            outlines.append(_decoder.decode(texts[index]))
        except (msgspec.ValidationError, msgspec.DecodeError) as error:
            error.index = index
            raise
    return outlines


@njit(cache=True)
def _parse(text: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Values, starts of polygons in values, starts of objects in polygons, and the state of each text.

    ``_LONG``: a number has more digits than one operation gives exactly. ``_WRONG``: not lists of lists of an even
    number of numbers; nothing after it is read.
    """
    commas, brackets = 0, 0
    for byte in text:
        commas += byte == 44
        brackets += byte == 91
    values = np.empty(commas + len(offsets))
    starts = np.zeros(brackets + 1, np.int64)
    objects = np.zeros(len(offsets), np.int64)
    states = np.zeros(len(offsets) - 1, np.uint8)
    count, polygon = 0, 0
    for n in range(len(states)):
        depth, i, stop = 0, offsets[n], offsets[n + 1]
        while i < stop:
            c = text[i]
            if depth == 2 and (c == 45 or 48 <= c <= 57):
                i, values[count], exact = _number(text, i)
                count += 1
                if not exact:
                    states[n] = _LONG
            elif c == 44 or c == 32 or c == 10 or c == 13 or c == 9:
                i += 1
            elif c == 91 and depth < 2:  # [
                depth += 1
                i += 1
            elif c == 93 and depth == 2 and (count - starts[polygon]) % 2 == 0:  # ]
                polygon += 1
                starts[polygon] = count
                depth, i = 1, i + 1
            elif c == 93 and depth == 1:
                depth, i = 0, i + 1
            else:
                break
        if i < stop or depth != 0:
            states[n] = _WRONG
            break
        objects[n + 1] = polygon
    return values[:count], starts[: polygon + 1], objects, states


@njit(inline="always")
def _number(text: np.ndarray, i: int) -> tuple[int, float, bool]:
    """The place after a JSON number that begins at ``i``, its value, and whether that is the nearest float64.

    The text is valid JSON and ends with a bracket, so that no number runs into its end.
    """
    negative = text[i] == 45
    i += negative
    first, mantissa, exponent = i, np.int64(0), 0
    while 48 <= text[i] <= 57:
        mantissa = mantissa * 10 + (text[i] - 48)
        i += 1
    digits = i - first
    if text[i] == 46:
        i += 1
        first = i
        while 48 <= text[i] <= 57:
            mantissa = mantissa * 10 + (text[i] - 48)
            i += 1
        exponent = first - i
        digits -= exponent
    if text[i] == 101 or text[i] == 69:  # e, E
        i += 1
        down = text[i] == 45
        i += down or text[i] == 43
        power = 0
        while 48 <= text[i] <= 57:
            power = min(power * 10 + (text[i] - 48), 10000)
            i += 1
        exponent += -power if down else power
    if digits > 15 or abs(exponent) > 22:
        return i, 0.0, False
    value = mantissa * POWERS[exponent] if exponent > 0 else mantissa / POWERS[-exponent]
    return i, -value if negative else value, True
