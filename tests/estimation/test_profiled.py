"""Profiled engine: invariances of the estimates, singular optima, starting values, convergence.

Source of truth: symmetries of the model (no reference numbers needed), and lme4's criterion where
a reference fit exists.
"""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
from oracle import dense_model
from reference_models import REFERENCES, fit_of

import mixedfx as mfx
from mixedfx.errors import ConvergenceWarning, SingularFitWarning
from mixedfx.likelihood.accumulate import compute_crossproducts

# Two searches for one optimum end within this of each other: the tolerance of lme4's comparison.
SAME = 1e-6
# Estimates at two such ends: an error e in the deviance is one of order sqrt(e) in theta at worst.
ESTIMATES = 1e-5

MODELS = {
    "intercept": ("Reaction ~ Days + (1 | Subject)", "sleepstudy"),
    "slope": ("Reaction ~ Days + (Days | Subject)", "sleepstudy"),
    "uncorrelated": ("Reaction ~ Days + (Days || Subject)", "sleepstudy"),
    "crossed": ("diameter ~ 1 + (1 | plate) + (1 | sample)", "Penicillin"),
    "nested": ("strength ~ 1 + (1 | batch/cask)", "Pastes"),
    "factors": ("angle ~ recipe * temperature + (1 | recipe:replicate)", "cake"),
    "zero": ("Yield ~ 1 + (1 | Batch)", "Dyestuff2"),
}
every_model = pytest.mark.parametrize("name", MODELS)
both_criteria = pytest.mark.parametrize("reml", [True, False], ids=["REML", "ML"])
pytestmark = pytest.mark.filterwarnings("ignore::mixedfx.errors.SingularFitWarning")


def theta_scale(crossprod):
    """Root mean square of the column of each entry of theta: times it, theta is free of units."""
    terms = zip(crossprod.column_rms, crossprod.parametrization.coordinates.terms, strict=True)
    return np.concatenate([rms[entries.rows] for rms, entries in terms])


def model_of(name):
    formula, data = MODELS[name]
    return formula, mfx.datasets.load(data)


@cache
def plain_fit(name, reml):
    formula, data = model_of(name)
    return mfx.lmer(formula, data, reml=reml)


def response_of(formula):
    return formula.split(" ~ ")[0]


# ---------------------------------------------------------------- symmetries


@pytest.mark.kept("REML-intercept", "REML-zero", "ML-slope", "ML-crossed")
@every_model
@both_criteria
def test_order_of_rows_does_not_matter(name, reml):
    formula, data = model_of(name)
    mixed = data.sample(frac=1.0, random_state=1)
    plain, other = plain_fit(name, reml), mfx.lmer(formula, mixed, reml=reml)
    assert other.deviance == pytest.approx(plain.deviance, abs=SAME)
    np.testing.assert_allclose(other.params, plain.params, rtol=ESTIMATES)
    np.testing.assert_allclose(other.theta, plain.theta, rtol=0, atol=ESTIMATES)


@pytest.mark.kept("REML-intercept", "REML-zero", "ML-slope", "ML-crossed")
@every_model
@both_criteria
def test_names_of_levels_do_not_matter(name, reml):
    # Reversed: the levels, and with them every array over levels, change their order.
    formula, data = model_of(name)
    fixed = mfx.parse(formula).fixed
    grouping = [
        c for c in data if data[c].dtype == "category" and c not in fixed.replace("*", " ").split()
    ]
    renamed = data.assign(
        **{c: (1000 - data[c].cat.codes.astype(int)).astype(str) for c in grouping}
    )
    plain, other = plain_fit(name, reml), mfx.lmer(formula, renamed, reml=reml)
    assert other.deviance == pytest.approx(plain.deviance, abs=SAME)
    np.testing.assert_allclose(other.fittedvalues, plain.fittedvalues, rtol=ESTIMATES)


@pytest.mark.covering(1)
@every_model
@both_criteria
@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_unit_of_the_response_scales_estimates_and_shifts_the_deviance(name, reml, unit):
    formula, data = model_of(name)
    y = response_of(formula)
    plain = plain_fit(name, reml)
    other = mfx.lmer(formula, data.assign(**{y: unit * data[y]}), reml=reml)
    np.testing.assert_allclose(other.params, unit * plain.params, rtol=ESTIMATES)
    np.testing.assert_allclose(other.sigma, unit * plain.sigma, rtol=ESTIMATES)
    np.testing.assert_allclose(other.theta, plain.theta, rtol=0, atol=ESTIMATES)
    # The density of c y is that of y over c, in as many dimensions as the criterion has.
    dimensions = plain.df_resid if reml else plain.nobs
    shift = 2.0 * dimensions * np.log(unit)
    assert other.deviance - plain.deviance == pytest.approx(shift, abs=SAME)


@pytest.mark.covering(1)
@pytest.mark.parametrize("name", ["intercept", "slope", "uncorrelated"])
@both_criteria
@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_unit_of_a_column_scales_its_coefficient(name, reml, unit):
    formula, data = model_of(name)
    plain = plain_fit(name, reml)
    other = mfx.lmer(formula, data.assign(Days=unit * data["Days"]), reml=reml)
    np.testing.assert_allclose(other.params, plain.params / [1.0, unit], rtol=ESTIMATES)
    np.testing.assert_allclose(other.bse, plain.bse / [1.0, unit], rtol=ESTIMATES)


@pytest.mark.covering(1)
@pytest.mark.parametrize("name", ["slope", "uncorrelated"])
@both_criteria
@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_unit_of_a_column_scales_its_random_effects(name, reml, unit):
    formula, data = model_of(name)
    plain = plain_fit(name, reml).ranef("Subject")
    other = mfx.lmer(formula, data.assign(Days=unit * data["Days"]), reml=reml).ranef("Subject")
    np.testing.assert_allclose(other * [1.0, unit], plain, rtol=0, atol=1e-3)


@pytest.mark.covering(1)
@pytest.mark.parametrize("name", ["intercept", "slope", "uncorrelated"])
@both_criteria
@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_unit_of_a_column_leaves_the_likelihood(name, reml, unit):
    formula, data = model_of(name)
    plain = plain_fit(name, reml)
    other = mfx.lmer(formula, data.assign(Days=unit * data["Days"]), reml=reml)
    # REML integrates over the coefficients, so their unit enters: log |X'V^-1 X|.
    expected = 2.0 * np.log(unit) if reml else 0.0
    assert other.deviance - plain.deviance == pytest.approx(expected, abs=SAME)


@pytest.mark.covering(1)
@every_model
@both_criteria
@pytest.mark.parametrize("shift", [-1e3, 1e6])
def test_shift_of_the_response_moves_the_intercept_alone(name, reml, shift):
    formula, data = model_of(name)
    y = response_of(formula)
    plain = plain_fit(name, reml)
    other = mfx.lmer(formula, data.assign(**{y: data[y] + shift}), reml=reml)
    expected = plain.params + np.where(plain.params.index == "Intercept", shift, 0.0)
    assert other.deviance == pytest.approx(plain.deviance, abs=SAME)
    np.testing.assert_allclose(other.params, expected, rtol=ESTIMATES)
    np.testing.assert_allclose(other.theta, plain.theta, rtol=0, atol=ESTIMATES)


CODINGS = ["recipe", "C(recipe, Sum)", "C(recipe, Helmert)", "C(recipe, Treatment('C'))"]


@pytest.mark.kept("C(recipe, Sum)")
@pytest.mark.parametrize("coding", CODINGS[1:])
def test_coding_of_a_fixed_factor_leaves_the_maximum_likelihood(coding):
    cake = mfx.datasets.load("cake")
    plain, other = (
        mfx.lmer(f"angle ~ {c} * temp + (1 | recipe:replicate)", _with_temp(cake), reml=False)
        for c in (CODINGS[0], coding)
    )
    assert other.deviance == pytest.approx(plain.deviance, abs=SAME)
    np.testing.assert_allclose(other.fittedvalues, plain.fittedvalues, rtol=ESTIMATES)


def _with_temp(cake):
    return cake.assign(temp=cake["temperature"].astype(float))


@pytest.mark.full
@pytest.mark.parametrize("coding", ["0 + f", "C(f, Sum)", "C(f, Helmert)"])
@both_criteria
def test_coding_of_a_random_factor_leaves_the_likelihood(coding, reml):
    # Correlated effects span the same space of covariances in any basis.
    data = REFERENCES["fac_f__reml"].data
    plain, other = (mfx.lmer(f"y ~ f + ({c} | g)", data, reml=reml) for c in ("f", coding))
    assert other.deviance == pytest.approx(plain.deviance, abs=SAME)
    np.testing.assert_allclose(other.fittedvalues, plain.fittedvalues, rtol=1e-4)


@pytest.mark.kept("REML-intercept", "REML-zero", "ML-slope", "ML-crossed")
@every_model
@both_criteria
def test_order_of_random_terms_does_not_matter(name, reml):
    formula, data = model_of(name)
    parsed = mfx.parse(formula)
    turned = replace(parsed, random=parsed.random[::-1])
    plain, other = (mfx.lmer(str(f), data, reml=reml) for f in (parsed, turned))
    assert other.deviance == pytest.approx(plain.deviance, abs=SAME)


@both_criteria
def test_equal_weights_change_sigma_alone(reml):
    formula, data = model_of("slope")
    plain = plain_fit("slope", reml)
    other = mfx.lmer(formula, data, reml=reml, weights=np.full(len(data), 4.0))
    assert other.deviance == pytest.approx(plain.deviance, abs=SAME)
    np.testing.assert_allclose(other.sigma, 2.0 * plain.sigma, rtol=ESTIMATES)
    np.testing.assert_allclose(other.cov_re, plain.cov_re, rtol=10 * ESTIMATES, atol=1e-3)


@both_criteria
def test_an_integer_weight_is_a_row_repeated_in_the_coefficients(reml):
    # At fixed theta only sigma depends on the number of rows: cross-products are compared.
    formula, data = model_of("slope")
    weights = 1.0 + np.arange(len(data)) % 3
    weighted = mfx.lmer(formula, data, weights=weights, reml=reml).model.crossprod
    fit = mfx.lmer(formula, data.loc[data.index.repeat(weights)], reml=reml)
    repeated = compute_crossproducts(fit.model.design, bases=weighted.bases)
    np.testing.assert_allclose(weighted.ZtZ.diagonal[0], repeated.ZtZ.diagonal[0], rtol=1e-12)
    np.testing.assert_allclose(weighted.ols_coef, repeated.ols_coef, rtol=1e-10)


@pytest.mark.kept("REML-intercept", "REML-zero", "ML-slope", "ML-crossed")
@every_model
@both_criteria
def test_engines_agree(name, reml):
    formula, data = model_of(name)
    ours, auto = (mfx.lmer(formula, data, reml=reml, engine=e) for e in ("profiled", "auto"))
    assert auto.deviance == pytest.approx(ours.deviance, abs=SAME)
    np.testing.assert_allclose(auto.params, ours.params, rtol=ESTIMATES)
    np.testing.assert_allclose(auto.theta, ours.theta, rtol=0, atol=1e-4)


# ---------------------------------------------------------------- reproducibility


@pytest.mark.covering(1)
@every_model
@pytest.mark.parametrize("engine", ["auto", "profiled"])
def test_a_fit_is_reproduced_bit_for_bit(name, engine):
    formula, data = model_of(name)
    once, again = (mfx.lmer(formula, data, engine=engine) for _ in range(2))
    assert once.theta.tobytes() == again.theta.tobytes()
    assert once.params.to_numpy().tobytes() == again.params.to_numpy().tobytes()
    assert once.deviance.hex() == again.deviance.hex()


@pytest.mark.full
def test_a_fit_is_reproduced_bit_for_bit_in_another_process():
    # Other hash seeds: no result may hang on the order of a set.
    script = (
        "import mixedfx as mfx; data = mfx.datasets.load('Penicillin');"
        "fit = mfx.lmer('diameter ~ 1 + (1 | plate) + (1 | sample)', data);"
        "print(fit.theta.tobytes().hex(), fit.deviance.hex())"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


# ---------------------------------------------------------------- the boundary


@both_criteria
def test_a_variance_of_zero_is_exactly_zero(reml):
    formula, data = model_of("zero")
    assert mfx.lmer(formula, data, reml=reml).theta.tolist() == [0.0]


@both_criteria
def test_a_variance_of_zero_has_a_positive_boundary_slope(reml):
    formula, data = model_of("zero")
    assert mfx.lmer(formula, data, reml=reml).certificate.boundary_slope > 0.0


@both_criteria
def test_a_variance_of_zero_is_not_a_failure(reml):
    formula, data = model_of("zero")
    fit = mfx.lmer(formula, data, reml=reml)
    assert (fit.converged, fit.is_singular, fit.certificate.ok) == (True, True, True)


def test_a_singular_fit_is_warned_of_once_at_the_caller():
    formula, data = model_of("zero")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        mfx.lmer(formula, data)
    assert [(w.category, w.filename) for w in caught] == [(SingularFitWarning, __file__)]


def test_a_singular_fit_names_the_effect_on_the_boundary():
    formula, data = model_of("zero")
    assert mfx.lmer(formula, data).certificate.boundary == ("sd(Intercept | Batch)",)


SINGULAR = [name for name, reference in REFERENCES.items() if reference["lme4_isSingular"]]


@pytest.mark.parametrize("name", SINGULAR)
def test_an_overfitted_covariance_ends_no_higher_than_lme4(name):
    reference = REFERENCES[name]
    best = min(reference["criterion"], reference["lme4_default"]["criterion"])
    assert fit_of(name, "profiled").deviance <= best + SAME


OVERFITTED = {
    "a quadratic": "Reaction ~ Days + (Days + I(Days**2) | Subject)",
    "a cubic": "Reaction ~ Days + (Days + I(Days**2) + I(Days**3) | Subject)",
    "a cubic without correlations": "Reaction ~ Days + (Days + I(Days**2) + I(Days**3) || Subject)",
    "two slopes": "Reaction ~ Days + (Days | Subject) + (Days | week)",
}


def overfitted(which, **kwargs):
    data = mfx.datasets.load("sleepstudy")
    data["week"] = np.resize([f"w{i}" for i in range(7)], len(data))
    return mfx.lmer(OVERFITTED[which], data, engine="profiled", **kwargs)


@pytest.mark.kept("REML-a quadratic", "ML-a cubic")
@pytest.mark.parametrize("which", OVERFITTED)
@both_criteria
def test_an_overfitted_model_is_certified(which, reml):
    fit = overfitted(which, reml=reml)
    assert fit.converged
    assert fit.certificate.ok, str(fit.certificate)


@pytest.mark.kept("0-a quadratic", "1-a cubic")
@pytest.mark.parametrize("which", OVERFITTED)
@pytest.mark.parametrize("seed", range(4))
def test_no_other_start_ends_lower(which, seed):
    fit = overfitted(which)
    rng = np.random.default_rng(seed)
    parametrization = fit.model.crossprod.parametrization
    start = rng.normal(size=parametrization.size) / theta_scale(fit.model.crossprod)
    other = overfitted(which, start=start)
    assert other.deviance == pytest.approx(fit.deviance, abs=SAME)


# ---------------------------------------------------------------- false stationary points


def weak_slopes(seed):
    """Twelve levels in 200 rows, whose intercepts and slopes by x hardly vary."""
    rng = np.random.default_rng(seed)
    g = rng.integers(12, size=200)
    Z = np.column_stack([np.ones(200), rng.normal(size=200), rng.normal(size=200)])
    b = rng.normal(size=(12, 3)) * [0.1, 0.1, 0.6]
    y = (Z * b[g]).sum(axis=1) + rng.normal(size=200)
    return pd.DataFrame({"y": y, "x": Z[:, 1], "z": Z[:, 2], "g": g})


# Where the first diagonal entry of Lambda vanishes, the derivative by the covariance of the
# first effect with the others is no derivative by any entry of the lower triangle: the gradient
# is zero at points that are no optimum.
FALSE_STATIONARY = {
    "y ~ 1 + (x | g)": [561, 633],
    "y ~ x + z + (x + z | g)": [11, 130, 241, 439, 553],
}
false_stationary = pytest.mark.parametrize(
    ("formula", "seed"), [(f, seed) for f, seeds in FALSE_STATIONARY.items() for seed in seeds]
)


@pytest.mark.kept("y ~ 1 + (x | g)-561", "y ~ x + z + (x + z | g)-11")
@false_stationary
def test_a_stationary_point_that_is_no_optimum_is_left(formula, seed):
    data = weak_slopes(seed)
    fit = mfx.lmer(formula, data, engine="profiled")
    start = fit.model.crossprod.parametrization.coordinates.is_sd.astype(float)
    other = mfx.lmer(formula, data, engine="profiled", start=start)
    assert fit.deviance <= other.deviance + SAME


@false_stationary
def test_a_singular_optimum_is_certified(formula, seed):
    certificate = mfx.lmer(formula, weak_slopes(seed), engine="profiled").certificate
    assert certificate.ok, str(certificate)


def test_an_optimum_close_to_the_boundary_takes_few_evaluations():
    # The slope's variance given the intercept is 7e-7: the deviance at zero is the same to
    # rounding, but the boundary slope there is negative.
    fit = mfx.lmer("y ~ 1 + (x | g)", weak_slopes(762), engine="profiled")
    assert fit.converged
    assert fit.model.optimizer_result.evaluations <= 60


def crossed_noise(seed, levels=(10, 8)):
    """Two crossed factors, neither of which matters."""
    rng = np.random.default_rng(seed)
    a, b = (rng.integers(count, size=120) for count in levels)
    return pd.DataFrame({"y": rng.normal(size=120), "x": rng.normal(size=120), "a": a, "b": b})


CROSSED = ["y ~ 1 + (1 | a) + (1 | b)", "y ~ 1 + (0 + x | a) + (0 + x | b)"]


@pytest.mark.covering(1)
@pytest.mark.parametrize("formula", CROSSED)
@pytest.mark.parametrize("seed", range(8))
def test_crossed_variances_of_zero_are_certified(formula, seed):
    fit = mfx.lmer(formula, crossed_noise(seed))
    assert fit.converged
    assert fit.certificate.ok, str(fit.certificate)


@pytest.mark.parametrize(
    "formula",
    ["y ~ 0 + (1 | a)", "y ~ 0 + (1 | a) + (1 | b)", "y ~ 0 + (x | a) + (1 | b)"],
)
@both_criteria
def test_a_model_without_fixed_effects_is_fitted(formula, reml):
    fit = mfx.lmer(formula, crossed_noise(0), reml=reml)
    expected = dense_model(fit.model.design, fit.theta, reml=reml)
    assert fit.certificate.ok
    assert fit.deviance == pytest.approx(expected.deviance, rel=1e-10)


VANISHING = ["y ~ 1 + (x || a)", "y ~ x + (x || a) + (x || b)", "y ~ x + (x | a) + (1 | b)"]


@pytest.mark.kept(
    "1-y ~ x + (x || a) + (x || b)", "2-y ~ x + (x | a) + (1 | b)", "6-y ~ 1 + (x || a)"
)
@pytest.mark.parametrize("formula", VANISHING)
@pytest.mark.parametrize("seed", range(8))
def test_a_vanishing_parameter_is_exactly_zero(formula, seed):
    # In each term's own unit, as lme4's isSingular has it; rounding is no variance.
    fit = mfx.lmer(formula, crossed_noise(seed), engine="profiled")
    sizes = np.abs(fit.theta * theta_scale(fit.model.crossprod))
    assert not ((sizes > 0.0) & (sizes < 1e-5)).any(), fit.theta


@pytest.mark.kept(
    "1-y ~ x + (x || a) + (x || b)", "2-y ~ x + (x | a) + (1 | b)", "3-y ~ 1 + (x || a)"
)
@pytest.mark.parametrize("formula", VANISHING)
@pytest.mark.parametrize("seed", range(8))
def test_every_boundary_is_probed(formula, seed):
    # Zero is stationary for any data: the rise of the deviance on leaving it must be computed.
    fit = mfx.lmer(formula, crossed_noise(seed), engine="profiled")
    assert np.isfinite(fit.certificate.boundary_slope) == fit.is_singular


@pytest.mark.kept(
    "0-y ~ 1 + (1 | a) + (1 | b)",
    "1-y ~ 1 + (0 + x | a) + (0 + x | b)",
    "2-y ~ 1 + (1 | a) + (1 | b)",
    "3-y ~ 1 + (0 + x | a) + (0 + x | b)",
)
@pytest.mark.parametrize("formula", CROSSED)
@pytest.mark.parametrize("seed", range(8))
def test_crossed_variances_of_zero_are_found_as_fast_as_others(formula, seed):
    assert mfx.lmer(formula, crossed_noise(seed)).model.optimizer_result.evaluations <= 25


def noisy_effects(seed, sds, subjects=12, items=8):
    """A two by two design within subjects and items, whose effects have the given sds."""
    rng = np.random.default_rng(seed)
    subject, item, cell = (
        v.ravel() for v in np.meshgrid(range(subjects), range(items), range(4), indexing="ij")
    )
    a, b = cell // 2 - 0.5, cell % 2 - 0.5
    X = np.column_stack([np.ones(len(a)), a, b, a * b])
    y = rng.normal(size=len(a))
    for codes, own in zip((subject, item), sds, strict=True):
        effects = rng.normal(size=(codes.max() + 1, 4)) * own
        y = y + (X * effects[codes]).sum(axis=1)
    return pd.DataFrame({"y": y, "a": a, "b": b, "subject": subject, "item": item})


MAXIMAL = "y ~ a * b + (a * b | subject) + (a * b | item)"


@pytest.mark.kept("0", "1")
@pytest.mark.parametrize("seed", range(6))
def test_overfitted_terms_take_few_evaluations(seed):
    # Of the 16 standard deviations three are not zero. In triangular factors alone a search
    # creeps along the valleys beside a singular covariance, up to 150 evaluations.
    data = noisy_effects(seed, ([0.6, 0.15, 0.0, 0.0], [0.4, 0.0, 0.0, 0.0]))
    fit = mfx.lmer(MAXIMAL, data, engine="profiled")
    assert fit.is_singular
    assert fit.certificate.ok, str(fit.certificate)
    assert fit.model.optimizer_result.evaluations <= 40


@pytest.mark.kept("0")
@pytest.mark.parametrize("seed", range(4))
def test_maximal_models_take_few_evaluations(seed):
    data = noisy_effects(seed, ([0.6, 0.6, 0.5, 0.8], [0.4, 0.4, 0.5, 0.6]), 24, 16)
    fit = mfx.lmer(MAXIMAL, data, engine="profiled")
    assert fit.certificate.ok, str(fit.certificate)
    assert fit.model.optimizer_result.evaluations <= 25


# ---------------------------------------------------------------- starting values


@every_model
def test_a_start_at_zero_finds_the_optimum(name):
    # Zero is a stationary point for any data: a false one, wherever a variance is positive.
    formula, data = model_of(name)
    best = mfx.lmer(formula, data, engine="profiled")
    other = mfx.lmer(formula, data, engine="profiled", start=np.zeros_like(best.theta))
    assert other.deviance == pytest.approx(best.deviance, abs=SAME)


@pytest.mark.parametrize("which", [0, 1])
def test_a_start_with_one_variance_at_zero_finds_the_optimum(which):
    formula, data = model_of("crossed")
    best = mfx.lmer(formula, data, engine="profiled")
    start = best.theta.copy()
    start[which] = 0.0
    other = mfx.lmer(formula, data, engine="profiled", start=start)
    assert other.deviance == pytest.approx(best.deviance, abs=SAME)


@pytest.mark.kept("zeros0", "zeros3", "zeros5")
@pytest.mark.parametrize("zeros", [[0], [1], [0, 1], [0, 2], [1, 2, 3], [0, 1, 2, 3]])
def test_zeros_of_a_diagonal_term_are_left_one_by_one(zeros):
    # Four effects, all present: whichever start at zero must all be found again.
    rng = np.random.default_rng(11)
    g = np.repeat(np.arange(40), 12)
    Z = np.column_stack([np.ones(480), rng.normal(size=(480, 3))])
    b = rng.normal(size=(40, 4)) * [1.0, 2.0, 0.5, 1.5]
    data = pd.DataFrame(Z[:, 1:], columns=["u", "v", "w"])
    data = data.assign(g=g, y=(Z * b[g]).sum(axis=1) + rng.normal(size=480))
    best = mfx.lmer("y ~ 1 + (u + v + w || g)", data, engine="profiled")
    start = best.theta.copy()
    start[zeros] = 0.0
    other = mfx.lmer("y ~ 1 + (u + v + w || g)", data, engine="profiled", start=start)
    assert other.deviance == pytest.approx(best.deviance, abs=SAME)


@pytest.mark.covering(1)
@every_model
@pytest.mark.parametrize("size", [1e-3, 30.0])
def test_a_start_far_off_finds_the_optimum(name, size):
    formula, data = model_of(name)
    best = mfx.lmer(formula, data, engine="profiled")
    start = (
        size
        * best.model.crossprod.parametrization.coordinates.is_sd
        / theta_scale(best.model.crossprod)
    )
    other = mfx.lmer(formula, data, engine="profiled", start=start)
    assert other.deviance == pytest.approx(best.deviance, abs=SAME)


@every_model
def test_a_start_at_the_optimum_stays_there(name):
    formula, data = model_of(name)
    best = mfx.lmer(formula, data, engine="profiled")
    other = mfx.lmer(formula, data, engine="profiled", start=best.theta)
    # Three from there, and those of the other starts, which look for a lower minimum.
    assert other.model.optimizer_result.evaluations <= 12
    np.testing.assert_allclose(other.theta, best.theta, rtol=0, atol=ESTIMATES)


@pytest.mark.parametrize("name", ["slope", "crossed"])
def test_signs_of_theta_are_canonical(name):
    formula, data = model_of(name)
    best = mfx.lmer(formula, data, engine="profiled")
    other = mfx.lmer(formula, data, engine="profiled", start=-best.theta)
    np.testing.assert_allclose(other.theta, best.theta, rtol=0, atol=ESTIMATES)


# Derivative-free optimisers need about fifty on sleepstudy.
@pytest.mark.covering(1)
@pytest.mark.parametrize("name", ["intercept", "slope", "uncorrelated", "crossed", "nested"])
@both_criteria
def test_few_evaluations_are_needed(name, reml):
    formula, data = model_of(name)
    assert mfx.lmer(formula, data, reml=reml).model.optimizer_result.evaluations <= 15


@pytest.mark.parametrize(("name", "most"), [("slope", 4), ("crossed", 4), ("nested", 4)])
def test_small_models_end_by_newton_steps(name, most):
    # The last step squares what is left to gain, from 3e-8 or less.
    formula, data = model_of(name)
    fit = mfx.lmer(formula, data, engine="profiled")
    assert fit.model.optimizer_result.evaluations <= most
    assert fit.convergence.newton_decrement < 1e-14


# ---------------------------------------------------------------- non-convergence

SLEEP, SHORT = "Reaction ~ Days + (Days | Subject)", mfx.Control(max_evaluations=2)


def uneven_sleepstudy():
    """Three days of every second subject: of all days the starting values are the optimum."""
    sleep = mfx.datasets.load("sleepstudy")
    return sleep[(sleep["Days"] < 3) | (sleep.index // 10 % 2 == 0)]


@pytest.fixture(scope="module")
def unfinished():
    with pytest.warns(ConvergenceWarning):
        return mfx.lmer(SLEEP, uneven_sleepstudy(), control=SHORT)


def test_an_unfinished_search_warns():
    with pytest.warns(ConvergenceWarning, match="did not converge"):
        mfx.lmer(SLEEP, uneven_sleepstudy(), control=SHORT)


def test_an_unfinished_search_has_not_converged(unfinished):
    assert not unfinished.converged


def test_an_unfinished_search_is_noted(unfinished):
    assert any("did not converge" in note for note in unfinished.notes)


def test_an_unfinished_search_says_after_how_many_evaluations(unfinished):
    assert any("after 2 evaluations" in note for note in unfinished.notes)


def test_an_unfinished_search_is_not_certified(unfinished):
    assert not unfinished.certificate.ok


def test_an_unfinished_search_says_so_in_its_summary(unfinished):
    assert "did not converge" in str(unfinished.summary())


@pytest.mark.kept("slope-1", "crossed-5")
@pytest.mark.parametrize("most", [1, 2, 5])
@pytest.mark.parametrize("name", ["slope", "crossed"])
def test_a_search_stops_at_the_most_evaluations(name, most):
    # From zero the boundary is left and the search begins again: the limit is for all of it.
    formula, data = model_of(name)
    start = 0.0 * mfx.lmer(formula, data).theta
    with pytest.warns(ConvergenceWarning):
        fit = mfx.lmer(formula, data, control=mfx.Control(max_evaluations=most), start=start)
    assert fit.model.optimizer_result.evaluations <= most


@pytest.mark.parametrize("tolerance", [1e-4, 1e-8, 1e-12])
def test_a_tolerance_bounds_what_is_left(tolerance):
    control = mfx.Control(tolerance=tolerance)
    fit = mfx.lmer(SLEEP, mfx.datasets.load("sleepstudy"), engine="profiled", control=control)
    best = REFERENCES["sleep_rs__reml"]["criterion"]
    assert fit.deviance - best <= 10 * tolerance + 1e-9


def test_the_trace_ends_at_the_deviance():
    fit = mfx.lmer(SLEEP, mfx.datasets.load("sleepstudy"), engine="profiled")
    search = fit.model.optimizer_result
    assert len(search.trace) == search.evaluations
    assert min(search.trace) == pytest.approx(fit.deviance, abs=1e-8)
