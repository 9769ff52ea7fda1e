"""What belongs to one film: the frames of a stack, or the images of a folder."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path

import numpy as np

from ..inference.reading.grey import view_of
from ..inference.reading.image_options import ImageOptions
from ..inference.reading.reader import open_image
from ..inference.reading.sources import natural
from ..inference.runs.collect import parts_of
from ..inference.runs.parts import Job, Part

__all__ = ["Film", "groups", "images_of"]


@dataclass(frozen=True)
class Film:
    """Frames in the order of time: of one stack (one depth, one position), or the images of one folder.

    Attributes:
        name: of its outputs.
        frames: of each frame the place of its file in the group, and its place in that file.
    """

    name: str
    frames: tuple[tuple[int, int], ...]


def groups(jobs: Sequence[Job], output: Path) -> Iterator[tuple[list[Part], list[Film]]]:
    """Files whose cells are followed together, and the films in them.

    A stack with a time axis has a film for each depth and position. Single images of one folder are one, in the order
    of the numbers in their names; one that is alone is none.
    """
    folders: dict[Path, list[Part]] = defaultdict(list)
    taken: set[str] = set()
    for part in parts_of(jobs, output):
        if part.error:
            continue
        if len(part.results) == 1:
            folders[part.job.path.absolute().parent].append(part)
        elif "t" in part.results[0].frame.place:
            yield [part], _films_of_stack(part, taken)
    for folder, parts in folders.items():
        if len(parts) > 1:
            parts.sort(key=lambda part: natural(part.job.path.name))
            frames = tuple((number, 0) for number in range(len(parts)))
            yield parts, [Film(_name((folder.name, f"{folder.parent.name}_{folder.name}"), taken), frames)]


def _films_of_stack(part: Part, taken: set[str]) -> list[Film]:
    planes: dict[tuple, list[tuple[int, int]]] = defaultdict(list)
    for number, result in enumerate(part.results):
        planes[tuple((axis, at) for axis, at in result.frame.place.items() if axis != "t")].append((0, number))
    names = {plane: "_".join([part.job.name, *(f"{axis}{at}" for axis, at in plane)]) for plane in planes}
    return [Film(_name((names[plane],), taken), tuple(frames)) for plane, frames in planes.items()]


def _name(wanted: Sequence[str], taken: set[str]) -> str:
    """The first of some names that is free, else the last one with a number; it is taken then."""
    numbered = (f"{wanted[-1]}-{number}" for number in count(2))
    name = next(name for name in chain(wanted, numbered) if name.lower() not in taken)
    taken.add(name.lower())
    return name


def images_of(parts: Sequence[Part], film: Film, options: ImageOptions) -> list[np.ndarray]:
    """Grey values (H, W) of a film's frames, of the channel that cells were found in; the files are read again."""
    images = {}
    for file in sorted({file for file, _ in film.frames}):
        job = parts[file].job
        for number, frame in enumerate(open_image(job.path, axes=options.axes).frames(job.name)):
            if (file, number) in film.frames:
                images[file, number] = view_of(frame, options.channel, grey=True)[:, :]
    return [images[place] for place in film.frames]
