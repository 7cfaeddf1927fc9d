"""A fit to likelihood profiles: how fast the deviance rises when one parameter is held.

Hold a parameter at ``v``, let all others make the best of it, and call the deviance ``D(v)``.
The signed root ``zeta(v) = sign(v - v_hat) sqrt(D(v) - D_hat)`` is close to standard normal,
whatever the shape of the likelihood, so an interval's ends are where it passes -1.96 and 1.96.

In goes a fit, out come tables by parameter: points of the profile, or the ends of intervals.
:mod:`mixedfx.inference.held` holds the parameter, :mod:`mixedfx.inference.crossing` finds
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

from mixedfx.criterion import Solution, solve_at
from mixedfx.engines.profiled import Profiled
from mixedfx.errors import ArgumentError, SearchError, check_share
from mixedfx.fit import Control, Fit, expect_no_priors, expect_one_variance
from mixedfx.inference.crossing import BELOW, Side
from mixedfx.inference.held import Held, hold_parameter
from mixedfx.inference.parameters import choose
from mixedfx.threads import calm

Vector = npt.NDArray[np.float64]

_Z = float(norm.ppf(0.975))
ZETAS = (*(0.5 * k for k in range(-6, 7)), -_Z, _Z)
# Said where a profile is refused.
_INSTEAD = "take conf_int(method='bootstrap'), or Wald intervals of the coefficients"


def profile(
    fit: Fit, parm: Sequence[str] | str | None = None, *, zetas: Sequence[float] | None = None
) -> pd.DataFrame:
    """
    Profile the likelihood.

    Parameters
    ----------
    fit : Fit
        Any fit.
    parm : sequence of str or str, optional
        Names of parameters, as :func:`mixedfx.inference.parameters.parameters` lists them; all
        by default.
    zetas : sequence of float, optional
        Where on the scale of zeta to find points; by default from -3 to 3 by 0.5, and the ends
        of a 95 % interval.

    Returns
    -------
    pandas.DataFrame
        ``parameter value zeta``, a row per point: at each zeta the value that has it. The row
        of zero is the estimate of maximum likelihood. A parameter that comes to its end first,
        a standard deviation of zero or a correlation of one, has its last row there, with the
        zeta that it has there. No rows for a correlation with an effect that does not vary.

    Raises
    ------
    ArgumentError
        If a name is unknown, or a zeta not a number.
    SearchError
        If a search fails, or finds that the fit was not at its optimum.

    References
    ----------
    .. [1] Bates and Watts (1988), Nonlinear Regression Analysis and its Applications, section
       6.1.2.
    .. [2] Bates, Maechler, Bolker and Walker (2015), J. Stat. Softw. 67(1), section 5.1.

    Examples
    --------
    >>> import mixedfx as mfx
    >>> fit = mfx.lmer("Yield ~ 1 + (1 | Batch)", mfx.datasets.load("Dyestuff")).fit
    >>> profile(fit, "sigma", zetas=[-2, -1, 1, 2]).round(2)
      parameter  value  zeta
    0     sigma  38.05  -2.0
    1     sigma  43.14  -1.0
    2     sigma  49.51   0.0
    3     sigma  57.62   1.0
    4     sigma  68.14   2.0
    """
    expect_no_priors(fit, "a profile")
    expect_one_variance(fit, "a profile", _INSTEAD)
    targets = np.unique(_checked(ZETAS if zetas is None else zetas))
    rows: list[tuple[str, float, float]] = []
    chosen = choose(fit, parm)
    with calm(fit.cross.plan.tail_size):
        optimum = _optimum(fit)
        for parameter in chosen:
            held = hold_parameter(fit, optimum, parameter)
            if held is None:
                continue
            below = _points(held, targets[targets < 0.0][::-1])
            above = _points(held, targets[targets > 0.0])
            points = [*below[::-1], (held.value(held.hat), 0.0), *above]
            rows += [(parameter.name, value, zeta) for value, zeta in points]
    return pd.DataFrame(rows, columns=["parameter", "value", "zeta"])


def profile_intervals(
    fit: Fit, alpha: float, parm: Sequence[str] | str | None = None
) -> pd.DataFrame:
    """
    Confidence intervals whose ends are the roots of the profile.

    Parameters
    ----------
    fit : Fit
        Any fit.
    alpha : float
        One less the confidence: 0.05 for 95 %.
    parm : sequence of str or str, optional
        Names of parameters; all by default.

    Returns
    -------
    pandas.DataFrame
        Columns 0 and 1, the lower and the upper end, by parameter. An interval that comes to
        the end of the parameter space ends exactly there: at 0.0 for a standard deviation, at
        -1.0 or 1.0 for a correlation. NaN for what was not estimated.

    Raises
    ------
    ArgumentError
        If a name is unknown, or ``alpha`` not between zero and one.
    SearchError
        If a search fails, or finds that the fit was not at its optimum.

    Examples
    --------
    >>> import mixedfx as mfx
    >>> fit = mfx.lmer("Yield ~ 1 + (1 | Batch)", mfx.datasets.load("Dyestuff")).fit
    >>> profile_intervals(fit, 0.05).round(2)
                                 0        1
    parameter
    sd(Intercept | Batch)    12.20    84.06
    sigma                    38.23    67.66
    Intercept              1486.45  1568.55
    """
    expect_no_priors(fit, "a profile")
    expect_one_variance(fit, "a profile", _INSTEAD)
    check_share("alpha", alpha)
    zeta = float(norm.isf(0.5 * alpha))
    chosen = choose(fit, parm)
    with calm(fit.cross.plan.tail_size):
        optimum = _optimum(fit)
        limits = [_limits(hold_parameter(fit, optimum, parameter), zeta) for parameter in chosen]
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


def _points(held: Held, targets: Vector) -> list[tuple[float, float]]:
    """Value and zeta at each target of one side, in order; the last may be at the end."""
    points: list[tuple[float, float]] = []
    if not len(targets):
        return points
    side = Side(held, math.copysign(1.0, targets[0]))
    for target in targets:
        u, zeta = side.find(abs(float(target)))
        if math.isfinite(u) and zeta > 0.0:
            points.append((held.value(u), math.copysign(zeta, target)))
        if zeta < abs(target):
            break
    return points


def _limits(held: Held | None, zeta: float) -> list[float]:
    """Values at minus and plus a zeta."""
    if held is None:
        return [np.nan, np.nan]
    return [held.value(Side(held, sign).find(zeta)[0]) for sign in (-1.0, 1.0)]


def _optimum(fit: Fit) -> Solution:
    """Find the maximum of the likelihood, from a fit by either criterion."""
    cross, theta = fit.cross, fit.solution.theta
    if len(theta):
        search = Profiled().search(fit.design, cross, reml=False, control=Control(), start=theta)
        if not search.converged:
            raise SearchError(
                "a profile needs the maximum of the likelihood, and the search for it did not "
                f"converge: {search.message}."
            )
        theta = search.theta
    solution = solve_at(cross, cross.layout.lambdas(theta), reml=False)
    if not fit.reml and solution.deviance < fit.solution.deviance - BELOW:
        raise SearchError(
            f"the fit's deviance {fit.solution.deviance:.10g} is not the smallest: a search from "
            f"its estimates ends at {solution.deviance:.10g}. Fit again with other start= values."
        )
    return solution
