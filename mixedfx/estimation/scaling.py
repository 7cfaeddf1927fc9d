"""Lambdas in unit-free columns to what they imply; a response without a rest is refused."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mixedfx.errors import ResponseError
from mixedfx.estimation.optimizer_result import OptimizerResult
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.pls import Solution, solve_pls, solve_pls_at_factors

Matrix = npt.NDArray[np.float64]

# What is left of the response below this share of it is rounding.
_NOTHING = 1e-14


def solve_pls_scaled(
    crossprod: CrossProducts, lambdas: Sequence[Matrix], *, reml: bool
) -> Solution:
    """Solve at Lambdas in the terms' frames."""
    natural = [f @ m for f, m in zip(crossprod.term_scaling, lambdas, strict=True)]
    solution = solve_pls_at_factors(crossprod, natural, reml=reml)
    if crossprod.sigma is None and solution.pwrss <= _NOTHING * crossprod.XytXy[-1, -1]:
        raise ResponseError(
            f"the random effects explain the response '{crossprod.response}' without a "
            "rest: the likelihood grows without bound as the residual variance goes to "
            "zero. Look for a grouping factor within whose levels the response does not vary."
        )
    return solution


def without_random_effects(crossprod: CrossProducts, *, reml: bool) -> OptimizerResult:
    """Report the search of a model without random terms, which has nothing to find."""
    none = np.zeros(0)
    deviance = solve_pls(crossprod, none, reml=reml).deviance
    return OptimizerResult(none, "profiled", 1, True, "nothing to search for", deviance)
