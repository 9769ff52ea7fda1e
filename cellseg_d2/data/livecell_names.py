"""What a LIVECell file name says: cell type, well, location, time and crop. Needs neither torch nor Detectron2."""

import re
from collections.abc import Mapping
from pathlib import PurePath

__all__ = ["cell_type_of", "describe", "hours_of", "parse_name"]

# <Type>_Phase_<Well>_<Location>_<DDdHHhMMm>_<Crop>.tif
_NAME = re.compile(
    r"(?P<cell_type>[^_]+)_Phase_(?P<well>[A-Za-z]+\d+)_(?P<location>\d+)_(?P<time>\d+d\d+h\d+m)_(?P<crop>\d+)$"
)


def parse_name(file_name: str) -> Mapping[str, str]:
    """What a LIVECell file name says; empty where it is none.

    >>> parse_name("images/SkBr3_Phase_E3_2_00d04h00m_1.tif")["time"]
    '00d04h00m'
    >>> parse_name("holiday.png")
    {}
    """
    match = _NAME.match(PurePath(file_name).stem)
    return match.groupdict() if match else {}


def cell_type_of(file_name: str) -> str:
    """The cell type that a LIVECell file name begins with: ``SkBr3_Phase_E3_2_00d04h00m_1.tif`` -> ``skbr3``."""
    return PurePath(file_name).name.split("_")[0].lower()


def hours_of(time: str) -> float:
    """Hours since the first image.

    >>> hours_of("01d04h30m")
    28.5
    """
    days, hours, minutes = map(int, re.findall(r"\d+", time))
    return 24 * days + hours + minutes / 60


def describe(file_name: str) -> dict[str, str | int | float]:
    """What a dataset dict of LIVECell says beside its image; only the cell type where the name has another form.

    >>> describe("SkBr3_Phase_E3_2_01d04h00m_1.tif")
    {'cell_type': 'skbr3', 'well': 'E3', 'location': 2, 'time': '01d04h00m', 'hours': 28.0, 'crop': 1}
    """
    parts = parse_name(file_name)
    if not parts:
        return {"cell_type": cell_type_of(file_name)}
    return {
        "cell_type": parts["cell_type"].lower(),
        "well": parts["well"],
        "location": int(parts["location"]),
        "time": parts["time"],
        "hours": hours_of(parts["time"]),
        "crop": int(parts["crop"]),
    }
