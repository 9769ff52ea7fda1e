"""What a check can find, in words, and the list that it fills."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

__all__ = ["KINDS", "Findings", "Item", "Kind"]


@dataclass(frozen=True)
class Kind:
    """A sort of finding: what it means for training and scores, and what to do about it."""

    meaning: str
    advice: str


_DROPPED = "--fix drops them"
_OPEN = "look at them; --fix leaves them"

KINDS = {
    "broken_entries": Kind("entries that are no objects, or have no id or no file name", "--fix drops or numbers them"),
    "no_categories": Kind("the file names no class", "add 'categories' such as [{'id': 1, 'name': 'cell'}]"),
    "doubled_image_ids": Kind(
        "several images have one id: whose annotations are whose is unknown",
        "number the images anew where the file was made; --fix drops all of them, or the copies of one entry",
    ),
    "doubled_annotation_ids": Kind("several annotations have one id", "--fix numbers the later ones anew"),
    "doubled_category_ids": Kind("several categories have one id", "--fix drops copies; two names for one id stay"),
    "unknown_image": Kind("annotations of an image that the file does not list", _DROPPED),
    "wrong_category": Kind("annotations of a category that the file does not list", _DROPPED),
    "missing_image": Kind("the image is not in the folder", "copy it, or let --fix drop its entry"),
    "corrupt_image": Kind("the image is damaged, cut off or not one frame", "copy it again, or let --fix drop it"),
    "image_size": Kind(
        "the file has another size than the JSON says: outlines lie at wrong places",
        "export both from one source; --fix only swaps height and width, or adds a size that is not there",
    ),
    "duplicate_images": Kind("images of the same pixels count twice", "--fix keeps the one with the most annotations"),
    "leakage": Kind("images that are also in the other set: scores on them are too good", "move them to one side"),
    "no_outline": Kind("annotations without a segmentation", _DROPPED),
    "bad_coordinates": Kind(
        "outlines whose values are not pairs of finite numbers", "--fix reads texts as numbers, and drops the others"
    ),
    "few_points": Kind("polygons of fewer than three points", _DROPPED),
    "zero_area": Kind("polygons or masks without area", _DROPPED),
    "self_crossing": Kind("polygons that cross themselves: part of the cell is lost", "--fix makes them simple"),
    "bad_run_lengths": Kind("run lengths that are damaged or not of the image's size", _DROPPED),
    "outside_image": Kind("outlines wholly outside of the image", _DROPPED),
    "partly_outside": Kind("outlines that reach out of the image", "--fix cuts them at the border"),
    "bbox_differs": Kind("the box is not that of the outline", "--fix computes it anew"),
    "area_differs": Kind("the area is not that of the outline", "--fix computes it anew"),
    "duplicate_contours": Kind("one cell is outlined more than once", "--fix keeps the first; two classes stay"),
    "nested_contours": Kind("a cell lies inside of another, much larger one", _OPEN),
    "tiny_instances": Kind("outlines much too small for a cell of this set", _OPEN),
    "huge_instances": Kind("outlines much too large for one cell of this set", _OPEN),
    "no_annotations": Kind("images without any annotation are trained on as background", _OPEN),
    "few_annotations": Kind("images with far fewer annotations than what can be seen or than others have", _OPEN),
}


@dataclass(frozen=True)
class Item:
    """One finding.

    Attributes:
        kind: a key of :data:`KINDS`.
        where: what it is about, for people.
        image: place in the table of images, or None.
        cells: places in the table of annotations.
        fixable: ``--fix`` removes it.
    """

    kind: str
    where: str
    image: int | None = None
    cells: tuple[int, ...] = ()
    fixable: bool = True


@dataclass
class Findings:
    """Everything that was found, in the order of :data:`KINDS` when it is read by kind."""

    items: list[Item] = field(default_factory=list)

    def add(
        self, kind: str, where: str, image: int | None = None, cells: Iterable[int] = (), fixable: bool = True
    ) -> None:
        """Add one finding."""
        if kind not in KINDS:
            raise KeyError(kind)
        self.items.append(Item(kind, where, image, tuple(cells), fixable))

    def by_kind(self) -> dict[str, list[Item]]:
        """The findings of each kind that occurs."""
        found: dict[str, list[Item]] = {}
        for item in self.items:
            found.setdefault(item.kind, []).append(item)
        return {kind: found[kind] for kind in KINDS if kind in found}

    def report(self) -> list[dict[str, Any]]:
        """For each kind, ready for JSON: ``kind``, ``count``, ``fixable`` (how many of them), ``meaning``, ``advice``
        and ``where``, which is complete."""
        return [
            {
                "kind": kind, "count": len(items), "fixable": sum(item.fixable for item in items),
                "meaning": KINDS[kind].meaning, "advice": KINDS[kind].advice, "where": [item.where for item in items],
            }
            for kind, items in self.by_kind().items()
        ]  # fmt: skip
