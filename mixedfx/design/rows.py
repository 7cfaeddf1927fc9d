"""Rows of a model: response, model matrices and levels, weights and offset.

A random term's part of Z is the row-wise Khatri-Rao product of the indicators of its levels and
its raw model matrix (Bates, Maechler, Bolker and Walker 2015, equation 8); both factors are stored,
the product never is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx._arrays import set_readonly
from mixedfx._names import decode
from mixedfx.design.combinations import combined
from mixedfx.design.levels import are_nested
from mixedfx.design.residual import ResidualRows
from mixedfx.linalg.sparse_matrix import SparseMatrix

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class RandomTermRows:
    """Level and effects' columns of each row in one random term."""

    group: str  # name of the grouping factor
    n_levels: int
    codes: Codes  # (n,) level of each row
    model_matrix: Matrix  # (n, k) value of each effect's column in each row
    # Of multiple membership: weights of the levels, a row for each code; None: a code is a level.
    memberships: SparseMatrix | None = None

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(self.codes, self.model_matrix)

    def add_to_linear_predictor(self, eta: Vector, effects: Matrix) -> None:
        """Add Z b of this term to eta in place; effects are (k, levels)."""
        for j, effect in enumerate(effects):
            of_codes = effect if self.memberships is None else self.memberships.csr @ effect
            eta += self.model_matrix[:, j] * of_codes[self.codes]

    @property
    def is_intercept(self) -> bool:
        """Whether the one column is that of an intercept: ones without memory of their own."""
        return self.model_matrix.strides[0] == 0 and self.model_matrix.shape[1] == 1

    @property
    def n_codes(self) -> int:
        """Number of levels, or of combinations of levels."""
        return self.n_levels if self.memberships is None else self.memberships.n_rows

    def subset(self, keep: Mask | Codes) -> tuple[Codes, RandomTermRows]:
        """Numbers of the levels that occur in some rows, and these rows, levels renumbered."""
        used, codes = np.unique(self.codes[keep], return_inverse=True)
        levels, memberships = used, None
        if self.memberships is not None:
            of_used = self.memberships.csr[used]
            levels = np.flatnonzero(np.asarray(of_used.sum(axis=0)).ravel() > 0.0)
            memberships = SparseMatrix.of(of_used[:, levels])
        matrix = self.model_matrix[keep]
        codes = codes.ravel().astype(np.intp)
        rows = RandomTermRows(self.group, len(levels), codes, matrix, memberships)
        return levels, rows


def nested_factors(terms: Sequence[RandomTermRows]) -> dict[str, str]:
    """For each grouping factor nested in others, the innermost of those."""
    by_group = {
        term.group: term for term in terms if term.n_levels > 1 and term.memberships is None
    }
    innermost = {}
    for group, inner in by_group.items():
        containing = [
            outer
            for outer in by_group.values()
            if outer.n_levels < inner.n_levels and are_nested(inner.codes, outer.codes)
        ]
        if containing:
            innermost[group] = max(containing, key=lambda outer: outer.n_levels).group
    return innermost


@dataclass(frozen=True)
class ModelRows:
    """The n complete rows of a model's data, as arrays."""

    in_memory: ClassVar[bool] = True
    reduced: ClassVar[None] = None  # what is kept of rows that are not in memory
    has_file: ClassVar[bool] = False  # whether they are in a file

    y: Vector  # (n,) the response
    X: Matrix  # (n, p) linearly independent fixed columns
    random_terms: tuple[RandomTermRows, ...]
    weights: Vector | None  # (n,) prior weights: the residual variance is sigma**2 / weights
    offset: Vector | None  # (n,) part of the linear predictor
    index: pd.Index  # labels
    n_dropped: int  # further rows, left out for missing values
    variables: Mapping[str, pd.Series] = field(repr=False)  # read by the formula, by identifier
    residual: ResidualRows = field(default_factory=ResidualRows, repr=False)
    missing: Mapping[str, int] = field(default_factory=dict)  # of n_dropped, by column or term
    weights_are_counts: bool = False  # a row stands for so many equal rows of the data
    # Those numbers where the weights are trials, of all equal rows together.
    multiplicity: Vector | None = None

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(*vars(self).values())

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.y)

    @property
    def counts(self) -> Vector | None:
        """Number of rows of the data that each row stands for; None where that is one."""
        if self.multiplicity is not None:
            return self.multiplicity
        return self.weights if self.weights_are_counts else None

    @property
    def n_merged(self) -> int:
        """Rows of the data beyond the n here, each equal to one of these."""
        return 0 if self.counts is None else round(float(self.counts.sum())) - self.n

    @property
    def sample(self) -> ModelRows:
        """The rows, or a random part of them where they are not in memory."""
        return self

    @property
    def has_weights(self) -> bool:
        """Whether rows have prior weights."""
        return self.weights is not None

    @property
    def weight_ratio(self) -> float:
        """Largest weight over the median one."""
        w = self.weights
        return 1.0 if w is None else float(w.max()) / float(np.median(w))

    @property
    def has_offset(self) -> bool:
        """Whether rows have an offset."""
        return self.offset is not None

    def counting(self, counts: Vector, *, trials: bool) -> ModelRows:
        """
        The rows, each of which stands for so many equal ones of the data.

        Where the response has trials of its own, weights are those of all equal rows together;
        where not, the numbers are the weights already.
        """
        if not trials:
            return replace(self, weights_are_counts=True)
        weights = counts if self.weights is None else counts * self.weights
        return replace(self, weights=weights, weights_are_counts=True, multiplicity=counts)

    def at(self, keep: Mask | Codes) -> ModelRows:
        """Some of the rows, by a mask or positions, with the random terms and residuals of all."""
        return replace(
            self,
            y=self.y[keep],
            X=self.X[keep],
            weights=None if self.weights is None else self.weights[keep],
            multiplicity=None if self.multiplicity is None else self.multiplicity[keep],
            offset=None if self.offset is None else self.offset[keep],
            index=self.index[keep],
            variables={name: column.iloc[keep] for name, column in self.variables.items()},
        )

    def replaced(self, **arrays: Vector | None) -> ModelRows:
        """Replace the response or the weights."""
        return replace(self, **arrays)  # type: ignore[arg-type]

    def as_given(self, prior_weights: Callable[[], Vector | None]) -> ModelRows:
        """Rows with the weights of the data, where those here have estimated factors."""
        return replace(self, weights=prior_weights())

    def summarized(self, name: str, compute: Callable[[], Any]) -> Any:
        """Summary of the rows, see :mod:`mixedfx.design.slim`."""
        return compute()

    @property
    def response_less_offset(self) -> Vector:
        """``y - offset``, whose mean is ``X beta + Z b``, (n,)."""
        return self.y if self.offset is None else self.y - self.offset

    def fixed_predictor(self, beta: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """``X beta + offset`` (n,), or (B, n) of B coefficient vectors."""
        eta = self.X @ beta if beta.ndim == 1 else beta @ self.X.T
        return np.asarray(eta if self.offset is None else eta + self.offset)

    def linear_predictor(self, beta: Vector, effects: Sequence[Matrix | None]) -> Vector:
        """``X beta + offset + Z b``, (n,); effects are (k, levels), None without a term's."""
        eta = self.fixed_predictor(beta)
        for term, b in zip(self.random_terms, effects, strict=True):
            if b is not None:
                term.add_to_linear_predictor(eta, b)
        return eta

    def combined_weights(self, relative: Vector) -> Vector:
        """Products of relative weights and prior weights."""
        return relative if self.weights is None else relative * self.weights

    def with_fixed(self, X: Matrix, columns: Callable[[ModelRows], Matrix]) -> ModelRows:
        """The rows with other fixed columns, X, which ``columns`` makes of any rows."""
        return replace(self, X=X)

    def with_effects(self, left: Sequence[tuple[int, Matrix]]) -> ModelRows:
        """Some of the random terms, by their numbers, with combinations (k, effects) of columns."""
        terms = tuple(
            replace(
                self.random_terms[t], model_matrix=combined(self.random_terms[t].model_matrix, S)
            )
            for t, S in left
        )
        return replace(self, random_terms=terms)

    def with_variables(self, names: Collection[str]) -> ModelRows:
        """The rows with these of their variables alone."""
        variables = {name: v for name, v in self.variables.items() if name in names}
        return replace(self, variables=variables)

    def of_submodel(self, design: Any) -> ModelRows:
        """The rows, as those of a design with these columns."""
        return self

    def nesting(self, groups: Collection[str]) -> dict[str, str]:
        """For each of some grouping factors nested in others, the innermost of those."""
        return nested_factors([term for term in self.random_terms if term.group in groups])

    def codes_of(self, group: str) -> Codes:
        """Level of each row in a grouping factor, (n,)."""
        return next(term.codes for term in self.random_terms if term.group == group)

    @property
    def model_frame(self) -> pd.DataFrame:
        """The variables that the formula reads, with the data's index."""
        return pd.DataFrame(self.columns).set_axis(self.index, axis=0)

    @property
    def columns(self) -> dict[str, pd.Series]:
        """The variables by their names in the data."""
        return {decode(name): column for name, column in self.variables.items()}

    def without_variables(self) -> ModelRows:
        """Arrays alone."""
        residual = self.residual.without_variables()
        return replace(self, variables={}, index=pd.RangeIndex(0), residual=residual)
