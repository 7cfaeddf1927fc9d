"""EM engine: expectation conditional maximisation either (ECME) with the random effects missing.

The parameters are beta, sigma and each term's relative covariance ``Delta = Lambda Lambda'``; the
random effects are ``b = sigma v``, ``v ~ N(0, Delta)`` at each of a term's L levels. The missing
data are the v. An iteration has two steps, neither of which can lower the likelihood.

1. Delta given beta and sigma. The expected complete-data log-likelihood ``E[log p(v; Delta) | y]``
   is largest at

       Delta_new = mean over the levels of E[v v' | y]
                 = mean over the levels of (b b' / sigma**2 + C),

   with b and ``sigma**2 C`` the conditional means and covariances at the current parameters (of a
   diagonal term: the diagonal of it). Under REML beta is integrated out with the random effects,
   and C includes the uncertainty of beta (Laird and Ware 1982).
2. beta, and sigma unless it is known, given Delta_new. They maximise the observed-data likelihood,
   in closed form: this is what makes the algorithm ECME (Liu and Rubin 1994) instead of EM
   (Dempster, Laird and Rubin 1977), and faster.

With ``S = dd / dDelta``, step 1 is ``Delta_new = Delta - Delta S Delta / L``, so that a Delta of
zero is a fixed point for any data, and is approached only like ``L / k`` in deviance after k
iterations. A starting value on the boundary is therefore moved off it.

Convergence is linear, at the rate of the fraction of missing information. The engine stops when
the gain still to come, by Aitken extrapolation, and the Newton decrement are both below the
tolerance.

Laird and Ware (1982), Biometrics 38:963. Dempster, Laird and Rubin (1977), J. R. Stat. Soc. B 39:1.
Liu and Rubin (1994), Biometrika 81:633.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from mixedfx._arrays import set_readonly
from mixedfx.covariance.components import ZERO
from mixedfx.covariance.registry import STRUCTURES
from mixedfx.covariance.unstructured import relative_factor
from mixedfx.design.build import Design
from mixedfx.errors import EngineRefusal
from mixedfx.estimation.optimizer_result import Control, OptimizerResult
from mixedfx.estimation.starting_values import expected_hessian, moment_estimates
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.likelihood import GaussianLikelihood
from mixedfx.likelihood.pls import Solution
from mixedfx.likelihood.scaled import check_positive_pwrss
from mixedfx.likelihood.score import score_factors
from mixedfx.linalg.cholesky.numeric import SchurComplement

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Relative variance given to a starting value on the boundary, which EM could not leave.
_MIN_START_VARIANCE = 0.01
# Below this a gain is rounding error, and so is the ratio of two such gains.
_GAIN_ROUNDING = 1e-20


@dataclass(frozen=True)
class EMIterates:
    """
    The sequence of EM iterates, at ``fit.model.optimizer_result.raw``.

    Parameters
    ----------
    thetas : ndarray of shape (iterations, m)
        Covariance parameters at each evaluation, the starting values first.
    deviances : tuple of float
        Deviance at each; it decreases, up to rounding.

    Examples
    --------
    >>> import mixedfx as mfx
    >>> fit = mfx.lmer(
    ...     "Yield ~ 1 + (1 | Batch)", mfx.datasets.load("Dyestuff"), engine="em", start=[2.0]
    ... )
    >>> fit.model.optimizer_result.raw.thetas[:3, 0].round(3)
    array([2.   , 1.276, 1.042])
    """

    thetas: Matrix
    deviances: tuple[float, ...]

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(self.thetas)


@dataclass(frozen=True)
class _RemainingGain:
    """Two estimates of the gain in deviance still to come, and the boundary slope."""

    aitken: float  # infinite until two gains are known
    newton_decrement: float
    boundary_slope: float

    def converged(self, tolerance: float) -> bool:
        return max(self.aitken, self.newton_decrement) < tolerance

    @property
    def value(self) -> float:
        finite = math.isfinite(self.aitken)
        return max(self.aitken, self.newton_decrement) if finite else self.newton_decrement


@dataclass(frozen=True)
class ExpectationMaximization:
    """Engine for unstructured and diagonal terms: ECME, monotone, with many iterations."""

    name: str = "em"

    def refusal(self, design: Design) -> str | None:
        """Refuse covariance structures whose maximisation step has no closed form."""
        for term in design.spec.random_terms:
            if not STRUCTURES[term.formula_term.structure].linear:
                return f"the maximisation step of {term.formula_term} has no closed form"
        return None

    def estimate(
        self,
        design: Design,
        likelihood: GaussianLikelihood,
        *,
        control: Control,
        start: Vector | None = None,
    ) -> OptimizerResult:
        """Estimate theta."""
        crossprod = likelihood.crossprod
        if crossprod.has_precision:
            raise EngineRefusal(
                "engine='em' needs the covariances of all effects, and a pedigree's sparse inverse "
                "gives those of animals and their parents alone: use engine='profiled'."
            )
        scaled, remarks = _starting_factors(crossprod, start)
        thetas: list[Vector] = []
        deviances: list[float] = []
        gains: list[float] = []
        while True:
            solution = likelihood.at_factors(scaled)
            check_positive_pwrss(crossprod, solution.pwrss)
            thetas.append(crossprod.theta(scaled))
            deviances.append(solution.deviance)
            updated = _updated_covariances(crossprod, solution)
            gains.append(_first_order_gain(crossprod, scaled, updated))
            aitken = _aitken_remaining_gain(gains)
            last = len(deviances) >= control.max_evaluations
            if aitken < control.tolerance or last:
                newton, slope = _newton_decrement_and_slope(crossprod, scaled, solution)
                remaining = _RemainingGain(aitken, newton, slope)
                if last or remaining.converged(control.tolerance):
                    break
            scaled = [relative_factor(covariance) for covariance in updated]
        iterates = EMIterates(np.stack(thetas), tuple(deviances))
        return _optimizer_result(self.name, solution, iterates, remaining, control, remarks)


def _optimizer_result(
    name: str,
    end: Solution,
    iterates: EMIterates,
    remaining: _RemainingGain,
    control: Control,
    remarks: tuple[str, ...],
) -> OptimizerResult:
    """Theta at the last iterate."""
    theta, evaluations = iterates.thetas[-1].copy(), len(iterates.deviances)
    converged = remaining.converged(control.tolerance)
    message = f"about {remaining.value:.1e} of deviance is left to gain"
    if not converged:
        message = f"after {evaluations} iterations {message}"
        remarks += (_advice_on_limit(control),)
    return OptimizerResult(
        theta=theta,
        engine=name,
        evaluations=evaluations,
        converged=converged,
        message=message,
        deviance=iterates.deviances[-1],
        trace=iterates.deviances,
        boundary_slope=remaining.boundary_slope,
        raw=iterates,
        remarks=remarks,
        tolerance=control.tolerance,
        limit_reached=not converged,
        refuses=not converged,  # it stops at 1e-10 of deviance, the certificate at 1e-6
        factors=end.factors,
    )


def _advice_on_limit(control: Control) -> str:
    return (
        "EM needs many iterations, and never gets to a variance of zero: give it more with "
        f"control=Control(max_evaluations={10 * control.max_evaluations}), or finish with "
        "engine='profiled', start=fit.theta."
    )


def _starting_factors(
    crossprod: CrossProducts, start: Vector | None
) -> tuple[list[Matrix], tuple[str, ...]]:
    """Scaled factors in the interior to start from, and a remark if ``start`` was moved there."""
    parametrization = crossprod.parametrization
    if start is None:
        return parametrization.lambdas(moment_estimates(crossprod)), ()
    interior, moved = [], False
    scaled = crossprod.factors_at(start)
    for F, (structure, at) in zip(scaled, parametrization.terms, strict=True):
        values, vectors = np.linalg.eigh(F @ F.T)
        singular = values < ZERO**2
        moved |= bool(singular.any())
        cov = (vectors * np.where(singular, _MIN_START_VARIANCE, values)) @ vectors.T
        interior.append(structure.factor(structure.nearest(cov, at), at))
    remark = (
        "start= lies on the boundary (a variance of zero or a correlation of one), which EM "
        f"cannot leave: it began beside it, at {math.sqrt(_MIN_START_VARIANCE):g} residual "
        "standard deviations."
    )
    return interior, (remark,) if moved else ()


def _updated_covariances(crossprod: CrossProducts, solution: Solution) -> list[Matrix]:
    """Mean over the levels of ``E[v v' | y]`` of each term, in scaled columns: step 1."""
    p = crossprod.p
    inner = np.zeros((p + 1, p + 1))
    if solution.reml:
        inner[:p, :p] = solution.vcov_in_basis
    conditional = crossprod.term_blocks(cast(SchurComplement, solution.schur).backward(inner)[1])
    covariances: list[Matrix] = []
    terms = zip(
        solution.conditional_modes_in_basis(),
        conditional,
        crossprod.parametrization.terms,
        strict=True,
    )
    for b, C, (structure, _) in terms:
        mean = ((b / solution.sigma) @ (b / solution.sigma).T + C.sum(axis=2)) / b.shape[1]
        independent = structure.invariance == "diagonal"
        covariances.append(np.diag(np.diag(mean)) if independent else mean)
    return covariances


def _first_order_gain(
    crossprod: CrossProducts, scaled: Sequence[Matrix], updated: Sequence[Matrix]
) -> float:
    """
    Decrease of the deviance by step 1, to first order.

    ``tr(S (Delta - Delta_new)) = L |I - Lambda^-1 Delta_new Lambda^-T|**2``. A difference of two
    deviances would be lost in rounding long before convergence.
    """
    gain = 0.0
    for position, lam, new in zip(crossprod.term_positions, scaled, updated, strict=True):
        half = np.linalg.solve(lam, new)
        change = np.eye(len(lam)) - np.linalg.solve(lam, half.T)
        gain += crossprod.ZtZ.layout.levels(position.group) * float((change**2).sum())
    return gain


def _aitken_remaining_gain(gains: Sequence[float]) -> float:
    """
    Sum of all gains to come, extrapolated from the last two (Aitken).

    If the error falls by a factor r per iteration, first-order gains fall by ``r**2``, and the
    deviance is ``gain / (2 (1 - r))`` above its limit.
    """
    if gains[-1] < _GAIN_ROUNDING:
        return gains[-1]
    if len(gains) < 2 or gains[-1] >= gains[-2]:
        return math.inf
    return gains[-1] / (2.0 * (1.0 - math.sqrt(gains[-1] / gains[-2])))


def _newton_decrement_and_slope(
    crossprod: CrossProducts, scaled: Sequence[Matrix], solution: Solution
) -> tuple[float, float]:
    """
    Newton decrement ``g' H^-1 g / 2``, and the boundary slope of variances below ``ZERO``.

    H is the expected Hessian plus, for every column of Lambda, twice the positive part of S,
    which dominates near a variance of zero.
    """
    coordinates = crossprod.parametrization.coordinates
    scores = score_factors(solution)
    x = coordinates.params(scaled)
    g = coordinates.pullback(x, scores)
    H, boundary_slope = expected_hessian(crossprod, coordinates, x), math.inf
    structures = crossprod.parametrization.terms
    terms = zip(
        scaled, scores, structures, coordinates.jacobians(x), coordinates.slices, strict=True
    )
    for lam, score, (structure, _), J, part in terms:
        S = 0.5 * np.linalg.solve(lam.T, score.T).T
        if structure.invariance == "diagonal":
            S = np.diag(np.diag(S))
        values, vectors = np.linalg.eigh(0.5 * (S + S.T))
        positive_part = (vectors * np.maximum(values, 0.0)) @ vectors.T
        H[part, part] += 2.0 * np.tensordot(J, positive_part @ J, axes=([1, 2], [1, 2]))
        variances, axes = np.linalg.eigh(lam @ lam.T)
        null = axes[:, variances < ZERO**2]
        slopes = np.linalg.eigvalsh(null.T @ S @ null)
        boundary_slope = min(boundary_slope, float(slopes.min(initial=math.inf)))
    return 0.5 * float(g @ np.linalg.solve(H, g)), boundary_slope
