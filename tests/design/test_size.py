"""Fixed parts and factors of too many columns, refused before they are built."""

import numpy as np
import pandas as pd
import pytest

import mixedfx as mfx
from mixedfx.design import size as sizes
from mixedfx.errors import DataError, SizeError
from mixedfx.linalg import available_memory

N = 20_000


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(1)
    g = rng.integers(0, 5000, N)
    return pd.DataFrame(
        {
            "y": rng.normal(size=N),
            "g": g,
            "h": rng.integers(0, 5000, N),
            "text": [f"level {i}" for i in g],
            "id": [f"row {i}" for i in range(N)],
        }
    )


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("y ~ C(g)", r"'C\(g\)' has 4,898 levels.* 784 MB .*\(1 \| g\)"),
        ("y ~ text + (1 | h)", r"'text' has 4,898 levels.* 784 MB .*\(1 \| text\)"),
        ("y ~ C(g):C(h)", r"'C\(g\):C\(h\)' has 24,\d+,\d+ columns, in 20,000 rows 3,854\.1 GB"),
        ("y ~ (C(g) | h)", r"'C\(g\)' has 4,898 levels.*\(1 \| g\)"),
    ],
)
def test_a_factor_of_thousands_of_levels_is_named_with_its_bytes(data, formula, message):
    with pytest.raises(SizeError, match=message):
        mfx.lmer(formula, data)


def test_the_advice_for_such_a_factor_is_fitted(data):
    assert mfx.lmer("y ~ 1 + (1 | g)", data, engine="profiled").converged


def test_a_factor_with_a_level_for_each_row_is_named(data):
    for formula in ("y ~ id", "y ~ . - text - g + (1 | h)"):
        with pytest.raises(DataError, match="'id' has a different value in each of the 20,000"):
            mfx.lmer(formula, data)


def test_a_condition_in_c_is_no_factor_of_many_levels(data):
    fit = mfx.lmer("y ~ C(g > 2500) + (1 | h)", data, engine="profiled")
    assert len(fit.params) == 2


def test_a_fixed_part_beyond_memory_is_refused_with_its_bytes(data, monkeypatch):
    monkeypatch.setattr(available_memory, "available_memory", lambda: 400_000.0)
    with pytest.raises(SizeError, match=r"fixed part has 2 columns in 20,000 rows: 0 MB"):
        mfx.lmer("y ~ g", data)


def test_an_unforeseen_memory_error_is_one_of_the_package(data, monkeypatch):
    def fail(*_):
        raise MemoryError("Unable to allocate 7.45 GiB")

    monkeypatch.setattr("mixedfx.design.evaluation.check_columns", fail)
    with pytest.raises(SizeError, match=r"more memory .* \(Unable to allocate 7\.45 GiB\)"):
        mfx.lmer("y ~ g", data)


def test_the_bound_on_work_leaves_many_rows_of_few_columns():
    # A million rows of 200 columns are 4e10 multiplications, and no factor has many levels.
    assert sizes._MANY_MULTIPLICATIONS > 1e6 * 200.0**2
