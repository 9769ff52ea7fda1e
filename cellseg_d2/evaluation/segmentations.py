"""COCO segmentations of every kind, as JSON text or as Python objects, to masks: thousands in a few calls."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import msgspec
import numpy as np

from ..errors import DatasetError
from ..run_lengths import Runs, concatenate, decode_counts
from .polygon_text import parse
from .polygons import FARTHEST, Polygons, fill

__all__ = ["RunLengths", "to_runs"]


Length = Annotated[int, msgspec.Meta(ge=0, le=2**31)]


class RunLengths(msgspec.Struct, gc=False):
    """COCO's run lengths: text (compressed) or a list of numbers."""

    size: tuple[Length, Length]
    counts: str | list[Length]


_decoder = msgspec.json.Decoder(RunLengths)
_POLYGONS, _COMPRESSED, _LENGTHS, _MISSING = range(4)
Where = Callable[[int], str]


def to_runs(
    segmentations: Sequence[Any], heights: np.ndarray, widths: np.ndarray, where: Where
) -> tuple[Runs, np.ndarray, tuple[str, ...]]:
    """Masks of N objects.

    Args:
        segmentations: each a list of polygons, run lengths (a dict or :class:`RunLengths`, compressed or plain), the
            JSON text (bytes or ``msgspec.Raw``) of either, or None / an empty list / an empty text where the object
            has no mask.
        heights, widths: (N,) int64 of each object's image.
        where: names object n in messages.

    Returns:
        The masks (pycocotools' pixels; empty where there is none), (N,) bool which objects have one, and notes.

    Raises:
        DatasetError: a mask is damaged or of another size than its image.
    """
    kinds, values = _classify_all(segmentations, where)
    members = [np.flatnonzero(kinds == kind) for kind in range(4)]
    sizes = heights * widths
    _require_sizes(values, np.concatenate(members[_COMPRESSED : _LENGTHS + 1]), heights, widths, where)
    parts = [
        _from_polygons([values[n] for n in members[_POLYGONS]], members[_POLYGONS], heights, widths, where),
        _from_counts([values[n].counts for n in members[_COMPRESSED]], members[_COMPRESSED], sizes, where),
        _from_lengths([values[n].counts for n in members[_LENGTHS]], members[_LENGTHS], sizes, where),
        Runs(np.zeros(len(members[_MISSING]) + 1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.int32)),
    ]
    place = np.empty(len(kinds), np.int64)
    place[np.concatenate(members)] = np.arange(len(kinds))
    masks = parts[kinds[0]] if len(kinds) and (kinds == kinds[0]).all() else concatenate(parts).take(place)
    has_mask = kinds != _MISSING
    empty = np.flatnonzero(np.diff(masks.offsets) == 0)
    notes = ()
    if len(empty) and has_mask.any():
        notes = (
            f"{len(empty)} objects have no mask, or an empty one, and match nothing (first: {where(int(empty[0]))})",
        )
    return masks, has_mask, notes


def _classify_all(segmentations: Sequence[Any], where: Where) -> tuple[np.ndarray, list]:
    """Kind and value of each segmentation; a file with one kind of them takes a few calls, not one for each."""
    types = set(map(type, segmentations))
    if types == {RunLengths} and all(type(lengths.counts) is str for lengths in segmentations):
        return np.full(len(segmentations), _COMPRESSED), list(segmentations)
    if types == {msgspec.Raw}:
        texts = list(map(bytes, segmentations))
        if {text[:1] for text in texts} == {b"["} and min(map(len, texts)) > len("[[]]"):
            return np.full(len(texts), _POLYGONS), texts
    pairs = [_classify(segmentation, n, where) for n, segmentation in enumerate(segmentations)]
    return np.array([kind for kind, _ in pairs], dtype=np.int64), [value for _, value in pairs]


def _require_sizes(values: list, index: np.ndarray, heights: np.ndarray, widths: np.ndarray, where: Where) -> None:
    """The run lengths at the places ``index`` are of their images' sizes."""
    sizes = np.array([values[n].size for n in index], dtype=np.int64).reshape(-1, 2)
    for k in np.flatnonzero((sizes[:, 0] != heights[index]) | (sizes[:, 1] != widths[index]))[:1]:
        n = int(index[k])
        raise DatasetError(
            f"{where(n)} has a mask of size {sizes[k].tolist()} (height, width), but its image has "
            f"{[int(heights[n]), int(widths[n])]}: predict at the size of the images that are scored"
        )


def _classify(segmentation: Any, n: int, where: Where) -> tuple[int, Any]:
    """The kind of a segmentation, and its polygons (text or lists) or run lengths."""
    if isinstance(segmentation, msgspec.Raw | bytes):
        text = bytes(segmentation).strip()
        if text[:1] == b"[":
            return (_POLYGONS, text) if text.strip(b"[] \n\t\r") else (_MISSING, None)
        if text in (b"", b"null"):
            return _MISSING, None
        try:
            lengths = _decoder.decode(text)
        except (msgspec.ValidationError, msgspec.DecodeError) as error:
            raise DatasetError(f"{where(n)}: its segmentation is neither polygons nor run lengths ({error})") from None
    elif isinstance(segmentation, RunLengths):
        lengths = segmentation
    elif not segmentation or not any(segmentation):
        return _MISSING, None
    elif isinstance(segmentation, list | tuple):
        return _POLYGONS, segmentation
    else:
        try:
            counts = segmentation["counts"]
            counts = counts.decode("ascii", "replace") if isinstance(counts, bytes) else counts
            lengths = msgspec.convert({"size": list(segmentation["size"]), "counts": counts}, RunLengths)
        except (msgspec.ValidationError, TypeError, KeyError) as error:
            raise DatasetError(f"{where(n)}: its segmentation is neither polygons nor run lengths ({error})") from None
    return (_LENGTHS if isinstance(lengths.counts, list) else _COMPRESSED), lengths


def _from_polygons(outlines: list, index: np.ndarray, heights: np.ndarray, widths: np.ndarray, where: Where) -> Runs:
    """Masks of polygons; all as texts, or all as lists."""
    try:
        if all(isinstance(outline, bytes) for outline in outlines):
            polygons = parse(outlines)
        else:
            polygons = Polygons.from_lists(outlines)
    except msgspec.DecodeError as error:
        name = where(int(index[error.index]))
        raise DatasetError(f"{name}: polygons must be lists [x0, y0, x1, y1, ...] in a list ({error})") from None
    except (TypeError, ValueError) as error:
        raise DatasetError(
            f"{where(int(index[0]))} or a later object has polygons that are no numbers ({error})"
        ) from None
    points = polygons.points
    if len(points) and not (points.min() > -FARTHEST and points.max() < FARTHEST):  # true for NaN
        far = np.flatnonzero(~(np.abs(points) < FARTHEST).all(axis=1))
        polygon = np.searchsorted(polygons.starts, far[0], side="right") - 1
        n = int(index[np.searchsorted(polygons.objects, polygon, side="right") - 1])
        raise DatasetError(
            f"{where(n)} has an outline through {polygons.points[far[0]].tolist()}, which is in no image"
        )
    return fill(polygons, heights[index], widths[index])


def _from_counts(counts: list[str | bytes], index: np.ndarray, sizes: np.ndarray, where: Where) -> Runs:
    """Masks of compressed run lengths."""
    masks, total = decode_counts(counts, sizes[index])
    for k in np.flatnonzero(total != sizes[index])[:1]:
        found = "break off" if total[k] < 0 else f"add up to {total[k]} pixels"
        raise DatasetError(f"{where(int(index[k]))}: its run lengths {found}, the image has {sizes[index[k]]} pixels")
    return masks


def _from_lengths(counts: list[list[int]], index: np.ndarray, sizes: np.ndarray, where: Where) -> Runs:
    """Masks of plain run lengths."""
    masks = []
    for n, lengths in zip(index, counts):
        bounds = np.cumsum(np.asarray(lengths, dtype=np.int64))
        if min(lengths, default=0) < 0 or not len(bounds) or bounds[-1] != sizes[n]:
            total = bounds[-1] if len(bounds) else 0
            raise DatasetError(f"{where(int(n))}: its run lengths add up to {total}, the image has {sizes[n]} pixels")
        masks.append(_toggle(bounds))
    return concatenate(masks)


def _toggle(bounds: np.ndarray) -> Runs:
    """One mask whose runs, background first, end at ``bounds``."""
    begin, end = bounds[: len(bounds) // 2 * 2 : 2], bounds[1::2]
    keep = end > begin
    begin, end = begin[keep], end[keep]
    joined = np.flatnonzero(begin[1:] == end[:-1])
    begin, end = np.delete(begin, joined + 1), np.delete(end, joined)
    return Runs(np.array([0, len(begin)]), begin.astype(np.int32), end.astype(np.int32))
