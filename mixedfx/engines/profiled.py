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

from mixedfx.covariance import ZERO, Chart, identity, pivoted, rectify
from mixedfx.criterion import Solution, average_information, score, slopes, solve, solve_at
from mixedfx.crossprod import CrossProducts
from mixedfx.design import Design
from mixedfx.engines.framed import solve_framed
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
            Its weights, where they are very uneven; the cross-products say everything else.
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
        layout = cross.layout
        x = moments(cross) if start is None else _framed(cross, start)
        objective = _Objective(cross, layout.chart, reml=reml)
        if start is None and _uneven(design):
            x = _lowest(objective, x)
        ends = [_descend(objective, x, control)]
        for _ in range(_ATTEMPTS):
            slack = np.inf
            roots = _live_roots(objective, ends[-1])
            if all(root.shape[1] == k for root, k in zip(roots, layout.widths, strict=True)):
                break
            slack = -np.inf  # until the boundary is probed nothing is known of it
            if not _may_go_on(control, ends):
                break
            # On the boundary the triangle may hide a way down: look again without it.
            objective = _Objective(cross, *pivoted(layout, roots), reml=reml)
            ends.append(_descend(objective, objective.start, _rest(control, ends)))
            lambdas = objective.lambdas(ends[-1].x)
            slack, away = _probe(objective, lambdas)
            if away is None or not _may_go_on(control, ends):
                break
            objective = _Objective(cross, *pivoted(layout, away), reml=reml)
            ends.append(_descend(objective, objective.start, _rest(control, ends)))
            if ends[-1].converged and ends[-1].value > ends[-2].value - _FREE_OF_COST:
                slack = np.inf  # an optimum so near the boundary that leaving gained nothing
                break
        return _finished(self.name, objective, ends, slack)


def _uneven(design: Design) -> bool:
    """Whether a few rows weigh so much that the columns' root mean squares are theirs alone."""
    w = design.weights
    return w is not None and float(w.max()) > _UNEVEN * float(np.median(w))


def _lowest(objective: _Objective, x: Vector) -> Vector:
    """Choose among starts of very different sizes the one with the lowest deviance."""
    starts = [x, *(identity(objective.cross.layout) * 10.0**k for k in range(-3, 8))]
    return min(starts, key=lambda at: objective(at)[0])


def _may_go_on(control: Control, ends: list[Minimum]) -> bool:
    return ends[-1].converged and sum(len(end.trace) for end in ends) < control.max_evaluations


def _rest(control: Control, ends: list[Minimum]) -> Control:
    used = sum(len(end.trace) for end in ends)
    return replace(control, max_evaluations=max(control.max_evaluations - used, 1))


def _finished(name: str, objective: _Objective, ends: list[Minimum], slack: float) -> Search:
    """Turn the last point into theta, and say how it was found."""
    cross, end = objective.cross, ends[-1]
    natural = objective.natural(objective.lambdas(end.x))
    theta = rectify(cross.layout, cross.layout.pack([_triangular(lam) for lam in natural]))
    trace = tuple(value for one in ends for value in one.trace)
    gain = f"another step would gain {end.decrease:.1e}"
    deviance, rounded = end.value, False
    if max(cross.layout.widths) > 1:  # scalars are what they were; matrices were transformed
        deviance = solve(cross, theta, reml=objective.reml).deviance
        rounded = abs(deviance - end.value) > _LOST
    if rounded:
        gain = f"rounding moves the optimum by {abs(deviance - end.value):.1e} in deviance"
    return Search(
        theta=theta,
        engine=name,
        evaluations=len(trace),
        converged=end.converged and slack > -_STEEP and not rounded,
        message=gain if end.converged else f"after {len(trace)} evaluations {gain}",
        deviance=deviance,
        trace=trace,
        slack=slack,
    )


def _triangular(lam: Matrix) -> Matrix:
    """Lower triangular root of the same covariance, by rotating the columns."""
    if not np.triu(lam, 1).any():
        return lam
    return np.asarray(np.linalg.qr(lam.T, mode="r")).T


def _framed(cross: CrossProducts, theta: Vector) -> Vector:
    """Coordinates of a theta in the terms' frames."""
    lambdas = cross.layout.lambdas(np.asarray(theta, dtype=float))
    framed: list[Matrix] = [
        np.asarray(np.linalg.solve(f, m)) for f, m in zip(cross.frames, lambdas, strict=True)
    ]
    return cross.layout.pack([_triangular(m) for m in framed])


class _Objective:
    """The deviance as a function of unit-free coordinates; remembers where it was last."""

    def __init__(
        self,
        cross: CrossProducts,
        chart: Chart,
        start: Vector | None = None,
        *,
        reml: bool,
    ) -> None:
        self.cross, self.chart, self.reml = cross, chart, reml
        self.start = np.zeros(chart.size) if start is None else start
        # Crossed or nested intercepts share what their factors taken alone cannot see. With
        # several columns a term, the average information is singular at a singular Lambda,
        # where searches for overfitted models spend their time, and costs more than it saves.
        several, scalar = len(cross.gram.diagonal) > 1, max(cross.layout.widths) == 1
        self.shared = several and scalar and cross.plan.size > _SMALL
        self.last: tuple[Vector, Vector, Solution] | None = None

    def __call__(self, x: Vector) -> tuple[float, Vector]:
        try:
            solution = solve_framed(self.cross, self.lambdas(x), reml=self.reml)
        except ResponseError:
            raise
        except (np.linalg.LinAlgError, ValueError):
            return np.inf, np.zeros_like(x)
        by_lambda = slopes(solution, reml=self.reml)
        framed = [f.T @ m for f, m in zip(self.cross.frames, by_lambda, strict=True)]
        gradient = self.chart.pack(framed)
        self.last = x, gradient, solution
        return solution.deviance, gradient

    def lambdas(self, x: Vector) -> list[Matrix]:
        """Lambdas in the terms' frames at a point."""
        return self.chart.lambdas(x)

    def natural(self, matrices: Sequence[Matrix]) -> list[Matrix]:
        """Lambdas of the columns as they are."""
        return [f @ m for f, m in zip(self.cross.frames, matrices, strict=True)]

    def first_hessian(self, x: Vector) -> Matrix:
        """Expected curvature; for shared factors its mean with the average information."""
        expected = curvature(self.cross, self.chart, x)
        shared = self.hessian()
        return expected if shared is None else 0.5 * (expected + shared)

    def hessian(self) -> Matrix | None:
        """Average information where the function was last; None where it does not pay."""
        if not self.shared or self.last is None:
            return None
        x, gradient, solution = self.last
        scale = np.array([s[0] for s, (rows, _) in self._terms() if len(rows)])
        H = average_information(solution, self.chart, reml=self.reml) / np.outer(scale, scale)
        # Of a scalar Lambda the deviance depends on the square: near zero its curvature is
        # that of the slope by the square, which no information matrix holds.
        by_square = np.divide(gradient, x, out=np.zeros_like(x), where=x != 0.0)
        return believable(H + np.diag(np.maximum(by_square, 0.0)))

    def _terms(self) -> Any:
        return zip(self.cross.scales, self.chart.positions, strict=True)


def _descend(objective: _Objective, x: Vector, control: Control) -> Minimum:
    """Minimise; where a fresh Hessian sees more to gain than the one kept up, once more."""
    end = _minimise(objective, x, control)
    if not end.converged or not len(x):
        return end
    H = curvature(objective.cross, objective.chart, end.x)
    gain = float(0.5 * end.gradient @ np.linalg.solve(H, end.gradient))
    if gain < _WORTH_A_LOOK:
        return end
    again = _minimise(objective, end.x, _rest(control, [end]))
    return replace(again, trace=end.trace + again.trace)


def _minimise(objective: _Objective, x: Vector, control: Control) -> Minimum:
    return minimise(
        objective,
        x,
        first_hessian=lambda: objective.first_hessian(x),
        hessian=objective.hessian,
        tolerance=control.tolerance,
        max_evaluations=control.max_evaluations,
    )


def _live_roots(objective: _Objective, end: Minimum) -> list[Matrix]:
    """
    Roots of the terms' covariances, of full column rank.

    Directions that have nearly vanished are left out, where that costs nothing.
    """
    layout = objective.cross.layout
    kept, cut = [], []
    for lam, structure in zip(objective.lambdas(end.x), layout.structures, strict=True):
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
    value = solve_at(objective.cross, objective.natural(full), reml=objective.reml).deviance
    return kept if value > end.value + _FREE_OF_COST else cut


def _probe(objective: _Objective, lambdas: list[Matrix]) -> tuple[float, list[Matrix] | None]:
    """
    Look for a way down off the boundary.

    Where ``Lambda Lambda'`` is singular the deviance cannot fall to first order only if its
    derivative by the covariance is positive semidefinite on the null space. Its smallest
    eigenvalue there is the slack; a negative one gives the direction to leave in.
    """
    cross = objective.cross
    scores = score(cross, objective.natural(lambdas), frames=cross.frames, reml=objective.reml)
    slack, roots = np.inf, []
    for lam, S, structure in zip(lambdas, scores, cross.layout.structures, strict=True):
        values, vectors = np.linalg.eigh(lam @ lam.T)
        null = vectors[:, values < 1e-16]
        root = (vectors * np.sqrt(np.clip(values, 0.0, None)))[:, values >= 1e-16]
        if structure == "diag":
            null = np.eye(len(lam))[:, np.diag(lam) == 0.0]
            rates, inner = np.diag(null.T @ S @ null), np.eye(null.shape[1])
            root = lam[:, np.diag(lam) != 0.0]
        else:
            rates, inner = np.linalg.eigh(null.T @ S @ null)
        slack = min(slack, float(rates.min(initial=np.inf)))
        steep = rates < -_STEEP
        roots.append(np.column_stack([root, 0.1 * (null @ inner)[:, steep]]))
    return slack, (roots if slack < -_STEEP else None)
