"""Images of a data set of results, such as ``tools/predict.py`` writes, and those of the ground truth: by file name."""

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from ..errors import DatasetError

__all__ = ["pair_images"]

Names = Sequence[tuple[Any, tuple[str, ...]]]  # ids, and the parts of paths


def pair_images(
    entries: Iterable[Mapping[str, Any]], ids: Sequence, file_names: Sequence[str], source: str
) -> tuple[dict, str]:
    """Which image of the ground truth each image of a data set of results is.

    The shorter of two paths must be the end of the longer one: ``a.tif`` and ``plate1/a.tif`` are
    ``images/plate1/a.tif``, ``plate2/a.tif`` is not. Where no image is found so, the folder that all images of a side
    lie in is left out of their paths first, and a note says so. An image that the ground truth lacks is left out.

    Args:
        entries: image entries of the results; one without ``file_name`` is left out.
        ids, file_names: of the ground truth's images.
        source: file of the results, for messages.

    Returns:
        Id in the results -> id in the ground truth, and the note or "".

    Raises:
        DatasetError: an id that is used twice or is none; an image that may be several ones of the ground truth, or two
            that are the same.
    """
    ours, seen = [], set()
    for entry in entries:
        name = entry.get("id")
        if not isinstance(name, int | float | str):
            raise DatasetError(f"{source}: image {entry.get('file_name')!r} has id {name!r}; use a number or text")
        if name in seen:
            raise DatasetError(f"{source}: image id {name!r} is used more than once; give every image its own id")
        seen.add(name)
        if "file_name" in entry:
            ours.append((name, _parts(str(entry["file_name"]))))
    theirs = [(image_id, _parts(file_name)) for image_id, file_name in zip(ids, file_names)]
    if found := _paired(ours, theirs, source):
        return found, ""
    found = _paired(_below_root(ours), _below_root(theirs), source)
    first = next(iter(found), None)
    if first is None:
        return {}, ""
    names = "/".join(dict(ours)[first]), "/".join(dict(theirs)[found[first]])
    return found, f"images of {source} lie in other folders than the ground truth's: {names[0]} is taken for {names[1]}"


def _paired(ours: Names, theirs: Names, source: str) -> dict:
    """Our ids -> theirs, where a path is the end of the other; the longest end decides."""
    by_name = defaultdict(list)
    for image_id, parts in theirs:
        by_name[parts[-1]].append((image_id, parts))
    claims = defaultdict(list)
    for own_id, parts in ours:
        ends = [(_common(parts, other), image_id) for image_id, other in by_name[parts[-1]]]
        longest = max((length for length, _ in ends), default=0)
        nearest = [image_id for length, image_id in ends if length == longest > 0]
        if len(nearest) > 1:
            raise DatasetError(
                f"{source}: image {'/'.join(parts)} may be image {nearest[0]!r} or {nearest[1]!r} of the ground truth, "
                "whose file names end alike; give results with image ids of the ground truth, as a list"
            )
        for image_id in nearest:
            claims[image_id].append((longest, own_id, "/".join(parts)))
    found = {}
    for image_id, claim in claims.items():
        longest = max(length for length, *_ in claim)
        own = [(own_id, name) for length, own_id, name in claim if length == longest]
        if len(own) > 1:
            raise DatasetError(
                f"{source}: {own[0][1]} and {own[1][1]} both are image {image_id!r} of the ground truth by their "
                "names; score the results of one of them"
            )
        found[own[0][0]] = image_id
    return found


def _parts(file_name: str) -> tuple[str, ...]:
    """The parts of a path, on any system's."""
    return PurePosixPath(file_name.replace("\\", "/")).parts or ("",)


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """The length of the shorter path, where it is the end of the other; else 0."""
    length = min(len(one), len(other))
    return length if one[-length:] == other[-length:] else 0


def _below_root(names: Names) -> Names:
    """Paths from the folder on that all of them lie in."""
    root = len(os.path.commonprefix([parts[:-1] for _, parts in names]))
    return [(name, parts[root:]) for name, parts in names]
