"""What checks read of a fit: residuals and effects at draws, covariates, simulated responses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from mixedfx._cached import cached_property
from mixedfx._names import decode, written
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.formula.expansion import names_in
from mixedfx.inference.checks.checked_rows import given_data
from mixedfx.inference.checks.code import name_of
from mixedfx.inference.checks.draws import Draw
from mixedfx.inference.checks.statistics import basis_of_number, spread_scores
from mixedfx.linalg.random_streams import spawn_generators

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

# Draws of the effects; of more rows than these divided by it, fewer.
_DRAWS, _LEAST_DRAWS, _DRAWN_ROWS = 20, 5, 1_000_000
# A number with at most as many values is taken as a category.
_FEW_VALUES = 6
# Rows of a sample beside the first of each level that show whether a covariate varies within them.
_LEAST_REPEATED = 20


@dataclass(frozen=True)
class Covariate:
    """A column that the formula reads, as what residuals are compared by."""

    name: str
    column: pd.Series = field(repr=False)

    @property
    def code(self) -> str:
        """The column as it is written in a formula."""
        return name_of(self.name)

    @cached_property
    def is_number(self) -> bool:
        """Whether the column is of numbers."""
        dtype = self.column.dtype
        return bool(pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype))

    @cached_property
    def codes(self) -> Codes:
        """Category of each row."""
        return np.asarray(pd.factorize(self.column, sort=True)[0], dtype=np.intp)

    @cached_property
    def n_values(self) -> int:
        """Number of different values."""
        return int(self.codes.max(initial=-1)) + 1

    @cached_property
    def is_category(self) -> bool:
        """Whether residuals are compared between its values."""
        return not self.is_number or self.n_values <= _FEW_VALUES

    @cached_property
    def basis(self) -> Matrix:
        """Orthonormal columns of a function of the number."""
        return basis_of_number(self.column.to_numpy(dtype=float))

    def at(self, rows: Codes) -> Covariate:
        """The values of some rows."""
        return Covariate(self.name, self.column.iloc[rows])


@dataclass(frozen=True)
class Factor:
    """A grouping factor."""

    name: str
    codes: Codes
    n_levels: int
    labels: pd.Index = field(repr=False)
    code: str  # as it is written in a formula

    @cached_property
    def present(self) -> Codes:
        """Levels that have rows: all of them, but in a sample."""
        return np.flatnonzero(np.bincount(self.codes, minlength=self.n_levels))


@dataclass(frozen=True)
class DrawnFit:
    """A fit, and the residuals and effects at draws of its parameters given the data."""

    fit: FittedModel
    draws: tuple[Draw, ...] = field(repr=False)
    n_sim: int
    rngs: tuple[np.random.Generator, ...] = field(repr=False)  # of the simulated responses
    whole: FittedModel = field(repr=False)  # of all rows, of which those of ``fit`` may be a sample
    n_all: int  # rows of the data
    from_source: bool = False  # whether the rows are those of a source

    @staticmethod
    def of(fit: FittedModel, n_sim: int, rng: np.random.Generator | int | None) -> DrawnFit:
        """Draw from a fit."""
        given = given_data(fit)
        m = int(np.clip(_DRAWN_ROWS // given.rows_read, _LEAST_DRAWS, _DRAWS))
        of_draws, of_responses = spawn_generators(rng, 2)
        draws, rngs = tuple(given.draws(of_draws.spawn(m))), tuple(of_responses.spawn(n_sim))
        return DrawnFit(given.fit, draws, n_sim, rngs, given.whole, given.n_all, given.from_source)

    @property
    def is_sample(self) -> bool:
        """Whether residuals are of some of the rows alone."""
        return self.fit.rows.n < self.n_all

    @cached_property
    def z(self) -> Matrix:
        """Quantile residuals of each draw, (m, n)."""
        return np.array([draw.z for draw in self.draws])

    @cached_property
    def spread(self) -> Matrix:
        """Normal scores of their absolute values, (m, n)."""
        return spread_scores(self.z)

    def effects(self, t: int) -> Array:
        """Effects of a random term in each draw, (m, k, levels)."""
        return np.array([draw.effects[t] for draw in self.draws])

    # ------------------------------------------------------------ what residuals are compared by

    @cached_property
    def covariates(self) -> tuple[Covariate, ...]:
        """Columns of the formula but the response and those that only tell groups apart."""
        formula, rows = self.fit.formula, self.fit.rows
        fixed = names_in_fixed(self.fit)
        grouping = {
            name for term in formula.random for code in term.group for name in names_in(code)
        }
        grouping |= names_in(formula.response)
        found = []
        for name, column in rows.variables.items():
            if name in grouping and (name not in fixed or decode(name) in formula.groups):
                continue
            covariate = Covariate(decode(name), column.reset_index(drop=True))
            if covariate.n_values > 1 and (covariate.is_number or covariate.n_values < rows.n / 2):
                found.append(covariate)
        return tuple(found)

    @cached_property
    def factors(self) -> tuple[Factor, ...]:
        """Grouping factors in which a row has one level."""
        spec, rows = self.fit.spec, self.fit.rows
        terms = {term.group: t for t, term in reversed(list(enumerate(spec.random_terms)))}
        return tuple(
            Factor(
                group,
                rows.random_terms[terms[group]].codes,
                len(spec.levels_of(group)),
                spec.levels_of(group).labels,
                written(":".join(spec.random_terms[terms[group]].formula_term.group)),
            )
            for group in self.fit.formula.groups
            if not spec.random_terms[terms[group]].has_memberships
        )

    def within(self, factor: Factor) -> Mapping[str, Covariate]:
        """
        Covariates that are constant within the levels of a factor, a value for each with rows.

        Of a sample that is known where enough rows are not the first of their level.
        """
        if self.is_sample and len(factor.codes) < len(factor.present) + _LEAST_REPEATED:
            return {}
        first = np.zeros(factor.n_levels, dtype=np.intp)
        first[factor.codes[::-1]] = np.arange(len(factor.codes))[::-1]
        constant = {}
        for covariate in self.covariates:
            codes = covariate.codes
            if (codes == codes[first][factor.codes]).all():
                constant[covariate.name] = covariate.at(first[factor.present])
        return constant

    # ------------------------------------------------------------ simulated responses

    @cached_property
    def simulated(self) -> Matrix:
        """Dispersion, and number of zeros, of responses simulated at the draws, (2, n_sim)."""
        found = []
        for s, rng in enumerate(self.rngs):
            draw = self.draws[s % len(self.draws)]
            around = draw.residual.distribution(
                self.fit.rows,
                self.fit.solution.sigma,
                draw.residual.distribution_params,
                new_effects=False,
            )
            y = around.draw(draw.eta, rng)
            found.append((self._dispersion(y, draw), float((y == 0.0).sum())))
        return np.array(found).T

    @cached_property
    def dispersion(self) -> Vector:
        """Mean square of the Pearson residuals in each draw, (m,)."""
        return np.array([self._dispersion(self.fit.rows.y, draw) for draw in self.draws])

    def _dispersion(self, y: Vector, draw: Draw) -> float:
        rows, sigma = self.fit.rows.replaced(y=y), self.fit.solution.sigma
        residuals = draw.residual.pearson_residuals(rows, draw.eta, sigma)
        return float(np.nanmean(residuals**2))

    @cached_property
    def zero_probabilities(self) -> Matrix:
        """Probability of a zero of each row in each draw, (m, n)."""
        fit = self.fit
        rows, ones = fit.rows.replaced(y=np.zeros(fit.rows.n)), np.ones(fit.rows.n)
        sigma = fit.solution.sigma
        return np.array(
            [
                special.ndtr(draw.residual.quantile_residuals(rows, draw.eta, sigma, ones))
                for draw in self.draws
            ]
        )


def names_in_fixed(fit: FittedModel) -> set[str]:
    """Identifiers of the columns that the fixed part reads."""
    return {name for factor in fit.spec.fixed_info.factor_infos for name in names_in(factor.name())}
