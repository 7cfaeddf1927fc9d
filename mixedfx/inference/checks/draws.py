"""Draws of the coefficients and effects given the data, and the quantile residuals at them.

At the true parameters the pair of a response and of effects drawn given that response has the
distribution of the model: effects at such a draw are independent normal, and the quantile residuals
given them are independent standard normal, exactly. Conditional modes and residuals about them are
not: they are shrunk, and tests of them reject too rarely or too often. The coefficients, sigma and
a family's parameters are drawn too, so that what their estimation takes from the residuals is put
back (Johnson 2004, Ann. Stat. 32:2361). Only the covariances of the effects are as estimated.

With ``y* = Z b* + e*`` drawn from the model, whose best predictions are ``beta^*`` and ``b^*``,

    beta = beta^ - beta^*,    b = b^ + b* - b^*

is a draw from the normal distribution of both given the response (Matheron's rule). Of a
generalised model that is the distribution of the working linear model at the conditional modes.

References: Waagepetersen (2006), Scand. J. Stat. 33:721; Yuan and Johnson (2012), Biometrics
68:156; Dunn and Smyth (1996), J. Comput. Graph. Stat. 5:236.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from scipy import linalg, sparse

from mixedfx.design.rows import ModelRows
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.estimation.residual import ResidualEstimate
from mixedfx.inference.checks.metropolis import LevelMoves, level_moves, move
from mixedfx.inference.sampled_rows import with_rows
from mixedfx.inference.simulation import ResponseDistribution, response_distribution
from mixedfx.likelihood.accumulate import sparse_Z
from mixedfx.likelihood.pls import Solution
from mixedfx.linalg.triangular import solve_upper

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Draw:
    """Linear predictor and effects at a draw, and the quantile residuals there."""

    eta: Vector  # (n,)
    effects: tuple[Matrix, ...]  # (k, levels) of each random term
    z: Vector  # (n,) standard normal under the model
    residual: ResidualEstimate  # with the further linear predictors of the draw


class GivenData(Protocol):
    """Distribution of the coefficients and effects given the data, and rows with residuals."""

    @property
    def whole(self) -> FittedModel:
        """The fit."""
        ...

    @property
    def fit(self) -> FittedModel:
        """The fit, with the rows that residuals are of."""
        ...

    @property
    def n_all(self) -> int:
        """Rows of the data."""
        ...

    @property
    def rows_read(self) -> int:
        """Rows that a draw reads."""
        ...

    @property
    def from_source(self) -> bool:
        """Whether the rows are those of a source, which the user has in no DataFrame."""
        ...

    def draws(self, rngs: Sequence[np.random.Generator]) -> list[Draw]:
        """Draw once with each generator."""
        ...


@dataclass(frozen=True)
class RowsGivenData:
    """Normal distribution of the coefficients and effects given the response of rows in memory."""

    whole: FittedModel
    Z: sparse.csr_array  # (n, q) in the basis of the cross-products
    precision: Any  # (n, n) of the working residuals times sigma**2; None: identity
    modes: tuple[Matrix, ...]
    prior: ResponseDistribution
    moves: list[LevelMoves]  # towards the exact distribution
    # Of equal rows that one stands for: rows with residuals, and their positions among those.
    equal: tuple[ModelRows, Codes] | None = field(default=None, repr=False)

    @property
    def fit(self) -> FittedModel:
        """The fit itself, or with a row for each of those that are equal."""
        return self.whole if self.equal is None else with_rows(self.whole, self.equal[0])

    @property
    def n_all(self) -> int:
        """Rows of the data."""
        return self.whole.rows.n + self.whole.rows.n_merged

    @property
    def rows_read(self) -> int:
        """Rows of the fit."""
        return self.whole.rows.n

    @property
    def from_source(self) -> bool:
        """Where equal ones were merged."""
        return self.equal is not None

    @staticmethod
    def of(fit: FittedModel) -> RowsGivenData:
        """Of a fit with its rows."""
        rows = fit.residual.working_rows(fit.rows)
        return RowsGivenData(
            fit,
            sparse_Z(rows, fit.crossprod),
            fit.residual.row_precision(rows),
            tuple(fit.solution.conditional_modes()),
            response_distribution(fit, random="new"),
            level_moves(fit),
        )

    def draws(self, rngs: Sequence[np.random.Generator]) -> list[Draw]:
        """Draw once with each generator."""
        return [self._draw(rng) for rng in rngs]

    def _draw(self, rng: np.random.Generator) -> Draw:
        fit, rows = self.whole, self.whole.rows
        residual, sigma = fit.residual.drawn(fit.solution, rng)
        size = sigma / fit.solution.sigma
        effects, Zb = self.prior.draw_effects(rng), np.zeros(rows.n)
        for term, b in zip(rows.random_terms, effects, strict=True):
            term.add_to_linear_predictor(Zb, b)
        noise = fit.residual.draw_working_residuals(rows, fit.solution.sigma, rng)
        beta, fitted = self._best_predictions(Zb, noise)
        drawn = tuple(
            mode + size * (b - predicted)
            for mode, b, predicted in zip(self.modes, effects, fitted, strict=True)
        )
        eta = rows.linear_predictor(fit.solution.beta - size * beta, drawn)
        etas = residual.etas(eta)
        if self.moves and (density := residual.log_densities) is not None:
            effects_of_all = (drawn, *residual.drawn_effects)
            etas = move(self.moves, partial(density, rows), etas, effects_of_all, rng)
        if self.equal is not None:
            rows, etas = self.equal[0], etas[:, self.equal[1]]
        at_draw, uniform = residual.at_etas(etas), rng.random(rows.n)
        z = at_draw.independent_residuals(rows, etas[0], sigma, uniform)
        return Draw(etas[0], drawn, z, fit.residual.at_etas(etas))

    def _best_predictions(self, Zb: Vector, noise: Vector) -> tuple[Vector, list[Matrix]]:
        """Coefficients and effects (k, levels) of the response ``Zb + e``, with ``Qe`` given."""
        fit, X = self.whole, self.whole.rows.X
        Qy = self._times_precision(Zb) + noise
        beta = np.zeros(X.shape[1])
        if X.shape[1]:
            b = self._solve(self.Z.T @ Qy)
            XtVy = X.T @ (Qy - self._times_precision(self.Z @ b))
            beta = _generalized_least_squares(fit.solution, XtVy)
            Qy = Qy - self._times_precision(X @ beta)
        b = self._solve(self.Z.T @ Qy)
        symbolic = fit.crossprod.symbolic
        by_group = [
            b[symbolic.columns(f)].reshape(symbolic.layout.width(f), -1)
            for f in symbolic.layout.factors
        ]
        return beta, fit.crossprod.effects(fit.crossprod.term_rows(by_group))

    def _times_precision(self, values: Vector) -> Vector:
        return values if self.precision is None else np.asarray(self.precision @ values)

    def _solve(self, rhs: Vector) -> Vector:
        if not len(rhs):
            return rhs
        return np.asarray(self.whole.solution.schur.numeric.solve(rhs[:, None])[:, 0])


def _generalized_least_squares(solution: Solution, XtVy: Vector) -> Vector:
    """``(X'V^-1 X)^-1 X'V^-1 y`` from the Schur complement, in the basis of X."""
    p, R = len(XtVy), solution.crossprod.qr_R
    information = solution.schur.matrix[:p, :p]
    in_basis = solve_upper(R, XtVy, transposed=True)
    return solve_upper(R, np.asarray(linalg.solve(information, in_basis, assume_a="sym")))
