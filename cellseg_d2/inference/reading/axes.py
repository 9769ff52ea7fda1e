"""Axes of image files: which are time, depth, channels and colour, and where in the array each frame lies."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

__all__ = ["FRAME_AXES", "RGB", "LazyPixels", "Layout", "channel_names", "find_channel", "resolve_axes"]

# Axes along which there are frames, slowest first: position of the stage, time, depth
FRAME_AXES = "PTZ"
# What a user may name: time, channel, depth, height, width, colour sample
_NAMED = "TCZYXS"
RGB = ("red", "green", "blue")
# Digits of a place in a frame's name, at least
_DIGITS = {"P": 2, "T": 3, "Z": 2}


@dataclass(frozen=True)
class Layout:
    """Axes of an array in its order, one letter each, and their sizes.

    Letters: P position, T time, C channel, Z depth, Y height, X width, S colour sample; any other has size 1.
    """

    axes: str
    shape: tuple[int, ...]

    def size(self, axis: str) -> int:
        """Length of an axis; 1 where there is none."""
        return self.shape[self.axes.index(axis)] if axis in self.axes else 1

    @property
    def colour(self) -> bool:
        """Whether the image is red, green and blue (with or without alpha)."""
        return self.size("S") >= 3

    @property
    def channels(self) -> int:
        """Number of channels of a frame; 3 of a colour image."""
        return 3 if self.colour else self.size("C")

    @property
    def shown(self) -> tuple[str, tuple[int, ...]]:
        """Axes and sizes without those of size 1, height and width apart."""
        kept = [(axis, size) for axis, size in zip(self.axes, self.shape) if size > 1 or axis in "YX"]
        return "".join(axis for axis, _ in kept), tuple(size for _, size in kept)

    def places(self) -> Iterator[dict[str, int]]:
        """Of each frame its place from 0 on the frame axes longer than 1: {"t": 3, "z": 0}."""
        axes = [axis for axis in FRAME_AXES if self.size(axis) > 1]
        for place in product(*(range(self.size(axis)) for axis in axes)):
            yield dict(zip((axis.lower() for axis in axes), place))

    def frame_name(self, name: str, place: Mapping[str, int]) -> str:
        """``name``, with the place behind it where there are several frames: ``film_t003_z01``."""
        digits = {axis: max(_DIGITS[axis.upper()], len(str(self.size(axis.upper()) - 1))) for axis in place}
        return "_".join([name, *(f"{axis}{at:0{digits[axis]}d}" for axis, at in place.items())])

    def index(self, place: Mapping[str, int], channel: int | None, rows: slice, columns: slice) -> tuple:
        """Index of a region of one frame in the array; all channels where ``channel`` is None."""
        inside = {"Y": rows, "X": columns}
        sample = slice(3) if channel is None else channel
        inside["S"] = sample if self.colour else 0
        inside["C"] = 0 if self.size("C") == 1 else slice(None) if channel is None else channel
        return tuple(inside.get(axis, place.get(axis.lower(), 0)) for axis in self.axes)

    def channels_last(self, region: np.ndarray, index: tuple) -> np.ndarray:
        """A region that was read with ``index``, as (h, w) or (h, w, C)."""
        order = "".join(axis for axis, at in zip(self.axes, index) if isinstance(at, slice))
        return np.transpose(region, [order.index(axis) for axis in "YXCS" if axis in order])


@dataclass(frozen=True)
class LazyPixels:
    """Pixels of a large image that stay on disk: (H, W) or (H, W, C), read as ``pixels[y0:y1, x0:x1]``.

    Attributes:
        shape: of the whole.
        dtype: of what is read.
        read: gives the region of two slices.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[slice, slice], np.ndarray]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __getitem__(self, region: Any) -> np.ndarray:
        """Read a region: (h, w) or (h, w, C).

        Raises:
            CorruptImageError: the region cannot be decoded or has values that are not finite.
            TypeError: something else than one or two slices.
        """
        slices = region if isinstance(region, tuple) else (region, slice(None))
        if len(slices) != 2 or not all(isinstance(part, slice) for part in slices):
            raise TypeError(f"a region of an image on disk is pixels[y0:y1, x0:x1], not {region}")
        return self.read(*slices)


def resolve_axes(axes: str, shape: tuple[int, ...], given: str | None) -> tuple[Layout, str]:
    """The meaning of an array's axes.

    Args:
        axes: one letter an axis, as the file tells; letters out of PTCZYXS are of unknown meaning.
        shape: sizes, as many.
        given: the user's letters for all axes but P, which replace the file's.

    Returns:
        The layout, and what was assumed ("" where nothing was): one unknown axis is taken as time.

    Raises:
        ValueError: no pixels, letters that do not fit, or axes of unknown meaning; says what to give.
    """
    if given is not None:
        axes = _checked(given, axes, shape)
    if 0 in shape:
        raise ValueError(f"no pixels: its shape is {shape}")
    unknown = [at for at, axis in enumerate(axes) if axis not in FRAME_AXES + "CYXS" and shape[at] > 1]
    layout, note = Layout(axes, shape), ""
    if len(unknown) == 1 and layout.size("T") == 1:
        letters = ["t" if axis == "T" else axis for axis in axes]  # a T of size 1 makes place for the real one
        letters[unknown[0]] = "T"
        layout, note = Layout("".join(letters), shape), "pages taken as time"
    elif unknown:
        free = iter([axis for axis in "TCZ" if axis not in axes] + ["?"] * len(unknown))
        example = "".join(next(free) if at in unknown else axis for at, axis in enumerate(axes))
        raise ValueError(
            f"the file does not say what the axes of its shape {shape} are; give one letter for each of T (time), "
            f"C (channel), Z (depth), Y, X, S (colour), such as --axes {example.replace('P', '')}"
        )
    for axis in "YX":
        if layout.axes.count(axis) != 1:
            raise ValueError(f"axes {layout.axes} of shape {shape} are not those of an image: no {axis} among them")
    if layout.colour and layout.size("C") > 1:
        raise ValueError(f"colour in each of {layout.size('C')} channels; choose other axes, or save grey channels")
    return layout, note


def _checked(given: str, axes: str, shape: tuple[int, ...]) -> str:
    """The user's axes in upper case, with P in front where the file has positions."""
    positions = axes.startswith("P")
    letters, sizes = given.strip().upper(), shape[1:] if positions else shape
    if not set(letters) <= set(_NAMED) or len(set(letters)) != len(letters) or not {"Y", "X"} <= set(letters):
        raise ValueError(f"axes {given!r} are not letters of {_NAMED}, each once, with Y and X among them")
    if len(letters) != len(sizes):
        raise ValueError(
            f"axes {given!r} name {len(letters)} axes and the image has {len(sizes)}, of sizes {sizes}; "
            f"give one letter for each, in this order"
        )
    return "P" + letters if positions else letters


def channel_names(layout: Layout, names: Sequence[str]) -> tuple[str, ...]:
    """A name for each channel of a frame: red, green and blue, or the file's, "" where it has not one for each."""
    if layout.colour:
        return RGB
    return tuple(names) if len(names) == layout.channels else ("",) * layout.channels


def find_channel(wanted: int | str, names: Sequence[str]) -> int:
    """Number of a channel, from its number or its name (capitals or not).

    Raises:
        ValueError: there is no such channel, or several of the name; lists those there are.
    """
    found = [at for at, name in enumerate(names) if name and name.lower() == str(wanted).strip().lower()]
    if not found and str(wanted).strip().isdigit():
        found = [at for at in range(len(names)) if at == int(wanted)]
    if len(found) != 1:
        there = ", ".join(f"{at} {name}".strip() for at, name in enumerate(names))
        raise ValueError(f"{len(found) or 'no'} channels are {wanted!r}; choose one of: {there}")
    return found[0]
