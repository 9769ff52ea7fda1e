"""A cleaned copy of a data set, with a log of what was done to which entry and why."""

from collections import Counter
from copy import deepcopy
from typing import Any

from ...errors import DatasetError
from .findings import Item
from .images import Facts
from .measures import area_differs, box_differs
from .outlines import Outline, read_outlines
from .survey import Survey, frame_size
from .tables import is_entry, is_id

__all__ = ["fix"]

# An image with one of these is dropped with its annotations
_UNUSABLE = ("missing_image", "corrupt_image", "duplicate_images")


def fix(survey: Survey) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Mend what can be mended safely; nothing that was read is changed.

    Returns:
        The content of the cleaned JSON, and the log: dicts with ``action`` (dropped, changed or left), ``table``,
        ``id``, ``kind`` and ``why``.

    Raises:
        DatasetError: no image would be left.
    """
    return _Fix(survey).run()


class _Fix:
    """One run over a data set; ``dropped`` holds places of each table that do not come along."""

    def __init__(self, survey: Survey) -> None:
        self.survey, self.tables = survey, survey.tables
        self.found = survey.findings.by_kind()
        self.log: list[dict[str, Any]] = []
        self.images_dropped: set[int] = set()
        self.cells_dropped: set[int] = set()

    def run(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The content and the log."""
        categories = self._categories()
        images = self._images()
        if not images:
            raise DatasetError(
                f"{self.tables.path}: none of its {len(self.tables.images)} images can be kept (most often the image "
                f"folder is not the right one); nothing was written"
            )
        annotations = self._annotations()
        if self.tables.annotations and not annotations:
            raise DatasetError(
                f"{self.tables.path}: none of its {len(self.tables.annotations)} annotations can be kept (most often "
                f"their image_id or category_id are of another type than the ids, \"1\" and 1); nothing was written"
            )
        for items in self.found.values():
            for item in items:
                if not item.fixable:
                    self._say("left", *self._subject(item), item.kind, item.where)
        tables = {"images": images, "annotations": annotations, "categories": categories}
        return {**self.tables.content, **tables}, self.log

    def _say(self, action: str, table: str, entry_id: Any, kind: str, why: str) -> None:
        entry_id = entry_id if is_id(entry_id) else None
        self.log.append({"action": action, "table": table, "id": entry_id, "kind": kind, "why": why})

    def _subject(self, item: Item) -> tuple[str, Any]:
        """The table and the id that a finding is about."""
        if item.cells:
            return "annotations", self.tables.annotations[item.cells[-1]].get("id")
        if item.image is not None:
            return "images", self.tables.images[item.image].get("id")
        return "categories", None

    def _categories(self) -> list[dict]:
        """Categories with an id each, and a name."""
        kept: list[dict] = []
        for entry in self.tables.categories:
            if not is_entry(entry):
                self._say("dropped", "categories", None, "broken_entries", f"{entry!r} has no id")
            elif any(other["id"] == entry["id"] and other.get("name") == entry.get("name") for other in kept):
                self._say("dropped", "categories", entry["id"], "doubled_category_ids", "a copy")
            elif isinstance(entry.get("name"), str):
                kept.append(entry)
            else:
                kept.append({**entry, "name": f"category {entry['id']}"})
                self._say("changed", "categories", entry["id"], "broken_entries", "it had no name")
        return kept

    def _images(self) -> list[dict]:
        """Images that are there, whole, once, and of one id."""
        for kind in _UNUSABLE:
            for item in self.found.get(kind, []):
                if item.image not in self.images_dropped:
                    self._drop_image(item.image, kind, item.where)
        for item in self.found.get("doubled_image_ids", []):
            entry = self.tables.images[item.image]
            first = self.tables.image_of[entry["id"]]
            if self.tables.name(first) != entry["file_name"] and first not in self.images_dropped:
                self._drop_image(first, item.kind, item.where)
            self._say("dropped", "images", entry["id"], item.kind, item.where)
        usable = set(self.tables.image_of.values())
        kept = []
        for place, entry in enumerate(self.tables.images):
            if place in self.images_dropped:
                continue
            if place in usable:
                kept.append(self._resized(entry, self.survey.facts[place]))
            elif not is_entry(entry) or not isinstance(entry.get("file_name"), str) or not entry["file_name"]:
                own = entry.get("id") if isinstance(entry, dict) else None
                self._say("dropped", "images", own, "broken_entries", f"images[{place}] has no id or no file_name")
        return kept

    def _drop_image(self, place: int, kind: str, why: str) -> None:
        cells = self.tables.cells_of[place]
        self.images_dropped.add(place)
        self.cells_dropped.update(cells)
        text = f"{why}; its {len(cells)} annotations are dropped too" if cells else why
        self._say("dropped", "images", self.tables.images[place]["id"], kind, text)

    def _resized(self, entry: dict, fact: Facts) -> dict:
        """An image entry with the size that its outlines refer to."""
        height, width = frame_size(entry, fact) or (entry.get("height"), entry.get("width"))
        if (entry.get("height"), entry.get("width")) == (height, width):
            return entry
        self._say("changed", "images", entry["id"], "image_size", f"it is {width} x {height}")
        return {**entry, "height": height, "width": width}

    def _annotations(self) -> list[dict]:
        """Annotations of images that stay, mended, with an id each."""
        for kind in ("wrong_category", "duplicate_contours"):
            for item in self.found.get(kind, []):
                if item.fixable and item.cells[-1] not in self.cells_dropped:
                    self.cells_dropped.add(item.cells[-1])
                    own = self.tables.annotations[item.cells[-1]].get("id")
                    self._say("dropped", "annotations", own, kind, item.where)
        known = {place for cells in self.tables.cells_of.values() for place in cells}
        for place, entry in enumerate(self.tables.annotations):
            if not isinstance(entry, dict):
                self._say("dropped", "annotations", None, "broken_entries", f"annotations[{place}] is no object")
            elif place not in known:
                self._say("dropped", "annotations", entry.get("id"), "unknown_image", f"{entry.get('image_id')!r}")
        mended = self._mended()
        kept = [
            (place, mended.get(place, self.tables.annotations[place]))
            for place in sorted(known - self.cells_dropped)
        ]  # fmt: skip
        return self._numbered(kept)

    def _mended(self) -> dict[int, dict]:
        """New entries of annotations whose outline, box or area was wrong; drops those of which nothing is left."""
        wrong: dict[int, set[int]] = {}
        kinds = (
            "no_outline", "bad_coordinates", "few_points", "zero_area", "self_crossing", "bad_run_lengths",
            "outside_image", "partly_outside", "bbox_differs", "area_differs",
        )  # fmt: skip
        for kind in kinds:
            for item in self.found.get(kind, []):
                wrong.setdefault(item.image, set()).update(set(item.cells) - self.cells_dropped)
        mended = {}
        for image, places in wrong.items():
            size = frame_size(self.tables.images[image], self.survey.facts[image])
            entries = [(place, self.tables.annotations[place]) for place in sorted(places)]
            for outline in read_outlines(entries, size):
                entry = self._mend(self.tables.annotations[outline.place], outline)
                if entry is None:
                    self.cells_dropped.add(outline.place)
                else:
                    mended[outline.place] = entry
        return mended

    def _mend(self, entry: dict, outline: Outline) -> dict | None:
        """One annotation; None where no outline is left."""
        action = "changed" if outline.rle else "dropped"
        for kind, detail in outline.problems:
            self._say(action, "annotations", entry.get("id"), kind, detail)
        if outline.rle is None:
            return None
        x0, y0, x1, y1 = outline.box
        measures = {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": outline.area}
        if outline.problems:
            return {**deepcopy(entry), **measures, "segmentation": outline.segmentation()}
        changed = {}
        for key, detail in (
            ("bbox", box_differs(entry.get("bbox"), outline)),
            ("area", area_differs(entry.get("area"), outline)),
        ):
            if detail:
                changed[key] = measures[key]
                self._say("changed", "annotations", entry.get("id"), f"{key}_differs", detail)
        return {**entry, **changed}

    def _numbered(self, kept: list[tuple[int, dict]]) -> list[dict]:
        """Give entries whose id is missing or taken a new one."""
        ids = Counter(entry["id"] for _, entry in kept if is_id(entry.get("id")))
        following = int(max((n for n in ids if isinstance(n, (int, float)) and abs(n) < 2**53), default=0)) + 1
        seen: set[Any] = set()
        result = []
        for place, entry in kept:
            own = entry.get("id")
            if not is_id(own) or own in seen:
                kind = "doubled_annotation_ids" if is_id(own) else "broken_entries"
                self._say("changed", "annotations", own, kind, f"annotations[{place}] now has the id {following}")
                entry, following = {**entry, "id": following}, following + 1
            seen.add(entry["id"])
            result.append(entry)
        return result
