"""Specification and rows: one holds nothing of the length of the data, the other the data as given.

Sources of truth: the arrays and objects that can be reached from a specification, whatever their
place; weak references to what the caller had; the columns of the data.
"""

from __future__ import annotations

import gc
import pickle
import types
import weakref

import numpy as np
import pandas as pd
import pytest

import mixedfx as mfx
from mixedfx.design.build import Design, build, subset_rows
from mixedfx.formula.parser import parse, parse_dispersion

N = 997
MODEL = "np.log(y) ~ x + poly(z, 2) + bs(w, 4) + scale(x):f + C(k) + (x + f | g) + (1 | k > 5)"


def table(n: int = N) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    return pd.DataFrame(
        {
            "y": rng.uniform(1.0, 9.0, n),
            "x": rng.normal(size=n),
            "z": rng.normal(size=n),
            "w": rng.uniform(1.0, 2.0, n),
            "f": np.resize(["a", "b", "c"], n),
            "k": np.resize([1, 7, 9, 12], n),
            "g": np.resize([f"g{i}" for i in range(20)], n),
        }
    )


def built(**options) -> Design:
    dispersion = parse_dispersion("~ poly(w, 2) + (1 | g)")
    return build(parse(MODEL), table(), residual=dispersion, **options)


def reachable(root: object) -> list[object]:
    """All objects that an object keeps alive, but code, classes and modules."""
    seen: dict[int, object] = {}
    waiting = [root]
    while waiting:
        value = waiting.pop()
        if id(value) in seen or isinstance(value, type | types.ModuleType | types.FunctionType):
            continue
        seen[id(value)] = value
        waiting += gc.get_referents(value)
    return list(seen.values())


def test_a_specification_holds_nothing_as_long_as_the_rows():
    design = built(weights="w", offset="z")
    sizes = [v.size for v in reachable(design.spec) if isinstance(v, np.ndarray | pd.Series)]
    assert sizes
    assert max(sizes) < N / 10
    assert max(len(v) for v in reachable(design.spec) if isinstance(v, list | tuple)) < N / 10


def test_a_specification_names_what_was_read():
    spec = built(weights="w", offset="z").spec
    assert set(spec.variables) == {"y", "x", "z", "w", "f", "k", "g"}
    assert (spec.weights_column, spec.offset_column) == ("w", "z")
    assert spec.residual.keyword == "dispersion"


def test_values_have_no_column():
    assert built(offset=np.ones(N)).spec.offset_column is None


def test_names_and_levels_of_a_specification_can_be_pickled():
    spec = built().spec
    again = pickle.loads(pickle.dumps(spec.without_evaluation()))
    assert (again.X_names, again.ngroups) == (spec.X_names, spec.ngroups)


def test_nesting_is_that_of_the_rows():
    plot = np.arange(N) % 24
    frame = table().assign(plot=plot, field=plot // 2, farm=plot // 8, year=np.arange(N) % 5)
    formula = "y ~ 1 + (1 | plot) + (1 | farm) + (1 | field) + (1 | year)"
    assert build(parse(formula), frame).spec.nesting == {"plot": "field", "field": "farm"}


@pytest.mark.full
@pytest.mark.cases(1)
@pytest.mark.parametrize("dispersion", [None, "~ I(x + big.mean() * 0)"])
def test_a_fit_does_not_keep_what_its_caller_had(dispersion):
    def fitted():
        big, x, shift = np.zeros(10**6), np.zeros(10**6), 1.0
        alive = [weakref.ref(x)] + [weakref.ref(big)] * (dispersion is None)
        assert (len(big), len(x), shift) == (10**6, 10**6, 1.0)
        return mfx.lmer("y ~ I(x + shift)", table(60), dispersion=dispersion), alive

    fit, alive = fitted()
    gc.collect()
    assert [reference() for reference in alive] == [None] * len(alive)
    assert len(fit.predict(table(10))) == 10


def test_the_response_is_kept_as_given():
    rows = built(offset="z").rows
    np.testing.assert_array_equal(rows.y, np.log(table()["y"]))
    np.testing.assert_array_equal(rows.response_less_offset, rows.y - table()["z"])


def test_the_offset_is_added_once_to_a_linear_predictor():
    rows, rng = built(offset="z").rows, np.random.default_rng(1)
    beta = rng.normal(size=rows.X.shape[1])
    effects = [rng.normal(size=(t.model_matrix.shape[1], t.n_levels)) for t in rows.random_terms]
    expected = rows.X @ beta + table()["z"].to_numpy()
    np.testing.assert_allclose(rows.fixed_predictor(beta), expected, rtol=1e-12)
    np.testing.assert_allclose(
        rows.fixed_predictor(np.stack([beta, 2.0 * beta])),
        [expected, 2.0 * expected - table()["z"]],
        rtol=1e-10,
    )
    for term, b in zip(rows.random_terms, effects, strict=True):
        expected = expected + (term.model_matrix * b[:, term.codes].T).sum(axis=1)
    np.testing.assert_allclose(rows.linear_predictor(beta, effects), expected, rtol=1e-10)
    first = rows.linear_predictor(beta, [effects[0], None])
    without = rows.linear_predictor(beta, [None, None])
    np.testing.assert_allclose(without, rows.fixed_predictor(beta))
    assert not np.allclose(first, without)


def test_some_rows_have_their_own_levels_in_both_halves():
    design = built()
    some = subset_rows(design, (table()["g"] != "g3").to_numpy())
    assert "g3" not in some.spec.levels_of("g").labels
    for spec, rows in zip(some.spec.random_terms, some.rows.random_terms, strict=True):
        assert (spec.group, len(spec.levels)) == (rows.group, rows.n_levels)
        assert rows.codes.max() < rows.n_levels
    (spec,), (rows,) = some.spec.residual.random_terms, some.rows.residual.random_terms
    assert len(spec.levels) == rows.n_levels == 19
