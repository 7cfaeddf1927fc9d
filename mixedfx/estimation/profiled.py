"""The profiled engine: cross-products to theta, for any model that a formula can say.

A moment estimate starts it, the expected curvature steers it, and the analytic gradient ends
it. What is left is the boundary: a variance that went to zero is set to exactly zero where
that costs nothing, and is then probed, because zero is a stationary point for any data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mixedfx.covariance.parametrization import (
    ZERO,
    Coordinates,
    canonical_signs,
    identity_params,
    rank_reduced,
)
from mixedfx.design.build import Design
from mixedfx.errors import ResponseError
from mixedfx.estimation.optimizer_result import Control, OptimizerResult
from mixedfx.estimation.scaling import solve_pls_scaled
from mixedfx.estimation.starting_values import (
    expected_hessian,
    is_positive_definite,
    moment_estimates,
)
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.pls import Solution, solve_pls, solve_pls_at_factors
from mixedfx.likelihood.score import average_information, score_covariance, score_factors
from mixedfx.linalg.trust_region import TrustRegionResult, minimize

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Setting a vanishing variance to zero may raise the deviance by no more than rounding does.
_FREE_OF_COST = 1e-9
# A boundary is left where the deviance falls at a rate above this (per unit of variance).
_STEEP = 1e-4
_ATTEMPTS = 5
# A deviance that theta, in the units of the columns, does not give back has lost its digits.
_LOST = 1e-6
# Weights this many times their median make a moment estimate worthless.
_UNEVEN = 1e4
# Below so many random effects an evaluation costs less than an information matrix.
_SMALL = 1000
# A search ends with the Hessian that its steps have taught it; if the expected one promises
# this much more, it is begun again with that.
_WORTH_A_LOOK = 1e-8


@dataclass(frozen=True)
class Profiled:
    """
    The engine that fits every model.

    Parameters
    ----------
    name : str
        For ``engine=``.
    """

    name: str = "profiled"

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
        parametrization = crossprod.parametrization
        x = moment_estimates(crossprod) if start is None else _framed(crossprod, start)
        objective = _Objective(crossprod, parametrization.coordinates, reml=reml)
        if start is None and _uneven(design):
            x = _lowest(objective, x)
        ends = [_descend(objective, x, control)]
        for _ in range(_ATTEMPTS):
            boundary_slope = np.inf
            roots = _live_roots(objective, ends[-1])
            if all(
                root.shape[1] == k for root, k in zip(roots, parametrization.widths, strict=True)
            ):
                break
            boundary_slope = -np.inf  # until the boundary is probed nothing is known of it
            if not _may_go_on(control, ends):
                break
            # On the boundary the triangle may hide a way down: look again without it.
            objective = _Objective(crossprod, *rank_reduced(parametrization, roots), reml=reml)
            ends.append(_descend(objective, objective.start, _rest(control, ends)))
            lambdas = objective.lambdas(ends[-1].x)
            boundary_slope, away = _probe(objective, lambdas)
            if away is None or not _may_go_on(control, ends):
                break
            objective = _Objective(crossprod, *rank_reduced(parametrization, away), reml=reml)
            ends.append(_descend(objective, objective.start, _rest(control, ends)))
            if ends[-1].converged and ends[-1].value > ends[-2].value - _FREE_OF_COST:
                boundary_slope = (
                    np.inf
                )  # an optimum so near the boundary that leaving gained nothing
                break
        return _finished(self.name, objective, ends, boundary_slope)


def _uneven(design: Design) -> bool:
    """Whether a few rows weigh so much that the columns' root mean squares are theirs alone."""
    w = design.weights
    return w is not None and float(w.max()) > _UNEVEN * float(np.median(w))


def _lowest(objective: _Objective, x: Vector) -> Vector:
    """Choose among starts of very different sizes the one with the lowest deviance."""
    starts = [
        x,
        *(identity_params(objective.crossprod.parametrization) * 10.0**k for k in range(-3, 8)),
    ]
    return min(starts, key=lambda at: objective(at)[0])


def _may_go_on(control: Control, ends: list[TrustRegionResult]) -> bool:
    return ends[-1].converged and sum(len(end.trace) for end in ends) < control.max_evaluations


def _rest(control: Control, ends: list[TrustRegionResult]) -> Control:
    used = sum(len(end.trace) for end in ends)
    return replace(control, max_evaluations=max(control.max_evaluations - used, 1))


def _finished(
    name: str, objective: _Objective, ends: list[TrustRegionResult], boundary_slope: float
) -> OptimizerResult:
    """Turn the last point into theta, and say how it was found."""
    crossprod, end = objective.crossprod, ends[-1]
    natural = objective.natural(objective.lambdas(end.x))
    theta = canonical_signs(
        crossprod.parametrization,
        crossprod.parametrization.to_params([_triangular(lam) for lam in natural]),
    )
    trace = tuple(value for one in ends for value in one.trace)
    gain = f"another step would gain {end.newton_decrement:.1e}"
    deviance, rounded = end.value, False
    if (
        max(crossprod.parametrization.widths) > 1
    ):  # scalars are what they were; matrices were transformed
        deviance = solve_pls(crossprod, theta, reml=objective.reml).deviance
        rounded = abs(deviance - end.value) > _LOST
    if rounded:
        gain = f"rounding moves the optimum by {abs(deviance - end.value):.1e} in deviance"
    return OptimizerResult(
        theta=theta,
        engine=name,
        evaluations=len(trace),
        converged=end.converged and boundary_slope > -_STEEP and not rounded,
        message=gain if end.converged else f"after {len(trace)} evaluations {gain}",
        deviance=deviance,
        trace=trace,
        boundary_slope=boundary_slope,
    )


def _triangular(lam: Matrix) -> Matrix:
    """Lower triangular root of the same covariance, by rotating the columns."""
    if not np.triu(lam, 1).any():
        return lam
    return np.asarray(np.linalg.qr(lam.T, mode="r")).T


def _framed(crossprod: CrossProducts, theta: Vector) -> Vector:
    """Coordinates of a theta in the terms' frames."""
    lambdas = crossprod.parametrization.lambdas(np.asarray(theta, dtype=float))
    framed: list[Matrix] = [
        np.asarray(np.linalg.solve(f, m))
        for f, m in zip(crossprod.term_scaling, lambdas, strict=True)
    ]
    return crossprod.parametrization.to_params([_triangular(m) for m in framed])


class _Objective:
    """The deviance as a function of unit-free coordinates; remembers where it was last."""

    def __init__(
        self,
        crossprod: CrossProducts,
        coordinates: Coordinates,
        start: Vector | None = None,
        *,
        reml: bool,
    ) -> None:
        self.crossprod, self.coordinates, self.reml = crossprod, coordinates, reml
        self.start = np.zeros(coordinates.size) if start is None else start
        # Crossed or nested intercepts share what their factors taken alone cannot see. With
        # several columns a term, the average information is singular at a singular Lambda,
        # where searches for overfitted models spend their time, and costs more than it saves.
        several, scalar = (
            len(crossprod.ZtZ.diagonal) > 1,
            max(crossprod.parametrization.widths) == 1,
        )
        self.shared = several and scalar and crossprod.symbolic.size > _SMALL
        self.last: tuple[Vector, Vector, Solution] | None = None

    def __call__(self, x: Vector) -> tuple[float, Vector]:
        try:
            solution = solve_pls_scaled(self.crossprod, self.lambdas(x), reml=self.reml)
        except ResponseError:
            raise
        except (np.linalg.LinAlgError, ValueError):
            return np.inf, np.zeros_like(x)
        by_lambda = score_factors(solution, reml=self.reml)
        framed = [f.T @ m for f, m in zip(self.crossprod.term_scaling, by_lambda, strict=True)]
        gradient = self.coordinates.to_params(framed)
        self.last = x, gradient, solution
        return solution.deviance, gradient

    def lambdas(self, x: Vector) -> list[Matrix]:
        """Lambdas in the terms' frames at a point."""
        return self.coordinates.lambdas(x)

    def natural(self, matrices: Sequence[Matrix]) -> list[Matrix]:
        """Lambdas of the columns as they are."""
        return [f @ m for f, m in zip(self.crossprod.term_scaling, matrices, strict=True)]

    def initial_hessian(self, x: Vector) -> Matrix:
        """Expected curvature; for shared factors its mean with the average information."""
        expected = expected_hessian(self.crossprod, self.coordinates, x)
        shared = self.hessian()
        return expected if shared is None else 0.5 * (expected + shared)

    def hessian(self) -> Matrix | None:
        """Average information where the function was last; None where it does not pay."""
        if not self.shared or self.last is None:
            return None
        x, gradient, solution = self.last
        scale = np.array([s[0] for s, (rows, _) in self._terms() if len(rows)])
        H = average_information(solution, self.coordinates, reml=self.reml) / np.outer(scale, scale)
        # Of a scalar Lambda the deviance depends on the square: near zero its curvature is
        # that of the slope by the square, which no information matrix holds.
        by_square = np.divide(gradient, x, out=np.zeros_like(x), where=x != 0.0)
        return is_positive_definite(H + np.diag(np.maximum(by_square, 0.0)))

    def _terms(self) -> Any:
        return zip(self.crossprod.column_rms, self.coordinates.positions, strict=True)


def _descend(objective: _Objective, x: Vector, control: Control) -> TrustRegionResult:
    """Minimise; where a fresh Hessian sees more to gain than the one kept up, once more."""
    end = _minimise(objective, x, control)
    if not end.converged or not len(x):
        return end
    H = expected_hessian(objective.crossprod, objective.coordinates, end.x)
    gain = float(0.5 * end.gradient @ np.linalg.solve(H, end.gradient))
    if gain < _WORTH_A_LOOK:
        return end
    again = _minimise(objective, end.x, _rest(control, [end]))
    return replace(again, trace=end.trace + again.trace)


def _minimise(objective: _Objective, x: Vector, control: Control) -> TrustRegionResult:
    return minimize(
        objective,
        x,
        initial_hessian=lambda: objective.initial_hessian(x),
        hessian=objective.hessian,
        tolerance=control.tolerance,
        max_evaluations=control.max_evaluations,
    )


def _live_roots(objective: _Objective, end: TrustRegionResult) -> list[Matrix]:
    """
    Roots of the terms' covariances, of full column rank.

    Directions that have nearly vanished are left out, where that costs nothing.
    """
    parametrization = objective.crossprod.parametrization
    kept, cut = [], []
    for lam, structure in zip(objective.lambdas(end.x), parametrization.structures, strict=True):
        if structure == "diag":
            kept.append(lam[:, np.diag(lam) != 0.0])
            cut.append(lam[:, np.abs(np.diag(lam)) >= 10 * ZERO])
            continue
        values, vectors = np.linalg.eigh(lam @ lam.T)
        root = vectors * np.sqrt(np.clip(values, 0.0, None))
        kept.append(root[:, values > 0.0])
        cut.append(root[:, values > (10 * ZERO) ** 2])
    full = [np.pad(c, ((0, 0), (0, len(c) - c.shape[1]))) for c in cut]
    if all(a.shape == b.shape for a, b in zip(kept, cut, strict=True)):
        return kept
    value = solve_pls_at_factors(
        objective.crossprod, objective.natural(full), reml=objective.reml
    ).deviance
    return kept if value > end.value + _FREE_OF_COST else cut


def _probe(objective: _Objective, lambdas: list[Matrix]) -> tuple[float, list[Matrix] | None]:
    """
    Look for a way down off the boundary.

    Where ``Lambda Lambda'`` is singular the deviance cannot fall to first order only if its
    derivative by the covariance is positive semidefinite on the null space. Its smallest
    eigenvalue there is the slack; a negative one gives the direction to leave in.
    """
    crossprod = objective.crossprod
    scores = score_covariance(
        crossprod,
        objective.natural(lambdas),
        term_scaling=crossprod.term_scaling,
        reml=objective.reml,
    )
    boundary_slope, roots = np.inf, []
    for lam, S, structure in zip(
        lambdas, scores, crossprod.parametrization.structures, strict=True
    ):
        values, vectors = np.linalg.eigh(lam @ lam.T)
        null = vectors[:, values < 1e-16]
        root = (vectors * np.sqrt(np.clip(values, 0.0, None)))[:, values >= 1e-16]
        if structure == "diag":
            null = np.eye(len(lam))[:, np.diag(lam) == 0.0]
            rates, inner = np.diag(null.T @ S @ null), np.eye(null.shape[1])
            root = lam[:, np.diag(lam) != 0.0]
        else:
            rates, inner = np.linalg.eigh(null.T @ S @ null)
        boundary_slope = min(boundary_slope, float(rates.min(initial=np.inf)))
        steep = rates < -_STEEP
        roots.append(np.column_stack([root, 0.1 * (null @ inner)[:, steep]]))
    return boundary_slope, (roots if boundary_slope < -_STEEP else None)
