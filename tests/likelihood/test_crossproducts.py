"""Cross-products: sums over rows, formed without a dense Z, equal those formed with one.

Source of truth: the dense Z of tests/oracle.py, and the definitions Z'WZ, Z'WX and so on.
"""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from designs import cases
from hypothesis import given
from oracle import dense_z
from tiers import examples

import mixedfx as mfx
from mixedfx.design.build import build
from mixedfx.errors import DataError
from mixedfx.likelihood.accumulate import compute_crossproducts, with_response
from mixedfx.likelihood.pls import solve_pls
from mixedfx.linalg.cholesky import analysis

# Sums of at most 40 products of numbers of order one: rounding, in the order of summation.
ROUNDING = 1e-11

many = examples(60)


def weights_of(design):
    return np.ones(design.rows.n) if design.rows.weights is None else design.rows.weights


def dense_factors(design):
    """Dense Z of each grouping factor, (n, K, L): columns of all its terms, in formula order."""
    groups = list(dict.fromkeys(b.group for b in design.rows.random_terms))
    return [
        np.concatenate(
            [
                dense_z(b).reshape(design.rows.n, b.n_levels, -1).transpose(0, 2, 1)
                for b in design.rows.random_terms
                if b.group == group
            ],
            axis=1,
        )
        for group in groups
    ]


def dense_columns(design, reduced):
    """The dense columns that the cross-products are formed with: ``[X B^-1, y - X centre]``."""
    qr_R = np.eye(reduced.p) if reduced.qr_R is None else reduced.qr_R
    flat = np.linalg.solve(qr_R.T, design.rows.X.T).T
    return np.column_stack(
        [flat, design.rows.response_less_offset - design.rows.X @ reduced.ols_coef]
    )


def assert_sums(found, expected):
    size = max(1.0, np.abs(expected).max(initial=0.0))
    np.testing.assert_allclose(found, expected, rtol=0, atol=ROUNDING * size)


@pytest.mark.full
@many
@given(cases())
def test_a_factors_own_block_is_dense_zwz(case):
    weights = weights_of(case.design)
    for Z, found in zip(dense_factors(case.design), case.crossprod.ZtZ.diagonal, strict=True):
        assert_sums(found, np.einsum("nal,n,nbl->abl", Z, weights, Z))


@pytest.mark.full
@many
@given(cases())
def test_a_factors_levels_do_not_meet(case):
    # What the block leaves out is zero: no row has two levels of one factor.
    for Z in dense_factors(case.design):
        full = np.einsum("nal,nbm->ablm", Z, Z)
        off = full * (1.0 - np.eye(Z.shape[2]))
        assert not off.any()


@pytest.mark.full
@many
@given(cases())
def test_couplings_are_dense_zwz_between_factors(case):
    weights, Zs, ZtZ = weights_of(case.design), dense_factors(case.design), case.crossprod.ZtZ
    for i in ZtZ.layout.factors:
        for j in range(i + 1, len(ZtZ.diagonal)):
            c = ZtZ.block(i, j)
            found = np.zeros(
                (
                    ZtZ.layout.width(i),
                    ZtZ.layout.levels(i),
                    ZtZ.layout.width(j),
                    ZtZ.layout.levels(j),
                )
            )
            found[:, c.rows, :, c.cols] = c.values.transpose(2, 0, 1)
            assert_sums(found, np.einsum("nal,n,nbm->albm", Zs[i], weights, Zs[j]))


@pytest.mark.full
@many
@given(cases())
def test_couplings_list_exactly_the_pairs_of_levels_that_occur(case):
    ZtZ = case.crossprod.ZtZ
    groups = list(dict.fromkeys(b.group for b in case.design.rows.random_terms))
    codes = {b.group: b.codes for b in case.design.rows.random_terms}
    for (i, j), c in ZtZ.blocks():
        expected = sorted(set(zip(codes[groups[i]], codes[groups[j]], strict=True)))
        assert list(zip(c.rows, c.cols, strict=True)) == expected


@pytest.mark.full
@many
@given(cases())
def test_a_coupling_seen_from_the_other_side_is_its_transpose(case):
    for (i, j), c in case.crossprod.ZtZ.blocks():
        back = case.crossprod.ZtZ.block(j, i)
        theirs = {(r, k): v for r, k, v in zip(c.rows, c.cols, c.values.T, strict=True)}
        ours = {(k, r): v.T for r, k, v in zip(back.rows, back.cols, back.values.T, strict=True)}
        assert ours.keys() == theirs.keys()
        assert all(np.array_equal(ours[key], theirs[key]) for key in ours)
        assert list(zip(back.rows, back.cols, strict=True)) == sorted(
            zip(back.rows, back.cols, strict=True)
        )


@pytest.mark.full
@many
@given(cases())
def test_ZtXy_is_dense_zwx_and_zwy(case):
    weighted = weights_of(case.design)[:, None] * dense_columns(case.design, case.crossprod)
    for Z, found in zip(dense_factors(case.design), case.crossprod.ZtXy, strict=True):
        assert_sums(found, np.einsum("nal,nm->aml", Z, weighted))


@pytest.mark.full
@many
@given(cases())
def test_the_corner_is_dense_xwx_xwy_ywy(case):
    columns = dense_columns(case.design, case.crossprod)
    assert_sums(case.crossprod.XytXy, columns.T @ (weights_of(case.design)[:, None] * columns))


@pytest.mark.full
@many
@given(cases(fixed=["1", "x", "x + z + c"]))
def test_the_response_is_taken_about_weighted_least_squares(case):
    # Normal equations: what is left of y is orthogonal to X in the weights.
    size = np.abs(case.crossprod.XytXy).max()
    np.testing.assert_allclose(case.crossprod.XytXy[:-1, -1], 0.0, atol=ROUNDING * size)


@pytest.mark.full
@many
@given(cases())
def test_the_scales_are_root_mean_squares(case):
    weights = weights_of(case.design)
    for random_term, found in zip(
        case.design.rows.random_terms, case.crossprod.column_rms, strict=True
    ):
        assert_sums(found, np.sqrt((weights[:, None] * random_term.model_matrix**2).mean(axis=0)))


@many
@given(cases())
def test_the_weights_logarithms_are_summed(case):
    assert case.crossprod.log_weights == pytest.approx(np.log(weights_of(case.design)).sum())


@pytest.mark.full
@many
@given(cases())
def test_rows_and_columns_are_counted(case):
    assert (case.crossprod.n, case.crossprod.p) == case.design.rows.X.shape


@pytest.mark.full
@many
@given(cases())
def test_each_term_finds_its_columns_in_its_factor(case):
    Zs = dense_factors(case.design)
    for random_term, position in zip(
        case.design.rows.random_terms, case.crossprod.term_positions, strict=True
    ):
        expected = dense_z(random_term).reshape(case.design.rows.n, random_term.n_levels, -1)
        found = Zs[position.group][:, position.start : position.start + position.width]
        np.testing.assert_array_equal(found.transpose(0, 2, 1), expected)


@pytest.mark.full
@many
@given(cases())
def test_the_order_of_the_rows_changes_only_rounding(case):
    design = case.design
    order = np.random.default_rng(case.seed).permutation(design.rows.n)
    rows = replace(
        design.rows,
        y=design.rows.response_less_offset[order],
        X=design.rows.X[order],
        weights=None if design.rows.weights is None else design.rows.weights[order],
        offset=None,
        random_terms=tuple(
            replace(b, codes=b.codes[order], model_matrix=b.model_matrix[order])
            for b in design.rows.random_terms
        ),
    )
    found = compute_crossproducts(replace(design, rows=rows), bases=case.crossprod.bases)
    assert_sums(found.XytXy, case.crossprod.XytXy)
    for ours, theirs in zip(found.ZtZ.diagonal, case.crossprod.ZtZ.diagonal, strict=True):
        assert_sums(ours, theirs)
    for ours, theirs in zip(found.ZtXy, case.crossprod.ZtXy, strict=True):
        assert_sums(ours, theirs)


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(6)
    return pd.DataFrame(
        {
            "y": rng.normal(size=60),
            "x": rng.normal(size=60),
            "g": rng.integers(6, size=60),
            "h": rng.integers(4, size=60),
        }
    )


def numbers_in(reduced):
    """How many numbers the reduced data hold."""
    ZtZ = reduced.ZtZ
    return (
        reduced.XytXy.size
        + sum(a.size for a in (*ZtZ.diagonal, *reduced.ZtXy))
        + sum(c.values.size + c.rows.size + c.cols.size for _, c in ZtZ.blocks())
    )


def test_size_does_not_depend_on_the_rows(table):
    formula = mfx.parse("y ~ x + (x | g) + (1 | h)")
    few = compute_crossproducts(build(formula, table))
    many_rows = compute_crossproducts(build(formula, pd.concat([table] * 50)))
    assert numbers_in(many_rows) == numbers_in(few)


def test_doubling_the_rows_doubles_the_sums(table):
    formula = mfx.parse("y ~ x + (x | g) + (1 | h)")
    once, twice = (
        compute_crossproducts(build(formula, table)),
        compute_crossproducts(build(formula, pd.concat([table, table]))),
    )
    for ours, theirs in zip(twice.ZtZ.diagonal, once.ZtZ.diagonal, strict=True):
        assert_sums(ours, 2.0 * theirs)
    assert_sums(twice.XytXy, 2.0 * once.XytXy)


def test_nearly_dependent_columns_get_an_orthonormal_basis(table):
    near = table.assign(year=1985.0 + np.arange(60.0) % 30)
    reduced = compute_crossproducts(build(mfx.parse("y ~ year + I(year**2) + (1 | g)"), near))
    assert reduced.qr_R is not None
    np.testing.assert_allclose(reduced.XytXy[:-1, :-1], np.eye(3), atol=1e-12)


def test_the_basis_keeps_the_determinant(table):
    # REML needs |X'X|: log |B'B| is what the orthonormal basis takes out of it.
    near = table.assign(year=1985.0 + np.arange(60.0) % 30)
    reduced = compute_crossproducts(build(mfx.parse("y ~ year + I(year**2) + (1 | g)"), near))
    t = (near["year"].to_numpy() - 2000.0) / 10.0
    centred = np.column_stack([np.ones(60), t, t**2])
    # (1, year, year**2) = (1, t, t**2) T, with det T = 10 * 100.
    expected = np.linalg.slogdet(centred.T @ centred)[1] + 2.0 * np.log(10.0 * 100.0)
    assert reduced.log_det_qr == pytest.approx(expected, rel=1e-10)


def test_well_conditioned_columns_are_left_as_they_are(table):
    assert compute_crossproducts(build(mfx.parse("y ~ x + (1 | g)"), table)).qr_R is None


# ---------------------------------------------------------------- another response


def same_cross_products(found, expected):
    assert_sums(found.XytXy, expected.XytXy)
    assert_sums(found.ols_coef, expected.ols_coef)
    for ours, theirs in zip(found.ZtXy, expected.ZtXy, strict=True):
        assert_sums(ours, theirs)
    for ours, theirs in zip(found.ZtZ.diagonal, expected.ZtZ.diagonal, strict=True):
        assert_sums(ours, theirs)


@pytest.mark.full
@many
@given(cases())
def test_another_response_gives_what_reducing_anew_gives(case):
    y = np.random.default_rng(case.seed).normal(size=case.rows)
    design = case.design.with_response(y)
    found = with_response(case.crossprod, design.rows)
    same_cross_products(found, compute_crossproducts(design, bases=case.crossprod.bases))


def test_another_response_shares_what_does_not_depend_on_it(table):
    design = build(mfx.parse("y ~ x + (x | g) + (1 | h)"), table)
    reduced = compute_crossproducts(design)
    assert (
        with_response(reduced, replace(design.rows, y=2.0 * design.rows.y)).symbolic
        is reduced.symbolic
    )


def test_another_response_leaves_the_old_one(table):
    design = build(mfx.parse("y ~ x + (x | g) + (1 | h)"), table)
    reduced = compute_crossproducts(design)
    before = reduced.XytXy.copy()
    with_response(reduced, replace(design.rows, y=2.0 * design.rows.y))
    np.testing.assert_array_equal(reduced.XytXy, before)


# ---------------------------------------------------------------- portions of the rows

PORTIONS = {
    "halves": [range(0, 60, 2), range(1, 60, 2)],
    "thirds": [range(20), range(20, 40), range(40, 60)],
    "uneven": [range(45), range(45, 60)],
    "sorted by level": None,
}
FORMULAS = [
    "y ~ x + (1 | g)",
    "y ~ x + (x | g) + (1 | h)",
    "y ~ x + (x || g) + (1 | g:h)",
    "y ~ year + I(year**2) + (1 | g) + (1 | h)",
    "y ~ 0 + (1 | h) + (0 + x | g)",
]


def portions_of(table, which):
    if PORTIONS[which] is None:  # no level of g is in more than one portion
        ordered = table.sort_values("g", kind="stable")
        return [ordered[ordered["g"] < 3], ordered[ordered["g"] >= 3]]
    return [table.iloc[list(rows)] for rows in PORTIONS[which]]


@pytest.fixture(scope="module")
def years(table):
    return table.assign(
        year=1985.0 + np.random.default_rng(7).integers(30, size=60), w=np.linspace(0.5, 2.0, 60)
    )


def added(formula, portions, weights=None):
    reduced = [
        compute_crossproducts(build(mfx.parse(formula), part, weights=weights)) for part in portions
    ]
    return sum(reduced[1:], start=reduced[0])


@pytest.mark.covering(2)
@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize("which", PORTIONS)
@pytest.mark.parametrize("weights", [None, "w"])
def test_portions_add_up_to_the_criterion_of_all_rows(years, formula, which, weights):
    whole = compute_crossproducts(build(mfx.parse(formula), years, weights=weights))
    found = added(formula, portions_of(years, which), weights)
    theta = np.random.default_rng(8).normal(size=whole.parametrization.size)
    for reml in (True, False):
        expected = solve_pls(whole, theta, reml=reml).deviance
        assert solve_pls(found, theta, reml=reml).deviance == pytest.approx(expected, rel=1e-9)


@pytest.mark.covering(1)
@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize("which", PORTIONS)
def test_portions_add_up_to_the_coefficients_of_all_rows(years, formula, which):
    whole = compute_crossproducts(build(mfx.parse(formula), years))
    found = added(formula, portions_of(years, which))
    theta = np.random.default_rng(8).normal(size=whole.parametrization.size)
    expected = solve_pls(whole, theta, reml=True)
    np.testing.assert_allclose(solve_pls(found, theta, reml=True).beta, expected.beta, rtol=1e-5)


@pytest.mark.covering(1)
@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize("which", PORTIONS)
def test_portions_add_up_to_the_levels_of_all_rows(years, formula, which):
    whole = compute_crossproducts(build(mfx.parse(formula), years))
    found = added(formula, portions_of(years, which))
    assert [list(x.labels) for x in found.levels] == [list(x.labels) for x in whole.levels]


def test_the_order_of_portions_changes_only_rounding(years):
    portions = portions_of(years, "thirds")
    theta = np.array([0.8, 0.1, 0.5, 0.6])
    formula = "y ~ x + (x | g) + (1 | h)"
    found = [
        solve_pls(added(formula, parts), theta, reml=True).deviance
        for parts in (portions, portions[::-1])
    ]
    assert found[0] == pytest.approx(found[1], rel=1e-11)


def test_a_response_far_from_zero_loses_no_digits_in_portions(years):
    # Each portion is reduced about its own centre.
    formula, theta = "y ~ x + (1 | g)", np.array([0.8])
    away = years.assign(y=1e8 + years["y"])
    near = away.assign(y=away["y"] - 1e8)
    expected = solve_pls(
        compute_crossproducts(build(mfx.parse(formula), near)), theta, reml=True
    ).deviance
    found = solve_pls(added(formula, portions_of(away, "thirds")), theta, reml=True).deviance
    assert found == pytest.approx(expected, rel=1e-7)


def test_portions_of_different_models_do_not_add(years):
    one, other = (
        compute_crossproducts(build(mfx.parse(f"y ~ {fixed} + (1 | g)"), years))
        for fixed in ("x", "1")
    )
    with pytest.raises(DataError, match="different models"):
        one + other


# ---------------------------------------------------------------- one symbolic factor a pattern


@pytest.fixture
def analyses(monkeypatch):
    """Patterns that are analysed during a test."""
    analysed = []

    def counted(pattern, analyze=analysis.analyze):
        analysed.append(pattern)
        return analyze(pattern)

    monkeypatch.setattr(analysis, "analyze", counted)
    analysis.forget_patterns()
    return analysed


@pytest.mark.full
@pytest.mark.parametrize("formula", ["y ~ x + (x | g) + (1 | h)", "y ~ x + (x | g) + (1 | g:h)"])
def test_fifty_portions_add_up_to_all_rows_with_one_analysis(formula, analyses):
    rng = np.random.default_rng(9)
    n = 3000
    table = pd.DataFrame(
        {
            "x": rng.normal(size=n),
            "g": np.arange(n) // 600 * 6 + rng.integers(8, size=n),
            "h": rng.integers(4, size=n),
            "y": rng.normal(size=n),
        }
    )
    reduced = added(formula, [table[i : i + 60] for i in range(0, n, 60)])
    assert not analyses
    theta = rng.normal(size=reduced.parametrization.size)
    found = [solve_pls(reduced, t, reml=True) for t in (0.5 * theta, theta)]
    assert analyses == [reduced.ZtZ.pattern]
    whole = compute_crossproducts(build(mfx.parse(formula), table), bases=reduced.bases)
    assert reduced.ZtZ.pattern.same(whole.ZtZ.pattern)
    for ours, theirs in zip(sums_of(reduced), sums_of(whole), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-10 * np.abs(theirs).max())
    expected = solve_pls(whole, theta, reml=True)
    assert found[1].deviance == pytest.approx(expected.deviance, rel=1e-10)
    np.testing.assert_allclose(found[1].beta, expected.beta, rtol=1e-10, atol=1e-10)


def sums_of(reduced):
    """Sums that do not depend on the coefficients about which the response is taken."""
    p = reduced.p
    yield from reduced.ZtZ.diagonal
    yield from (reduced.ZtZ.off_diagonal[ij] for ij in sorted(reduced.ZtZ.off_diagonal))
    yield from (ZtXy[:, :p] for ZtXy in reduced.ZtXy)
    yield reduced.XytXy[:p, :p]


def test_portions_with_the_same_levels_keep_the_pattern(table, analyses):
    reduced = compute_crossproducts(build(mfx.parse("y ~ x + (x | g) + (1 | h)"), table))
    other = compute_crossproducts(build(mfx.parse("y ~ x + (x | g) + (1 | h)"), table[::-1]))
    part = compute_crossproducts(build(mfx.parse("y ~ x + (x | g) + (1 | h)"), table[:40]))
    assert other.ZtZ.pattern is not reduced.ZtZ.pattern
    for total in (reduced + other, reduced + part, part + reduced):
        assert total.ZtZ.pattern is reduced.ZtZ.pattern
        assert total.symbolic is reduced.symbolic
    assert len(analyses) == 1


def test_another_response_is_assembled_once(table, analyses):
    design = build(mfx.parse("y ~ x + (x | g) + (1 | h)"), table)
    reduced = compute_crossproducts(design)
    other = with_response(reduced, replace(design.rows, y=2.0 * design.rows.y))
    assert other.assembled is reduced.assembled
    assert len(analyses) == 1


@pytest.mark.parametrize("formula", FORMULAS)
def test_cross_products_are_pickled_without_what_follows_from_them(years, formula):
    reduced = compute_crossproducts(build(mfx.parse(formula), years))
    theta = np.random.default_rng(8).normal(size=reduced.parametrization.size)
    expected = solve_pls(reduced, theta, reml=True)
    assert reduced.column_rms  # a cached property
    again = pickle.loads(pickle.dumps(reduced))
    assert "column_rms" not in vars(again)
    assert not again.ZtZ.cache
    assert not again.ZtZ.pattern.cache
    found = solve_pls(again, theta, reml=True)
    assert found.deviance == expected.deviance
    np.testing.assert_array_equal(found.beta, expected.beta)


@pytest.mark.parametrize("which", PORTIONS)
def test_pickled_portions_add_up_to_the_same_sums(years, which):
    formula, portions = "y ~ x + (x | g) + (1 | g:h) + (1 | h)", portions_of(years, which)
    reduced = [compute_crossproducts(build(mfx.parse(formula), part)) for part in portions]
    pickled = [pickle.loads(pickle.dumps(part)) for part in reduced]
    expected, found = (sum(parts[1:], start=parts[0]) for parts in (reduced, pickled))
    mixed = reduced[0] + sum(pickled[2:], start=pickled[1])
    theta = np.array([0.8, 0.1, 0.5, 0.6, 0.7])
    deviance = solve_pls(expected, theta, reml=True).deviance
    assert solve_pls(found, theta, reml=True).deviance == deviance
    assert solve_pls(mixed, theta, reml=True).deviance == pytest.approx(deviance, rel=1e-12)
