"""Where the annotations of a COCO JSON stand, and their ids: one compiled pass over its bytes that builds no object.

What is out of the ordinary makes a scan give up (ids that are text, keys that are missing, damaged JSON): then the file
is for :func:`.datasets.coco_json.read_coco`, which takes more forms and says what is wrong.
"""

from collections.abc import Callable

import numpy as np

from .coco_loops import COLUMNS, MORE, WRONG, byte_at, scan_annotations, skip_space, skip_string, skip_value

__all__ = ["scan_coco"]

_CHUNK = 65536  # annotations a compiled call, so that Ctrl-C is heard


def scan_coco(
    text: np.ndarray, passed: Callable[[int], object] = lambda place: None
) -> tuple[np.ndarray, dict[str, tuple[int, int]]] | None:
    """Scan the bytes of a COCO file.

    Args:
        text: (B,) uint8, the whole file.
        passed: called now and then with the number of bytes that are done with, whose memory may be let go.

    Returns:
        (N, 8) int64, a row an annotation in the file's order, see :data:`.coco_loops.COLUMNS`; and the place (first
        byte, byte after the last) of the value of every other key. None where the file is out of the ordinary.
    """
    rows, places = None, {}
    i = skip_space(text, 3 if bytes(text[:3]) == b"\xef\xbb\xbf" else 0)
    if byte_at(text, i) != ord("{"):
        return None
    while True:
        i = skip_space(text, i + 1)
        begin, i = i, skip_string(text, i)
        colon = -1 if i < 0 else skip_space(text, i)
        if colon < 0 or byte_at(text, colon) != ord(":"):
            return None
        key, begin = bytes(text[begin + 1 : i - 1]).decode("ascii", "replace"), skip_space(text, colon + 1)
        if key in places or (key == "annotations" and rows is not None):
            return None
        if key == "annotations":
            rows, i = _table(text, begin, passed)
        else:
            i = skip_value(text, begin)
            places[key] = (begin, i)
        if i < 0:
            return None
        i = skip_space(text, i)
        if byte_at(text, i) == ord("}"):
            break
        if byte_at(text, i) != ord(","):
            return None
    if rows is None or skip_space(text, i + 1) != len(text):
        return None
    return rows, places


def _table(text: np.ndarray, begin: int, passed: Callable[[int], object]) -> tuple[np.ndarray | None, int]:
    """The rows of a list or a dict of annotations, and the place after it; None and -1: out of the ordinary."""
    closing = {ord("["): ord("]"), ord("{"): ord("}")}.get(byte_at(text, begin))
    if closing is None:
        return None, -1
    chunks, i, state = [], begin + 1, MORE
    buffer = np.empty((_CHUNK, len(COLUMNS)), dtype=np.int64)
    while state == MORE:
        i, count, state = scan_annotations(text, i, closing, not chunks, buffer)
        chunks.append(buffer[:count].copy())
        if state == WRONG:
            return None, -1
        passed(i)
    return np.concatenate(chunks), i
