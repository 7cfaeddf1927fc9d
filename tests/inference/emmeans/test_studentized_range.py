"""Tail of the studentised range, against R and where there is a closed form."""

import numpy as np
import pytest
from scipy import stats

from mixedfx.inference.emmeans.studentized_range import studentized_range_tail

# R 4.x: ptukey(q, k, df, lower.tail = FALSE), accurate to about 1e-6 (its help page).
PTUKEY = {
    (3.5, 3, 4): 0.139553991358765,
    (2, 6, 17): 0.718567461819599,
    (8, 20, 2.5): 0.155468651424138,
    (3.5, 60, 120): 0.967209601697489,
    (2, 3, np.inf): 0.33349932504015,
}


@pytest.mark.parametrize("arguments", PTUKEY, ids=str)
def test_matches_ptukey(arguments):
    found = studentized_range_tail(*arguments)
    assert found == pytest.approx(PTUKEY[arguments], abs=1e-6)


@pytest.mark.full
@pytest.mark.parametrize("df", [0.3, 1.0, 2.5, 17.0, 1e4, np.inf])
@pytest.mark.parametrize("q", [0.0, 0.5, 3.5, 12.0])
def test_of_two_values_is_twice_the_tail_of_t(q, df):
    expected = 2.0 * stats.t.sf(q / np.sqrt(2.0), df)
    assert studentized_range_tail(q, 2, df) == pytest.approx(expected, rel=1e-9, abs=1e-25)


@pytest.mark.parametrize("k", [3, 6, 20])
@pytest.mark.parametrize("df", [1.0, 4.0, 120.0])
def test_matches_scipy_by_adaptive_quadrature(k, df):
    expected = stats.studentized_range.sf(3.5, k, df)
    assert studentized_range_tail(3.5, k, df) == pytest.approx(expected, rel=1e-8)


def test_is_missing_where_an_argument_is():
    assert np.isnan(studentized_range_tail(np.nan, 3, 10.0))
    assert np.isnan(studentized_range_tail(2.0, 3, np.nan))
