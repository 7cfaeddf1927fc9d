"""The search for a distribution of residual standard deviations, from one fit with a single one.

Outside are the covariances of the mean's effects, the coefficients of the log standard
deviation, and the standard deviation ``tau`` of its random effects; under maximum likelihood the
coefficients of the mean too. Derivatives are central differences of the approximate deviance
(:mod:`mixedfx.engines.laplace`), whose inner minimum is found to rounding.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy import linalg

from mixedfx.covariance import rectify
from mixedfx.criterion import Solution, solve_at
from mixedfx.design import Design
from mixedfx.dispersion import Dispersion, Spread
from mixedfx.engines.dispersion import inner_search
from mixedfx.engines.laplace import Inner, Laplace
from mixedfx.engines.trust import Minimum, minimise
from mixedfx.fit import Control, Search
from mixedfx.strata import stratify

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Steps of differences, in coordinates of order one.
_STEP, _WIDE = 1e-4, 3e-3
# A search begins with this standard deviation of the log residual ones, and no variance of the
# mean below this share of the residual one: zero is stationary for any data.
_START, _LIFT = 0.3, 0.1
# Below this the levels have one residual standard deviation.
_ZERO = 1e-3


def search_location_scale(
    design: Design, *, reml: bool, control: Control
) -> tuple[Search, Design, Dispersion]:
    """
    Find the distribution of the residual standard deviations, and everything else.

    Parameters
    ----------
    design : Design
        With a ``scale`` that has a random term.
    reml : bool
        Which criterion.
    control : Control
        When to stop.

    Returns
    -------
    search : Search
        Its theta is relative to sigma, the standard deviation where the columns are zero.
    design : Design
        With the weights at the modes of the scale's effects, and that sigma.
    dispersion : Dispersion
        The coefficients, the effects, and the approximate deviance.

    Raises
    ------
    EngineRefusal
        If there are too many rows and levels for it.

    References
    ----------
    .. [1] Hedeker, Mermelstein and Demirtas (2008), Biometrics 64:627.
    .. [2] Tierney and Kadane (1986), J. Am. Stat. Assoc. 81:82, equation 2.1.
    """
    scale = design.scale
    assert scale is not None
    assert scale.block is not None
    equal = stratify(design, np.zeros(len(design.y), dtype=np.intp)).plain
    plain = inner_search(design, equal, reml, control, None)
    start = solve_at(equal, equal.layout.lambdas(plain.theta), reml=reml)
    problem = Laplace(design, scale, scale.block, start, reml=reml)
    x = np.zeros(problem.place.size)
    x[problem.place.theta] = _lifted(problem, plain.theta)
    x[problem.place.tau] = _START
    end = _descend(problem, x, control)
    if abs(end.x[problem.place.tau]) < _ZERO:
        x = end.x.copy()
        x[problem.place.tau] = 0.0
        value, _ = problem(x)
        end = replace(end, x=x, value=value)
    return _finished(problem, end)


def _lifted(problem: Laplace, theta: Vector) -> Vector:
    """Theta in the frames, its diagonal off zero."""
    layout = problem.whole.layout
    made = []
    for lam, frame in zip(layout.lambdas(theta), problem.whole.frames, strict=True):
        framed = _triangular(np.asarray(np.linalg.solve(frame, lam)))
        framed = framed * np.where(np.diag(framed) < 0.0, -1.0, 1.0)
        at = np.diag_indices_from(framed)
        framed[at] = np.maximum(framed[at], _LIFT)
        made.append(framed)
    return layout.pack(made)


def _descend(problem: Laplace, x: Vector, control: Control) -> Minimum:
    def function(point: Vector) -> tuple[float, Vector]:
        try:
            value, _ = problem(point)
            return value, _slope(problem, point)
        except np.linalg.LinAlgError:
            return np.inf, np.zeros_like(point)

    def first() -> Matrix:
        values, vectors = np.linalg.eigh(_hessian(problem, x))
        raised = np.maximum(np.abs(values), 1e-3 * np.abs(values).max())
        return np.asarray((vectors * raised) @ vectors.T)

    return minimise(
        function,
        x,
        first_hessian=first,
        tolerance=max(control.tolerance, 1e-9),
        max_evaluations=control.max_evaluations,
    )


def _slope(problem: Laplace, point: Vector) -> Vector:
    out = np.empty_like(point)
    for j in range(len(point)):
        step = np.zeros_like(point)
        step[j] = _STEP
        out[j] = (problem(point + step)[0] - problem(point - step)[0]) / (2.0 * _STEP)
    return out


def _hessian(problem: Laplace, point: Vector) -> Matrix:
    """Second differences of the value, which cost two evaluations a pair of coordinates."""
    steps = _WIDE * np.eye(len(point))
    here = problem(point)[0]
    sides = [problem(point + step)[0] + problem(point - step)[0] for step in steps]
    H = np.diag([(both - 2.0 * here) / _WIDE**2 for both in sides])
    for i, j in itertools.combinations(range(len(point)), 2):
        step = steps[i] + steps[j]
        both = problem(point + step)[0] + problem(point - step)[0]
        H[i, j] = H[j, i] = (both - sides[i] - sides[j] + 2.0 * here) / (2.0 * _WIDE**2)
    return H


def _finished(problem: Laplace, end: Minimum) -> tuple[Search, Design, Dispersion]:
    """Refer everything to sigma, and measure the curvature."""
    place, point = problem.place, end.x
    tau = abs(float(point[place.tau]))
    free = np.ones(place.size, dtype=bool)
    free[place.tau] = tau > 0.0
    value, here = problem(point)
    u = problem.u
    v = point[place.tau] * u
    gradient, hessian = _slope(problem, point)[free], _hessian(problem, point)[np.ix_(free, free)]
    inverse = 2.0 * np.linalg.pinv(hessian, rcond=1e-10, hermitian=True)
    at = problem.coordinates
    log_mean = math.log(problem.plain.sigma) + float(point[place.level])
    gamma = at.gamma(log_mean, point[place.scale])
    of_scale = np.flatnonzero(free)
    scale_rows = [i for i, j in enumerate(of_scale) if place.level <= j < place.tau]
    cov = at.map @ inverse[np.ix_(scale_rows, scale_rows)] @ at.map.T
    tau_error = 0.0
    if tau > 0.0:
        row = int(np.flatnonzero(of_scale == place.tau)[0])
        tau_error = math.sqrt(max(inverse[row, row], 0.0))
    curved = np.linalg.inv(np.eye(len(v)) + 0.5 * tau**2 * here.hessian)
    spread = Spread(tau, tau_error, v, tau * np.sqrt(np.diag(curved)))
    log_sigma = log_mean - float(at.centre @ at.change @ point[place.scale])
    sigma = math.exp(log_sigma)
    sds = np.exp(problem.logs(point)[problem.codes] + v[problem.block.codes])
    w = problem.design.reweighed((sigma / sds) ** 2)
    layout = problem.whole.layout
    absolute = [_triangular(lam) for lam in problem.lambdas(point)]
    theta = rectify(layout, layout.pack([lam / sigma for lam in absolute]))
    beta = None if problem.reml else here.solution.beta
    # What is known of the fixed effects' covariance: the parameters', and the effects' given them.
    given = 2.0 * np.eye(len(v)) + tau**2 * here.hessian
    by_u = point[place.tau] * problem.cov_slopes(point, v, here)
    found = Dispersion(
        problem.scale,
        gamma,
        np.asarray(cov),
        spread,
        value,
        np.append(gradient, point[place.tau] * here.gradient + 2.0 * u),
        np.asarray(linalg.block_diag(hessian, given)),
        np.concatenate([_cov_slopes(problem, point)[free], by_u]),
        beta,
        _extra(problem, here, inverse, np.asarray(tau**2 * curved)),
    )
    search = Search(
        theta=theta,
        engine="profiled",
        evaluations=problem.evaluations,
        converged=end.converged,
        message=f"another step would gain {end.decrease:.1e}",
        deviance=here.solution.deviance,
        trace=end.trace,
        remarks=_remarks(problem, tau),
    )
    return search, replace(problem.design, weights=w, sigma=sigma), found


def _extra(problem: Laplace, here: Inner, inverse: Matrix, cov_v: Matrix) -> Matrix:
    """
    Covariance that the scale's effects, which are not known, add to the fixed effects'.

    Under REML that of the coefficients' mean given ``v`` (the law of total variance); under
    maximum likelihood what the deviance's Hessian says beyond that given ``v``.
    """
    if problem.reml:
        J = problem.beta_slopes(here)
        return np.asarray(J @ cov_v @ J.T)
    p = problem.whole.p
    errors = problem.plain.sigma * np.sqrt(np.diag(problem.plain.unscaled_cov))
    whole = inverse[len(inverse) - p :, len(inverse) - p :] * np.outer(errors, errors)
    return np.asarray(whole - here.solution.unscaled_cov)


def _remarks(problem: Laplace, tau: float) -> tuple[str, ...]:
    if tau > 0.0:
        return ()
    return (
        f"the levels of '{problem.block.group}' show no differences in their residual standard "
        "deviation: that of its logarithm is estimated as zero.",
    )


def _cov_slopes(problem: Laplace, point: Vector) -> Matrix:
    """Derivatives of the covariance of the fixed effects by all coordinates."""
    p = problem.whole.p
    out = np.empty((len(point), p, p))
    for j in range(len(point)):
        step = np.zeros_like(point)
        step[j] = _WIDE
        ends: Sequence[Solution] = [problem(point + s)[1].solution for s in (step, -step)]
        out[j] = (ends[0].unscaled_cov - ends[1].unscaled_cov) / (2.0 * _WIDE)
    return out


def _triangular(lam: Matrix) -> Matrix:
    """Lower triangular root of the same covariance."""
    return np.asarray(np.linalg.qr(lam.T, mode="r")).T
