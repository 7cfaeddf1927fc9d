"""The EM engine: random effects as missing data; slow, instructive, and never uphill.

Were the random effects known, their covariance would be the mean of their squares. They are
not, so each iteration takes the expectation of those squares given the data (E) and sets the
covariance to its mean (M); beta and sigma then follow in closed form, as for any other engine.
No step is ever too long and no variance ever negative, and the likelihood rises with every
iteration; the price is the number of iterations.

One iteration is one evaluation of the criterion and one sweep back through its factorisation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixedfx._arrays import set_readonly
from mixedfx.covariance.parametrization import ZERO, canonical_signs, relative_factor
from mixedfx.design.build import Design
from mixedfx.estimation.optimizer_result import Control, OptimizerResult
from mixedfx.estimation.scaling import solve_pls_scaled
from mixedfx.estimation.starting_values import expected_hessian, moment_estimates
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.pls import Solution, solve_pls
from mixedfx.likelihood.score import score_factors

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Relative variance that a start on the boundary is given there: EM cannot leave a zero.
_OFF_ZERO = 0.01
# Where a step gains less than this, the ratio of two gains is one of rounding errors.
_ROUNDING = 1e-20
# A deviance that theta, in the units of the columns, does not give back has lost its digits.
_LOST = 1e-6


@dataclass(frozen=True)
class Path:
    """
    The way that EM went; a fit's is at ``fit.fit.search.raw``.

    Parameters
    ----------
    thetas : ndarray of shape (iterations, m)
        Covariance parameters at each evaluation, from the start to the end.
    deviances : tuple of float
        Deviance at each; it falls, but for rounding.

    Examples
    --------
    >>> import mixedfx as mfx
    >>> fit = mfx.lmer(
    ...     "Yield ~ 1 + (1 | Batch)", mfx.datasets.load("Dyestuff"), engine="em", start=[2.0]
    ... )
    >>> fit.fit.search.raw.thetas[:3, 0].round(3)
    array([2.   , 1.276, 1.042])
    """

    thetas: Matrix
    deviances: tuple[float, ...]

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(self.thetas)


@dataclass(frozen=True)
class ExpectationMaximisation:
    """
    The engine that climbs the likelihood by expectation and maximisation.

    Parameters
    ----------
    name : str
        For ``engine=``.

    Notes
    -----
    The parameters are beta, sigma and each term's relative covariance ``Delta``; the random
    effects are ``b = sigma v``, with ``v ~ N(0, Delta)`` at each of a term's ``L`` levels. The
    missing data are the ``v``, not the ``b``: the log-likelihood of everything,

        log p(v; Delta) + log p(y | v; beta, sigma),

    then has ``Delta`` in its first part alone, and each iteration has two halves that cannot
    lower the likelihood of the data.

    1. *Delta, at the beta and sigma there are.* By Jensen's inequality the log-likelihood rises
       by at least as much as ``E[log p(v; Delta) | y]`` does, which is largest at

           Delta_new = mean over the levels of E[v v' | y]
                     = mean over the levels of (b b' / sigma**2 + C),

       with the conditional means ``b`` and covariances ``sigma**2 C`` at the present parameters;
       of a diagonal term the diagonal of it.
    2. *beta, and sigma unless it is known, at the new Delta.* They maximise the likelihood of
       the data itself, not its expectation: the closed form of the criterion. This is what makes
       it ECME [3]_, and faster than the EM of [1]_ and [2]_, which goes on from the expected
       residuals.

    With ``b`` as the missing data the same formula would be the update of ``G = sigma**2 Delta``
    at a fixed sigma, and step 2 had to keep ``G``, whose best sigma has no closed form.

    Under REML the data are the contrasts of y that are free of beta [1]_; beta is integrated out
    with the random effects, and ``C`` grows by what not knowing it adds. That part aside nothing
    changes.

    With ``S`` the derivative of the deviance by ``Delta``, step 1 is ``Delta_new = Delta - Delta
    S Delta / L``: a gradient step of a length that suits complete data. So inside the boundary it
    rests where the likelihood is stationary; but at a variance of zero it rests whatever the
    data, and can neither leave zero nor reach it: where zero is the optimum, after ``k``
    iterations about ``L / k`` of deviance is still to gain. A start on the boundary is therefore
    moved off it, and said to be.

    The error falls by about the same factor at every iteration, the share of the information on
    ``Delta`` that is missing with the random effects [2]_. From that factor the gain still to
    come is estimated (Aitken), and the fit is called converged if this and what a Newton step
    promises are both below the tolerance.

    References
    ----------
    .. [1] Laird and Ware (1982), Random-effects models for longitudinal data, Biometrics 38:963.
    .. [2] Dempster, Laird and Rubin (1977), Maximum likelihood from incomplete data via the EM
       algorithm, J. R. Stat. Soc. B 39:1.
    .. [3] Liu and Rubin (1994), The ECME algorithm: a simple extension of EM and ECM with
       faster monotone convergence, Biometrika 81:633.
    """

    name: str = "em"

    def refusal(self, design: Design) -> str | None:
        """Refuse nothing."""
        return None

    def estimate(
        self,
        design: Design,
        crossprod: CrossProducts,
        *,
        reml: bool,
        control: Control,
        start: Vector | None = None,
    ) -> OptimizerResult:
        """Find theta."""
        lambdas, remarks = _begun(crossprod, start)
        thetas: list[Vector] = []
        trace: list[float] = []
        gains: list[float] = []
        while True:
            solution = solve_pls_scaled(crossprod, lambdas, reml=reml)
            thetas.append(_theta(crossprod, lambdas))
            trace.append(solution.deviance)
            updated = _maximised(crossprod, solution, reml=reml)
            gains.append(_gain(crossprod, lambdas, updated))
            aitken = _remaining(gains)
            last = len(trace) >= control.max_evaluations
            if aitken < control.tolerance or last:
                newton, boundary_slope = _promised(crossprod, lambdas, solution, reml=reml)
                converged = max(aitken, newton) < control.tolerance
                if converged or last:
                    break
            lambdas = [relative_factor(cov) for cov in updated]
        left = max(aitken, newton) if math.isfinite(aitken) else newton
        message = f"about {left:.1e} of deviance is left to gain"
        if not converged:
            message = f"after {len(trace)} iterations {message}"
            remarks += (_way_on(control),)
        deviance = trace[-1]
        if (
            max(crossprod.parametrization.widths) > 1
        ):  # scalars are what they were; matrices were transformed
            deviance = solve_pls(crossprod, thetas[-1], reml=reml).deviance
            if abs(deviance - trace[-1]) > _LOST:
                converged = False
                lost = abs(deviance - trace[-1])
                message = f"rounding moves the end by {lost:.1e} in deviance"
        return OptimizerResult(
            theta=thetas[-1].copy(),
            engine=self.name,
            evaluations=len(trace),
            converged=converged,
            message=message,
            deviance=deviance,
            trace=tuple(trace),
            boundary_slope=boundary_slope,
            raw=Path(np.stack(thetas), tuple(trace)),
            remarks=remarks,
        )


def _way_on(control: Control) -> str:
    """Say what to do where the limit came first."""
    return (
        "EM needs many iterations, and never gets to a variance of zero: give it more with "
        f"control=Control(max_evaluations={10 * control.max_evaluations}), or finish with "
        "engine='profiled', start=fit.theta."
    )


def _begun(crossprod: CrossProducts, start: Vector | None) -> tuple[list[Matrix], tuple[str, ...]]:
    """Lambdas in the terms' frames to begin with, off the boundary, and what to say of it."""
    parametrization = crossprod.parametrization
    if start is None:
        return parametrization.lambdas(moment_estimates(crossprod)), ()
    lambdas, lifted = [], False
    given = parametrization.lambdas(np.asarray(start, dtype=float))
    for frame, lam, structure in zip(
        crossprod.term_scaling, given, parametrization.structures, strict=True
    ):
        root = np.linalg.solve(frame, lam)
        values, vectors = np.linalg.eigh(root @ root.T)
        low = values < ZERO**2
        lifted |= bool(low.any())
        root = relative_factor((vectors * np.where(low, _OFF_ZERO, values)) @ vectors.T)
        lambdas.append(np.diag(np.diag(root)) if structure == "diag" else root)
    remark = (
        "start= lies on the boundary (a variance of zero or a correlation of one), which EM "
        f"cannot leave: it began beside it, at {math.sqrt(_OFF_ZERO):g} residual standard "
        "deviations."
    )
    return lambdas, (remark,) if lifted else ()


def _theta(crossprod: CrossProducts, lambdas: Sequence[Matrix]) -> Vector:
    """Theta of Lambdas in the terms' frames."""
    natural = [f @ lam for f, lam in zip(crossprod.term_scaling, lambdas, strict=True)]
    # Lower triangular roots of the same covariances, by rotating the columns.
    low = [np.asarray(np.linalg.qr(m.T, mode="r")).T if m.size > 1 else m for m in natural]
    return canonical_signs(crossprod.parametrization, crossprod.parametrization.to_params(low))


def _maximised(crossprod: CrossProducts, solution: Solution, *, reml: bool) -> list[Matrix]:
    """Mean expected squares ``E[v v' | y]`` of each term, in its frame: the first half."""
    p = crossprod.p
    inner = np.zeros((p + 1, p + 1))
    if reml:
        inner[:p, :p] = solution.vcov_in_basis
    blocks = crossprod.term_blocks(solution.schur.backward(inner)[1])
    means: list[Matrix] = []
    terms = zip(
        solution.conditional_modes(),
        blocks,
        crossprod.term_scaling,
        crossprod.parametrization.structures,
        strict=True,
    )
    for b, C, frame, structure in terms:
        mean = ((b / solution.sigma) @ (b / solution.sigma).T + C.sum(axis=2)) / b.shape[1]
        framed = np.asarray(np.linalg.solve(frame, np.linalg.solve(frame, mean).T))
        means.append(np.diag(np.diag(framed)) if structure == "diag" else framed)
    return means


def _gain(crossprod: CrossProducts, lambdas: Sequence[Matrix], updated: Sequence[Matrix]) -> float:
    """
    What a step gains in deviance, to first order.

    ``tr(S (Delta - Delta_new)) = L |I - Lambda^-1 Delta_new Lambda^-T|**2``, since the step is
    ``Delta - Delta_new = Delta S Delta / L``. A difference of deviances would drown in rounding
    long before the end.
    """
    gain = 0.0
    for slot, lam, new in zip(crossprod.term_positions, lambdas, updated, strict=True):
        half = np.linalg.solve(lam, new)
        change = np.eye(len(lam)) - np.linalg.solve(lam, half.T)
        gain += crossprod.ZtZ.levels(slot.factor) * float((change**2).sum())
    return gain


def _remaining(gains: Sequence[float]) -> float:
    """
    Estimate the sum of all gains to come from the last two (Aitken).

    With an error that falls by a factor ``r`` a step, first-order gains fall by ``r**2``, and
    the deviance is still ``gain / (2 (1 - r))`` above its limit.
    """
    if gains[-1] < _ROUNDING:
        return gains[-1]
    if len(gains) < 2 or gains[-1] >= gains[-2]:
        return math.inf
    return gains[-1] / (2.0 * (1.0 - math.sqrt(gains[-1] / gains[-2])))


def _promised(
    crossprod: CrossProducts, lambdas: Sequence[Matrix], solution: Solution, *, reml: bool
) -> tuple[float, float]:
    """
    What a Newton step would gain, and the slack where a variance is as good as zero.

    The Hessian is the expected one, and where the deviance rises with a covariance what that
    adds: ``2 S`` for every column of Lambda. Near zero it is all there is.
    """
    coordinates = crossprod.parametrization.coordinates
    by_lambda = score_factors(solution, reml=reml)
    framed = [f.T @ m for f, m in zip(crossprod.term_scaling, by_lambda, strict=True)]
    x, g = coordinates.to_params(lambdas), coordinates.to_params(framed)
    H, boundary_slope = expected_hessian(crossprod, coordinates, x), math.inf
    terms = zip(lambdas, framed, coordinates.positions, coordinates.slices, strict=True)
    for lam, slope, (rows, cols), part in terms:
        S = 0.5 * np.linalg.solve(lam.T, slope.T).T
        if len(rows) == len(lam):  # a scalar, or a diagonal term
            S = np.diag(np.diag(S))
        values, vectors = np.linalg.eigh(0.5 * (S + S.T))
        rising = (vectors * np.maximum(values, 0.0)) @ vectors.T
        H[part, part] += 2.0 * rising[np.ix_(rows, rows)] * (cols[:, None] == cols)
        sizes, axes = np.linalg.eigh(lam @ lam.T)
        null = axes[:, sizes < ZERO**2]
        boundary_slope = min(
            boundary_slope, float(np.linalg.eigvalsh(null.T @ S @ null).min(initial=math.inf))
        )
    return 0.5 * float(g @ np.linalg.solve(H, g)), boundary_slope
