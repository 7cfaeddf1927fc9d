"""Rows of the data that merged rows stand for."""

import numpy as np

from mixedfx.inference.equal_rows import EqualRows


def test_rows_that_are_equal_stand_one_after_another():
    counts = np.array([2.0, 1.0, 3.0])
    equal = EqualRows.of(counts)
    np.testing.assert_array_equal(equal.positions(np.arange(len(equal))), [0, 0, 1, 2, 2, 2])
