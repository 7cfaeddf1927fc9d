"""``nagq=0``: coefficients at the mode of the penalised likelihood, as lme4's ``nAGQ=0``."""

import numpy as np
import pytest

import mixedfx as mfx
from mixedfx.design.build import build
from mixedfx.estimation.glmm.search import MarginalObjective, free_coordinates
from mixedfx.families import resolve_family
from mixedfx.likelihood.generalized.likelihood import Point
from mixedfx.likelihood.generalized.profiled import ProfiledLikelihood
from mixedfx.likelihood.generalized.rows import GeneralizedRows


@pytest.fixture(scope="module")
def fit():
    data = mfx.datasets.load("cbpp")
    return mfx.glmer("cbind(incidence, size - incidence) ~ period + (1 | herd)", data, nagq=0)


def test_it_ends_at_least_where_lme4_does(fit):
    # lme4 1.1-31: glmer(..., binomial, nAGQ = 0); its theta is found without derivatives.
    assert fit.llf > -92.0543465012
    np.testing.assert_allclose(fit.llf, -92.0543465012, rtol=1e-6)
    np.testing.assert_allclose(fit.theta, [0.6418385553], rtol=1e-4)
    estimates = [-1.3604757276, -0.9761732361, -1.1110727836, -1.5596756838]
    np.testing.assert_allclose(fit.params, estimates, rtol=1e-4)
    errors = [0.2275790229, 0.3032861750, 0.3235103690, 0.4244519095]
    np.testing.assert_allclose(fit.bse, errors, rtol=1e-4)


@pytest.mark.parametrize("family", ["binomial", "nbinom2", "gamma"])
def test_the_gradient_is_exact(family):
    rng = np.random.default_rng(4)
    data = mfx.datasets.load("sleepstudy").assign(
        yes=rng.integers(0, 2, 180), count=rng.poisson(3, 180)
    )
    response = {"binomial": "yes", "nbinom2": "count", "gamma": "Reaction"}[family]
    formula = f"{response} ~ Days + (Days | Subject)"
    design = build(mfx.parse(formula), data, family=resolve_family(family))
    likelihood = ProfiledLikelihood(GeneralizedRows.of(design))
    log_params = np.full(len(design.spec.family.param_names), -0.5)
    point = Point((np.array([[0.4, 0.0], [0.2, 0.3]]),), np.zeros(2), log_params)
    if family == "gamma":
        point = Point(point.factors, np.array([5.7, 0.0]), log_params)
    coordinates, x = free_coordinates(likelihood, point)
    objective = MarginalObjective(likelihood, coordinates, None, point.beta)
    gradient, steps = objective(x)[1], 1e-5 * np.eye(len(x))
    differences = [(objective(x + h)[0] - objective(x - h)[0]) / 2e-5 for h in steps]
    np.testing.assert_allclose(gradient, differences, rtol=1e-5, atol=1e-5)
