"""One HTML file, with nothing outside it, of a study of shapes: figure, frames, numbers."""

import base64
from functools import cache
from math import isfinite
from pathlib import Path
from typing import Any

import cv2
import jinja2
import numpy as np

from ..data.check.images import ImageFolder
from ..data.image_io import read_image
from ..data.rle import outline_corners
from ..files import atomic_write
from ..templates import template_environment
from .features import DESCRIPTORS
from .projection import heat
from .shape_figure import closest_to_time
from .shape_study import Study, numbers

__all__ = ["write_page"]

LONGEST = 760  # pixels of an embedded frame's longer side
STRETCH = (0.1, 99.9)  # percentiles of the grey values that become black and white
ENDS = (5, 95)  # percentiles of the code that the colours end at
MISSING = "–"

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{ title }}</title><style>
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1080px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; } p { max-width: 46rem; }
img { max-width: 100%; height: auto; } figure { margin: 0; } figcaption { font-size: .85rem; color: #555; }
.frames { display: flex; flex-wrap: wrap; gap: .8rem; } .frames figure { flex: 1 1 300px; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .7rem; text-align: right; border-bottom: 1px solid #e4e4e4; }
th:first-child, td:first-child { text-align: left; } .sure { font-weight: 600; } .wide { overflow-x: auto; }
</style></head><body>
<h1>{{ title }}</h1>
<table>{% for name, value in facts %}<tr><td>{{ name }}</td><td>{{ value }}</td></tr>{% endfor %}</table>
<h2>Shape over time</h2>
<img src="{{ figure }}" alt="Latents over time, decoded shapes, and growth">
<p>a: the population's mean in the two latents closest to time; thin lines are single cells, which spread much wider
than the panel. b: mean of each latent with its 95 % interval over resampled tracks (images, without tracks; none
where a time has a single image). c: shapes along each latent. d: the shape of the mean code at several times, and with
its changes made larger. e: held-out cells, worst to best. f: cells an
image, fitted curves, and phases: white while the growth rate in a moving window is at least half of its largest value,
grey before (lag), blue after (plateau).</p>
<h2>Frames</h2>
<p>Outlines by {{ latent }}, from dark ({{ ends[0] }}) to bright ({{ ends[1] }}).</p>
<div class="frames">{% for frame in frames %}<figure><img src="{{ frame.image }}" alt="{{ frame.name }}">
<figcaption>{{ frame.name }}, {{ frame.time }}</figcaption></figure>{% endfor %}</div>
<h2>What goes with the shape</h2>
<p>Spearman's rank correlation, 95 % interval over resampled tracks (images, without tracks); bold where it leaves 0
out. Of these {{ rows | length }} rows one in twenty would be bold by chance alone. "time within" looks at each
cell against its own mean.</p>
<div class="wide"><table><tr><th></th>{% for name in drivers %}<th>{{ name }}</th>{% endfor %}</tr>
{% for name, cells in rows %}<tr><td>{{ name }}</td>{% for text, sure in cells %}
<td{% if sure %} class="sure"{% endif %}>{{ text }}</td>{% endfor %}</tr>
{% endfor %}</table></div>
</body></html>
"""


def write_page(path: str | Path, found: Study, figure: Path, images: ImageFolder) -> Path:
    """Write the page, atomically.

    Args:
        figure: the PNG of :func:`.shape_figure.write_figure`, embedded.
        images: has the film's frames, of which the first, the middle and the last one in time are shown.
    """
    latent = closest_to_time(found)[0]
    low, high = np.percentile(found.table[latent], ENDS)
    order = np.argsort(found.film.times, kind="stable")
    page = _template().render(
        title=f"Cell shape over time: {found.film.path.name}",
        facts=_facts(found),
        figure=_uri(figure.read_bytes()),
        latent=latent,
        ends=[f"{low:.2f}", f"{high:.2f}"],
        frames=[_frame(found, int(order[k]), images, latent, (low, high)) for k in (0, len(order) // 2, -1)],
        drivers=[name.replace("_", " ") for name in found.relations],
        rows=[(name, [_correlation(found.relations[d][name]) for d in found.relations]) for name in _columns(found)],
    )
    return atomic_write(path, lambda stream: stream.write(page.encode("utf-8", "replace")))


@cache
def _template() -> jinja2.Template:
    return template_environment(Path(__file__).parent).from_string(_PAGE)


def _columns(found: Study) -> list[str]:
    return [*found.latents, *DESCRIPTORS]


def _facts(found: Study) -> list[tuple[str, str]]:
    """What is said before the figure."""
    said, unit = numbers(found), found.film.unit
    fit, grown, span = said["reconstruction"], said["growth"], said["time"]
    low, high = grown["doubling_interval"]
    tracks = "none: every cell is on its own" if said["tracks"] is None else f"{said['tracks']:,}"
    difference = f"{fit['difference']:+.3f} ({fit['low']:+.3f} to {fit['high']:+.3f})"
    return [
        ("Images", f"{said['images']:,}"),
        ("Cells", f"{said['cells']:,}, of which {said['at_border']:,} touch the frame"),
        ("Tracks", tracks),
        ("Time", f"{_number(span['first'])} to {_number(span['last'])} {unit}, {span['source']}"),
        ("Held-out cells", f"{fit['held_out_cells']:,} of {fit['held_out_tracks']:,} tracks"),
        (f"Their IoU from {said['options']['latent']} latents", f"{fit['vae']:.3f}"),
        ("… from as many principal components", f"{fit['pca']:.3f}"),
        ("… difference (95 %)", difference),
        ("Doubling time (95 %)", f"{_number(grown['doubling'])} {unit} ({_number(low)} to {_number(high)})"),
        ("Better growth curve", grown["better"] or MISSING),
    ]


def _frame(found: Study, place: int, images: ImageFolder, latent: str, ends: tuple[float, float]) -> dict[str, Any]:
    """One frame with the outlines of its cells, coloured by their code."""
    film, entry = found.film, found.film.images[place]
    image = read_image(images.locate(entry["file_name"]), STRETCH)
    factor = LONGEST / max(image.shape[:2])
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    canvas = cv2.resize(image, None, fx=factor, fy=factor, interpolation=method)
    own = [k for k, cell in enumerate(film.cells) if cell.image == place]
    codes = found.table[latent].to_numpy()[own]
    colours = heat(codes[None], *ends, cv2.COLORMAP_VIRIDIS)[0] if own else ()
    for k, colour in zip(own, colours):
        cell = film.cells[k]
        corners = outline_corners(cell.mask.astype(np.uint8), cell.left)
        for points in corners:
            drawn = np.rint(((points + [0, cell.top]) * factor - 0.5) * 16).astype(np.int32)
            cv2.polylines(canvas, [drawn], True, colour[::-1].tolist(), 1, cv2.LINE_AA, shift=4)
    webp = cv2.imencode(".webp", canvas, [cv2.IMWRITE_WEBP_QUALITY, 85])[1].tobytes()
    return {"image": _uri(webp, "webp"), "name": entry["file_name"], "time": f"{film.times[place]:g} {film.unit}"}


def _correlation(value: dict[str, float]) -> tuple[str, bool]:
    """A correlation as text, and whether its interval leaves 0 out."""
    rho, low, high = value["rho"], value["low"], value["high"]
    if not isfinite(rho):
        return MISSING, False
    if not isfinite(low):
        return f"{rho:+.2f}", False
    return f"{rho:+.2f} ({low:+.2f} to {high:+.2f})", low > 0 or high < 0


def _number(value: float) -> str:
    return f"{value:.4g}" if isfinite(value) else "∞" if value == np.inf else MISSING


def _uri(content: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64," + base64.b64encode(content).decode("ascii")
