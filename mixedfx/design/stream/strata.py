"""Strata of equal residual variance among rows in chunks: found in a first pass, then looked up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd
from patsy import EvalEnvironment

from mixedfx._arrays import set_readonly
from mixedfx._cached import cached_property
from mixedfx._names import encode
from mixedfx.design.columns import as_patsy_column, factor_codes, formula_environment
from mixedfx.design.dispersion import DispersionRows, label_of_values
from mixedfx.design.levels import Levels, combine, factorize
from mixedfx.design.residual import ResidualRows
from mixedfx.design.row_dependence import is_rowwise
from mixedfx.design.rows import ModelRows
from mixedfx.design.slim import raise_without_rows
from mixedfx.design.stream.levels import LevelEncoder
from mixedfx.design.term_values import has_transform
from mixedfx.errors import SourceChangedError
from mixedfx.formula.expansion import resolve_dotted
from mixedfx.formula.terms import Formula

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

_STREAMED = "this fit read them in chunks, of which it keeps sums by stratum."


def has_strata(dispersion: Formula, columns: Sequence[str], env: EvalEnvironment) -> bool:
    """Whether a row's residual variance is a function of its own values, by the text alone."""
    formula = resolve_dotted(dispersion, columns)
    variables, codes = {encode(c): c for c in columns}, factor_codes(formula)
    env = formula_environment(env, [formula], variables)
    return (
        not formula.random
        and any(name in variables for _, names in codes for name in names)
        and all(is_rowwise(code, variables, env) for code, _ in codes)
        and not any(has_transform(code, env) for code, _ in codes)
    )


@dataclass(frozen=True)
class Strata:
    """Strata by the values of the columns that a dispersion formula reads."""

    names: tuple[str, ...]  # of these columns, by identifier
    levels: Levels  # their combinations
    of_level: Codes  # (levels,) stratum of each
    D: Matrix = field(repr=False)  # (S, r) columns of the log standard deviation
    variables: Mapping[str, pd.Series] = field(repr=False)  # the columns in a row of each stratum
    weights: Vector | None = None  # (S,) those estimated, relative to sigma

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(self.of_level, self.D, self.weights)

    @staticmethod
    def of(rows: DispersionRows) -> Strata:
        """Strata of rows in which each combination occurs."""
        factors = [factorize(as_patsy_column(n, column)) for n, column in rows.variables.items()]
        levels, codes = combine(factors)
        first = np.unique(codes, return_index=True)[1]
        D, representative, of_level = np.unique(
            rows.D[first], axis=0, return_index=True, return_inverse=True
        )
        at = first[representative]
        variables = {name: column.iloc[at] for name, column in rows.variables.items()}
        return Strata(tuple(rows.variables), levels, of_level.ravel(), D, variables)

    @property
    def size(self) -> int:
        """Number S of strata."""
        return len(self.D)

    def label(self, stratum: int) -> str:
        """Values of the columns in a row of the stratum."""
        return label_of_values(self.variables, stratum)

    @cached_property
    def _encoder(self) -> LevelEncoder:
        return LevelEncoder(self.levels)

    def rows(self, variables: Mapping[str, pd.Series], index: pd.Index) -> StratumRows:
        """Strata of some rows; a combination of values that no row had is an error."""
        values = [pd.Series(variables[name]) for name in self.names]
        codes = self._encoder.encode(values)
        if (codes < 0).any():
            at = int(np.argmax(codes < 0))
            seen = {
                name: column.iloc[[at]] for name, column in zip(self.names, values, strict=True)
            }
            raise SourceChangedError(
                f"{label_of_values(seen, 0)} in row {index[at]}, which the residual variance "
                "depends on, was not there in the first pass over the rows. A source gives the "
                "same rows at each pass."
            )
        return StratumRows(self, self.of_level[codes])


@dataclass(frozen=True)
class StratumRows(ResidualRows):
    """Stratum of each row of a design, or of none where the rows are not in memory."""

    strata: Strata
    codes: Codes | None = None  # (n,)

    def __post_init__(self) -> None:
        """Make the array read-only."""
        set_readonly(self.codes)

    def stratum_codes(self) -> Codes:
        """Stratum of each row, (n,)."""
        if self.codes is None:
            raise_without_rows(_STREAMED)
        return self.codes

    @property
    def D(self) -> Matrix:
        """Columns of the log standard deviation in each row."""
        return np.asarray(self.strata.D[self.stratum_codes()])

    @property
    def log_sd_columns(self) -> Matrix:
        """D."""
        return self.D

    @property
    def variables(self) -> Mapping[str, pd.Series]:
        """Columns that the strata are made from, in a row of each."""
        return self.strata.variables


def weighted_by_stratum(rows: ModelRows, relative: Vector) -> ModelRows:
    """Rows whose weights are multiplied by those of their strata."""
    assert isinstance(rows.residual, StratumRows)
    of_rows = relative[rows.residual.stratum_codes()]
    return rows.replaced(weights=rows.combined_weights(of_rows))
