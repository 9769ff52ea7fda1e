"""Compiled loops over the bytes of a COCO JSON: from the place where a value begins to the place after it.

``text`` is (B,) uint8 and ``i`` a place in it; -1 instead of a place says that no such value is there, or that the JSON
is damaged. Nothing reads behind the end, whatever the bytes are. All loops are in this file, as numba notices a change
of the file that a function is in, not of those that it calls.
"""

import numpy as np
from numba import njit

__all__ = ["COLUMNS", "DONE", "MORE", "NO_OUTLINE", "OUTLINE", "UNSURE", "WRONG"]
__all__ += ["byte_at", "scan_annotations", "skip_space", "skip_string", "skip_value"]

# start, stop: bytes of the annotation's text; outline: a state; dropped: polygons of fewer than three points
COLUMNS = ("id", "image_id", "category_id", "start", "stop", "iscrowd", "outline", "dropped")
# UNSURE: run lengths, and anything but lists of plain numbers: to be looked at one by one
NO_OUTLINE, OUTLINE, UNSURE = 0, 1, 2
MORE, DONE, WRONG = 0, 1, 2
_BLOCK = 32
_MOST_DIGITS = 18  # of an integer that surely fits into int64
_ID, _IMAGE_ID, _CATEGORY_ID, _ISCROWD, _SEGMENTATION, _TRUE, _FALSE, _NULL = (
    np.frombuffer(word, dtype=np.uint8)
    for word in (b"id", b"image_id", b"category_id", b"iscrowd", b"segmentation", b"true", b"false", b"null")
)
# Outside of texts a JSON value has these bytes only
_ALLOWED = np.zeros(256, dtype=np.bool_)
_ALLOWED[np.frombuffer(b' \t\r\n,:+-.0123456789Eaeflnrstu"[]{}', dtype=np.uint8)] = True


@njit(cache=True, nogil=True)
def scan_annotations(text: np.ndarray, i: int, closing: int, first: bool, rows: np.ndarray) -> tuple[int, int, int]:
    """Fill ``rows`` from place ``i``, before an entry; the next place, the number of rows, and what comes next."""
    count = 0
    while True:
        i = skip_space(text, i)
        if first and byte_at(text, i) == closing:
            return i + 1, count, DONE
        if count == len(rows):
            return i, count, MORE
        if closing == 125:  # }, so that each entry has a key
            i = skip_key(text, i)
            if i < 0:
                return i, count, WRONG
        i = _annotation(text, i, rows[count])
        if i < 0:
            return i, count, WRONG
        count += 1
        first = False
        i = skip_space(text, i)
        if byte_at(text, i) == closing:
            return i + 1, count, DONE
        if byte_at(text, i) != 44:  # ,
            return i, count, WRONG
        i += 1


@njit(cache=True)
def _annotation(text: np.ndarray, i: int, row: np.ndarray) -> int:
    """Fill the row of the object at ``i``; the place after it, or -1."""
    if byte_at(text, i) != 123:  # {
        return -1
    row[3], row[5], row[6], row[7] = i, 0, NO_OUTLINE, 0
    seen = 0
    while True:
        key = skip_space(text, i + 1)
        i = skip_key(text, key)
        if i < 0:
            return -1
        first = byte_at(text, key + 1)  # spares most comparisons
        if first == 105 and is_text(text, key + 1, _ID):
            i, row[0] = read_integer(text, i)
            seen |= 1
        elif first == 105 and is_text(text, key + 1, _IMAGE_ID):
            i, row[1] = read_integer(text, i)
            seen |= 2
        elif first == 99 and is_text(text, key + 1, _CATEGORY_ID):
            i, row[2] = read_integer(text, i)
            seen |= 4
        elif first == 105 and is_text(text, key + 1, _ISCROWD):
            i, row[5] = read_flag(text, i)
        elif first == 115 and is_text(text, key + 1, _SEGMENTATION):
            i, row[6], row[7] = _outline(text, i)
        else:
            i = skip_value(text, i)
        if i < 0:
            return -1
        i = skip_space(text, i)
        if byte_at(text, i) == 125:  # }
            break
        if byte_at(text, i) != 44:  # ,
            return -1
    row[4] = i + 1
    return i + 1 if seen == 7 else -1


@njit(cache=True)
def _outline(text: np.ndarray, i: int) -> tuple[int, int, int]:
    """Place after a segmentation (-1: damaged), its state and the number of its polygons that are too short."""
    if byte_at(text, i) != 91:  # [
        state = NO_OUTLINE if byte_at(text, i) == 110 else UNSURE  # null
        return skip_value(text, i), state, 0
    polygons, dropped, unsure = 0, 0, False
    i = skip_space(text, i + 1)
    if byte_at(text, i) == 93:  # ]
        return i + 1, NO_OUTLINE, 0
    while True:
        after, numbers = _polygon(text, i)
        if after < 0:
            unsure = True
            after = skip_value(text, i)
            if after < 0:
                return -1, NO_OUTLINE, 0
        elif numbers >= 6 and numbers % 2 == 0:
            polygons += 1
        else:
            dropped += 1
        i = skip_space(text, after)
        if byte_at(text, i) == 93:  # ]
            break
        if byte_at(text, i) != 44:  # ,
            return -1, NO_OUTLINE, 0
        i = skip_space(text, i + 1)
    state = UNSURE if unsure else OUTLINE if polygons > 0 else NO_OUTLINE
    return i + 1, state, dropped


@njit(cache=True)
def _polygon(text: np.ndarray, i: int) -> tuple[int, int]:
    """Place after a list of plain numbers, and how many they are; -1 where it is none, or has an exponent or NaN.

    Most bytes of a file are such lists. Blocks are looked at without a branch, which a processor does for many bytes
    at once, and of their bytes only that they may stand in numbers; so 1.2.3 passes, and shows when the annotation is
    used.
    """
    if byte_at(text, i) != 91:  # [
        return -1, 0
    i = skip_space(text, i + 1)
    if byte_at(text, i) == 93:  # ]
        return i + 1, 0
    numbers, strange = 1, np.uint8(0)
    while i + _BLOCK <= len(text):
        block = text[i : i + _BLOCK]
        ends, odd, commas = np.uint8(0), np.uint8(0), np.uint8(0)
        for k in range(_BLOCK):
            c = block[k]
            ends = max(ends, np.uint8(c == 93))
            odd = max(odd, np.uint8((c > 57) | ((c > 32) & (c < 44))))
            commas = np.uint8(commas + np.uint8(c == 44))
        if ends:
            break
        strange |= odd
        numbers += commas
        i += _BLOCK
    while byte_at(text, i) != 93:  # ]
        c = byte_at(text, i)
        if c == 0 or c > 57 or 32 < c < 44:
            return -1, 0
        numbers += c == 44
        i += 1
    return (-1, 0) if strange else (i + 1, numbers)


@njit(cache=True)
def byte_at(text: np.ndarray, i: int) -> int:
    """The byte at ``i``; 0, which no JSON has, behind the end."""
    return int(text[i]) if i < len(text) else 0


@njit(cache=True)
def skip_space(text: np.ndarray, i: int) -> int:
    """Place of the first byte from ``i`` on that is no white space."""
    while i < len(text) and (text[i] == 32 or text[i] == 10 or text[i] == 13 or text[i] == 9):
        i += 1
    return i


@njit(cache=True)
def skip_digits(text: np.ndarray, i: int) -> int:
    """Place of the first byte from ``i`` on that is no digit."""
    while i < len(text) and 48 <= text[i] <= 57:
        i += 1
    return i


@njit(cache=True)
def skip_string(text: np.ndarray, i: int) -> int:
    """Place after the text in quotes that begins at ``i``, or -1."""
    if byte_at(text, i) != 34:
        return -1
    i += 1
    while i < len(text):
        if text[i] == 34:
            return i + 1
        i += 2 if text[i] == 92 else 1  # a backslash hides the next byte
    return -1


@njit(cache=True)
def is_text(text: np.ndarray, i: int, word: np.ndarray) -> bool:
    """A quoted text that begins at ``i``, after its quote, is ``word``."""
    for k in range(len(word)):
        if byte_at(text, i + k) != word[k]:
            return False
    return byte_at(text, i + len(word)) == 34


@njit(cache=True)
def skip_key(text: np.ndarray, i: int) -> int:
    """Place of the value whose key begins at ``i``, or -1."""
    i = skip_string(text, i)
    if i < 0:
        return -1
    i = skip_space(text, i)
    return skip_space(text, i + 1) if byte_at(text, i) == 58 else -1  # :


@njit(cache=True)
def skip_number(text: np.ndarray, i: int) -> int:
    """Place after a number, or -1."""
    if byte_at(text, i) == 45:  # -
        i += 1
    begin = i
    i = skip_digits(text, i)
    if i == begin or (text[begin] == 48 and i > begin + 1):
        return -1
    if byte_at(text, i) == 46:  # .
        begin = i + 1
        i = skip_digits(text, begin)
        if i == begin:
            return -1
    if byte_at(text, i) == 101 or byte_at(text, i) == 69:  # e, E
        i += 1
        if byte_at(text, i) == 43 or byte_at(text, i) == 45:
            i += 1
        begin = i
        i = skip_digits(text, begin)
        return i if i > begin else -1
    return i


@njit(cache=True)
def read_integer(text: np.ndarray, i: int) -> tuple[int, int]:
    """Place after an integer that surely fits into int64 (-1: it is none), and its value."""
    after, value = skip_number(text, i), np.int64(0)
    if after < 0 or after - i > _MOST_DIGITS:
        return -1, value
    negative = text[i] == 45
    for k in range(i + negative, after):
        if text[k] < 48 or text[k] > 57:  # a fraction or an exponent
            return -1, value
        value = value * 10 + (text[k] - 48)
    return after, -value if negative else value


@njit(cache=True)
def read_flag(text: np.ndarray, i: int) -> tuple[int, int]:
    """Place after true, false or an integer (-1: it is none of these), and 1 where it is true or not 0."""
    if byte_at(text, i) == 116 or byte_at(text, i) == 102:  # t, f
        return skip_value(text, i), int(text[i] == 116)
    after, value = read_integer(text, i)
    return after, int(value != 0)


@njit(cache=True)
def skip_value(text: np.ndarray, i: int) -> int:
    """Place after any JSON value, or -1; of lists and objects only that they are closed is looked at."""
    c = byte_at(text, i)
    if c == 34:
        return skip_string(text, i)
    if c == 45 or 48 <= c <= 57:
        return skip_number(text, i)
    if c == 116 or c == 102 or c == 110:  # t, f, n
        word = _TRUE if c == 116 else _FALSE if c == 102 else _NULL
        for k in range(len(word)):
            if byte_at(text, i + k) != word[k]:
                return -1
        return i + len(word)
    if c != 91 and c != 123:  # [, {
        return -1
    depth = 0
    while i < len(text):
        c = text[i]
        if not _ALLOWED[c]:
            return -1
        if c == 34:
            i = skip_string(text, i)
            if i < 0:
                return -1
            continue
        if c == 91 or c == 123:
            depth += 1
        elif c == 93 or c == 125:
            depth -= 1
            if depth == 0:
                return i + 1
        i += 1
    return -1
