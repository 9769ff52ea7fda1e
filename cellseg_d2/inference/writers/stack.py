"""Where the frames of one file lie in a stack."""

from collections.abc import Sequence

from ..records import Frame, FrameCells

__all__ = ["is_hyperstack", "place_name", "stack_axes", "stack_shape"]

_ORDER = "tz"  # of axes along which a file has frames, slowest first


def stack_axes(results: Sequence[FrameCells]) -> str:
    """The axes of a file's frames: "YX", "TYX", "ZYX" or "TZYX".

    Raises:
        ValueError: frames along another axis than t and z.
    """
    there = {axis for result in results for axis in result.frame.place}
    if there - set(_ORDER):
        raise ValueError(f"{results[0].frame.path}: frames along {sorted(there - set(_ORDER))}, not along t or z")
    return "".join(axis.upper() for axis in _ORDER if axis in there) + "YX"


def stack_shape(results: Sequence[FrameCells], axes: str) -> tuple[int, ...]:
    """The shape of the stack with these axes that holds all frames.

    Raises:
        ValueError: no frame, several sizes, two frames in one place, or a frame without a place on an axis.
    """
    if not results:
        raise ValueError("a stack has one frame at least")
    path, along = results[0].frame.path, [axis.lower() for axis in axes[:-2]]
    sizes = {result.frame.size for result in results}
    if len(sizes) > 1:
        raise ValueError(f"{path}: frames of several sizes are no stack: {sorted(sizes)}")
    if axes[-2:] != "YX" or any(set(result.frame.place) != set(along) for result in results):
        raise ValueError(f"{path}: axes {axes!r}, but frames have places such as {dict(results[0].frame.place)}")
    places = [tuple(result.frame.place[axis] for axis in along) for result in results]
    if len(set(places)) < len(places):
        raise ValueError(f"{path}: {len(places)} frames in {len(set(places))} places")
    return *(max(place) + 1 for place in zip(*places)), *sizes.pop()


def place_name(frame: Frame) -> str:
    """A frame's place as text: "t003", "t003_z01" with three digits an axis; "" of a single frame."""
    return "_".join(f"{axis}{frame.place[axis]:03d}" for axis in _ORDER if axis in frame.place)


def is_hyperstack(frame: Frame) -> bool:
    """Whether ImageJ shows the frame's file as a hyperstack: several of time, depth and channels."""
    shape = frame.pixels.shape
    colour = len(shape) == 3 and shape[2] == 3 and frame.pixels.dtype == "uint8"
    return len(frame.place) + (len(shape) == 3 and shape[2] > 1 and not colour) > 1
