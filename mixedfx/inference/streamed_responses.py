"""Responses drawn from a linear fit whose rows were read in chunks: as their cross-products."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from mixedfx.design.build import Design
from mixedfx.design.combinations import Combinations
from mixedfx.design.rows import ModelRows
from mixedfx.design.stream.streamed_rows import StreamedRows, known
from mixedfx.errors import ArgumentError, check_choice
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference.given_parameters import parameter_values
from mixedfx.inference.simulation import RANDOM, RandomName
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.drawn_response import DrawnResponses, with_drawn_response
from mixedfx.likelihood.size import check_dense_root
from mixedfx.likelihood.stream.reduced import ReducedSums

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


def is_of_sums(fit: FittedModel) -> bool:
    """Whether it is a linear fit that has sums of its rows in the place of them."""
    return isinstance(fit.rows, StreamedRows) and fit.spec.residual.linear


def with_sums_of(design: Design, crossprod: CrossProducts) -> Design:
    """
    A design whose rows have a response of which these are the cross-products.

    No row of the sample has a value of it; what depends on the columns alone is as it was.
    """
    rows, drawn = cast(StreamedRows, design.rows), cast(StreamedRows, design.rows).random_sample
    moments = cast(ReducedSums, known(rows)).moments.of_columns(rows.combinations())
    own = replace(
        rows,
        summaries={name: v for name, v in rows.summaries.items() if name == "qr R"},
        random_sample=drawn.replaced(y=np.full(drawn.n, np.nan)),
        combined=Combinations.identity(crossprod.p, crossprod.parametrization.widths),
        reduced=ReducedSums(crossprod, moments, None),
    )
    return replace(design, rows=cast(ModelRows, own))


@dataclass(frozen=True)
class SummedResponses:
    """Distribution of the response of rows of which there are sums."""

    crossprod: CrossProducts = field(repr=False)
    beta: Vector
    sigma: float
    modes: tuple[Matrix, ...] = field(repr=False)  # of each term, where they are not drawn
    effect_factors: tuple[Matrix, ...]  # (k, k) of each term, in its basis, where they are

    @staticmethod
    def of(fit: FittedModel, *, random: RandomName) -> SummedResponses:
        """Under a fit, with new effects or the conditional modes."""
        check_choice("random", random, RANDOM)
        if fit.spec.residual.n_params:
            raise ArgumentError(
                "the rows of this fit were read in chunks, and responses are drawn by their sums, "
                f"with one residual variance: with {fit.spec.residual.keyword}= take profile(), or "
                "fit a DataFrame in memory."
            )
        values, crossprod = parameter_values(fit, None), fit.crossprod
        check_dense_root(crossprod.ZtZ.pattern, crossprod.groups)
        modes: list[Matrix] = []
        factors: list[Matrix] = []
        if random == "fitted":
            modes = fit.solution.conditional_modes_in_basis()
        else:
            of_terms = zip(crossprod.bases, values.effect_factors, strict=True)
            factors = [np.asarray(basis.inverse @ factor) for basis, factor in of_terms]
        return SummedResponses(crossprod, values.beta, values.sigma, tuple(modes), tuple(factors))

    def __getstate__(self) -> dict[str, Any]:
        """Leave the root out of copies and pickles: each process computes its own."""
        return {name: v for name, v in self.__dict__.items() if name != "responses"}

    @cached_property
    def responses(self) -> DrawnResponses:
        """What is drawn from, computed at the first draw."""
        return DrawnResponses.of(self.crossprod)

    def draw(self, rng: np.random.Generator) -> CrossProducts:
        """Cross-products with one response."""
        crossprod, layout = self.crossprod, self.crossprod.ZtZ.layout
        effects = [np.zeros((layout.width(f), layout.levels(f))) for f in layout.factors]
        for t, position in enumerate(crossprod.term_positions):
            if self.modes:
                b = self.modes[t]
            else:
                factor, levels = self.effect_factors[t], layout.levels(position.group)
                b = factor @ rng.standard_normal((len(factor), levels))
            effects[position.group][position.columns] = b
        noise = self.responses.noise(self.sigma, rng)
        return with_drawn_response(self.responses.crossprod, self.beta, effects, noise)
