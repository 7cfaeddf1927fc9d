"""Responses simulated for rows that stand for several equal ones of the data.

Equal rows do not have equal responses: each is drawn, and rows that are equal with their new
response are merged. Successes of all trials of equal rows are binomial together, and are drawn as
one row's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mixedfx.design.build import Design, subset_rows
from mixedfx.design.response import check_response
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference.equal_rows import EqualRows
from mixedfx.inference.simulation import RandomName, ResponseDistribution, response_distribution
from mixedfx.residuals.family_distribution import FamilyDistribution
from mixedfx.residuals.several_distribution import SeveralDistribution

Vector = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

# Responses that are drawn at a time.
_AT_A_TIME = 2**20


@dataclass(frozen=True)
class MergedResponses:
    """Distribution of the responses of all rows that the rows of a design stand for."""

    design: Design
    of_rows: ResponseDistribution
    equal: EqualRows

    @staticmethod
    def of(fit: FittedModel, *, random: RandomName) -> MergedResponses:
        """Under a fit, with new effects or the conditional modes."""
        counts = fit.rows.counts
        assert counts is not None
        of_rows = response_distribution(fit, random=random)
        return MergedResponses(fit.design, of_rows, EqualRows.of(counts))

    def draw(self, rng: np.random.Generator) -> Design:
        """Draw a response of each row: the design of rows that are distinct with it."""
        parts = list(self._parts(rng))
        of_rows, y, counts = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        of_rows, y, counts = _distinct(of_rows, y, counts)
        spec = self.design.spec
        chosen = subset_rows(self.design, of_rows)
        check_response(spec.formula.response, y, spec.family, None, chosen.rows.index)
        rows = replace(chosen.rows, y=y, weights=counts.astype(float))
        return Design(chosen.spec, rows)

    def _parts(self, rng: np.random.Generator) -> Iterator[tuple[Codes, Vector, Codes]]:
        """Row, response and number of the distinct ones among some rows at a time."""
        around = self.of_rows.around
        assert isinstance(around, FamilyDistribution | SeveralDistribution)
        etas = around.predictors(self.of_rows.draw_predictor(rng), rng)
        n = len(self.equal)
        for start in range(0, n, _AT_A_TIME):
            of_rows = self.equal.positions(np.arange(start, min(start + _AT_A_TIME, n)))
            y = around.draw_singly(etas[:, of_rows], rng)
            yield _distinct(of_rows, y, np.ones(len(y), dtype=np.intp))


def _distinct(of_rows: Codes, y: Vector, counts: Codes) -> tuple[Codes, Vector, Codes]:
    """Distinct pairs of a row and a response, with the sums of their numbers."""
    order = np.lexsort((y, of_rows))
    of_rows, y = of_rows[order], y[order]
    first = np.ones(len(y), dtype=bool)
    first[1:] = (of_rows[1:] != of_rows[:-1]) | (y[1:] != y[:-1])
    starts = np.flatnonzero(first)
    return of_rows[starts], y[starts], np.add.reduceat(counts[order], starts)
