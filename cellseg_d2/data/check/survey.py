"""All checks of a data set, in one walk over its images."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .counts import check_counts, group_images
from .detail import Detail, measure_detail
from .findings import Findings
from .images import FactFolder, Facts, check_images
from .leakage import check_leakage
from .measures import area_differs, box_differs, check_sizes
from .outlines import Outline, read_outlines
from .overlaps import check_overlaps
from .tables import Tables, check_tables, image_size, read_tables

__all__ = ["Survey", "frame_size", "survey"]

Track = Callable[[Iterable[Any]], Iterable[Any]]


@dataclass(frozen=True)
class Survey:
    """A data set, what its files are, and all that was found."""

    tables: Tables
    facts: dict[int, Facts]
    findings: Findings


def survey(
    json_file: str | Path, images: str | Path, against: str | Path | None = None,
    against_images: str | Path | None = None, track: Track = iter,
) -> Survey:  # fmt: skip
    """Check a COCO data set.

    Args:
        json_file: COCO JSON of any quality.
        images: folder of its images.
        against: JSON of the other side of a split, to look for images on both sides.
        against_images: its images; the same folder where it is None.
        track: wraps the images that are gone through, to show progress.

    Raises:
        MissingDataError: a file or folder is not there.
        DatasetError: a file is not JSON, or without tables of images and annotations.
    """
    tables, folder, findings, other = read_tables(json_file), FactFolder(images), Findings(), None
    check_tables(tables, findings)
    if against is not None:
        other, other_folder = read_tables(against), FactFolder(against_images or images)
        check_tables(other, Findings())
    facts: dict[int, Facts] = {}
    details: dict[int, Detail] = {}
    areas: dict[int, dict[int, float]] = {}
    for image in track(list(tables.cells_of)):
        facts[image], grey = folder.read(tables.name(image))
        outlines = _check_cells(tables, image, facts[image], findings)
        cells = [outline for outline in outlines if not tables.annotations[outline.place].get("iscrowd")]
        check_overlaps(tables, image, cells, findings)
        areas[image] = {cell.place: cell.pixels for cell in cells}
        if grey is not None and frame_size(tables.images[image], facts[image]) == grey.shape:
            details[image] = measure_detail(grey, outlines)
    check_images(tables, facts, findings)
    check_sizes(tables, areas, group_images(tables, facts), findings)
    check_counts(tables, facts, details, findings)
    if other is not None:
        other_facts = {place: other_folder.read(other.name(place))[0] for place in track(list(other.cells_of))}
        check_leakage(tables, facts, other, other_facts, findings)
    return Survey(tables, facts, findings)


def frame_size(entry: dict, fact: Facts) -> tuple[int, int] | None:
    """Height and width that an image's outlines refer to: what the JSON says, unless it has them swapped or not."""
    said = image_size(entry)
    return fact.size if said is None or (fact.size is not None and said == fact.size[::-1]) else said


def _check_cells(tables: Tables, image: int, fact: Facts, findings: Findings) -> list[Outline]:
    """Check the annotations of one image one by one; returns the outlines that have a mask."""
    size = frame_size(tables.images[image], fact)
    if size is None:
        return []
    entries = [(place, tables.annotations[place]) for place in tables.cells_of[image]]
    outlines = read_outlines(entries, size)
    for outline in outlines:
        entry = tables.annotations[outline.place]
        problems = list(dict(outline.problems).items())  # one a kind
        if not problems:
            checks = ("bbox_differs", box_differs(entry.get("bbox"), outline)), (
                "area_differs", area_differs(entry.get("area"), outline)
            )  # fmt: skip
            problems = [(kind, detail) for kind, detail in checks if detail]
        for kind, detail in problems:
            findings.add(kind, tables.cell(outline.place) + f": {detail}" * bool(detail), image, [outline.place])
    return [outline for outline in outlines if outline.rle is not None]
