"""Lambdas in unit-free columns to what they imply; a response without a rest is refused."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mixedfx.criterion import Solution, solve, solve_at
from mixedfx.crossprod import CrossProducts
from mixedfx.errors import ResponseError
from mixedfx.fit import Search

Matrix = npt.NDArray[np.float64]

# What is left of the response below this share of it is rounding.
_NOTHING = 1e-14


def solve_framed(cross: CrossProducts, lambdas: Sequence[Matrix], *, reml: bool) -> Solution:
    """
    Solve at Lambdas in the terms' frames.

    Parameters
    ----------
    cross : CrossProducts
        The data, reduced.
    lambdas : sequence of ndarray of shape (k, k)
        One per term, for unit-free columns.
    reml : bool
        Which criterion.

    Returns
    -------
    Solution
        As :func:`mixedfx.criterion.solve_at`.

    Raises
    ------
    ResponseError
        If nothing is left of the response, so that the likelihood has no bound.
    """
    natural = [f @ m for f, m in zip(cross.frames, lambdas, strict=True)]
    solution = solve_at(cross, natural, reml=reml)
    if cross.sigma is None and solution.r2 <= _NOTHING * cross.corner[-1, -1]:
        raise ResponseError(
            f"the random effects explain the response '{cross.response}' without a "
            "rest: the likelihood grows without bound as the residual variance goes to "
            "zero. Look for a grouping factor within whose levels the response does not vary."
        )
    return solution


def without_theta(cross: CrossProducts, *, reml: bool) -> Search:
    """
    Report the search of a model without random terms, which has nothing to find.

    Parameters
    ----------
    cross : CrossProducts
        The data, reduced.
    reml : bool
        Which criterion.

    Returns
    -------
    Search
        Converged, with an empty theta.
    """
    none = np.zeros(0)
    deviance = solve(cross, none, reml=reml).deviance
    return Search(none, "profiled", 1, True, "nothing to search for", deviance)
