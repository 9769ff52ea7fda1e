"""report.html: what it says, and how it behaves in a browser."""

import json
import re
import shutil
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cellseg_d2.evaluation.evaluate import Options, compare, evaluate
from cellseg_d2.evaluation.reading import read_ground_truth, read_results
from cellseg_d2.evaluation.report import write_report
from cellseg_d2.evaluation.report.pictures import outline_path, rank_images

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
HEIGHT, WIDTH = 100, 120
STRANGE = "b<b>&.png"
# File name -> annotated cells, how many of them are found, results elsewhere
IMAGES = {STRANGE: (4, 4, 0), "a.png": (10, 5, 1), "c.png": (2, 0, 0), "d.png": (0, 0, 1)}
WITHOUT_FILE = "c.png"


def square(place: int, image_id: int, **more) -> dict:
    """The place-th cell of an image: 14 x 14 pixels on a grid."""
    x, y = 5 + 22 * (place % 5), 5 + 22 * (place // 5)
    outline = [x, y, x + 14, y, x + 14, y + 14, x, y + 14]
    box = [x, y, 14, 14]
    return {"image_id": image_id, "category_id": 1, "bbox": box, "area": 196, "segmentation": [outline], **more}


def make(folder: Path, images: dict, predicted: bool = True, masks: bool = True, **options):
    """Evaluation of by construction known cells."""
    entries, annotations, results = [], [], []
    for number, (name, (cells, found, false)) in enumerate(images.items(), start=1):
        kind = "A<1>" if number % 2 else "B"
        entries.append({"id": number, "file_name": name, "height": HEIGHT, "width": WIDTH, "cell_type": kind})
        annotations += [square(place, number, id=len(annotations) + place, iscrowd=0) for place in range(cells)]
        places = [*range(found), *range(19, 19 - false, -1)]
        results += [square(place, number, score=0.9 - place / 100) for place in places if predicted]
    for result in results if not masks else ():
        del result["segmentation"]
    content = {"images": entries, "annotations": annotations, "categories": [{"id": 1, "name": "cell"}]}
    (folder / "truth.json").write_text(json.dumps(content))
    (folder / "results.json").write_text(json.dumps(results))
    truth = read_ground_truth(folder / "truth.json")
    return evaluate(truth, read_results(folder / "results.json", truth), Options(bootstrap=20, **options))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    evaluation = make(folder, IMAGES, by=("cell_type", "well"), column="cell_type")
    other = make(folder, IMAGES, predicted=False)
    (folder / "images" / "deep").mkdir(parents=True)
    grey = np.random.default_rng(0).integers(0, 4000, (HEIGHT, WIDTH)).astype(np.uint16)
    for name in IMAGES.keys() - {WITHOUT_FILE}:
        Image.fromarray(grey).save(folder / "images" / "deep" / name)
    images, comparison = folder / "images", compare(evaluation, other)
    path = write_report(folder / "out" / "report.html", evaluation, images, comparison, "Cells <of> & all")
    return path, evaluation


@pytest.fixture(scope="module")
def html(made):
    return made[0].read_text(encoding="utf-8")


def words(html: str) -> str:
    """What a reader sees, roughly."""
    html = re.sub(r"<(style|script).*?</\1>|<svg.*?</svg>", " ", html, flags=re.DOTALL)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", "", html)))


# Content


def test_names_are_escaped(html):
    assert STRANGE not in html and "A<1>" not in html and "Cells <of>" not in html
    assert STRANGE in words(html) and "A<1>" in words(html) and "Cells <of> & all" in words(html)


def test_nothing_is_requested(html):
    assert not re.search(r"(src|href)=\"(?!data:|#)", html)
    assert "url(" not in html and "@import" not in html


def test_missing_image_file_is_said(html):
    assert html.count('<img src="data:image/webp;base64,') == 2
    assert words(html).count("Outlines only: the file is not in the folder of images.") == 1


def test_missing_numbers_are_dashes_with_a_reason(made, html):
    evaluation = made[1]
    assert np.isnan(evaluation.metrics["segm"]["APl"])
    row = re.search(r"<tr><th scope=\"row\">APl</th>.*?</tr>", html, re.DOTALL)[0]
    assert "–" in row and "no annotated large cell" in row
    assert not re.search(r"\bnan\b", words(html), re.IGNORECASE)


def test_summary_has_the_numbers(made, html):
    table = re.search(r"<table class=\"scores\">.*?</table>", html, re.DOTALL)[0]
    rows = [words(row) for row in re.findall(r"<tr.*?</tr>", table, re.DOTALL)]
    labels = [unescape(label) for label in re.findall(r"<th scope=\"row\">(.*?)</th>", table)]
    assert labels == ["All images", "A<1>", "B"]
    metrics = made[1].metrics
    assert f"{metrics['segm']['AP']:.1f}" in rows[1] and f"{metrics['segm']['pixel_F1']:.1f}" in rows[1]
    assert f"{metrics['by_cell_type']['B']['AP']:.1f}" in rows[3]
    assert f"{metrics['intervals']['segm']['AP'][0]:.1f} to" in rows[1]


def test_outlines_run_along_the_pixels_edges(made):
    truth = made[1].main.score.truth
    path = outline_path(truth, np.array([1]), HEIGHT)
    first, *moves = np.array(re.findall(r"-?\d+", path), dtype=int).reshape(-1, 2)
    corners = np.cumsum([first, *moves], axis=0)
    x, y = 5 + 22, 5
    assert {tuple(corner) for corner in corners.tolist()} == {(x, y), (x + 14, y), (x + 14, y + 14), (x, y + 14)}


def test_images_are_ranked_by_score(made):
    names = [made[1].truth.images.file_names[place] for place in rank_images(made[1])]
    assert names == ["c.png", "a.png", STRANGE]  # d.png has no cell


@pytest.mark.parametrize(
    ("images", "made_with", "said"),
    [
        ({"a.png": (3, 2, 1)}, {}, ["The image", "1 image with 3 annotated cells", "no folder of images was given"]),
        ({"a.png": (3, 0, 0), "b.png": (2, 0, 0)}, {"predicted": False}, ["has no results", "Worst"]),
        ({"a.png": (0, 0, 1), "b.png": (0, 0, 0)}, {}, ["Without an annotated cell there are no curves"]),
        ({"a.png": (3, 2, 1), "b.png": (2, 2, 0)}, {"masks": False}, ["scored by boxes", "neither pixel F1 nor AFNR"]),
    ],
    ids=["one image", "no results", "no annotations", "boxes"],
)
def test_sparse_data(images, made_with, said, tmp_path):
    path = write_report(tmp_path / "report.html", make(tmp_path, images, **made_with))
    text = words(path.read_text(encoding="utf-8"))
    assert [sentence for sentence in said if sentence not in text] == []
    assert not re.search(r"\b(nan|None|inf)\b", text)


# In a browser


@pytest.fixture(scope="module")
def tab():
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("no Chromium here: the report's behaviour in a browser is not tested")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
    with playwright.sync_playwright() as driver:
        instance = driver.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield instance.new_page()
        instance.close()


@pytest.fixture
def page(tab, made):
    """The report, opened; a test fails where it logs an error or asks for anything."""
    complaints = []
    heard = {
        "console": lambda message: complaints.append(message.text),
        "pageerror": lambda error: complaints.append(str(error)),
        "request": lambda request: request.url.startswith(("file:", "data:")) or complaints.append(request.url),
    }
    for event, listener in heard.items():
        tab.on(event, listener)
    tab.set_viewport_size({"width": 1200, "height": 900})
    tab.emulate_media(media="screen", color_scheme="light")
    tab.goto(made[0].as_uri())
    yield tab
    for event, listener in heard.items():
        tab.remove_listener(event, listener)
    assert complaints == []


def column(page, name: str) -> list[str]:
    """Text of one column of the table of images, in the order shown."""
    script = """name => {
        const heads = [...document.querySelectorAll("#images thead th")];
        const place = heads.findIndex(head => head.dataset.key === name);
        return [...document.querySelectorAll("#images tbody tr")].map(row => row.cells[place].textContent);
    }"""
    return page.evaluate(script, name)


def test_pictures_are_drawn(page):
    assert page.evaluate("[...document.images].map(i => i.complete && i.naturalWidth)") == [WIDTH, WIDTH]


def test_table_sorts_both_ways(page):
    head = page.locator('#images th[data-key="cells"]')
    head.get_by_role("button").click()
    assert column(page, "cells") == ["0", "2", "4", "10"]
    assert head.get_attribute("aria-sort") == "ascending"
    head.get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert column(page, "cells") == ["10", "4", "2", "0"]
    assert head.get_attribute("aria-sort") == "descending"
    page.locator('#images th[data-key="file_name"] button').click()
    assert column(page, "file_name") == ["a.png", STRANGE, "c.png", "d.png"]
    assert head.get_attribute("aria-sort") == "none"
    counts = page.locator('#images th[data-key="count_error"] button')
    counts.click()
    assert column(page, "count_error") == ["−4", "−2", "0", "1"]
    for _ in range(2):  # what does not exist stays last
        page.locator('#images th[data-key="AP"] button').click()
        assert column(page, "AP")[-1] == "–"


def test_filter_hides_other_images(page):
    page.locator("#filter").fill("c.pn")
    assert page.locator("#images tbody tr:visible").count() == 1
    assert page.locator("#shown").text_content() == "1 of 4 images"
    page.locator("#filter").fill("")
    assert page.locator("#images tbody tr:visible").count() == 4


def test_long_table_shows_its_first_rows_until_asked(page, tmp_path):
    many = make(tmp_path, {f"{number}.png": (1, 1, 0) for number in range(203)})
    page.goto(write_report(tmp_path / "report.html", many).as_uri())
    rows = page.locator("#images tbody tr:visible")
    assert rows.count() == 200
    page.get_by_role("button", name="Show all 203 images").click()
    assert rows.count() == 203


def test_outlines_can_be_hidden(page):
    for kind in ("true", "false", "missed"):
        shown = f"[...document.querySelectorAll('.canvas .o-{kind}')].map(o => getComputedStyle(o).display)"
        assert set(page.evaluate(shown)) == {"inline"}
        page.locator(f"label[for=show-{kind}]").click()
        assert set(page.evaluate(shown)) == {"none"}
        page.locator(f"#show-{kind}").focus()
        page.keyboard.press("Space")
        assert set(page.evaluate(shown)) == {"inline"}


def test_picture_can_be_enlarged(page):
    button, canvas = page.locator(".enlarge").first, page.locator(".canvas").first
    before = canvas.bounding_box()["width"]
    button.click()
    assert canvas.bounding_box()["width"] > 2 * before
    assert button.get_attribute("aria-pressed") == "true"


def test_phone_does_not_scroll_sideways(page):
    page.set_viewport_size({"width": 380, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 380
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= 380


def test_paper_shows_everything(page):
    inside = (
        "[...document.querySelectorAll('details table')].map(t => t.checkVisibility({contentVisibilityAuto: true}))"
    )
    assert page.locator("details[open]").count() == 0
    page.emulate_media(media="print", color_scheme="dark")
    page.locator("details:not([open])").first.wait_for(state="detached")
    assert all(page.evaluate(inside))
    assert not page.locator("#filter").is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    pdf = page.pdf(prefer_css_page_size=True)
    assert pdf.startswith(b"%PDF") and len(re.findall(rb"/Type\s*/Page\b", pdf)) >= 3
    page.emulate_media(media="screen")
    page.locator("details[open]").first.wait_for(state="detached")


def test_dark_theme(page):
    page.emulate_media(color_scheme="dark")
    colours = [page.evaluate(f"getComputedStyle(document.body).{name}") for name in ("backgroundColor", "color")]
    dark, light = (sum(map(int, re.findall(r"\d+", colour))) for colour in colours)
    assert dark < 150 and light > 600
