"""Responses drawn from a linear fit whose rows were read in chunks: as their cross-products."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from mixedfx._cached import cached_property
from mixedfx.design.build import Design
from mixedfx.design.combinations import Combinations
from mixedfx.design.rows import ModelRows
from mixedfx.design.stream.streamed_rows import StreamedRows, known
from mixedfx.errors import check_choice
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference.given_parameters import parameter_values
from mixedfx.inference.simulation import RANDOM, RandomName
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.drawn_response import DrawnResponses, with_drawn_response
from mixedfx.likelihood.drawn_strata import DrawnStrata
from mixedfx.likelihood.size import check_dense_root, check_roots_of_strata
from mixedfx.likelihood.stratified import StratifiedSums
from mixedfx.likelihood.stream.assembly import crossproduct_bytes
from mixedfx.likelihood.stream.reduced import ReducedSums
from mixedfx.residuals.streamed import StreamedLogLinear

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


def is_of_sums(fit: FittedModel) -> bool:
    """Whether it is a linear fit that has sums of its rows in the place of them."""
    return isinstance(fit.rows, StreamedRows) and fit.spec.residual.linear


def with_sums_of(design: Design, drawn: CrossProducts | StratifiedSums) -> Design:
    """
    A design whose rows have a response of which these are the cross-products.

    No row of the sample has a value of it; what depends on the columns alone is as it was.
    """
    rows = cast(StreamedRows, design.rows)
    kept = rows.random_sample
    moments = cast(ReducedSums, known(rows)).moments.of_columns(rows.combinations())
    residual, crossprod, strata = rows.residual, drawn, None
    if isinstance(drawn, StratifiedSums):
        residual = residual.of_submodel(lambda: drawn)
        crossprod, strata = drawn.plain, drawn
    assert isinstance(crossprod, CrossProducts)
    own = replace(
        rows,
        residual=residual,
        summaries={name: v for name, v in rows.summaries.items() if name == "qr R"},
        random_sample=kept.replaced(y=np.full(kept.n, np.nan)),
        combined=Combinations.identity(crossprod.p, crossprod.parametrization.widths),
        reduced=ReducedSums(crossprod, moments, strata),
    )
    return replace(design, rows=cast(ModelRows, own))


@dataclass(frozen=True)
class SummedResponses:
    """Distribution of the response of rows of which there are sums."""

    sums: CrossProducts | StratifiedSums = field(repr=False)  # by stratum, where there are several
    beta: Vector
    sds: Vector  # (strata,) residual standard deviations
    modes: tuple[Matrix, ...] = field(repr=False)  # of each term, where they are not drawn
    effect_factors: tuple[Matrix, ...]  # (k, k) of each term, in its basis, where they are

    @staticmethod
    def of(fit: FittedModel, *, random: RandomName) -> SummedResponses:
        """Under a fit, with new effects or the conditional modes."""
        check_choice("random", random, RANDOM)
        sums, sds = _sums_and_sds(fit)
        crossprod = sums.plain if isinstance(sums, StratifiedSums) else sums
        check_roots_of_strata(len(sds), crossproduct_bytes(crossprod))
        check_dense_root(crossprod.ZtZ.pattern, crossprod.groups, len(sds))
        values, is_fitted = parameter_values(fit, None), random == "fitted"
        of_terms = fit.solution.conditional_modes() if is_fitted else values.effect_factors
        own = tuple(
            np.asarray(basis.inverse @ of_term)
            for basis, of_term in zip(crossprod.bases, of_terms, strict=True)
        )
        modes, factors = (own, ()) if is_fitted else ((), own)
        return SummedResponses(sums, values.beta, sds, modes, factors)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the roots out of copies and pickles: each process computes its own."""
        return {name: v for name, v in self.__dict__.items() if name != "responses"}

    @cached_property
    def responses(self) -> DrawnResponses | DrawnStrata:
        """What is drawn from, computed at the first draw."""
        sums = self.sums
        return DrawnStrata.of(sums) if isinstance(sums, StratifiedSums) else DrawnResponses.of(sums)

    def draw(self, rng: np.random.Generator) -> CrossProducts | StratifiedSums:
        """Sums of one response."""
        sums, responses = self.sums, self.responses
        crossprod = sums.plain if isinstance(sums, StratifiedSums) else sums
        effects = self._effects(crossprod, rng)
        if isinstance(responses, DrawnStrata):
            return responses.draw(self.beta, effects, self.sds, rng)
        noise = responses.noise(float(self.sds[0]), rng)
        return with_drawn_response(responses.crossprod, self.beta, effects, noise)

    def _effects(self, crossprod: CrossProducts, rng: np.random.Generator) -> list[Matrix]:
        """Effects of each grouping factor, (K, levels), in the terms' bases."""
        layout = crossprod.ZtZ.layout
        effects = [np.zeros((layout.width(f), layout.levels(f))) for f in layout.factors]
        for t, position in enumerate(crossprod.term_positions):
            if self.modes:
                b = self.modes[t]
            else:
                factor, levels = self.effect_factors[t], layout.levels(position.group)
                b = factor @ rng.standard_normal((len(factor), levels))
            effects[position.group][position.columns] = b
        return effects


def _sums_and_sds(fit: FittedModel) -> tuple[CrossProducts | StratifiedSums, Vector]:
    """Sums that a search reads, and the residual standard deviation of each stratum."""
    model, sigma = fit.residual.model, fit.solution.sigma
    if not isinstance(model, StreamedLogLinear):
        return fit.crossprod, np.array([sigma])
    params = fit.residual.residual_params
    log_sds = model.stratum_log_sds(params) - model.log_sigma_offset(params)
    return model.sums, sigma * np.exp(log_sds)
