"""Least squares: the model without random terms, whose theta is empty.

By REML ``sigma^2 = rss / (n - p)``, and the criterion is that of R's ``logLik(lm, REML=TRUE)``. By
maximum likelihood the log-likelihood is at ``rss / n``, while sigma and with it the standard errors
stay at ``rss / (n - p)``, as R's ``lm`` and statsmodels' OLS report them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mixedfx.estimation.optimizer_result import OptimizerResult
from mixedfx.likelihood.likelihood import GaussianLikelihood
from mixedfx.likelihood.pls import Solution, solve_pls

_NO_THETA = np.zeros(0)


def solve_least_squares(likelihood: GaussianLikelihood) -> Solution:
    """Solve by either criterion, with the unbiased sigma where sigma is not known."""
    solution = likelihood.at(_NO_THETA)
    if not likelihood.profiles_sigma or likelihood.reml:
        return solution
    return replace(solution, sigma=solve_pls(likelihood.crossprod, _NO_THETA, reml=True).sigma)


def least_squares_remark(*, weighted: bool) -> str:
    """What the fit of a formula without random terms is."""
    kind = "weighted" if weighted else "ordinary"
    return f"the formula has no random terms: this is {kind} least squares."


def least_squares_result(likelihood: GaussianLikelihood) -> OptimizerResult:
    """Result of the optimisation over an empty theta: one evaluation of the deviance."""
    deviance = likelihood.deviance(_NO_THETA)
    return OptimizerResult(_NO_THETA, "profiled", 1, True, "nothing to search for", deviance)
