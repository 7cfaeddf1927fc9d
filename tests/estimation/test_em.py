"""EM engine: each step is the textbook's, the likelihood is monotone, and the stopping rule holds.

Source of truth: the E and the M step written down densely (Laird and Ware 1982, equations 3.2
to 3.6, at relative covariances), the theorem that EM never lowers the likelihood, and the
profiled engine's optimum.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest
from designs import cases
from hypothesis import given
from oracle import dense_z, lambdas
from tiers import but_for

import mixedfx as mfx
from mixedfx.design.build import build
from mixedfx.errors import ConvergenceWarning, ResponseError, SingularFitWarning
from mixedfx.estimation.em import EMIterates, ExpectationMaximization
from mixedfx.estimation.optimizer_result import Control
from mixedfx.likelihood.accumulate import compute_crossproducts
from mixedfx.likelihood.likelihood import GaussianLikelihood

# Two searches for one optimum end within this of each other: the tolerance of lme4's comparison.
SAME = 1e-6

MODELS = {
    "intercept": ("Reaction ~ Days + (1 | Subject)", "sleepstudy"),
    "slope": ("Reaction ~ Days + (Days | Subject)", "sleepstudy"),
    "diagonal": ("Reaction ~ Days + (Days || Subject)", "sleepstudy"),
    "crossed": ("diameter ~ 1 + (1 | plate) + (1 | sample)", "Penicillin"),
    "nested": ("strength ~ 1 + (1 | batch/cask)", "Pastes"),
}
ZERO = ("Yield ~ 1 + (1 | Batch)", "Dyestuff2")
BATCHES = 6
every_model = pytest.mark.parametrize("name", MODELS)
both_criteria = pytest.mark.parametrize("reml", [True, False], ids=["REML", "ML"])
quietly = pytest.mark.filterwarnings("ignore::mixedfx.errors.ConvergenceWarning")


def fitted(model, engine="em", **kwargs):
    if engine == "em" and not kwargs:
        return by_em(model)
    formula, data = model
    return mfx.lmer(formula, mfx.datasets.load(data), engine=engine, **kwargs)


@cache
def by_em(model):
    formula, data = model
    return mfx.lmer(formula, mfx.datasets.load(data), engine="em")


def iterates_of(fit):
    return fit.model.optimizer_result.raw


def far_from_the_optimum(model):
    """A start whose every relative variance is far too large."""
    formula, data = model
    parametrization = compute_crossproducts(
        build(mfx.parse(formula), mfx.datasets.load(data))
    ).parametrization
    return 10.0 * parametrization.coordinates.is_sd


def largest_increase(trace):
    return np.diff(trace).max(initial=-np.inf)


def estimated(case, iterations, start):
    return ExpectationMaximization().estimate(
        case.design,
        GaussianLikelihood(case.crossprod, case.reml),
        control=Control(max_evaluations=iterations),
        start=start,
    )


# ---------------------------------------------------------------- one step


def textbook_step(design, theta, *, reml):
    """Each term's next relative covariance, from the dense inverse of V / sigma**2."""
    y, X = design.rows.response_less_offset, design.rows.X
    n, p = X.shape
    w = np.ones(n) if design.rows.weights is None else design.rows.weights
    Zs = [dense_z(random_term) for random_term in design.rows.random_terms]
    covs = [
        np.kron(np.eye(random_term.n_levels), lam @ lam.T)
        for random_term, lam in zip(design.rows.random_terms, lambdas(design, theta), strict=True)
    ]
    H = np.diag(1.0 / w) + sum(Z @ C @ Z.T for Z, C in zip(Zs, covs, strict=True))
    Hi = np.linalg.inv(H)
    P = Hi - Hi @ X @ np.linalg.solve(X.T @ Hi @ X, X.T @ Hi) if p else Hi
    s2 = y @ P @ y / (n - p if reml else n)
    result = []
    for random_term, Z, C in zip(design.spec.random_terms, Zs, covs, strict=True):
        b = C @ Z.T @ P @ y
        expected = np.outer(b, b) / s2 + C - C @ Z.T @ (P if reml else Hi) @ Z @ C
        k = len(random_term.effect_names)
        parts = [expected[i : i + k, i : i + k] for i in range(0, len(b), k)]
        mean = np.mean(parts, axis=0)
        result.append(
            np.diag(np.diag(mean)) if random_term.formula_term.structure == "diag" else mean
        )
    return result


@pytest.mark.full
@given(cases(kinds=("ordinary",)))
def test_a_step_is_the_textbooks(case):
    iterates = estimated(case, 2, case.theta).raw
    expected = textbook_step(case.design, case.theta, reml=case.reml)
    for lam, cov in zip(lambdas(case.design, iterates.thetas[1]), expected, strict=True):
        np.testing.assert_allclose(lam @ lam.T, cov, rtol=1e-7, atol=1e-7 * np.abs(cov).max())


@pytest.mark.full
@given(cases(kinds=("ordinary",)))
def test_the_first_iterate_is_the_start(case):
    iterates = estimated(case, 1, case.theta).raw
    expected = lambdas(case.design, case.theta)
    for lam, start in zip(lambdas(case.design, iterates.thetas[0]), expected, strict=True):
        np.testing.assert_allclose(lam @ lam.T, start @ start.T, rtol=1e-7, atol=1e-9)


# ---------------------------------------------------------------- monotonicity


@pytest.mark.kept("REML-intercept", "REML-diagonal", "ML-slope", "ML-crossed")
@every_model
@both_criteria
def test_the_deviance_never_rises(name, reml):
    fit = fitted(MODELS[name], reml=reml, start=far_from_the_optimum(MODELS[name]))
    assert largest_increase(fit.model.optimizer_result.trace) < 1e-9


@pytest.mark.full
@pytest.mark.kept("ML")
@quietly
@both_criteria
def test_the_deviance_never_rises_while_a_variance_goes_to_zero(reml):
    assert largest_increase(fitted(ZERO, reml=reml).model.optimizer_result.trace) < 1e-9


@pytest.mark.full
@given(cases(kinds=("ordinary", "tiny", "large", "singular")))
def test_the_deviance_never_rises_beyond_rounding_in_any_design(case):
    trace = estimated(case, 30, case.theta).trace
    assert largest_increase(trace) < 1e-9 * (case.crossprod.n + np.abs(trace).max())


# ---------------------------------------------------------------- convergence


@pytest.mark.kept(
    "moment estimates-REML-intercept",
    "moment estimates-ML-slope",
    "moment estimates-ML-diagonal",
    "far off-ML-crossed",
    "far off-REML-slope",
)
@every_model
@both_criteria
@pytest.mark.parametrize("far", [False, True], ids=["moment estimates", "far off"])
def test_it_ends_at_the_profiled_optimum(name, reml, far):
    start = far_from_the_optimum(MODELS[name]) if far else None
    fit = fitted(MODELS[name], reml=reml, start=start)
    optimum = fitted(MODELS[name], engine="profiled", reml=reml)
    assert fit.converged
    assert fit.deviance == pytest.approx(optimum.deviance, abs=SAME)


@pytest.mark.full
@pytest.mark.covering(2)
@every_model
@both_criteria
@pytest.mark.parametrize("tolerance", [1e-1, 1e-3, 1e-5, 1e-7])
def test_a_converged_fit_is_as_near_as_it_claims(name, reml, tolerance):
    fit = fitted(
        MODELS[name],
        reml=reml,
        start=far_from_the_optimum(MODELS[name]),
        control=Control(tolerance=tolerance),
    )
    optimum = fitted(MODELS[name], engine="profiled", reml=reml)
    # The estimate of what is left is exact in the limit; this far out it may err by a half.
    assert fit.converged
    assert fit.deviance - optimum.deviance < 1.5 * tolerance


@pytest.mark.covering(1)
@every_model
@both_criteria
def test_a_converged_fit_is_certified(name, reml):
    assert fitted(MODELS[name], reml=reml).certificate.ok


@pytest.mark.covering(1)
@every_model
@both_criteria
def test_it_stays_where_the_profiled_engine_ended(name, reml):
    optimum = fitted(MODELS[name], engine="profiled", reml=reml)
    fit = fitted(MODELS[name], reml=reml, start=optimum.theta)
    np.testing.assert_allclose(fit.theta, optimum.theta, rtol=0, atol=1e-5)


@pytest.mark.kept("1e-06-slope", "1000000.0-diagonal")
@pytest.mark.parametrize("name", ["slope", "diagonal"])
@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_the_unit_of_a_column_does_not_change_the_iterates(name, unit):
    formula, data = MODELS[name]
    sleep = mfx.datasets.load(data)
    scaled = sleep.assign(Days=unit * sleep["Days"])
    plain, other = (mfx.lmer(formula, d, reml=False, engine="em") for d in (sleep, scaled))
    np.testing.assert_allclose(
        other.model.optimizer_result.trace, plain.model.optimizer_result.trace, rtol=0, atol=SAME
    )


@both_criteria
def test_where_a_column_has_its_zero_does_not_change_the_iterates(reml):
    # To an unstructured term it is another basis, in which EM's steps are the same.
    formula, data = MODELS["slope"]
    sleep = mfx.datasets.load(data)
    moved = sleep.assign(Days=sleep["Days"] + 100.0)
    lam = np.array([[1.0, 0.0], [0.3, 0.5]])
    turned = np.linalg.cholesky((T := np.array([[1.0, -100.0], [0.0, 1.0]]) @ lam) @ T.T)
    starts = (lam[np.tril_indices(2)], turned[np.tril_indices(2)])
    plain, other = (
        mfx.lmer(formula, d, reml=reml, engine="em", start=s)
        for d, s in zip((sleep, moved), starts, strict=True)
    )
    np.testing.assert_allclose(
        other.model.optimizer_result.trace, plain.model.optimizer_result.trace, rtol=0, atol=SAME
    )


@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_the_unit_of_the_response_does_not_change_the_iterates(unit):
    formula, data = MODELS["slope"]
    sleep = mfx.datasets.load(data)
    scaled = sleep.assign(Reaction=unit * sleep["Reaction"])
    plain, other = (iterates_of(mfx.lmer(formula, d, engine="em")) for d in (sleep, scaled))
    np.testing.assert_allclose(other.thetas, plain.thetas, rtol=0, atol=SAME)


def test_a_response_without_residuals_is_an_error():
    data = mfx.datasets.load("Dyestuff")
    data = data.assign(Yield=data["Batch"].cat.codes.astype(float))
    with pytest.raises(ResponseError, match="without residuals"):
        mfx.lmer("Yield ~ 1 + (1 | Batch)", data, engine="em")


# ---------------------------------------------------------------- limit of evaluations


@pytest.fixture(scope="module")
def at_the_limit():
    with pytest.warns(ConvergenceWarning) as warned:
        fit = fitted(MODELS["nested"], control=Control(max_evaluations=20))
    return fit, str(warned[0].message)


def test_a_search_at_the_limit_has_not_converged(at_the_limit):
    fit, _ = at_the_limit
    assert not fit.converged


def test_a_search_at_the_limit_keeps_to_its_limit(at_the_limit):
    fit, _ = at_the_limit
    assert fit.model.optimizer_result.evaluations == 20


def test_a_search_at_the_limit_warns_of_how_far_it_got(at_the_limit):
    fit, warned = at_the_limit
    gap = fit.deviance - fitted(MODELS["nested"], engine="profiled").deviance
    said = float(warned.split("after 20 iterations about ")[1].split()[0])
    assert said == pytest.approx(gap, rel=0.5)


@pytest.mark.parametrize("way", ["Control(max_evaluations=200)", "engine='profiled'", "start="])
def test_a_search_at_the_limit_says_what_to_do(at_the_limit, way):
    fit, _ = at_the_limit
    assert any(way in note for note in fit.notes)


def test_the_profiled_engine_finishes_a_search_at_the_limit(at_the_limit):
    fit, _ = at_the_limit
    end = fitted(MODELS["nested"], engine="profiled", start=fit.theta)
    optimum = fitted(MODELS["nested"], engine="profiled")
    assert end.deviance == pytest.approx(optimum.deviance, abs=SAME)


@quietly
def test_one_evaluation_is_a_search():
    assert len(iterates_of(fitted(MODELS["slope"], control=Control(max_evaluations=1))).thetas) == 1


# ---------------------------------------------------------------- a variance of zero


@pytest.mark.full
@pytest.mark.kept("ML")
@quietly
@both_criteria
def test_a_variance_of_zero_is_reported_as_not_converged(reml):
    fit = fitted(ZERO, reml=reml)
    assert not fit.converged
    assert fit.theta[0] > 0.0


@pytest.mark.full
@pytest.mark.kept("400-REML")
@quietly
@both_criteria
@pytest.mark.parametrize("iterations", but_for([400, 1600], [400]))
def test_convergence_to_zero_is_harmonic(reml, iterations):
    # Delta_new = Delta - S Delta**2 / L: S Delta, the gap, goes as L over the iterations.
    fit = fitted(ZERO, reml=reml, control=Control(max_evaluations=iterations))
    with pytest.warns(SingularFitWarning):
        optimum = fitted(ZERO, engine="profiled", reml=reml)
    gap = fit.deviance - optimum.deviance
    assert gap == pytest.approx(BATCHES / iterations, rel=0.25)


@both_criteria
def test_near_a_variance_of_zero_a_large_tolerance_is_kept(reml):
    fit = fitted(ZERO, reml=reml, control=Control(tolerance=0.05))
    with pytest.warns(SingularFitWarning):
        optimum = fitted(ZERO, engine="profiled", reml=reml)
    assert fit.converged
    assert fit.deviance - optimum.deviance < 1.5 * 0.05


@pytest.mark.full
@quietly
@pytest.mark.filterwarnings("ignore::mixedfx.errors.SingularFitWarning")
def test_the_boundary_slope_is_that_of_the_profiled_engine():
    # So many rows a level that EM gets to what is called zero: S grows with them.
    y = np.random.default_rng(1).normal(size=(2, 100_000))
    y -= y.mean(axis=1, keepdims=True)
    data = pd.DataFrame({"y": y.ravel(), "g": np.repeat(["a", "b"], y.shape[1])})
    model, start = "y ~ 1 + (1 | g)", [1.01e-4]
    fit = mfx.lmer(model, data, engine="em", start=start)
    optimum = mfx.lmer(model, data, engine="profiled")
    assert fit.certificate.boundary == ("sd(Intercept | g)",)
    assert fit.certificate.boundary_slope == pytest.approx(
        optimum.certificate.boundary_slope, rel=0.01
    )


@pytest.mark.kept("slope", "crossed")
@every_model
def test_a_start_of_zero_is_left(name):
    theta = np.zeros_like(far_from_the_optimum(MODELS[name]))
    fit = fitted(MODELS[name], start=theta)
    optimum = fitted(MODELS[name], engine="profiled")
    assert fit.deviance == pytest.approx(optimum.deviance, abs=SAME)


def test_a_start_with_a_correlation_of_one_is_left():
    fit = fitted(MODELS["slope"], start=[1.0, 0.2, 0.0])
    optimum = fitted(MODELS["slope"], engine="profiled")
    assert fit.deviance == pytest.approx(optimum.deviance, abs=SAME)


def test_a_start_on_the_boundary_is_said_to_be_moved():
    notes = fitted(MODELS["intercept"], start=[0.0]).notes
    assert any("start= lies on the boundary" in note for note in notes)


def test_of_a_start_inside_nothing_is_said():
    assert fitted(MODELS["intercept"], start=[1.0]).notes == ()


# ---------------------------------------------------------------- iterates


def test_the_engine_is_named():
    assert fitted(MODELS["slope"]).engine == "em"


def test_no_other_engine_confirms_it():
    assert fitted(MODELS["slope"]).certificate.confirmed_by is None


def test_it_refuses_nothing():
    formula, data = MODELS["nested"]
    design = build(mfx.parse(formula), mfx.datasets.load(data))
    assert ExpectationMaximization().refusal(design) is None


@every_model
def test_there_is_an_iterate_for_each_evaluation(name):
    fit = fitted(MODELS[name])
    assert iterates_of(fit).thetas.shape == (fit.model.optimizer_result.evaluations, len(fit.theta))


@every_model
def test_the_last_iterate_is_the_fit(name):
    fit = fitted(MODELS[name])
    np.testing.assert_array_equal(iterates_of(fit).thetas[-1], fit.theta)


@pytest.mark.kept("REML-intercept", "REML-diagonal", "ML-slope", "ML-crossed")
@every_model
@both_criteria
def test_the_deviances_of_the_iterates_are_those_of_their_thetas(name, reml):
    fit = fitted(MODELS[name], reml=reml)
    iterates = iterates_of(fit)
    formula, data = MODELS[name]
    middle = len(iterates.thetas) // 2
    with pytest.warns(ConvergenceWarning):
        there = mfx.lmer(
            formula,
            mfx.datasets.load(data),
            reml=reml,
            engine="em",
            start=iterates.thetas[middle],
            control=Control(max_evaluations=1),
        )
    assert there.deviance == pytest.approx(iterates.deviances[middle], abs=1e-9)


def test_the_trace_is_that_of_the_iterates():
    fit = fitted(MODELS["slope"])
    assert fit.model.optimizer_result.trace == iterates_of(fit).deviances


def test_iterates_cannot_be_written_to():
    assert not EMIterates(np.ones((2, 1)), (1.0, 0.5)).thetas.flags.writeable
