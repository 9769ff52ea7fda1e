"""What passes between the formats: cells of an image, where they are read from, what was lost on the way."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["CELL", "Cell", "Notes", "Picture", "Request", "Source"]

# Name of the class where nothing names one
CELL = "cell"


@dataclass
class Notes:
    """What a user should know, and how often it was met; a text follows its number: "3 shapes of type line, ...".

    Attributes:
        warnings: what was lost, or looks wrong.
        remarks: what is as it was asked for.
    """

    warnings: Counter[str] = field(default_factory=Counter)
    remarks: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        segmentation: COCO's: a list of polygons [x0, y0, x1, y1, ...], whose union it is, or compressed run lengths.
        category: name of its class; "" where neither its file nor the request has one.
        label: its number in a label image, which for a stack is a track id; None where the format has none.
    """

    segmentation: list[list[float]] | dict
    category: str
    label: int | None = None


@dataclass(frozen=True)
class Source:
    """An image, and how its cells are read.

    Attributes:
        image: the file.
        read: height, width, notes -> the cells; raises DatasetError.
        page: index of the page in a stack, None for a file of a single frame.
    """

    image: Path
    read: Callable[[int, int, Notes], list[Cell]]
    page: int | None = None


@dataclass(frozen=True)
class Picture:
    """An image of a COCO data set with its cells; ``file_name`` is that of the JSON, ``path`` is where it lies."""

    path: Path
    file_name: str
    height: int
    width: int
    cells: list[Cell]


@dataclass(frozen=True)
class Request:
    """What is to become a COCO data set.

    Attributes:
        input: folder of annotation files, or one file.
        images: folder of images, or one image.
        category: class of the cells that have no name of one; "": that of the others where they have one alone, else
            :data:`CELL`.
        skip_unannotated: leave images without annotations out; else they are an error.
    """

    input: Path
    images: Path
    category: str = ""
    skip_unannotated: bool = False

    @property
    def image_folder(self) -> Path:
        """The folder of the images."""
        return self.images.parent if self.images.is_file() else self.images
