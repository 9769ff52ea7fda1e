"""Masks are pycocotools' masks: run lengths and filled polygons to the pixel, parsed coordinates to the last bit."""

import json
import runpy
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as mask_util

import cellseg_d2
from cellseg_d2.errors import DatasetError
from cellseg_d2.evaluation.polygon_text import parse
from cellseg_d2.evaluation.polygons import Polygons, fill
from cellseg_d2.evaluation.segmentations import to_runs
from cellseg_d2.run_lengths import Runs, concatenate, decode_counts, runs_of_mask

SIDES = st.integers(1, 24)
MASKS = hnp.arrays(bool, st.tuples(SIDES, SIDES), elements=st.booleans())


def examples(count: int):
    return settings(max_examples=count, deadline=None, derandomize=True)


def encode(mask: np.ndarray) -> dict:
    return mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))


def lengths_of(mask: np.ndarray) -> list[int]:
    """Plain run lengths, background first: a zero where the first pixel is foreground."""
    flat = np.concatenate([[False], mask.ravel(order="F")])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    return np.diff(np.concatenate([[0], edges, [mask.size]])).tolist()


def pixels(runs: Runs, n: int, shape: tuple[int, int]) -> np.ndarray:
    flat = np.zeros(shape[0] * shape[1], bool)
    for begin, end in bounds(runs, n):
        flat[begin:end] = True
    return flat.reshape(shape, order="F")


def bounds(runs: Runs, n: int) -> list[tuple[int, int]]:
    part = slice(runs.offsets[n], runs.offsets[n + 1])
    return list(zip(runs.begin[part].tolist(), runs.end[part].tolist()))


def all_bounds(runs: Runs) -> list[list[tuple[int, int]]]:
    return [bounds(runs, n) for n in range(len(runs))]


def assert_well_formed(runs: Runs) -> None:
    """Runs ascend, do not touch, and are typed as promised."""
    assert runs.begin.dtype == runs.end.dtype == np.int32 and runs.offsets.dtype == np.int64
    assert runs.offsets[0] == 0 and runs.offsets[-1] == len(runs.begin) == len(runs.end)
    for n in range(len(runs)):
        flat = [place for run in bounds(runs, n) for place in run]
        assert flat == sorted(set(flat))


# Run lengths


@examples(40)
@given(st.lists(MASKS, min_size=1, max_size=6))
def test_decoded_counts_are_the_masks(masks):
    encoded = [encode(mask) for mask in masks]
    heights, widths = (np.array(sides) for sides in zip(*(mask.shape for mask in masks)))
    runs, total = decode_counts([rle["counts"] for rle in encoded], heights * widths)
    assert total.tolist() == [mask.size for mask in masks]
    assert_well_formed(runs)
    for n, mask in enumerate(masks):
        assert np.array_equal(pixels(runs, n, mask.shape), mask_util.decode(encoded[n]))
        assert bounds(runs, n) == bounds(runs_of_mask(mask), 0)
    # one by one: pycocotools adds up the areas of a long list in eight bits with NumPy 2
    assert runs.areas().tolist() == [int(mask_util.area(rle)) for rle in encoded]
    assert runs.boxes(heights).tolist() == [mask_util.toBbox(rle).tolist() for rle in encoded]


@pytest.mark.parametrize("seed", range(6))
def test_large_masks(seed):
    # Lengths of up to four characters, growing and shrinking ones (COCO writes differences)
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 900, 2))
    mask = rng.random(shape) < rng.choice([1e-5, 0.001, 0.5, 0.999])
    mask[rng.integers(shape[0]) :, rng.integers(shape[1])] = True
    rle = encode(mask)
    runs, total = decode_counts([rle["counts"].decode()], np.array([mask.size]))
    assert total.tolist() == [mask.size]
    assert_well_formed(runs)
    assert np.array_equal(pixels(runs, 0, shape), mask)
    assert runs.areas().tolist() == [int(mask.sum())]
    assert runs.boxes(shape[:1]).tolist() == [mask_util.toBbox(rle).tolist()]


@examples(40)
@given(st.data())
def test_counts_with_runs_of_no_pixels(data):
    # frPyObjects writes the zeros as they are: neighbours of an empty run are one run
    lengths = data.draw(st.lists(st.sampled_from([0, 0, 1, 2, 7]), min_size=1, max_size=12))
    size = sum(lengths) or 1
    if sum(lengths) == 0:
        lengths.append(1)
    rle = mask_util.frPyObjects({"size": [size, 1], "counts": lengths}, size, 1)
    runs, total = decode_counts([rle["counts"]], np.array([size]))
    assert total.tolist() == [size]
    assert_well_formed(runs)
    assert np.array_equal(pixels(runs, 0, (size, 1)), mask_util.decode(rle))


@examples(40)
@given(MASKS, st.data())
def test_damaged_counts_never_pass_for_whole(mask, data):
    counts = encode(mask)["counts"]
    cut = data.draw(st.integers(0, len(counts) - 1))
    _, total = decode_counts([counts[:cut]], np.array([mask.size]))
    assert total[0] != mask.size
    # Any text at all: no crash, and the masks that are whole stay whole
    junk = data.draw(st.binary(max_size=12))
    runs, total = decode_counts([counts, junk, counts], np.full(3, mask.size))
    assert total[[0, 2]].tolist() == [mask.size] * 2
    assert np.array_equal(pixels(runs, 0, mask.shape), mask) and np.array_equal(pixels(runs, 2, mask.shape), mask)


@examples(40)
@given(st.lists(MASKS, max_size=6), st.data())
def test_take_and_concatenate(masks, data):
    parts = [runs_of_mask(mask) for mask in masks]
    together = concatenate(parts)
    assert_well_formed(together)
    assert all_bounds(together) == [bounds(part, 0) for part in parts]
    index = data.draw(st.lists(st.integers(0, len(masks) - 1), max_size=9)) if masks else []
    taken = together.take(np.array(index, dtype=np.int64))
    assert_well_formed(taken)
    assert all_bounds(taken) == [bounds(parts[n], 0) for n in index]
    cut = data.draw(st.integers(0, len(masks)))
    assert all_bounds(concatenate([concatenate(parts[:cut]), concatenate(parts[cut:])])) == all_bounds(together)


def test_no_masks():
    for runs in (concatenate([]), decode_counts([], np.zeros(0, np.int64))[0]):
        assert len(runs) == 0 and runs.areas().shape == (0,) and runs.boxes(np.zeros(0, np.int64)).shape == (0, 4)


# Numbers


def _numbers() -> st.SearchStrategy[str]:
    digits = st.text("0123456789", min_size=1, max_size=22)
    integer = digits.map(lambda text: text.lstrip("0") or "0")
    fraction = st.one_of(st.just(""), digits.map(lambda text: "." + text))
    exponent = st.one_of(
        st.just(""), st.builds("{}{}{}".format, st.sampled_from("eE"), st.sampled_from(["", "+", "-"]),
                               st.integers(0, 40).map(str)),
    )  # fmt: skip
    free = st.builds("{}{}{}{}".format, st.sampled_from(["", "-"]), integer, fraction, exponent)
    plain = st.floats(-1e4, 1e4).map(repr)
    pixel = st.integers(-99999, 99999).map(lambda n: repr(n / 100))
    # "-0" is the integer 0 to Python, and -0.0 to a reader of floats
    return st.one_of(free, plain, pixel).filter(lambda text: text != "-0")


SPACE = st.sampled_from(["", "", " ", "\n", "\t", "\r\n  "])


@st.composite
def _texts(draw) -> str:
    """The JSON of one segmentation, spaced anyhow; each polygon of an even number of coordinates."""
    polygons = []
    for _ in range(draw(st.integers(0, 3))):
        numbers = draw(st.lists(_numbers(), max_size=8))
        numbers = numbers[: len(numbers) // 2 * 2]
        spaced = [draw(SPACE) + number + draw(SPACE) for number in numbers]
        polygons.append(draw(SPACE) + "[" + ",".join(spaced) + draw(SPACE) + "]")
    return "[" + ",".join(polygons) + draw(SPACE) + "]"


def assert_parsed(texts: list[str]) -> None:
    polygons = parse([text.encode() for text in texts])
    outlines = [json.loads(text) for text in texts]
    assert np.diff(polygons.objects).tolist() == [len(outline) for outline in outlines]
    assert np.diff(polygons.starts).tolist() == [len(polygon) // 2 for outline in outlines for polygon in outline]
    numbers = [float(number) for outline in outlines for polygon in outline for number in polygon]
    assert polygons.points.dtype == np.float64
    assert polygons.points.ravel().tobytes() == np.array(numbers, dtype=np.float64).tobytes()


@examples(40)
@given(st.lists(_texts(), max_size=3))
def test_parsed_numbers_are_pythons(texts):
    assert_parsed(texts)


@pytest.mark.parametrize(
    "numbers",
    [
        "0, -0.0",
        "0.1, 0.30000000000000004",
        "123456789012345, 1234567890123456",  # 15 digits go the short way, 16 do not
        "9007199254740993, 9007199254740993.0",  # 2^53 + 1: the nearest float64 is the even neighbour
        "999999999999999e22, 999999999999999e-22",
        "1e23, 1e-23",  # 10^23 is no float64
        "0.000000000000000000000123, 123000000000000000000000",
        "0.5, 0e300",
        "1E5, 1e+05",
        "5e-324, 1.7976931348623157e308",
        "350.5, 351.25",
    ],
)
def test_numbers_at_the_limits_of_the_short_way(numbers):
    assert_parsed([f"[[{numbers}]]"])
    # Beside others: the long way of one text gives the same for all
    assert_parsed(["[[1.25, 2, 3.5, 4]]", f"[[{numbers}]]", "[[5,6],[7,8]]"])


def test_every_number_of_15_digits_and_a_power_of_ten():
    rng = np.random.default_rng(0)
    mantissas = rng.integers(1, 10**15, 4000)
    exponents = rng.integers(-22, 23, 4000)
    numbers = [f"{'-' if m % 2 else ''}{m}e{e}" for m, e in zip(mantissas, exponents)]
    assert_parsed([f"[[{','.join(numbers)}]]"])


@pytest.mark.parametrize(
    "text",
    ["[1, 2, 3, 4]", "[[1, 2], 3]", "[[[1, 2]]]", '[["1", 2]]', "[[1, null]]", "[[true, 2]]", "[null]", '[{"x": 1}]',
     "[[1, 2], [[3, 4]]]", "3", "null", '"[[1, 2]]"', "{}"],
)  # fmt: skip
def test_other_shapes_are_refused_by_place(text):
    texts = [b"[[1, 2, 3, 4]]", b"[]", text.encode(), b"[[5, 6]]"]
    with pytest.raises(msgspec.ValidationError) as error:
        parse(texts)
    assert error.value.index == 2


@pytest.mark.parametrize("text", ["[[1, 2]", "[[1, 2],", "["])
def test_text_that_breaks_off_is_refused(text):
    with pytest.raises(msgspec.DecodeError):
        parse([text.encode()])


def test_a_number_beyond_float64_is_named():
    good, far = b"[[1, 1, 4, 1, 4, 4]]", b"[[1e999, 1, 4, 1, 4, 4]]"
    with pytest.raises(DatasetError, match="<2>"):
        to_runs([b"null", good, far], np.full(3, 6), np.full(3, 8), where)


def test_an_odd_last_coordinate_is_dropped():
    # as pycocotools does, which takes len // 2 points
    polygons = parse([b"[[1, 2, 3, 4, 5]]", b"[[6, 7]]"])
    assert polygons.points.tolist() == [[1, 2], [3, 4], [6, 7]] and polygons.starts.tolist() == [0, 2, 3]


# Polygons


def reference(outline: list[list[float]], height: int, width: int) -> np.ndarray:
    return mask_util.decode(mask_util.merge(mask_util.frPyObjects(outline, height, width)))


def assert_filled(outlines: list[list[list[float]]], height: int, width: int) -> None:
    runs = fill(Polygons.from_lists(outlines), np.full(len(outlines), height), np.full(len(outlines), width))
    assert len(runs) == len(outlines)
    assert_well_formed(runs)
    for n, outline in enumerate(outlines):
        expected = reference(outline, height, width)
        assert np.array_equal(pixels(runs, n, (height, width)), expected), outline


@st.composite
def _outlines(draw) -> tuple[list[list[list[float]]], int, int]:
    """Objects of polygons of three points or more, partly outside an image that may be one pixel wide."""
    height, width = draw(st.tuples(SIDES, SIDES))
    grid = draw(st.sampled_from([1, 2, 5, 10, 100, 1000]))  # corners on whole pixels, halves, fifths, anywhere
    low, high = -grid * max(height, width) // 2, grid * max(height, width) * 3 // 2
    coordinate = st.integers(low, high).map(lambda n: n / grid)
    point = st.tuples(coordinate, coordinate)
    polygon = st.lists(point, min_size=3, max_size=9)
    if draw(st.booleans()):
        polygon = polygon.map(lambda points: [p for p in points for _ in range(2)])  # each point twice
    flat = polygon.map(lambda points: [float(c) for p in points for c in p])
    return draw(st.lists(st.lists(flat, min_size=1, max_size=3), min_size=1, max_size=4)), height, width


@examples(70)
@given(_outlines())
@example(([[[0, 0, 1, 0, 1, 1, 0, 1]]], 1, 1))
@example(([[[-5, -5, -5, -5, -5, -5]]], 3, 4))  # one point, outside
@example(([[[2, 2, 2, 2, 2, 2]]], 5, 5))  # one point, inside
@example(([[[0, 0, 9, 9, 0, 9, 9, 0]]], 9, 9))  # an outline that crosses itself
@example(([[[1, 1, 4, 1, 4, 4, 1, 4], [4, 1, 7, 1, 7, 4, 4, 4]]], 8, 8))  # two that share an edge
@example(([[[1, 1, 7, 1, 7, 7, 1, 7], [2, 2, 4, 2, 4, 4, 2, 4]]], 8, 8))  # one in the other
def test_filled_polygons_are_pycocotools(case):
    assert_filled(*case)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (7, 60), (60, 7), (33, 21)])
def test_many_random_polygons(size):
    # the share of boundaries that fall on a rounding step is small: quantity finds them
    height, width = size
    rng = np.random.default_rng(height * 100 + width)
    side = max(size)
    outlines = []
    for _ in range(150):
        sides = rng.integers(3, 10, rng.integers(1, 4))
        anywhere = [(rng.random(2 * n) * 2 * side - side / 2).tolist() for n in sides]
        corners = [np.round(rng.random(2 * n) * side).tolist() for n in sides]
        outlines += [anywhere, corners, [*anywhere, *corners]]
    assert_filled(outlines, height, width)


def test_objects_of_images_of_several_sizes():
    square = [2.0, 1.0, 6.0, 1.0, 6.0, 5.0, 2.0, 5.0]
    sizes = [(8, 9), (3, 9), (8, 4), (1, 1)]
    heights, widths = (np.array(sides) for sides in zip(*sizes))
    runs = fill(Polygons.from_lists([[square]] * 4), heights, widths)
    for n, (height, width) in enumerate(sizes):
        assert np.array_equal(pixels(runs, n, (height, width)), reference([square], height, width))
    assert runs.areas().tolist() == [16, 8, 8, 0]  # 4 x 4 pixels, cut at the image's border


def test_real_outlines():
    # The file by itself: its package takes Detectron2 along, which takes longer than all tests here
    roots = runpy.run_path(str(Path(cellseg_d2.__file__).parent / "data" / "datasets" / "roots.py"))
    folder = roots["find"]("livecell")
    files = sorted(folder.rglob("livecell_coco_*.json")) if folder else []
    if not files:
        searched = ", ".join(map(str, roots["searched"]()))
        pytest.skip(f"no annotations of LIVECell in {searched} (set {roots['ENV_NAME']})")
    content = json.loads(files[0].read_bytes())
    annotations = content["annotations"]
    annotations = list(annotations.values()) if isinstance(annotations, dict) else annotations
    outlines = [annotation["segmentation"] for annotation in annotations[:1500]]
    assert_parsed([json.dumps(outline) for outline in outlines])
    height, width = content["images"][0]["height"], content["images"][0]["width"]
    runs = fill(Polygons.from_lists(outlines), np.full(len(outlines), height), np.full(len(outlines), width))
    assert_well_formed(runs)
    rles = [mask_util.merge(mask_util.frPyObjects(outline, height, width)) for outline in outlines]
    expected, _ = decode_counts([rle["counts"] for rle in rles], np.full(len(rles), height * width))
    for name in ("offsets", "begin", "end"):
        assert np.array_equal(getattr(runs, name), getattr(expected, name))
    assert runs.areas().tolist() == [int(mask_util.area(rle)) for rle in rles]


# Segmentations of every kind


def where(n: int) -> str:
    return f"the object <{n}>"


def as_kind(kind: str, shape: tuple[int, int], corners: list[int]) -> tuple[object, np.ndarray]:
    """A segmentation of a rectangle, and its pixels."""
    x, y, w, h = corners
    mask = np.zeros(shape, bool)
    mask[y : y + h, x : x + w] = True
    rle = encode(mask)
    compressed = {"size": list(shape), "counts": rle["counts"].decode()}
    polygon = [[float(v) for v in (x, y, x + w, y, x + w, y + h, x, y + h)]]
    plain = {"size": list(shape), "counts": lengths_of(mask)}
    zeros = {"size": list(shape), "counts": [*lengths_of(mask), *([0] * (1 + x))]}
    segmentation = {
        "polygons": polygon, "compressed": compressed, "bytes": {**compressed, "counts": rle["counts"]},
        "plain": plain, "zeros": zeros, "none": None, "empty": [],
    }[kind]  # fmt: skip
    if kind in ("none", "empty"):
        return segmentation, np.zeros(shape, bool)
    return segmentation, reference(polygon, *shape) if kind == "polygons" else mask


KINDS = ["polygons", "compressed", "plain", "zeros", "none", "empty"]


@examples(40)
@given(st.data())
def test_mixed_kinds_keep_their_order(data):
    as_text = data.draw(st.booleans())
    kinds = data.draw(st.lists(st.sampled_from(KINDS if as_text else [*KINDS, "bytes"]), max_size=8))
    segmentations, masks = [], []
    for kind in kinds:
        shape = data.draw(st.tuples(st.integers(4, 12), st.integers(4, 12)))
        corners = [data.draw(st.integers(0, 2)), data.draw(st.integers(0, 2)), data.draw(st.integers(1, 6)), 2]
        segmentation, mask = as_kind(kind, shape, corners)
        segmentations.append(json.dumps(segmentation).encode() if as_text else segmentation)
        masks.append(mask)
    heights, widths = np.array([mask.shape for mask in masks], dtype=np.int64).reshape(-1, 2).T
    runs, has_mask, notes = to_runs(segmentations, heights, widths, where)
    assert has_mask.tolist() == [kind not in ("none", "empty") for kind in kinds]
    assert len(runs) == len(kinds) and len(notes) == (0 < has_mask.sum() < len(kinds))
    assert_well_formed(runs)
    for n, mask in enumerate(masks):
        assert np.array_equal(pixels(runs, n, mask.shape), mask), kinds[n]


@pytest.mark.parametrize("kind", ["compressed", "plain", "zeros"])
def test_a_mask_of_another_size_is_named(kind):
    good, _ = as_kind("compressed", (6, 8), [1, 1, 3, 2])
    turned, _ = as_kind(kind, (8, 6), [1, 1, 3, 2])  # as many pixels, but turned
    segmentations = [None, good, turned]
    with pytest.raises(DatasetError, match=r"<2> has a mask of size \[8, 6\] .* its image has \[6, 8\]"):
        to_runs(segmentations, np.full(3, 6), np.full(3, 8), where)


def test_lengths_that_do_not_add_up_are_named():
    good = {"size": [6, 8], "counts": [48]}
    polygon = [[1.0, 1, 4, 1, 4, 4, 1, 4]]
    for lengths, total in (([20, 20], 40), ([48, 1], 49), ([], 0)):
        with pytest.raises(DatasetError, match=f"<3>: its run lengths add up to {total}, the image has 48 pixels"):
            to_runs([polygon, good, None, {"size": [6, 8], "counts": lengths}], np.full(4, 6), np.full(4, 8), where)
    with pytest.raises(DatasetError, match=r"<0>: .*Expected `int` >= 0 - at `\$\.counts\[1\]`"):
        to_runs([{"size": [6, 8], "counts": [50, -2]}], np.full(1, 6), np.full(1, 8), where)
    short = encode(np.eye(5, 8, dtype=bool))["counts"].decode()  # whole, but of 40 pixels
    with pytest.raises(DatasetError, match="<2>: its run lengths add up to 40 pixels, the image has 48 pixels"):
        to_runs([polygon, good, {"size": [6, 8], "counts": short}], np.full(3, 6), np.full(3, 8), where)


def test_counts_that_break_off_are_named():
    mask = np.zeros((40, 40), bool)
    mask[5:9, 10:30] = True
    counts = encode(mask)["counts"].decode()
    whole = {"size": [40, 40], "counts": counts}
    for cut in range(len(counts)):
        segmentations = [whole, None, whole, {"size": [40, 40], "counts": counts[:cut]}, whole]
        with pytest.raises(DatasetError, match="<3>: its run lengths (break off|add up to)"):
            to_runs(segmentations, np.full(5, 40), np.full(5, 40), where)


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], "polygons"),  # a polygon without its list
        ([[1.0, 2.0, 3.0, "4", 5.0, 6.0]], "polygons"),
        ([[1.0, 2.0, 3.0, 1e9, 5.0, 6.0]], "in no image"),
        ({"size": [6, 8]}, "neither polygons nor run lengths"),
        ({"counts": "0"}, "neither polygons nor run lengths"),
        ({"size": [6, 8], "counts": 7}, "neither polygons nor run lengths"),
        ({"size": [6], "counts": "0"}, "neither polygons nor run lengths"),
        ("a mask", "neither polygons nor run lengths"),
        (17, "neither polygons nor run lengths"),
    ],
)
def test_what_is_no_segmentation_is_named(segmentation, message):
    good, _ = as_kind("polygons", (6, 8), [1, 1, 3, 2])
    texts = [json.dumps(s).encode() for s in (good, None, segmentation, good)]
    with pytest.raises(DatasetError, match=rf"<2>.*{message}"):
        to_runs(texts, np.full(4, 6), np.full(4, 8), where)


@pytest.mark.parametrize("as_text", [False, True])
def test_an_empty_mask_is_noted(as_text):
    nothing = {"size": [6, 8], "counts": [48]}
    segmentations = [as_kind("plain", (6, 8), [1, 1, 3, 2])[0], nothing, nothing, None]
    if as_text:
        segmentations = [json.dumps(segmentation).encode() for segmentation in segmentations]
    runs, has_mask, notes = to_runs(segmentations, np.full(4, 6), np.full(4, 8), where)
    assert runs.areas().tolist() == [6, 0, 0, 0] and has_mask.tolist() == [True, True, True, False]
    assert len(notes) == 1 and notes[0].startswith("3 objects") and "<1>" in notes[0]
