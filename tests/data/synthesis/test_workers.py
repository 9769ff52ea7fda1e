"""Work shared among processes."""

import operator

import pytest

from cellseg_d2.data.synthesis.workers import in_order


def test_results_come_in_the_order_of_the_items():
    assert list(in_order(operator.neg, iter(range(30)), 2)) == [-k for k in range(30)]


def test_what_fails_in_a_process_is_raised_at_its_place():
    results = in_order(operator.neg, [1, 2, "three", 4], 2)
    assert [next(results), next(results)] == [-1, -2]
    with pytest.raises(TypeError, match="bad operand"):
        next(results)


def test_one_process_computes_what_is_asked_for_only():
    taken = []
    results = in_order(operator.neg, (taken.append(k) or k for k in range(10)), 1)
    assert next(results) == 0 and taken == [0]
