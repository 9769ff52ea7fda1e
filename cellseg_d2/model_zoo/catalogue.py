"""Models that others have published, as data."""

from dataclasses import dataclass

from ..data.download import BASE_URL

__all__ = ["PUBLISHED", "ZooEntry"]

LIVECELL_TERMS = "CC BY-NC 4.0 as the LIVECell data (Edlund et al. 2021, doi 10.1038/s41592-021-01249-6)"
# Cell type -> (folder on the server, mask AP in percent as its authors state it)
_LIVECELL = {
    "": ("ALL", 47.78), "a172": ("A172", 34.57), "bt474": ("BT474", 42.60), "bv2": ("BV2", 45.69),
    "huh7": ("HUH7", 45.85), "mcf7": ("MCF7", 37.30), "shsy5y": ("SHSY5Y", 23.91), "skbr3": ("SKBR3", 65.85),
    "skov3": ("SKOV3", 49.39),
}  # fmt: skip


@dataclass(frozen=True)
class ZooEntry:
    """A published model.

    Attributes:
        name: what users call it by.
        config: file in the folder ``configs``.
        url: of the weights.
        licence: terms, and whom to cite.
        description: one line.
        sha256: of the weights, in hexadecimal; "" where nobody has published it: then the first download is noted, and
            each later use compared with that.
    """

    name: str
    config: str
    url: str
    licence: str
    description: str
    sha256: str = ""


def _livecell(cell_type: str) -> ZooEntry:
    folder, ap = _LIVECELL[cell_type]
    file = "_".join(["LIVECell_anchor_free", *filter(None, [cell_type]), "model.pth"])
    return ZooEntry(
        name="-".join(["livecell", *filter(None, [cell_type])]),
        config="centermask_v99.yaml",
        url=f"{BASE_URL}/models/Anchor_free/{folder}/{file}",
        licence=LIVECELL_TERMS,
        description=f"CenterMask V-99, LIVECell {folder if cell_type else 'all types'}; published mask AP {ap:.2f} %",
    )


PUBLISHED: dict[str, ZooEntry] = {entry.name: entry for entry in map(_livecell, _LIVECELL)}
