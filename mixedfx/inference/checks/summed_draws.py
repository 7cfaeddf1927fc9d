"""Draws of the coefficients and effects given data of which a fit has sums, or rows in a file.

With ``C = (X'V^-1 X)^-1 / sigma**2`` and ``G = Lambda M^-1 Lambda'``, from cross-products alone,

    beta ~ N(beta^, sigma**2 C),    b | beta ~ N(b^ - G Z'WX (beta - beta^), sigma**2 G).

Residuals are those of the sample of rows that the fit kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import solve_triangular

from mixedfx._cached import cached_property
from mixedfx.design.columns import factor_codes
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.estimation.glmm.working import basis_coefficients
from mixedfx.inference.checks.blocked_moves import BlockedState, moved_by_blocks
from mixedfx.inference.checks.draws import Draw
from mixedfx.inference.sampled_rows import with_rows, with_sampled_rows
from mixedfx.likelihood.crossproducts import CHOLESKY, CrossProducts
from mixedfx.likelihood.generalized.blocked_rows import BlockedRows
from mixedfx.likelihood.generalized.rows import rows_of
from mixedfx.likelihood.size import check_dense_block
from mixedfx.linalg.cholesky.batched import unflatten
from mixedfx.linalg.cholesky.conditional_draws import draw_effects
from mixedfx.linalg.cholesky.numeric import NumericFactor
from mixedfx.linalg.triangular import solve_upper

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Drawn:
    """Coefficients, effects of each grouping factor in the basis, and parameters of a draw."""

    beta: Vector
    effects: list[Matrix] = field(repr=False)  # (K, levels)
    residual: Any
    sigma: float


@dataclass(frozen=True)
class SumsGivenData:
    """Normal distribution of the coefficients and effects given the rows of a source."""

    whole: FittedModel

    @cached_property
    def fit(self) -> FittedModel:
        """The fit with the sample of its rows, and the variables that the formula reads."""
        fit = with_sampled_rows(self.whole)
        names = {name for _, of_code in factor_codes(fit.formula) for name in of_code}
        return with_rows(fit, fit.rows.with_variables(names))

    @property
    def n_all(self) -> int:
        """Rows of the source."""
        return self.whole.rows.n

    @property
    def rows_read(self) -> int:
        """All rows, where the effects move by their densities; else those of the sample."""
        return self.n_all if self._blocks else self.fit.rows.n

    @property
    def from_source(self) -> bool:
        """They are."""
        return True

    @cached_property
    def _crossprod(self) -> CrossProducts:
        """Cross-products that are factorised exactly; a SizeError where that is too large."""
        own = self.whole.crossprod
        if own.solver == CHOLESKY:
            return own
        check_dense_block(own.ZtZ.pattern, own.groups)
        return replace(own, solver=CHOLESKY)

    @cached_property
    def _numeric(self) -> NumericFactor:
        """The factorisation at the estimates."""
        found = self.whole.solution.schur.numeric
        if not isinstance(found, NumericFactor):
            found = self._crossprod.factorize(self.whole.solution.factors)
        assert isinstance(found, NumericFactor)
        return found

    @cached_property
    def _blocks(self) -> BlockedRows | None:
        """Rows in a file, of a generalised model."""
        if self.whole.residual.log_densities is None:
            return None
        rows = rows_of(self.whole.design)
        assert isinstance(rows, BlockedRows)
        return rows

    def draws(self, rngs: Sequence[np.random.Generator]) -> list[Draw]:
        """Draw once with each generator."""
        drawn = [self._normal(rng) for rng in rngs]
        if (rows := self._blocks) is not None:
            states = [
                BlockedState(
                    basis_coefficients(rows, d.beta), d.effects, d.residual.distribution_params
                )
                for d in drawn
            ]
            moved_by_blocks(self.whole, rows, states, rngs)
        return [self._at(d, rng) for d, rng in zip(drawn, rngs, strict=True)]

    def _normal(self, rng: np.random.Generator) -> _Drawn:
        """Draw from the normal distribution."""
        solution, crossprod = self.whole.solution, self._crossprod
        residual, sigma = self.whole.residual.drawn(solution, rng)
        b, beta, p = sigma * draw_effects(self._numeric, rng), solution.beta, crossprod.p
        if p:
            root = np.linalg.cholesky(solution.schur.matrix[:p, :p])
            z = rng.standard_normal(p)
            change = sigma * solve_triangular(root, z, trans="T", lower=True)
            beta = beta + solve_upper(crossprod.qr_R, change)
            if len(b):
                b -= self._numeric.solve(crossprod.ZtX @ change[:, None])[:, 0]
        symbolic, layout = crossprod.symbolic, crossprod.ZtZ.layout
        effects = [
            unflatten(b[symbolic.columns(f), None], layout.width(f))[:, 0] for f in layout.factors
        ]
        modes = solution.conditional_modes_in_basis()
        for position, mode in zip(crossprod.term_positions, modes, strict=True):
            effects[position.group][position.columns] += mode
        return _Drawn(beta, effects, residual, sigma)

    def _at(self, drawn: _Drawn, rng: np.random.Generator) -> Draw:
        """Residuals of the sample at a draw."""
        fit, crossprod = self.fit, self.whole.crossprod
        effects = tuple(crossprod.effects(crossprod.term_rows(drawn.effects)))
        eta = fit.rows.linear_predictor(drawn.beta, effects)
        uniform = rng.random(fit.rows.n)
        z = drawn.residual.independent_residuals(fit.rows, eta, drawn.sigma, uniform)
        return Draw(eta, effects, z, self.whole.residual)
