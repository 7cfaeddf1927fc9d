"""Residuals and leverages of strata from sums.

Source of truth: those of the rows, added up by stratum.
"""

from __future__ import annotations

import numpy as np
import pytest
from streamed.streamed_cases import table

from mixedfx.design.build import build
from mixedfx.formula.parser import parse
from mixedfx.likelihood.likelihood import GaussianLikelihood
from mixedfx.likelihood.prediction_variance import (
    conditional_residuals,
    prediction_rows,
    unscaled_prediction_variance,
)
from mixedfx.likelihood.recentred import recentred
from mixedfx.likelihood.stratified import sum_by_stratum
from mixedfx.likelihood.stratum_score import stratum_residuals

FORMULAS = ["y ~ x + f + (x | g) + (1 | h)", "y ~ x + (1 | school/g)", "y ~ 0 + (1 | g)", "y ~ x"]
DATA = table(200).dropna()


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("formula", FORMULAS)
def test_sums_by_stratum_are_those_of_the_rows(formula, reml):
    design = build(parse(formula), DATA, weights="w")
    codes = np.unique(DATA["f"], return_inverse=True)[1]
    sums, weights = sum_by_stratum(design, codes), np.array([1.0, 0.3, 4.0])
    likelihood = GaussianLikelihood(sums.reweight(weights), reml)
    solution = likelihood.at(np.full(likelihood.parametrization.size, 0.7))
    found = stratum_residuals(sums, solution, fixed=reml)
    rows, w = design.rows, design.rows.weights
    squares = w * conditional_residuals(rows, solution) ** 2
    leverage = w * unscaled_prediction_variance(solution, prediction_rows(rows), fixed=reml)
    np.testing.assert_allclose(found.squares, np.bincount(codes, squares), rtol=1e-10)
    np.testing.assert_allclose(found.leverage, np.bincount(codes, leverage), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("formula", ["y ~ year + I(year**2) + (year | g)", "y ~ x + (1 | g)"])
def test_the_deviance_does_not_change_with_the_centre(formula):
    design = build(parse(formula), DATA)
    codes = np.unique(DATA["f"], return_inverse=True)[1]
    crossprod = sum_by_stratum(design, codes).reweight(np.array([1e-6, 1e-9, 3e-6]))
    before, after = (GaussianLikelihood(c, True) for c in (crossprod, recentred(crossprod)))
    theta = np.full(before.parametrization.size, 300.0)
    assert after.deviance(theta) == pytest.approx(before.deviance(theta), rel=1e-10)
    np.testing.assert_allclose(after.at(theta).beta, before.at(theta).beta, rtol=1e-8)
    p = after.crossprod.p
    assert np.abs(after.crossprod.XytXy[:p, p]).max() < 1e-12
