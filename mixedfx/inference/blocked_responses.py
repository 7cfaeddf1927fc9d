"""Responses simulated from a fit whose rows are in a file: block by block, to a file of their own.

As of rows in memory (:mod:`mixedfx.inference.simulation`) the effects are drawn first, and then the
responses in the order of the rows: where a family takes its random numbers row by row, the draws
are the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx._workers import Workers
from mixedfx.design.build import Design
from mixedfx.design.response import check_response
from mixedfx.design.stream.streamed_rows import known
from mixedfx.errors import ArgumentError, ResponseError, check_choice
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.estimation.glmm.working import basis_coefficients
from mixedfx.inference.given_parameters import parameter_values
from mixedfx.inference.simulation import RANDOM, RandomName
from mixedfx.likelihood.generalized.blocked_rows import BlockedRows
from mixedfx.likelihood.generalized.rows import rows_of
from mixedfx.likelihood.stream.row_blocks import ResponseWriter
from mixedfx.residuals.family_distribution import FamilyDistribution

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class BlockedResponses:
    """Distribution of the response of rows in blocks."""

    design: Design
    rows: BlockedRows = field(repr=False)
    beta: Vector  # of the formula's columns
    effects: tuple[Matrix, ...] = field(repr=False)  # of each factor, where they are not drawn
    effect_factors: tuple[Matrix, ...]  # (k, k) of each term, in its basis, where they are
    params: Vector  # of the family

    @staticmethod
    def of(fit: FittedModel, *, random: RandomName) -> BlockedResponses:
        """Under a fit, with new effects or the conditional modes."""
        check_choice("random", random, RANDOM)
        values, rows = parameter_values(fit, None), rows_of(fit.design)
        assert isinstance(rows, BlockedRows)
        effects, factors = rows.zero_effects, []
        of_terms = zip(rows.term_positions, rows.bases, values.effect_factors, strict=True)
        modes = fit.solution.conditional_modes_in_basis()
        for t, (position, basis, factor) in enumerate(of_terms):
            if random == "fitted":
                effects[position.group][position.columns] = modes[t]
            else:
                factors.append(basis.inverse @ factor)
        return BlockedResponses(
            fit.design, rows, values.beta, tuple(effects), tuple(factors), values.family_params
        )

    def draw(self, rng: np.random.Generator) -> tuple[Design, BlockedRows]:
        """Draw one response: the design, and the rows, that have it."""
        rows, effects = self.rows, [b.copy() for b in self.effects]
        for position, factor in zip(rows.term_positions, self.effect_factors, strict=False):
            n_levels = effects[position.group].shape[1]
            z = rng.standard_normal((len(factor), n_levels))
            effects[position.group][position.columns] = factor @ z
        own: Any = self.design.rows
        beta = basis_coefficients(rows, self.beta)
        writer = ResponseWriter(rows, known(own).in_memory)
        start: Vector | None = None
        for block in rows.blocks:
            eta = block.fixed_predictor(beta) + block.random_predictor(effects)
            around = FamilyDistribution(rows.family, block.weights, self.params)
            y = around.draw(eta, rng)
            writer.add(y, block.weights)
            if start is None:
                mean = rows.family.mean(block.fixed_predictor(beta))
                start = self._first_params(y, block.weights, mean)
        self._check(writer)
        assert start is not None
        drawn = replace(writer.rows(), start=(beta, start))
        own = own.with_response_of(drawn, writer.kept())
        return replace(self.design, rows=own), drawn

    def _first_params(self, y: Vector, weights: Vector | None, mean: Vector) -> Vector:
        """Parameters of the family from which a search starts, by some rows."""
        if not len(self.params):
            return self.params
        with np.errstate(all="ignore"):
            return self.rows.family.starting_params(y, weights, mean)

    def _check(self, writer: ResponseWriter) -> None:
        """Refuse a response without a value in some row, or with one value in all."""
        low, high = writer.low, writer.high
        name = self.design.spec.formula.response
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ResponseError(f"the mean of '{name}' is outside its range in some rows.")
        if low == high:
            check_response(name, np.full(2, low), self.rows.family, None, pd.RangeIndex(2))


def check_own_process(fit: FittedModel, workers: Workers) -> None:
    """Refuse other processes for a fit whose rows are in a file of this one."""
    if fit.rows.has_file and (workers.client is not None or workers.n_jobs != 1):
        raise ArgumentError(
            "the rows of this fit are in a temporary file that this process alone can read: "
            "leave n_jobs= and client= out."
        )
