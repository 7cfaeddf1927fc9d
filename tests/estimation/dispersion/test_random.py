"""Residual standard deviations drawn from a distribution: Laplace's approximation, checked thrice.

Source of truth: the integrand's density written out with its covariance, differentiated by
finite differences; Laplace's approximation made of that by scipy's optimum and a numerical
Hessian; and the integral itself, by Gauss and Hermite's quadrature about its mode.
"""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np
import pandas as pd
import pytest
from oracle import covariances, curvature, lambdas, marginal, slope
from scipy import optimize, special
from tiers import but_for

import mixedfx as mfx
from mixedfx.design.build import build
from mixedfx.errors import ArgumentError, EngineRefusal
from mixedfx.estimation.dispersion import cells
from mixedfx.estimation.dispersion.laplace import LaplaceDeviance
from mixedfx.estimation.dispersion.random import start_of
from mixedfx.estimation.profiled import estimate_theta
from mixedfx.formula.parser import parse_dispersion
from mixedfx.likelihood.likelihood import GaussianLikelihood
from mixedfx.likelihood.prediction_variance import prediction_rows, prediction_variance
from mixedfx.likelihood.stratified import sum_by_stratum
from mixedfx.linalg.differences import jacobian
from mixedfx.residuals.registry import residual_model


def _id(value: object) -> object:
    return {True: "REML", False: "ML"}[value] if isinstance(value, bool) else value


both_criteria = pytest.mark.parametrize("reml", [True, False], ids=_id)
reml_first = pytest.mark.parametrize("reml", but_for([True, False], [True]), ids=_id)

MODELS = {
    "intercept": ("y ~ x + (1 | g)", "~ 1 + (1 | g)", {}),
    "slope": ("y ~ x + (x | g)", "~ 1 + (1 | g)", {}),
    "crossed": ("y ~ x + (1 | g) + (1 | h)", "~ 1 + (1 | g)", {}),
    "across": ("y ~ x + (1 | g)", "~ 1 + (1 | h)", {}),
    "columns": ("y ~ x + (1 | g)", "~ kind + z + (1 | g)", {}),
    "weights": ("y ~ x + (1 | g)", "~ 1 + (1 | g)", {"weights": "w"}),
    "offset": ("y ~ x + (1 | g)", "~ kind + (1 | g)", {"offset": "o"}),
    "no random terms": ("y ~ x", "~ 1 + (1 | g)", {}),
    "no fixed effects": ("y ~ 0 + (1 | g)", "~ 1 + (1 | g)", {}),
}
# Of several random terms; their fits are in test_several_terms.py.
SEVERAL = {
    "two terms": ("y ~ x + (1 | g)", "~ kind + (1 | g) + (1 | h)", {}),
    "crossed twice": ("y ~ x + (1 | g) + (1 | h)", "~ 1 + (1 | h) + (1 | g)", {"weights": "w"}),
    "nested": ("y ~ x + (1 | g)", "~ 1 + (1 | g/kind)", {}),
    "slope of the scale": ("y ~ x + (x | g)", "~ z + (z | g)", {}),
    "slope and another": ("y ~ x + (1 | g)", "~ x + (z || g) + (1 | h)", {}),
}
DESIGNS = MODELS | SEVERAL
every_design = pytest.mark.parametrize("name", DESIGNS)
# A fit takes a second, and by maximum likelihood, its coefficients being among the parameters, two.
FEW = ["intercept", "no random terms"]
every_model = pytest.mark.parametrize("name", but_for(MODELS, FEW))
FITS = [(name, True) for name in MODELS]
FITS += [(name, False) for name in ("intercept", "weights")]
every_fit = pytest.mark.parametrize(
    ("name", "reml"),
    but_for(FITS, [(name, True) for name in FEW]),
    ids=_id,
)


@cache
def frame() -> pd.DataFrame:
    """Sixty rows in six groups, the logarithms of whose residual sds spread widely."""
    rng = np.random.default_rng(8)
    L, m = 6, 10
    g, h = np.repeat(np.arange(L), m), np.tile(np.arange(5), L * m // 5)
    x, z = rng.normal(size=L * m), rng.normal(size=L * m)
    kind = np.where(rng.random(L * m) < 0.5, "calm", "wild")
    by_g = np.array([0.3, -0.9, 0.9, -0.3, 0.6, -0.6])[g]
    logs = by_g + np.array([-0.4, 0.6, 0.2, -0.6, 0.2])[h]
    logs = logs - 0.3 + 0.4 * (kind == "wild") + 0.2 * z
    level = np.array([1.4, 0.5, -1.2, 0.2, -0.8, 1.0])[g] + np.array([-0.7, 0.6, 0.9, -0.5, 0])[h]
    level = level + np.array([-0.6, 0.4, 0.7, -0.3, -0.5, 0.6])[g] * x
    return pd.DataFrame(
        {
            "y": 1.0 + 0.5 * x + level + np.exp(logs) * rng.normal(size=L * m),
            "x": x,
            "z": z,
            "kind": kind,
            "g": g,
            "h": h,
            "w": rng.uniform(0.5, 2.0, L * m),
            "o": rng.normal(size=L * m),
        }
    )


@pytest.mark.full
def test_no_model_here_has_a_spread_of_zero():
    # Most of what follows would hold of one trivially.
    assert min(fitted(name).dispersion["estimate"].iloc[-1] for name in MODELS) > 0.1


def fit_of(name: str, data: pd.DataFrame, reml: bool = True, **options) -> mfx.Results:
    formula, dispersion, own = MODELS[name]
    return mfx.lmer(formula, data, **{"dispersion": dispersion, "reml": reml, **own, **options})


def fitted(name: str, reml: bool = True) -> mfx.Results:
    return _fitted(name, reml)


@cache
def _fitted(name: str, reml: bool) -> mfx.Results:
    return fit_of(name, frame(), reml)


# ------------------------------------------------------------------ the integrand


@cache
def problem_of(name: str, reml: bool) -> LaplaceDeviance:
    formula, dispersion, options = DESIGNS[name]
    design = build(mfx.parse(formula), frame(), residual=parse_dispersion(dispersion), **options)
    equal = sum_by_stratum(design, np.zeros(design.rows.n, dtype=np.intp)).plain
    likelihood = GaussianLikelihood(equal, reml)
    start = likelihood.at(estimate_theta(design, likelihood).theta)
    return LaplaceDeviance(design, residual_model(design), start, reml=reml)


def beta_at(problem: LaplaceDeviance, point: np.ndarray) -> np.ndarray:
    crossprod, coef = problem.crossprod, problem.coefficients_in_basis(point)
    R = np.eye(crossprod.p) if crossprod.qr_R is None else crossprod.qr_R
    return crossprod.ols_coef + np.linalg.solve(R, coef)


def somewhere(name: str, reml: bool):
    """A point of the outer parameters, effects of the scale, and the dense deviance of these."""
    problem, rng = problem_of(name, reml), np.random.default_rng(4)
    point = 0.3 * rng.normal(size=problem.indices.size) + 0.5
    b = 0.6 * rng.normal(size=problem.scale.size)
    G = [lam @ lam.T for lam in problem.crossprod.lambdas(problem.cov_factors(point))]
    base = np.exp(problem.log_sds(point))[problem.strata]
    weights = problem.design.rows.weights
    base = base if weights is None else base / np.sqrt(weights)
    beta = None if reml else beta_at(problem, point)
    columns = [basis.columns(term.model_matrix) for basis, term in scale_terms(problem)]

    def dense(b: np.ndarray) -> float:
        parts = np.split(b, np.cumsum([n * k for n, k in sizes(problem)])[:-1])
        log_sds = np.zeros(len(base))
        for own, Z, (_, term) in zip(parts, columns, scale_terms(problem), strict=True):
            log_sds += (Z * own.reshape(term.n_levels, -1)[term.codes]).sum(axis=1)
        return marginal(problem.design, G, base * np.exp(log_sds), reml=reml, beta=beta).deviance

    return problem, problem.conditional_deviance(point, b), b, dense


def scale_terms(problem: LaplaceDeviance):
    """Basis and rows of each random term of the dispersion."""
    return list(zip(problem.scale.bases, problem.model.rows.random_terms, strict=True))


def sizes(problem: LaplaceDeviance):
    """Levels and effects of these."""
    return list(zip(problem.scale.levels, problem.scale.widths, strict=True))


@pytest.mark.covering(1)
@every_design
@both_criteria
def test_the_deviance_given_the_effects_is_that_of_the_normal_density(name, reml):
    _, inner, b, dense = somewhere(name, reml)
    assert inner.deviance == pytest.approx(dense(b), abs=1e-8)


@pytest.mark.covering(1)
@every_design
@both_criteria
def test_its_gradient_is_that_of_differences(name, reml):
    problem, inner, b, dense = somewhere(name, reml)
    gradient = problem.effects.sum_cells(inner.gradient)
    np.testing.assert_allclose(gradient, slope(dense, b), rtol=1e-7, atol=1e-7)


@pytest.mark.covering(1)
@every_design
@both_criteria
def test_its_hessian_is_that_of_differences(name, reml):
    problem, inner, b, dense = somewhere(name, reml)
    H = inner.hessian(problem.effects)
    np.testing.assert_allclose(H, curvature(dense, b), rtol=1e-5, atol=1e-5)


@pytest.mark.covering(1)
@every_design
@both_criteria
def test_the_gradient_of_the_approximation_is_that_of_differences(name, reml):
    # Of the fourth order: the error of the steps is below 1e-6 of the largest derivative.
    problem = problem_of(name, reml)
    point = 0.3 * np.random.default_rng(4).normal(size=problem.indices.size) + 0.4
    found = problem.gradient(point, problem(point))
    steps = np.full(len(point), 1e-3)
    expected = jacobian(lambda at: problem(at).value, point, steps, order=4)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())


@pytest.mark.covering(1)
@every_design
@both_criteria
def test_rows_compressed_by_cell_are_those_of_one_block_of_all(name, reml, monkeypatch):
    problem, found, *_ = somewhere(name, reml)
    # All rows in one block, and a cell for each.
    whole = cells._Blocks.of

    def joined(terms, strata):
        blocks = whole(terms, strata)
        places, levels = [], []
        for term in terms:
            places.append(term.codes)
            levels.append(np.array([term.n_levels]))
        everywhere = np.zeros(len(strata), dtype=np.intp)
        return cells._Blocks(everywhere, 1, tuple(places), tuple(levels), blocks.widths)

    monkeypatch.setattr(cells._Blocks, "of", staticmethod(joined))
    monkeypatch.setattr(cells, "_compress", None)
    monkeypatch.setattr(cells, "_SHORTEST", 10**6)
    problem_of.cache_clear()
    other, plain, *_ = somewhere(name, reml)
    problem_of.cache_clear()
    assert [batch.shape for batch in other.rows.batches] == [(1, other.rows.batches[0].shape[1])]
    assert plain.deviance == pytest.approx(found.deviance, abs=1e-9)
    expected = found.hessian(problem.effects)
    np.testing.assert_allclose(plain.hessian(other.effects), expected, rtol=1e-9, atol=1e-9)


# ------------------------------------------------------------------ Laplace's approximation


# A value of the approximation is good to 1e-8, since a determinant of differences is in it.
_FAR = 2e-2


class Integrand:
    """What is integrated over the scale's effects, read off a fit's reported estimates."""

    def __init__(self, fit: mfx.Results) -> None:
        found = fit.model.residual
        self.model, self.design, self.reml = fit, fit.model.design, fit.reml
        self.terms = fit.model.rows.residual.random_terms
        self.shapes = [(t.n_levels, t.model_matrix.shape[1]) for t in self.terms]
        self.size = sum(n * k for n, k in self.shapes)
        self.near = np.zeros(self.size)
        weights = fit.model.prior_weights
        self.by_weight = 1.0 if weights is None else weights**-0.5
        m, r, p = len(fit.theta), len(found.coefficients), 0 if fit.reml else len(fit.params)
        self.patterns = [np.tril_indices(k) for _, k in self.shapes]
        factors = [
            term.factor[at] for term, at in zip(found.random.terms, self.patterns, strict=True)
        ]
        self.parts = np.cumsum([m, r, sum(map(len, factors))])
        beta = fit.params.to_numpy()[:p]
        self.point = np.concatenate([fit.sigma * fit.theta, found.coefficients, *factors, beta])

    def given(self, point: np.ndarray):
        """The deviance as a function of ``u``, the effects over their standard deviation."""
        roots, gamma, taus, beta = np.split(point, self.parts)
        G = [lam @ lam.T for lam in lambdas(self.design, roots)]
        base = self.by_weight * np.exp(self.model.model.rows.residual.D @ gamma)

        def deviance(u: np.ndarray) -> float:
            sds = base * np.exp(self.log_sds(taus, u))
            held = None if self.reml else beta
            return marginal(self.design, G, sds, reml=self.reml, beta=held).deviance + float(u @ u)

        return deviance

    def log_sds(self, taus: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Effects of the scale in the rows, of the factors' entries and spherical effects."""
        total = np.zeros(self.design.rows.n)
        of_terms = zip(self.terms, self.shapes, self.patterns, self.effects(taus, u), strict=True)
        for term, *_, effects in of_terms:
            total += (term.model_matrix * effects[term.codes]).sum(axis=1)
        return total

    def effects(self, taus: np.ndarray, u: np.ndarray) -> list[np.ndarray]:
        """Effects (levels, k) of each term."""
        found, first, start = [], 0, 0
        for (n, k), at in zip(self.shapes, self.patterns, strict=True):
            factor = np.zeros((k, k))
            factor[at] = taus[first : first + len(at[0])]
            found.append(u[start : start + n * k].reshape(n, k) @ factor.T)
            first, start = first + len(at[0]), start + n * k
        return found

    def mode(self, point: np.ndarray):
        """The mode by scipy, ended with a Newton step, and the Hessian there."""
        f = self.given(point)
        u = optimize.minimize(f, self.near, method="BFGS", options={"gtol": 1e-4}).x
        u -= np.linalg.solve(curvature(f, u), slope(f, u))
        self.near = u
        return u, curvature(f, u)

    def laplace(self, point: np.ndarray) -> float:
        u, H = self.mode(point)
        return self.given(point)(u) + np.linalg.slogdet(H / 2.0)[1]

    def quadrature(self, point: np.ndarray, nodes: int) -> float:
        """Gauss and Hermite's rule in all directions at once, centred and scaled at the mode."""
        f = self.given(point)
        u, H = self.mode(point)
        root = np.linalg.cholesky(2.0 * np.linalg.inv(H))
        t, w = special.roots_hermite(nodes)
        logs = []
        for at in itertools.product(range(nodes), repeat=self.size):
            i = list(at)
            z = np.sqrt(2.0) * t[i]
            logs.append(np.log(w[i]).sum() + t[i] @ t[i] - 0.5 * f(u + root @ z))
        # Of the prior there is left 1 / sqrt(2 pi), of the change of variables the root.
        constant = np.linalg.slogdet(root)[1] - 0.5 * self.size * np.log(np.pi)
        return -2.0 * (special.logsumexp(logs) + constant)


@cache
def at_the_fit(name: str, reml: bool):
    """The dense integrand of a fit, its mode in ``u``, and the Hessian there."""
    integrand = Integrand(fitted(name, reml))
    return integrand, *integrand.mode(integrand.point)


@pytest.mark.full
@every_fit
def test_the_deviance_is_laplaces_approximation_of_the_dense_integrand(name, reml):
    integrand, u, H = at_the_fit(name, reml)
    value = integrand.given(integrand.point)(u) + np.linalg.slogdet(H / 2.0)[1]
    assert fitted(name, reml).deviance == pytest.approx(value, abs=1e-6)


@pytest.mark.full
@every_model
def test_the_effects_are_the_mode_of_the_dense_integrand(name):
    fit, (integrand, u, _) = fitted(name), at_the_fit(name, True)
    expected = integrand.effects(np.split(integrand.point, integrand.parts)[2], u)
    for found, effects in zip(fit.model.residual.random.terms, expected, strict=True):
        np.testing.assert_allclose(found.effects.T, effects, rtol=0, atol=1e-5)


@pytest.mark.full
@pytest.mark.kept("no random terms")
@every_model
def test_their_conditional_sds_are_those_of_the_dense_integrand(name):
    fit, (integrand, _, H) = fitted(name), at_the_fit(name, True)
    root = np.linalg.cholesky(2.0 * np.linalg.inv(H))
    taus = np.split(integrand.point, integrand.parts)[2]
    # Effects are linear in u: their covariance is that of the columns of a root.
    columns = [integrand.effects(taus, column) for column in root.T]
    for t, of_term in enumerate(zip(*columns, strict=True)):
        expected = np.sqrt(sum(effects**2 for effects in of_term))
        np.testing.assert_allclose(fit.model.residual.random.cond_sds(t).T, expected, rtol=1e-4)


@pytest.mark.full
@pytest.mark.cases(1)
@every_model
def test_the_residual_sds_are_those_at_the_mode(name):
    fit, found = fitted(name), fitted(name).model.residual
    columns = fit.model.rows.residual
    logs = columns.D @ found.coefficients
    for term, estimate in zip(columns.random_terms, found.random.terms, strict=True):
        logs = logs + (term.model_matrix * estimate.effects.T[term.codes]).sum(axis=1)
    weights = fit.model.prior_weights
    expected = np.exp(logs) if weights is None else np.exp(logs) / np.sqrt(weights)
    np.testing.assert_allclose(fit.residual_sd, expected, rtol=1e-10)


@pytest.mark.full
@pytest.mark.parametrize("name", but_for(["intercept", "no random terms"], ["no random terms"]))
@reml_first
def test_the_dense_approximation_is_flat_at_the_estimates(name, reml):
    # Under maximum likelihood the coefficients are among the parameters.
    fit, integrand = fitted(name, reml), Integrand(fitted(name, reml))
    errors = np.concatenate(
        [
            0.3 * np.abs(integrand.point[: len(fit.theta)]),
            fit.dispersion["std_error"],
            [] if reml else fit.bse,
        ]
    )
    h = 1e-2
    for j, error in enumerate(errors):
        step = h * error * np.eye(len(errors))[j]
        rise = integrand.laplace(integrand.point + step) - integrand.laplace(integrand.point - step)
        # A slope s a standard error says that the optimum is s / 2 of one away.
        assert abs(rise / (2 * h)) < 1e-3


@pytest.mark.full
@pytest.mark.cases(1)
@every_fit
def test_the_fit_is_certified(name, reml):
    assert fitted(name, reml).certificate.ok


@pytest.mark.full
@pytest.mark.cases(1)
@every_fit
def test_the_search_converges(name, reml):
    assert fitted(name, reml).converged


@pytest.mark.full
def test_the_search_converges_whatever_is_drawn():
    # With noise in the inner mode the outer search saw no end: one in three did not converge.
    for seed in range(3):
        fit = mfx.lmer("y ~ x + (1 | g)", drawn(seed, 12, 8), dispersion="~ 1 + (1 | g)")
        assert fit.converged, seed


# ------------------------------------------------------------------ the integral itself


@cache
def three(reml: bool) -> mfx.Results:
    """Three groups of ten, their residual sds 0.4, 1 and 2.2: as few and as unequal as may be."""
    rng = np.random.default_rng(12)
    g = np.repeat(np.arange(3), 10)
    y = 1.0 + rng.normal(size=3)[g] + np.array([0.4, 1.0, 2.2])[g] * rng.normal(size=30)
    data = pd.DataFrame({"y": y, "g": g})
    return mfx.lmer("y ~ 1 + (1 | g)", data, dispersion="~ 1 + (1 | g)", reml=reml)


def with_spread(integrand: Integrand, tau: float) -> np.ndarray:
    point = integrand.point.copy()
    point[integrand.parts[-1] - 1] = tau
    return point


@pytest.mark.full
@both_criteria
def test_quadrature_has_converged(reml):
    integrand = Integrand(three(reml))
    fine, finer = (integrand.quadrature(integrand.point, nodes) for nodes in (9, 13))
    assert fine == pytest.approx(finer, abs=2e-4)


@pytest.mark.full
@reml_first
def test_the_approximation_is_near_the_integral(reml):
    # The first term that Laplace's approximation leaves out is, of a level with n rows, of the
    # order of 1 / n: the third derivative of the integrand's exponent is 4 n, squared and over
    # 24 times the curvature 2 n cubed. Three levels of ten rows: a deviance of about 0.1.
    integrand = Integrand(three(reml))
    gap = integrand.laplace(integrand.point) - integrand.quadrature(integrand.point, 9)
    assert abs(gap) < 0.1


@pytest.mark.full
@reml_first
def test_the_approximation_becomes_exact_as_the_spread_goes_to_zero(reml):
    # With the prior's curvature 1 / tau**2 the term is of the order of tau**4.
    integrand = Integrand(three(reml))

    def gap(tau: float) -> float:
        point = with_spread(integrand, tau)
        return abs(integrand.laplace(point) - integrand.quadrature(point, 9))

    wide, narrow = gap(0.05), gap(0.025)
    assert wide < 1e-3
    assert narrow < wide / 10.0


@pytest.mark.full
def test_the_integral_of_separate_groups_is_the_product_of_theirs():
    # Under maximum likelihood, one factor: the rule of all directions against one of each.
    fit, integrand = three(False), Integrand(three(False))
    tau, log_sd = float(integrand.point[-2]), float(integrand.point[1])
    between, mean = float(integrand.point[0]) ** 2, float(integrand.point[-1])
    t, w = special.roots_hermitenorm(120)
    total = 0.0
    for _, rows in fit.model.rows.model_frame.groupby("g"):
        rest = rows["y"].to_numpy() - mean
        each = []
        for v in tau * t:
            V = between + np.exp(2.0 * (log_sd + v)) * np.eye(len(rest))
            quad = rest @ np.linalg.solve(V, rest)
            each.append(-0.5 * (len(rest) * np.log(2 * np.pi) + np.linalg.slogdet(V)[1] + quad))
        total += special.logsumexp(each, b=w / np.sqrt(2 * np.pi))
    assert integrand.quadrature(integrand.point, 13) == pytest.approx(-2.0 * total, abs=1e-3)


# ------------------------------------------------------------------ recovery

TRUE = {"Intercept": 1.0, "x": 0.5, "between": 0.7, "log_sd": 0.0, "spread": 0.4}


def drawn(seed: int, groups: int, rows: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    g, x = np.repeat(np.arange(groups), rows), rng.normal(size=groups * rows)
    sd = np.exp(TRUE["log_sd"] + TRUE["spread"] * rng.normal(size=groups))[g]
    level = TRUE["between"] * rng.normal(size=groups)[g]
    noise = sd * rng.normal(size=groups * rows)
    y = TRUE["Intercept"] + TRUE["x"] * x + level + noise
    return pd.DataFrame({"y": y, "x": x, "g": g})


def estimates(fit: mfx.Results) -> np.ndarray:
    return np.array([*fit.params, float(fit.vcomp.iloc[0]) ** 0.5, *fit.dispersion["estimate"]])


@pytest.mark.full
def test_parameters_are_found_again_in_a_large_sample():
    fit = mfx.lmer("y ~ x + (1 | g)", drawn(1, 100, 20), dispersion="~ 1 + (1 | g)")
    # A standard deviation between 100 groups has an error of about 1 / sqrt(200).
    errors = [*fit.bse, TRUE["between"] / np.sqrt(200), *fit.dispersion["std_error"]]
    distance = (estimates(fit) - np.array(list(TRUE.values()))) / errors
    assert np.abs(distance).max() < 4.0


@pytest.mark.slow
def test_parameters_are_right_on_average():
    made = np.array(
        [
            estimates(mfx.lmer("y ~ x + (1 | g)", drawn(s, 30, 10), dispersion="~ 1 + (1 | g)"))
            for s in range(100, 140)
        ]
    )
    errors = made.std(axis=0, ddof=1) / np.sqrt(len(made))
    assert (np.abs(made.mean(axis=0) - np.array(list(TRUE.values()))) < 4.0 * errors).all()


# ------------------------------------------------------------------ no spread


@cache
def equal() -> pd.DataFrame:
    """Groups that have the same residuals, but for their order: nothing differs in spread."""
    rng = np.random.default_rng(2)
    groups, rows = 8, 10
    rest = rng.normal(size=rows)
    rest = (rest - rest.mean()) / rest.std()
    g = np.repeat(np.arange(groups), rows)
    y = 1.0 + 2.0 * rng.normal(size=groups)[g]
    return pd.DataFrame(
        {"y": y + np.concatenate([rng.permutation(rest) for _ in range(groups)]), "g": g}
    )


@cache
def without_spread(reml: bool) -> mfx.Results:
    return mfx.lmer("y ~ 1 + (1 | g)", equal(), dispersion="~ 1 + (1 | g)", reml=reml)


@pytest.mark.full
@reml_first
def test_equal_spreads_give_a_standard_deviation_of_zero(reml):
    assert without_spread(reml).dispersion.loc["sd(g)", "estimate"] == 0.0


@pytest.mark.full
@reml_first
def test_a_standard_deviation_of_zero_is_remarked_on(reml):
    assert any("no differences in their residual" in note for note in without_spread(reml).notes)


@pytest.mark.full
@reml_first
def test_with_a_standard_deviation_of_zero_the_deviance_is_the_plain_fits(reml):
    plain = mfx.lmer("y ~ 1 + (1 | g)", equal(), reml=reml)
    assert without_spread(reml).deviance == pytest.approx(plain.deviance, abs=1e-7)


@pytest.mark.full
@reml_first
def test_with_a_standard_deviation_of_zero_the_residual_sds_are_sigma(reml):
    plain = mfx.lmer("y ~ 1 + (1 | g)", equal(), reml=reml)
    np.testing.assert_allclose(without_spread(reml).residual_sd, plain.sigma, rtol=1e-5)


@pytest.mark.full
@reml_first
def test_with_a_standard_deviation_of_zero_no_level_has_an_effect(reml):
    assert not without_spread(reml).dispersion_ranef()[["log_sd", "cond_sd"]].to_numpy().any()


# ------------------------------------------------------------------ few rows


@cache
def sparse() -> mfx.Results:
    """A fit of :func:`frame` and a group with one row."""
    alone = frame().iloc[[0]].assign(g=99, y=4.0)
    return fit_of("intercept", pd.concat([frame(), alone], ignore_index=True))


@pytest.mark.full
def test_a_group_of_one_row_has_a_finite_residual_sd():
    sds = sparse().residual_sd
    assert sds.min() / 3 < sds.iloc[-1] < 3 * sds.max()


@pytest.mark.full
def test_a_group_of_one_row_is_nearly_as_uncertain_as_before_it_was_seen():
    fit = sparse()
    ratio = fit.dispersion_ranef()["cond_sd"].iloc[-1] / fit.dispersion["estimate"].iloc[-1]
    assert 0.8 < ratio <= 1.0


@pytest.mark.full
def test_real_friends_with_one_rating_have_a_residual_sd():
    ratings = mfx.datasets.load("romcom")
    assert ratings.groupby("friend", observed=True).size().min() == 1
    fit = mfx.lmer("rating ~ 1 + (1 | friend)", ratings, dispersion="~ 1 + (1 | friend)")
    assert fit.residual_sd.between(0.2, 3.0).all()


# ------------------------------------------------------------------ one model, said differently


@pytest.mark.full
@pytest.mark.parametrize("name", but_for(["intercept", "weights"], ["weights"]))
@reml_first
def test_the_order_of_rows_does_not_matter(name, reml):
    other = fit_of(name, frame().sample(frac=1.0, random_state=1), reml)
    assert other.deviance == pytest.approx(fitted(name, reml).deviance, abs=1e-6)


@pytest.mark.full
@reml_first
@pytest.mark.parametrize("unit", but_for([1e-4, 1e4], [1e4]))
def test_the_unit_of_the_response_moves_only_the_intercept(reml, unit):
    other = fit_of("intercept", frame().assign(y=unit * frame()["y"]), reml)
    expected = fitted("intercept", reml).dispersion["estimate"].to_numpy().copy()
    expected[0] += np.log(unit)
    np.testing.assert_allclose(other.dispersion["estimate"], expected, rtol=0, atol=1e-4)


@pytest.mark.full
def test_a_refit_is_a_fit_of_the_new_response():
    y = frame()["y"] + 0.3 * frame()["z"]
    again, anew = fitted("weights").refit(y), fit_of("weights", frame().assign(y=y))
    assert again.deviance == pytest.approx(anew.deviance, abs=1e-6)


# ------------------------------------------------------------------ what is made of it


@pytest.mark.full
def test_parameters_are_the_coefficients_theta_and_those_of_the_scale():
    fit = fitted("columns")
    assert fit.df_modelwc == len(fit.params) + len(fit.theta) + len(fit.dispersion)


@pytest.mark.full
def test_a_comparison_with_one_residual_variance_is_the_likelihood_ratio():
    plain = mfx.lmer("y ~ x + (1 | g)", frame(), reml=False)
    table = mfx.compare(plain, fitted("intercept", False))
    expected = plain.deviance - fitted("intercept", False).deviance
    assert table["chisq"].iloc[1] == pytest.approx(expected, abs=1e-8)
    assert table["df"].iloc[1] == 1


@pytest.mark.full
def test_restricted_fits_are_compared_by_their_maximum_likelihood():
    table = mfx.compare(mfx.lmer("y ~ x + (1 | g)", frame()), fitted("intercept"))
    expected = fitted("intercept", False).deviance
    assert -2.0 * table["llf"].iloc[1] == pytest.approx(expected, abs=1e-6)


@pytest.mark.full
def test_leaving_the_only_term_out_gives_the_fit_without_it():
    expected = fitted("no random terms").deviance - fitted("intercept").deviance
    assert fitted("intercept").ranova()["chisq"].iloc[1] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", but_for(["intercept", "slope", "crossed"], FEW))
def test_effects_of_the_mean_are_those_of_the_weights_at_the_mode(name):
    fit = fitted(name)
    truth = marginal(fit.model.design, covariances(fit), fit.residual_sd, reml=True)
    np.testing.assert_allclose(fit.params, truth.beta, rtol=1e-7)
    given = fit.cov_params() - fit.model.residual.vcov_correction.matrix
    np.testing.assert_allclose(given, truth.cov_beta, rtol=1e-6)


@pytest.mark.full
@pytest.mark.parametrize(
    "name", but_for(["intercept", "slope", "crossed", "across", "columns"], FEW)
)
def test_what_the_effects_of_the_scale_add_is_the_variance_of_the_mean_given_them(name):
    # The law of total variance, with differences of the dense generalised least squares.
    fit, integrand = fitted(name), Integrand(fitted(name))
    u, H = integrand.mode(integrand.point)
    roots, gamma, tau, _ = np.split(integrand.point, integrand.parts)
    G = [lam @ lam.T for lam in lambdas(integrand.design, roots)]
    base = integrand.by_weight * np.exp(fit.model.rows.residual.D @ gamma)

    def best(u: np.ndarray) -> np.ndarray:
        sds = base * np.exp(integrand.log_sds(tau, u))
        return marginal(integrand.design, G, sds, reml=True).beta

    J = np.array([slope(lambda at, j=j: best(at)[j], u) for j in range(2)])
    expected = J @ (2.0 * np.linalg.inv(H)) @ J.T
    np.testing.assert_allclose(
        fit.model.residual.vcov_correction.matrix, expected, rtol=1e-4, atol=1e-9
    )


@pytest.mark.full
def test_standard_errors_by_maximum_likelihood_are_those_of_the_dense_approximation():
    fit = fitted("intercept", False)
    integrand = Integrand(fit)
    H = curvature(integrand.laplace, integrand.point, step=_FAR)
    expected = np.sqrt(np.diag(2.0 * np.linalg.inv(H)))[-2:]
    np.testing.assert_allclose(fit.bse, expected, rtol=1e-3)


@cache
def information(name: str) -> np.ndarray:
    """Hessian of the dense approximation at the estimates."""
    integrand = Integrand(fitted(name))
    return curvature(integrand.laplace, integrand.point, step=_FAR)


@pytest.mark.full
@pytest.mark.parametrize("name", ["weights", "no random terms"])
def test_satterthwaites_df_are_those_of_the_parameters_and_the_effects(name):
    # The variance of log f over parameters and effects is that of its mean over the effects
    # given the parameters, and the mean of its variance given them.
    fit, integrand = fitted(name), Integrand(fitted(name))
    row = np.array([0.0, 1.0])

    def log_variance(point: np.ndarray, u: np.ndarray) -> float:
        roots, gamma, tau, _ = np.split(point, integrand.parts)
        G = [lam @ lam.T for lam in lambdas(integrand.design, roots)]
        base = integrand.by_weight * np.exp(fit.model.rows.residual.D @ gamma)
        sds = base * np.exp(integrand.log_sds(tau, u))
        return float(np.log(row @ marginal(integrand.design, G, sds, reml=True).cov_beta @ row))

    u, H = integrand.mode(integrand.point)
    by_u = slope(lambda at: log_variance(integrand.point, at), u)
    by_parameter = slope(lambda at: log_variance(at, integrand.mode(at)[0]), integrand.point)
    spread = by_parameter @ np.linalg.solve(information(name), by_parameter)
    spread += by_u @ np.linalg.solve(H, by_u)
    assert fit.t_test(row)["df"].iloc[0] == pytest.approx(1.0 / spread, rel=1e-3)


@pytest.mark.full
@pytest.mark.parametrize("name", ["weights", "no random terms"])
def test_standard_errors_of_the_dispersion_are_those_of_the_dense_approximation(name):
    fit = fitted(name)
    expected = np.sqrt(np.diag(2.0 * np.linalg.inv(information(name))))[len(fit.theta) :]
    np.testing.assert_allclose(fit.dispersion["std_error"], expected, rtol=1e-3)


def test_a_prediction_interval_has_the_sd_of_its_level():
    fit = fitted("intercept")
    known = fit.predict(frame().iloc[[0, 59]], interval="prediction", se=True)
    half = (known["conf_high"] - known["conf_low"]) / 2
    # The mean of a lognormal variance, the level's effect being known to within cond_sd.
    cond_sd = fit.dispersion_ranef()["cond_sd"].loc[frame()["g"].iloc[[0, 59]]].to_numpy()
    residual = fit.residual_sd.iloc[[0, 59]] ** 2 * np.exp(2 * cond_sd**2)
    expected = np.sqrt(known["std_error"] ** 2 + residual)
    np.testing.assert_allclose(half, special.ndtri(0.975) * expected, rtol=1e-9)


@pytest.mark.full
def test_a_new_level_has_the_residual_variance_that_is_simulated():
    # Of a new level its effects of the mean and of the scale are drawn; 1,000 responses of six.
    fit = fitted("intercept")
    new = frame().iloc[:60].assign(g="new")
    found = fit.predict(new, new_levels="population", interval="prediction", se=True)
    half = (found["conf_high"] - found["conf_low"]) / 2 / special.ndtri(0.975)
    expected = fit.simulate(20_000, rng=1).var(axis=1).iloc[:60].mean()
    assert float((half**2 - found["std_error"] ** 2).mean()) == pytest.approx(expected, rel=0.02)


@pytest.mark.full
def test_a_prediction_interval_of_the_fits_own_rows_is_that_of_the_same_rows_anew():
    for name in ("columns", "across"):
        own = fitted(name).predict(interval="prediction")
        anew = fitted(name).predict(frame(), interval="prediction")
        np.testing.assert_allclose(own, anew, rtol=1e-9)


def test_a_profile_is_refused():
    with pytest.raises(ArgumentError, match="bootstrap"):
        fitted("intercept").profile()


def test_kenward_and_roger_are_refused():
    with pytest.raises(ArgumentError, match="satterthwaite"):
        fitted("intercept").t_test([0, 1], df_method="kenward-roger")


@pytest.mark.parametrize("engine", ["statsmodels", "em"])
def test_other_engines_are_refused(engine):
    with pytest.raises(EngineRefusal, match="engine='profiled'"):
        fit_of("intercept", frame(), engine=engine)


@pytest.mark.parametrize("log_sd", [-800.0, -400.0, 800.0])
@pytest.mark.parametrize("reml", [True, False])
def test_a_deviance_that_overflows_is_singular_and_no_warning(reml, log_sd):
    problem = problem_of("crossed", reml)
    params = start_of(problem)
    params[problem.indices.mean_log_sd] = log_sd
    with pytest.raises(np.linalg.LinAlgError):
        problem(params)


def test_too_many_columns_are_refused(monkeypatch):
    monkeypatch.setattr("mixedfx.estimation.dispersion.laplace._MAX_COLUMNS", 10)
    with pytest.raises(EngineRefusal, match="at most 10"):
        fit_of("crossed", frame())


def test_too_many_columns_are_refused_before_rows_are_compressed(monkeypatch):
    # Of two crossed factors the rows are one block: each of six cells has ten rows, five levels of
    # h and so five rows at least.
    monkeypatch.setattr("mixedfx.estimation.dispersion.laplace._MAX_COLUMNS", 10)
    monkeypatch.setattr(cells, "_compress", None)
    with pytest.raises(EngineRefusal, match="at least 32 columns"):
        fit_of("crossed", frame())


@every_design
def test_rows_that_a_block_has_at_least_are_no_more_than_it_has(name):
    problem, sizes = problem_of(name, True), []
    rows = problem.design.rows
    found = cells.compress_rows(rows, problem.crossprod, problem.strata, sizes.append)
    assert sizes[0] <= sizes[1] == max(batch.shape[1] for batch in found.batches)
    assert (sizes[0] > 0) == bool(rows.random_terms)


# ------------------------------------------------------------------ ill-conditioned columns


def test_derivatives_by_the_scale_effects_of_a_slope_far_from_zero_are_those_near_it():
    dispersion, near, far = parse_dispersion("~ 1 + (1 | g)"), [], []
    for shift, found in ((0.0, near), (1e4, far)):
        data = frame().assign(x=frame()["x"] + shift)
        design = build(mfx.parse("y ~ x + (1 | g)"), data, residual=dispersion)
        equal = sum_by_stratum(design, np.zeros(design.rows.n, dtype=np.intp)).plain
        likelihood = GaussianLikelihood(equal, True)
        assert (likelihood.crossprod.qr_R is None) == (shift == 0.0)
        start = likelihood.at(estimate_theta(design, likelihood).theta)
        problem = LaplaceDeviance(design, residual_model(design), start, reml=True)
        point = 0.3 * np.random.default_rng(4).normal(size=problem.indices.size) + 0.5
        b = 0.6 * np.random.default_rng(5).normal(size=problem.scale.size)
        at = problem.conditional_deviance(point, b)
        R = np.eye(2) if problem.crossprod.qr_R is None else problem.crossprod.qr_R
        found += [at.deviance, np.linalg.solve(R, problem.coef_jacobian(at))[1]]
        found.append(problem.vcov_jacobian(at).matrix[:, 1, 1])
    for a, b in zip(near, far, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-5)


def invariants(fit: mfx.Results, column: str) -> dict[str, np.ndarray]:
    """What a shift of a fixed column leaves as it is, intercepts aside."""
    tidy = fit.tidy().set_index("term").loc[column]
    leverage = prediction_variance(fit.model.solution, prediction_rows(fit.model.rows))
    return {
        "deviance": fit.deviance,
        "slope": tidy[["estimate", "std_error", "df"]].to_numpy(dtype=float),
        "scale": fit.dispersion[["estimate", "std_error"]].to_numpy(dtype=float),
        "fitted": fit.fittedvalues.to_numpy(),
        "prediction": np.sqrt(leverage),
    }


@pytest.mark.full
@pytest.mark.parametrize(("shift", "reml"), [(1e4, False), (1e4, True), (1e6, False)])
def test_estimates_and_errors_do_not_depend_on_the_zero_of_a_column(shift, reml):
    data = frame()[frame()["g"].isin(sorted(frame()["g"].unique())[:6])]
    data = data.assign(far=data["x"] + shift)
    options = {"dispersion": "~ 1 + (1 | g)", "reml": reml}
    near = invariants(mfx.lmer("y ~ x + (1 | g)", data, **options), "x")
    fit = mfx.lmer("y ~ far + (1 | g)", data, **options)
    assert fit.converged
    assert fit.convergence.ok
    for name, value in invariants(fit, "far").items():
        np.testing.assert_allclose(value, near[name], rtol=1e-5, atol=1e-7, err_msg=name)


@pytest.mark.full
def test_random_residual_scales_that_are_equal_leave_the_sum_unidentified():
    # As of dispersion="~ t": of pairs only the sum of var(t) and of a residual variance is known.
    rng = np.random.default_rng(8)
    data = pd.DataFrame({"id": np.repeat(np.arange(30), 2), "t": np.tile([0, 1], 30)})
    residual = np.tile([1.0, -1.0], 30) * rng.choice([-1.0, 1.0], size=30).repeat(2)
    data["y"] = data["t"] + residual + rng.normal(size=30)[data["id"]]
    with pytest.warns(mfx.errors.ConvergenceWarning, match="not identify"):
        fit = mfx.lmer("y ~ t + (t || id)", data, dispersion="~ t + (1 | id)")
    assert fit.dispersion.loc["sd(id)", "estimate"] == 0.0
    assert not fit.converged
    (statement,) = fit.convergence.unidentified
    assert "var(t | id) of (t || id) and the residual variances of dispersion=" in statement
