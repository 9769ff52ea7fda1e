"""Images that are on both sides of a split."""

from pathlib import PurePath

from ..livecell_names import parse_name
from .findings import Findings
from .images import Facts
from .tables import Tables

__all__ = ["check_leakage"]

# Two images of one name are one photograph, saved differently, when their thumbnails correlate by more than this.
# Files such as t000.tif of two experiments do not.
SAME_PHOTOGRAPH = 0.9


def check_leakage(
    tables: Tables, facts: dict[int, Facts], other: Tables, other_facts: dict[int, Facts], findings: Findings
) -> None:
    """Find images of ``tables`` that ``other`` has too: the same pixels, file name, or LIVECell exposure.

    A file name alone counts unless both files can be read and show different things.
    """
    by_digest = {fact.digest: place for place, fact in other_facts.items() if fact.digest}
    by_name: dict[str, list[int]] = {}
    by_field: dict[tuple[str, ...], int] = {}
    for place in other.image_of.values():
        stem = _stem(other.name(place))
        by_name.setdefault(stem, []).append(place)
        by_field.setdefault(_exposure(other.name(place)), place)
    for place, fact in facts.items():
        stem = _stem(tables.name(place))
        exposure = _exposure(tables.name(place))
        named = [twin for twin in by_name.get(stem, []) if _same(fact, other_facts[twin])]
        if fact.digest in by_digest:
            twin, why = by_digest[fact.digest], "the same pixels"
        elif named:
            twin, why = named[0], "the same file name"
        elif exposure and exposure in by_field:
            twin, why = by_field[exposure], "the same well, location and time"
        else:
            continue
        findings.add("leakage", f"{tables.name(place)}: {why} as {other.name(twin)}", place, fixable=False)


def _exposure(file_name: str) -> tuple[str, ...]:
    """What crops of one LIVECell exposure share; empty for other names."""
    parts = parse_name(file_name)
    return tuple(parts[key].lower() for key in ("cell_type", "well", "location", "time")) if parts else ()


def _stem(file_name: str) -> str:
    """The name without folder and ending, in lower case."""
    return PurePath(file_name.replace("\\", "/")).stem.lower()


def _same(one: Facts, two: Facts) -> bool:
    """Nothing speaks against two images of one name being one photograph."""
    if one.thumbnail is None or two.thumbnail is None:
        return True
    return float(one.thumbnail @ two.thumbnail) > SAME_PHOTOGRAPH
