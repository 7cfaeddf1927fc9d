"""A fit to likelihood profiles: how fast the deviance rises when one parameter is held.

Hold a parameter at ``v``, let all others make the best of it, and call the deviance ``D(v)``.
The signed root ``zeta(v) = sign(v - v_hat) sqrt(D(v) - D_hat)`` is close to standard normal,
whatever the shape of the likelihood, so an interval's ends are where it passes -1.96 and 1.96.

In goes a fit, out come tables by parameter: points of the profile, or the ends of intervals.
:mod:`mixedfx.inference.profile.parametrization` holds the parameter,
:mod:`mixedfx.inference.profile.root` finds
where zeta passes a number. All of it is done on the cross-products: the rows are not read again.

The deviance is that of maximum likelihood, for REML fits too, as in lme4: REML likelihoods
with different fixed effects held do not compare.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import norm

from mixedfx.errors import ArgumentError, SearchError, check_share
from mixedfx.estimation.fitted_model import FittedModel, expect_no_priors, expect_one_variance
from mixedfx.estimation.optimizer_result import Control
from mixedfx.estimation.profiled import Profiled
from mixedfx.inference.parameters import choose
from mixedfx.inference.profile.parametrization import ProfiledParameter, profile_parameter
from mixedfx.inference.profile.root import BELOW, ProfileBranch
from mixedfx.likelihood.pls import Solution, solve_pls_at_factors
from mixedfx.linalg.blas_threads import single_threaded_blas

Vector = npt.NDArray[np.float64]

_Z = float(norm.ppf(0.975))
ZETAS = (*(0.5 * k for k in range(-6, 7)), -_Z, _Z)
# Said where a profile is refused.
_INSTEAD = "take conf_int(method='bootstrap'), or Wald intervals of the coefficients"


def profile(
    fit: FittedModel,
    parm: Sequence[str] | str | None = None,
    *,
    zetas: Sequence[float] | None = None,
) -> pd.DataFrame:
    """
    Profile the likelihood.

    References
    ----------
    .. [1] Bates and Watts (1988), Nonlinear Regression Analysis and its Applications, section
       6.1.2.
    .. [2] Bates, Maechler, Bolker and Walker (2015), J. Stat. Softw. 67(1), section 5.1.
    """
    expect_no_priors(fit, "a profile")
    expect_one_variance(fit, "a profile", _INSTEAD)
    targets = np.unique(_checked(ZETAS if zetas is None else zetas))
    rows: list[tuple[str, float, float]] = []
    chosen = choose(fit, parm)
    with single_threaded_blas(fit.crossprod.symbolic.dense_size):
        optimum = _optimum(fit)
        for parameter in chosen:
            held = profile_parameter(fit, optimum, parameter)
            if held is None:
                continue
            below = _points(held, targets[targets < 0.0][::-1])
            above = _points(held, targets[targets > 0.0])
            points = [*below[::-1], (held.value(held.hat), 0.0), *above]
            rows += [(parameter.name, value, zeta) for value, zeta in points]
    return pd.DataFrame(rows, columns=["parameter", "value", "zeta"])


def profile_intervals(
    fit: FittedModel, alpha: float, parm: Sequence[str] | str | None = None
) -> pd.DataFrame:
    """Confidence intervals whose ends are the roots of the profile."""
    expect_no_priors(fit, "a profile")
    expect_one_variance(fit, "a profile", _INSTEAD)
    check_share("alpha", alpha)
    zeta = float(norm.isf(0.5 * alpha))
    chosen = choose(fit, parm)
    with single_threaded_blas(fit.crossprod.symbolic.dense_size):
        optimum = _optimum(fit)
        limits = [_limits(profile_parameter(fit, optimum, parameter), zeta) for parameter in chosen]
    index = pd.Index([parameter.name for parameter in chosen], name="parameter", dtype=object)
    return pd.DataFrame(limits, index=index, columns=[0, 1], dtype=float)


def _checked(zetas: Sequence[float]) -> Vector:
    try:
        checked = np.atleast_1d(np.asarray(zetas, dtype=float))
    except (TypeError, ValueError):
        raise ArgumentError(f"zetas={zetas!r} must be numbers.") from None
    if checked.ndim != 1 or not np.isfinite(checked).all():
        raise ArgumentError(f"zetas={zetas!r} must be finite numbers.")
    return checked


def _points(held: ProfiledParameter, targets: Vector) -> list[tuple[float, float]]:
    """Value and zeta at each target of one side, in order; the last may be at the end."""
    points: list[tuple[float, float]] = []
    if not len(targets):
        return points
    side = ProfileBranch(held, math.copysign(1.0, targets[0]))
    for target in targets:
        u, zeta = side.find(abs(float(target)))
        if math.isfinite(u) and zeta > 0.0:
            points.append((held.value(u), math.copysign(zeta, target)))
        if zeta < abs(target):
            break
    return points


def _limits(held: ProfiledParameter | None, zeta: float) -> list[float]:
    """Values at minus and plus a zeta."""
    if held is None:
        return [np.nan, np.nan]
    return [held.value(ProfileBranch(held, sign).find(zeta)[0]) for sign in (-1.0, 1.0)]


def _optimum(fit: FittedModel) -> Solution:
    """Find the maximum of the likelihood, from a fit by either criterion."""
    crossprod, theta = fit.crossprod, fit.solution.theta
    if len(theta):
        search = Profiled().estimate(
            fit.design, crossprod, reml=False, control=Control(), start=theta
        )
        if not search.converged:
            raise SearchError(
                "a profile needs the maximum of the likelihood, and the search for it did not "
                f"converge: {search.message}."
            )
        theta = search.theta
    solution = solve_pls_at_factors(crossprod, crossprod.parametrization.lambdas(theta), reml=False)
    if not fit.reml and solution.deviance < fit.solution.deviance - BELOW:
        raise SearchError(
            f"the fit's deviance {fit.solution.deviance:.10g} is not the smallest: a search from "
            f"its estimates ends at {solution.deviance:.10g}. Fit again with other start= values."
        )
    return solution
