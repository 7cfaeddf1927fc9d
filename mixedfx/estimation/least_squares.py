"""Least squares: the model without random terms, whose theta is empty.

``sigma^2 = rss / (n - p)``, as R's ``lm`` and statsmodels' OLS report it, while the log-likelihood
is that of maximum likelihood, at ``rss / n``.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mixedfx.estimation.optimizer_result import OptimizerResult
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.likelihood import GaussianLikelihood
from mixedfx.likelihood.pls import Solution, solve_pls

_NO_THETA = np.zeros(0)


def solve_least_squares(crossprod: CrossProducts) -> Solution:
    """Solve at maximum likelihood, with the unbiased sigma where sigma is not known."""
    solution = solve_pls(crossprod, _NO_THETA, reml=False)
    if not crossprod.profiles_sigma:
        return solution
    return replace(solution, sigma=solve_pls(crossprod, _NO_THETA, reml=True).sigma)


def least_squares_result(likelihood: GaussianLikelihood) -> OptimizerResult:
    """Result of the optimisation over an empty theta: one evaluation of the deviance."""
    deviance = likelihood.deviance(_NO_THETA)
    return OptimizerResult(_NO_THETA, "profiled", 1, True, "nothing to search for", deviance)
