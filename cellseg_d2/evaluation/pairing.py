"""Images of a data set of results, such as ``tools/predict.py`` writes, and those of the ground truth: by file name."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from ..errors import DatasetError

__all__ = ["pair_images"]


def pair_images(entries: Iterable[Mapping[str, Any]], ids: Sequence, file_names: Sequence[str], source: str) -> dict:
    """Which image of the ground truth each image of a data set of results is.

    The last parts of their paths decide: ``plate1/a.tif`` is ``images/plate1/a.tif``, and it is ``a.tif`` where no
    other image of the ground truth has that name. An image that the ground truth lacks is left out.

    Args:
        entries: image entries of the results; one without ``id`` or ``file_name`` is left out.
        ids, file_names: of the ground truth's images.
        source: file of the results, for messages.

    Returns:
        Id in the results -> id in the ground truth.

    Raises:
        DatasetError: an image of the results may be several ones, or two of them are the same.
    """
    by_name = defaultdict(list)
    for image_id, file_name in zip(ids, file_names):
        parts = _parts(file_name)
        by_name[parts[-1]].append((parts, image_id))
    found, taken = {}, {}
    for entry in entries:
        if "id" not in entry or "file_name" not in entry:
            continue
        parts = _parts(str(entry["file_name"]))
        common = [(_common(parts, other), image_id) for other, image_id in by_name[parts[-1]]]
        best = max((length for length, _ in common), default=0)
        nearest = [image_id for length, image_id in common if length == best]
        if len(nearest) > 1:
            raise DatasetError(
                f"{source}: image {entry['file_name']} may be image {nearest[0]!r} or {nearest[1]!r} of the ground "
                "truth, whose file names end alike; give results with image ids of the ground truth, as a list"
            )
        for image_id in nearest:
            if image_id in taken:
                raise DatasetError(
                    f"{source}: {taken[image_id]} and {entry['file_name']} both are image {image_id!r} of the ground "
                    "truth by their names; score the results of one of them"
                )
            found[entry["id"]], taken[image_id] = image_id, entry["file_name"]
    return found


def _parts(file_name: str) -> tuple[str, ...]:
    """The parts of a path, on any system's."""
    return PurePosixPath(file_name.replace("\\", "/")).parts or ("",)


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """How many of the last parts are the same."""
    return next((k for k, (a, b) in enumerate(zip(one[::-1], other[::-1])) if a != b), min(len(one), len(other)))
