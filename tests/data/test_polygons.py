"""Polygons in flat arrays: areas, boxes, transforms and clipping against known answers."""

import numpy as np
import pytest
import shapely
from detectron2.data import transforms as T
from fvcore.transforms.transform import CropTransform, PadTransform, TransformList

from cellseg_d2.data.polygons import PolygonSet


def _square(x: float, y: float, side: float) -> list[float]:
    return [x, y, x + side, y, x + side, y + side, x, y + side]


SQUARES = [[_square(10, 10, 10)], [_square(28, 12, 4), _square(0, 0, 2)], [], [_square(50, 50, 6)]]


def test_there_and_back():
    polygons = PolygonSet.from_instances(SQUARES)
    assert polygons.owners.tolist() == [0, 1, 1, 3] and polygons.starts.tolist() == [0, 4, 8, 12]
    back = [[polygon.tolist() for polygon in instance] for instance in polygons.to_instances()]
    assert back == [instance for instance in SQUARES if instance]
    assert polygons.areas(5).tolist() == [100, 20, 0, 36, 0]
    assert polygons.boxes().tolist() == [[10, 10, 20, 20], [0, 0, 32, 16], [50, 50, 56, 56]]


@pytest.mark.parametrize("instances", [[], [[], []]])
def test_nothing(instances):
    polygons = PolygonSet.from_instances(instances).transformed(
        TransformList([T.HFlipTransform(50), CropTransform(0, 0, 10, 10)])
    )
    assert polygons.to_instances() == [] and polygons.boxes().shape == (0, 4)
    assert polygons.areas(3).tolist() == [0, 0, 0]


def test_area_does_not_depend_on_direction_or_place():
    forward = np.array(_square(1e5, 1e5, 3)).reshape(-1, 2)
    polygons = PolygonSet.from_instances([[forward.reshape(-1)], [forward[::-1].reshape(-1)]])
    assert polygons.areas(2) == pytest.approx([9, 9])


def test_crop_keeps_moves_clips_and_drops():
    polygons = PolygonSet.from_instances(SQUARES).transformed(CropTransform(5, 5, 25, 20))
    assert polygons.owners.tolist() == [0]  # of instance 1 only 8 of 20 pixels remain: fewer than 10
    assert polygons.boxes().tolist() == [[5, 5, 15, 15]]
    polygons = PolygonSet.from_instances(SQUARES).transformed(CropTransform(15, 0, 40, 55))
    assert polygons.owners.tolist() == [0, 1, 3]
    assert polygons.boxes().tolist() == [[0, 10, 5, 20], [13, 12, 17, 16], [35, 50, 40, 55]]
    assert polygons.areas(4) == pytest.approx([50, 16, 0, 25])


def test_slivers_are_relative_to_the_object():
    instances = [[_square(0, 0, 20)], [_square(0, 30, 3)]]
    cut = PolygonSet.from_instances(instances).transformed(CropTransform(18, 0, 40, 60))
    assert cut.owners.tolist() == [0]  # 40 of 400 pixels: exactly a tenth
    assert not PolygonSet.from_instances(instances).transformed(CropTransform(19, 0, 40, 60)).owners.size
    whole = PolygonSet.from_instances(instances).transformed(CropTransform(0, 0, 40, 60))
    assert whole.owners.tolist() == [0, 1]  # 9 pixels, but not cut


def test_concave_polygons_fall_into_pieces():
    comb = [0, 0, 30, 0, 30, 30, 20, 30, 20, 10, 10, 10, 10, 30, 0, 30]
    pieces = PolygonSet.from_instances([[comb]]).transformed(CropTransform(0, 15, 40, 15))
    assert pieces.owners.tolist() == [0, 0] and pieces.areas(1) == pytest.approx([300])


def test_clipping_equals_shapely_for_any_outline():
    rng = np.random.default_rng(0)
    angles = np.sort(rng.uniform(0, 2 * np.pi, (60, 12)), axis=1)
    radii, centres = rng.uniform(5, 15, (60, 12)), rng.uniform(0, 100, (60, 1, 2))
    stars = centres + radii[..., None] * np.stack([np.cos(angles), np.sin(angles)], axis=2)
    crossed = np.array([[30, 30, 50, 50, 50, 30, 30, 50]], dtype=float)  # a bow tie
    instances = [[star.reshape(-1)] for star in stars] + [[crossed[0]]]
    clipped = PolygonSet.from_instances(instances).transformed(CropTransform(20, 25, 60, 50))
    window = shapely.box(20, 25, 80, 75)
    expected = np.array(
        [shapely.make_valid(shapely.Polygon(p[0].reshape(-1, 2))).intersection(window).area for p in instances]
    )
    full = np.array([shapely.make_valid(shapely.Polygon(p[0].reshape(-1, 2))).area for p in instances])
    kept = np.unique(clipped.owners)
    assert clipped.areas(61)[kept[:-1]] == pytest.approx(expected[kept[:-1]], rel=1e-6)
    sure = (expected > 0.11 * full) & (expected > 10.5)
    assert set(np.flatnonzero(sure)) <= set(kept.tolist()) and 20 < len(kept) < 61
    low, high = clipped.extents()
    assert (low >= 0).all() and (high <= [60, 50]).all()


def test_order_of_owners_survives_a_crop():
    instances = [[_square(25, 5, 10)], [_square(5, 5, 4), _square(28, 8, 6)], [_square(10, 10, 5)]]
    polygons = PolygonSet.from_instances(instances).transformed(CropTransform(0, 0, 30, 30))
    assert polygons.owners.tolist() == [0, 1, 1, 2]
    assert polygons.boxes().tolist() == [[25, 5, 30, 15], [5, 5, 30, 14], [10, 10, 15, 15]]


def test_a_transform_with_its_own_way_is_refused():
    class Own(PadTransform):
        def apply_polygons(self, polygons: list) -> list:
            return polygons

    with pytest.raises(NotImplementedError, match="Own"):
        PolygonSet.from_instances(SQUARES).transformed(Own(1, 1, 1, 1))
