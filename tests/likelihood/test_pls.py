"""The criterion: what one theta implies equals the textbook, on every path to it.

Source of truth: tests/oracle.py, which forms the marginal covariance densely; derivatives are
held against differences of the oracle's deviance.
"""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from designs import THETAS, cases
from hypothesis import given
from oracle import dense_model, dense_model_of, dense_z, lambdas
from tiers import examples

import mixedfx as mfx
from mixedfx.design.build import build
from mixedfx.likelihood.accumulate import compute_crossproducts
from mixedfx.likelihood.basis import ColumnBasis
from mixedfx.likelihood.pls import solve_pls
from mixedfx.likelihood.score import average_information, score_covariance, score_theta
from mixedfx.linalg.cholesky import analysis
from mixedfx.linalg.cholesky import dense as dense_block
from mixedfx.linalg.cholesky.symbolic import DenseUpdate, PairwiseUpdate, SparseUpdate


@pytest.fixture(autouse=True, scope="module")
def small_designs_have_leading_factors():
    """Small designs are one dense block by default; here elimination by level is tested."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(analysis, "DENSE_ONLY_SIZE", 0)
        yield


# Elimination subtracts: what is left of X'WX and y'Wy is smaller than they by the order of
# Lambda' Z'WZ Lambda, and loses that many digits. For the "large" thetas (up to about 30) that is
# 1e5 to 1e6; against exact rational arithmetic it is the criterion that errs then, not the oracle.
DIGITS, FEWER_DIGITS = 1e-8, 1e-6
# Central differences of four points: the truncation is below the rounding, which is that of the
# deviance (about 1e-12) over the step. Far out, where the oracle's matrices have condition numbers
# of 1e6, the deviance itself has an error of about 1e-9.
STEP, DIFFERENCES, FAR_DIFFERENCES = 3e-4, 1e-6, 3e-5

many = examples(60)


def solved(case):
    found = solve_pls(case.crossprod, case.theta, reml=case.reml)
    return found, dense_model(case.design, case.theta, reml=case.reml)


def digits_of(case):
    """How closely two ways to compute a case agree, relatively."""
    return FEWER_DIGITS if case.theta_kind == "large" else DIGITS


def assert_same(found, expected, digits):
    """Compare arrays in the size of their largest entry: near zero only rounding is left."""
    size = max(1.0, np.abs(expected).max(initial=0.0))
    np.testing.assert_allclose(found, expected, rtol=0, atol=digits * size)


# ---------------------------------------------------------------- what a theta implies


@pytest.mark.full
@many
@given(cases())
def test_deviance_is_the_oracles(case):
    found, expected = solved(case)
    digits = digits_of(case)
    assert found.deviance == pytest.approx(expected.deviance, rel=digits, abs=digits)


@pytest.mark.full
@many
@given(cases())
def test_coefficients_are_the_oracles(case):
    found, expected = solved(case)
    assert_same(found.beta, expected.beta, digits_of(case))


@many
@given(cases())
def test_sigma_is_the_oracles(case):
    found, expected = solved(case)
    assert found.sigma == pytest.approx(expected.sigma, rel=digits_of(case))


@many
@given(cases())
def test_covariance_of_the_coefficients_is_the_oracles(case):
    found, expected = solved(case)
    assert_same(found.sigma**2 * found.vcov_unscaled, expected.cov_beta, digits_of(case))


@pytest.mark.full
@many
@given(cases())
def test_effects_are_the_oracles(case):
    found, expected = solved(case)
    for ours, theirs in zip(found.conditional_modes(), expected.effects, strict=True):
        assert_same(ours.T, theirs, digits_of(case))


@many
@given(cases())
def test_spherical_effects_make_the_effects(case):
    # The definition of u: b = Lambda u.
    found, _ = solved(case)
    lams = lambdas(case.design, case.theta)
    for u, b, lam in zip(found.spherical_modes(), found.conditional_modes(), lams, strict=True):
        assert_same(lam @ u, b, digits_of(case))


@many
@given(cases())
def test_conditional_covariances_are_the_oracles(case):
    found, expected = solved(case)
    for ours, theirs in zip(found.conditional_covariances(), expected.cond_cov, strict=True):
        assert_same(ours.transpose(2, 0, 1), theirs, digits_of(case))


@many
@given(cases())
def test_residual_sum_of_squares_is_penalised(case):
    # Bates et al. (2015), equation 20: pwrss = |W^1/2 (y - X beta - Z b)|^2 + |u|^2.
    found, _ = solved(case)
    design = case.design
    rest = design.rows.response_less_offset - design.rows.X @ found.beta
    for random_term, b in zip(design.rows.random_terms, found.conditional_modes(), strict=True):
        rest = rest - np.einsum("nk,kn->n", random_term.model_matrix, b[:, random_term.codes])
    weights = 1.0 if design.rows.weights is None else design.rows.weights
    penalty = sum(float((u**2).sum()) for u in found.spherical_modes())
    explained = float((weights * rest**2).sum()) + penalty
    assert found.pwrss == pytest.approx(explained, rel=digits_of(case))


# ---------------------------------------------------------------- derivatives


def differences(function, x, step):
    """Differentiate by central differences of fourth order."""
    result = np.empty(len(x))
    for i in range(len(x)):
        e = np.zeros(len(x))
        e[i] = step
        near = function(x + e) - function(x - e)
        far = function(x + 2 * e) - function(x - 2 * e)
        result[i] = (8 * near - far) / (12 * step)
    return result


@pytest.mark.full
@many
@given(cases(kinds=[k for k in THETAS if k != "large"]))
def test_gradient_is_the_slope_of_the_oracle(case):
    def deviance(theta):
        return dense_model(case.design, theta, reml=case.reml).deviance

    found = score_theta(solve_pls(case.crossprod, case.theta, reml=case.reml))
    assert_same(found, differences(deviance, case.theta, STEP), DIFFERENCES)


@pytest.mark.full
@many
@given(cases(kinds=["large"]))
def test_gradient_is_the_slope_of_the_oracle_far_out(case):
    # Thetas of 10: a step in proportion, and slopes that are small against the deviance.
    def deviance(theta):
        return dense_model(case.design, theta, reml=case.reml).deviance

    found = score_theta(solve_pls(case.crossprod, case.theta, reml=case.reml))
    assert_same(found, differences(deviance, case.theta, 10 * STEP), FAR_DIFFERENCES)


@many
@given(cases(kinds=["all zero"]))
def test_zero_is_stationary_whatever_the_data(case):
    # The deviance is even in Lambda.
    found = score_theta(solve_pls(case.crossprod, case.theta, reml=case.reml))
    assert_same(found, np.zeros_like(found), DIGITS)


@pytest.mark.covering(1)
@pytest.mark.parametrize("size", [1e-3, 1e-5, 1e-7, 1e-8, 1e-10])
@pytest.mark.parametrize("formula", ["y ~ x + (1 | a) + (1 | e)", "y ~ x + (x | a) + (x | e)"])
def test_gradient_goes_to_zero_with_theta(formula, size):
    # The deviance is even and smooth in theta, so its slope there is curvature times theta.
    design = deep(formula)
    schur = compute_crossproducts(design)
    direction = np.random.default_rng(5).normal(size=schur.parametrization.size)

    def slope(scale):
        return score_theta(solve_pls(schur, scale * direction, reml=True)) / scale

    curvature = slope(1e-3)  # the next order of the series is a million times smaller
    assert_same(size * slope(size), size * curvature, DIFFERENCES)


@pytest.mark.full
@many
@given(cases(kinds=["ordinary", "some zero", "all zero", "singular"]))
def test_score_is_the_slope_of_the_oracle_by_the_covariance(case):
    # Section 5 of the criterion: dd = tr(S d Sigma), in units of the columns' root mean square.
    relative = [lam @ lam.T for lam in lambdas(case.design, case.theta)]
    column_rms = case.crossprod.column_rms
    unit = compute_crossproducts(case.design, bases=tuple(map(ColumnBasis.scaling, column_rms)))
    found = score_covariance(unit, unit.factors_at(case.theta), reml=case.reml)
    for t, (S, scale) in enumerate(zip(found, column_rms, strict=True)):
        k = len(scale)
        for a in range(k):
            for b in range(a + 1):
                direction = np.zeros((k, k))
                direction[a, b] = direction[b, a] = 1.0
                natural = direction / np.outer(scale, scale)

                def deviance(x, t=t, natural=natural):
                    moved = [C + x[0] * natural if i == t else C for i, C in enumerate(relative)]
                    return dense_model_of(moved, case.design, reml=case.reml).deviance

                slope = differences(deviance, np.zeros(1), 1e-4)
                # Off zero by 1e-4 in Lambda, score errs by the square of that in Sigma.
                assert_same([np.sum(S * direction)], slope, 1e-4)


@pytest.mark.full
@many
@given(cases(kinds=["ordinary", "some zero", "singular", "tiny"]))
def test_average_information_is_its_definition(case):
    # Gilmour, Thompson and Cullis (1995): y'P V_i P V_j P y, sigma**2 profiled out.
    design, expected = case.design, dense_model(case.design, case.theta, reml=case.reml)
    nu = design.rows.n - design.rows.X.shape[1] * case.reml
    weights = np.ones(design.rows.n) if design.rows.weights is None else design.rows.weights
    here = lambdas(design, case.theta)
    Zs = [
        dense_z(random_term).reshape(design.rows.n, random_term.n_levels, -1)
        for random_term in design.rows.random_terms
    ]

    def spread(middles):
        """``sum_t Z_t (I (x) middle_t) Z_t'``."""
        return sum(np.einsum("nla,ab,mlb->nm", Z, m, Z) for Z, m in zip(Zs, middles, strict=True))

    V = expected.sigma**2 * (np.diag(1.0 / weights) + spread([lam @ lam.T for lam in here]))
    Vi = np.linalg.inv(V)
    ViX = Vi @ design.rows.X
    P = Vi - ViX @ np.linalg.pinv(design.rows.X.T @ ViX) @ ViX.T
    Py = P @ design.rows.response_less_offset
    pulls = []
    for unit in np.eye(len(case.theta)):
        there = lambdas(design, unit)
        slopes = [a @ b.T + b @ a.T for a, b in zip(here, there, strict=True)]
        pulls.append(expected.sigma**2 * spread(slopes) @ Py)
    pulls = np.array(pulls)
    profiled = pulls @ P @ pulls.T - np.outer(pulls @ Py, pulls @ Py) / nu
    solution = solve_pls(case.crossprod, case.theta, reml=case.reml)
    coordinates = case.crossprod.parametrization.coordinates
    found = average_information(solution, coordinates.jacobians(case.theta))
    assert_same(found, profiled, 1e-7)


# ---------------------------------------------------------------- every path of the factorisation


def orders(ZtZ):
    """All sequences of factors each nested in all later ones, the rest as the dense block."""
    factors = range(len(ZtZ.diagonal))
    for length in range(len(factors) + 1):
        for leading in permutations(factors, length):
            if all(
                ZtZ.pattern.is_nested(a, b) and ZtZ.layout.levels(a) >= ZtZ.layout.levels(b)
                for i, a in enumerate(leading)
                for b in leading[i + 1 :]
            ):
                yield list(leading), [f for f in factors if f not in leading]


def crossed():
    """Cases whose chain is one factor and whose tail is not empty: there is a choice."""
    return cases().filter(
        lambda c: (
            len(c.crossprod.symbolic.leading_factors) == 1
            and len(c.crossprod.symbolic.dense_factors) > 0
        )
    )


def outcome(case):
    """Everything that the factorisation is used for, at one theta."""
    schur = compute_crossproducts(case.design)  # with a symbolic factor of its own
    found = solve_pls(schur, case.theta, reml=case.reml)
    return schur.symbolic, [
        np.array([found.deviance, found.sigma]),
        found.beta,
        found.vcov_unscaled,
        score_theta(found),
        *found.conditional_modes(),
        *found.spherical_modes(),
        *found.conditional_covariances(),
    ]


def assert_outcomes_agree(case, found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        assert_same(ours, theirs, digits_of(case))


@pytest.mark.full
@many
@given(cases())
def test_every_order_of_elimination_agrees(case):
    # From no leading factor (one dense block) to as many as possible.
    _, expected = outcome(case)
    for leading, dense in orders(case.crossprod.ZtZ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(analysis, "elimination_order", lambda ZtZ, order=(leading, dense): order)
            analysis.forget_patterns()
            symbolic, found = outcome(case)
        analysis.forget_patterns()
        assert (list(symbolic.leading_factors), list(symbolic.dense_factors)) == (leading, dense)
        assert_outcomes_agree(case, found, expected)


@pytest.mark.full
@many
@given(crossed())
def test_dense_and_pairwise_products_agree(case):
    results = []
    for advantage, kind in [(0.0, PairwiseUpdate), (np.inf, DenseUpdate)]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(analysis, "DENSE_ADVANTAGE", advantage)
            symbolic, found = outcome(case)
        assert isinstance(symbolic.steps[0].update, kind)
        results.append(found)
    assert_outcomes_agree(case, *results)


@pytest.mark.full
@many
@given(crossed())
def test_sparse_products_agree_with_pairs_that_are_stored(case):
    results = []
    for most, kind in [(0, SparseUpdate), (np.inf, PairwiseUpdate)]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(analysis, "DENSE_ADVANTAGE", 0.0)
            patch.setattr(analysis, "MAX_PAIRS", most)
            patch.setattr(analysis, "_PANEL_ENTRIES", 7)
            symbolic, found = outcome(case)
        assert isinstance(symbolic.steps[0].update, kind)
        results.append(found)
    assert_outcomes_agree(case, *results)


@pytest.mark.full
@many
@given(crossed())
def test_dense_products_in_batches_agree_with_whole_ones(case):
    _, expected = outcome(case)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(analysis, "DENSE_ADVANTAGE", np.inf)  # dense products at any cost
        patch.setattr(analysis, "_BATCH_ENTRIES", 1)  # a level at a time
        patch.setattr(dense_block, "_BLOCK_ROWS", 3)  # rows of the dense block
        symbolic, found = outcome(case)
    assert len(symbolic.steps[0].update.batches) == symbolic.steps[0].L
    assert_outcomes_agree(case, found, expected)


def deep(kind, seed=1):
    """Four factors; rows in blocks so that every level has several."""
    rng = np.random.default_rng(seed)
    n = 48
    d = rng.integers(2, size=n)
    c = 2 * rng.integers(2, size=n) + d
    b = 4 * rng.integers(2, size=n) + c
    a = 8 * rng.integers(2, size=n) + b
    frame = pd.DataFrame({"y": rng.normal(size=n), "x": rng.normal(size=n), "a": a, "b": b})
    frame = frame.assign(c=c, d=d, e=rng.integers(5, size=n), f=rng.integers(3, size=n))
    return build(mfx.parse(kind), frame)


@pytest.mark.covering(2)
@pytest.mark.parametrize(
    ("formula", "leading", "dense"),
    [
        ("y ~ x + (1 | a) + (1 | b) + (1 | c) + (1 | d)", 4, 0),
        ("y ~ x + (x | d) + (x | c) + (x | b) + (1 | a)", 4, 0),
        ("y ~ x + (1 | d) + (x | b) + (1 | e)", 2, 1),
        ("y ~ x + (1 | d) + (1 | a) + (x | e) + (0 + x | f)", 2, 2),
        ("y ~ x + (x | a) + (1 | e) + (1 | f)", 1, 2),
        ("y ~ x", 0, 0),
    ],
)
@pytest.mark.parametrize("reml", [False, True])
@pytest.mark.parametrize("advantage", [0.0, np.inf])
def test_leading_factors_and_dense_blocks_agree_with_the_oracle(
    formula, leading, dense, reml, advantage, monkeypatch
):
    monkeypatch.setattr(analysis, "DENSE_ADVANTAGE", advantage)
    design = deep(formula)
    schur = compute_crossproducts(design)
    assert (len(schur.symbolic.leading_factors), len(schur.symbolic.dense_factors)) == (
        leading,
        dense,
    )
    theta = np.random.default_rng(2).normal(size=schur.parametrization.size)

    def deviance(theta):
        return dense_model(design, theta, reml=reml).deviance

    found = solve_pls(schur, theta, reml=reml)
    assert found.deviance == pytest.approx(deviance(theta), rel=DIGITS)
    assert_same(score_theta(found), differences(deviance, theta, STEP), DIFFERENCES)


# ---------------------------------------------------------------- data that are hard on digits


@pytest.fixture(scope="module")
def decades():
    """Yearly rows in seven groups; `t` is the same time, centred and in decades."""
    rng = np.random.default_rng(3)
    year = np.tile(np.arange(1950.0, 2021.0, 5.0), 7)
    t = (year - 1985.0) / 10.0
    g = np.repeat(np.arange(7), len(year) // 7)
    y = 1.0 + 0.5 * t - 0.2 * t**2 + rng.normal(size=7)[g] + rng.normal(size=len(t))
    return pd.DataFrame({"y": y, "year": year, "t": t, "g": g})


# Columns (1, year, year**2) in those of (1, t, t**2): t = (year - 1985) / 10.
IN_T = np.array([[1.0, 1985.0, 1985.0**2], [0.0, 10.0, 2 * 10 * 1985.0], [0.0, 0.0, 100.0]])


@pytest.mark.parametrize("reml", [False, True])
def test_nearly_dependent_columns_lose_no_digits_of_the_deviance(decades, reml):
    raw = build(mfx.parse("y ~ year + I(year**2) + (1 | g)"), decades)
    centred = build(mfx.parse("y ~ t + I(t**2) + (1 | g)"), decades)
    expected = dense_model(centred, [0.7], reml=reml).deviance
    if reml:  # |X'V^-1 X| changes with the basis of X
        expected += 2.0 * np.linalg.slogdet(IN_T)[1]
    found = solve_pls(compute_crossproducts(raw), np.array([0.7]), reml=reml).deviance
    assert found == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("reml", [False, True])
def test_nearly_dependent_columns_keep_their_coefficients(decades, reml):
    raw = build(mfx.parse("y ~ year + I(year**2) + (1 | g)"), decades)
    centred = build(mfx.parse("y ~ t + I(t**2) + (1 | g)"), decades)
    expected = dense_model(centred, [0.7], reml=reml)
    found = solve_pls(compute_crossproducts(raw), np.array([0.7]), reml=reml)
    # The condition number of X is 1e9: its square, which normal equations have, leaves nothing.
    np.testing.assert_allclose(IN_T @ found.beta, expected.beta, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("reml", [False, True])
def test_nearly_dependent_columns_keep_their_standard_errors(decades, reml):
    raw = build(mfx.parse("y ~ year + I(year**2) + (1 | g)"), decades)
    centred = build(mfx.parse("y ~ t + I(t**2) + (1 | g)"), decades)
    inverse = np.linalg.inv(IN_T)
    expected = inverse @ dense_model(centred, [0.7], reml=reml).cov_beta @ inverse.T
    found = solve_pls(compute_crossproducts(raw), np.array([0.7]), reml=reml)
    se = found.sigma * np.sqrt(np.diag(found.vcov_unscaled))
    np.testing.assert_allclose(se, np.sqrt(np.diag(expected)), rtol=1e-6)


@pytest.fixture(scope="module")
def far():
    """A response whose spread is 1 and whose mean is 1e8, and the same less 1e8 exactly."""
    rng = np.random.default_rng(4)
    g = np.repeat(np.arange(8), 5)
    x = rng.normal(size=40)
    y = 1e8 + (rng.normal(size=8)[g] + 0.3 * x + rng.normal(size=40))
    return pd.DataFrame({"y": y, "near": y - 1e8, "x": x, "g": g})


@pytest.mark.parametrize("reml", [False, True])
@pytest.mark.parametrize("weights", [None, "w"])
def test_response_far_from_zero_loses_no_digits(far, reml, weights):
    frame = far.assign(w=np.linspace(0.5, 2.0, len(far)))
    theta = np.array([0.8])
    away = build(mfx.parse("y ~ x + (1 | g)"), frame, weights=weights)
    near = build(mfx.parse("near ~ x + (1 | g)"), frame, weights=weights)
    expected = dense_model(near, theta, reml=reml)
    found = solve_pls(compute_crossproducts(away), theta, reml=reml)
    # 1e-16 of 1e8 is 1e-8 of the spread: more digits are not in the data.
    assert found.deviance == pytest.approx(expected.deviance, rel=1e-7)
    assert found.beta[1] == pytest.approx(expected.beta[1], rel=1e-6)
    np.testing.assert_allclose(
        found.conditional_modes()[0][0], expected.effects[0][:, 0], atol=1e-6
    )


def test_huge_and_tiny_columns_lose_no_digits(far):
    frame = far.assign(big=1e9 * far["x"], small=1e-9 * far["x"] ** 2)
    plain = frame.assign(big=far["x"], small=far["x"] ** 2)
    formula = mfx.parse("near ~ big + small + (1 | g)")
    expected = dense_model(build(formula, plain), [0.8], reml=False)
    found = solve_pls(compute_crossproducts(build(formula, frame)), np.array([0.8]), reml=False)
    assert found.deviance == pytest.approx(expected.deviance, rel=1e-10)
    np.testing.assert_allclose(found.beta * [1.0, 1e9, 1e-9], expected.beta, rtol=1e-7)
