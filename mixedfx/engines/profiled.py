"""The profiled engine: cross-products to theta, for any model that a formula can say.

A moment estimate starts it, the expected curvature steers it, and the analytic gradient ends
it. What is left is the boundary: a variance that went to zero is set to exactly zero where
that costs nothing, and is then probed, because zero is a stationary point for any data.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mixedfx.covariance import ZERO, rectify, relative_factor
from mixedfx.criterion import Solution, average_information, gradient, score, solve
from mixedfx.crossprod import CrossProducts
from mixedfx.design import Design
from mixedfx.engines.start import believable, curvature, moments
from mixedfx.engines.trust import Minimum, minimise
from mixedfx.errors import ResponseError
from mixedfx.fit import Control, Search

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Setting a vanishing variance to zero may raise the deviance by no more than rounding does.
_FREE_OF_COST = 1e-9
# A boundary is left where the deviance falls at a rate above this (per unit of variance).
_STEEP = 1e-4
_ATTEMPTS = 5


@dataclass(frozen=True)
class Profiled:
    """
    The engine that fits every model.

    Examples
    --------
    >>> Profiled().name
    'profiled'
    """

    name: str = "profiled"

    def refusal(self, design: Design) -> str | None:
        """Refuse nothing."""
        return None

    def search(
        self,
        design: Design,
        cross: CrossProducts,
        *,
        reml: bool,
        control: Control,
        start: Vector | None = None,
    ) -> Search:
        """
        Find theta.

        Parameters
        ----------
        design : Design
            Not read: the cross-products say everything.
        cross : CrossProducts
            The data, reduced.
        reml : bool
            Which criterion.
        control : Control
            When to stop.
        start : ndarray of shape (m,), optional
            Where to begin, instead of at the moment estimate.

        Returns
        -------
        Search
            The optimum, on or off the boundary.
        """
        objective = _Objective(cross, reml=reml)
        x = moments(cross) if start is None else np.asarray(start, dtype=float) * objective.unit
        end = _descend(objective, x, control)
        trace, slack = end.trace, np.inf
        for _ in range(_ATTEMPTS):
            end = _snap(objective, end)
            slack, away = _probe(objective, end.x)
            if away is None:
                break
            end = _descend(objective, away, control)
            trace += end.trace
        theta = rectify(cross.layout, end.x / objective.unit)
        message = (
            f"expected gain of another step {end.decrease:.1e}"
            if end.converged
            else f"after {len(trace)} evaluations another step would still gain {end.decrease:.1e}"
        )
        return Search(
            theta=theta,
            engine=self.name,
            evaluations=len(trace),
            converged=end.converged and slack > -_STEEP,
            message=message,
            deviance=solve(cross, theta, reml=reml).deviance,
            trace=trace,
            slack=slack,
        )


class _Objective:
    """The deviance as a function of unit-free parameters; remembers where it was last."""

    def __init__(self, cross: CrossProducts, *, reml: bool) -> None:
        self.cross, self.reml, self.unit = cross, reml, cross.unit
        # Crossed or nested intercepts share what their factors taken alone cannot see. With
        # several columns a term, the average information is singular at a singular Lambda,
        # where searches for overfitted models spend their time, and costs more than it saves.
        self.shared = len(cross.gram.diagonal) > 1 and max(cross.layout.widths) == 1
        self.last: Solution | None = None

    def __call__(self, x: Vector) -> tuple[float, Vector]:
        try:
            solution = solve(self.cross, x / self.unit, reml=self.reml)
        except (np.linalg.LinAlgError, ValueError):
            return np.inf, np.zeros_like(x)
        if solution.r2 <= 1e-14 * self.cross.corner[-1, -1]:
            raise ResponseError(
                "the random effects explain the response without a rest: the likelihood grows "
                "without bound as the residual variance goes to zero. Look for a grouping "
                "factor within whose levels the response does not vary."
            )
        self.last = solution
        return solution.deviance, gradient(solution, reml=self.reml) / self.unit

    def lambdas(self, x: Vector) -> list[Matrix]:
        return self.cross.layout.lambdas(x)

    def first_hessian(self, x: Vector) -> Matrix:
        """Expected curvature; for shared factors its mean with the average information."""
        expected = curvature(self.cross, x)
        shared = self.hessian()
        return expected if shared is None else 0.5 * (expected + shared)

    def hessian(self) -> Matrix | None:
        """Average information where the function was last; None where it does not pay."""
        if not self.shared or self.last is None:
            return None
        H = average_information(self.last, reml=self.reml)
        return believable(H / np.outer(self.unit, self.unit))


def _descend(objective: _Objective, x: Vector, control: Control) -> Minimum:
    return minimise(
        objective,
        x,
        first_hessian=lambda: objective.first_hessian(x),
        hessian=objective.hessian,
        tolerance=control.tolerance,
        max_evaluations=control.max_evaluations,
    )


def _snap(objective: _Objective, end: Minimum) -> Minimum:
    """Make vanishing variances exactly zero, where that costs nothing."""
    layout = objective.cross.layout
    snapped = []
    for lam, structure in zip(objective.lambdas(end.x), layout.structures, strict=True):
        if structure == "diag":
            snapped.append(np.where(np.abs(lam) < 10 * ZERO, 0.0, lam))
            continue
        values, vectors = np.linalg.eigh(lam @ lam.T)
        small = values < (10 * ZERO) ** 2
        if not small.any():
            snapped.append(lam)
            continue
        factor = relative_factor((vectors * np.where(small, 0.0, values)) @ vectors.T)
        snapped.append(np.where(np.abs(factor) < 1e-9, 0.0, factor))
    x = layout.pack(snapped)
    if np.array_equal(x, end.x):
        return end
    value, slope = objective(x)
    if value > end.value + _FREE_OF_COST:
        return end
    return replace(end, x=x, value=value, gradient=slope)


def _probe(objective: _Objective, x: Vector) -> tuple[float, Vector | None]:
    """
    Look for a way down off the boundary.

    Where ``Lambda Lambda'`` is singular the deviance cannot fall to first order only if its
    derivative by the covariance is positive semidefinite on the null space. Its smallest
    eigenvalue there is the slack; a negative one gives the direction to leave in.
    """
    layout, unit = objective.cross.layout, objective.unit
    nulls = [_null_space(lam) for lam in objective.lambdas(x)]
    if not any(n.shape[1] for n in nulls):
        return np.inf, None
    scores = score(objective.cross, x / unit, scales=objective.cross.scales, reml=objective.reml)
    slack, away = np.inf, list(objective.lambdas(x))
    for t, (S, null) in enumerate(zip(scores, nulls, strict=True)):
        if not null.shape[1]:
            continue
        if layout.structures[t] == "diag":
            values, vectors = np.diag(S)[null.any(axis=1)], null
        else:
            values, inner = np.linalg.eigh(null.T @ S @ null)
            vectors = null @ inner
        slack = min(slack, float(values.min()))
        for value, v in zip(values, vectors.T, strict=True):
            if value < -_STEEP:
                away[t] = relative_factor(away[t] @ away[t].T + 0.01 * np.outer(v, v))
    return slack, (layout.pack(away) if slack < -_STEEP else None)


def _null_space(lam: Matrix) -> Matrix:
    values, vectors = np.linalg.eigh(lam @ lam.T)
    return np.asarray(vectors[:, values < 1e-16])
