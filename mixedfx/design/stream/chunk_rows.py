"""Rows of the model in a chunk, by what the first pass learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from patsy import DesignInfo

from mixedfx._arrays import column_of_ones
from mixedfx._cached import cached_property
from mixedfx._names import decode
from mixedfx.design.checks import check_finite, check_offset_range, check_positive
from mixedfx.design.evaluation import (
    build_matrices,
    built_response,
    count_values,
    group_values,
    offset_values,
)
from mixedfx.design.residual import ResidualRows
from mixedfx.design.response import Observed, observe_values
from mixedfx.design.rows import ModelRows, RandomTermRows
from mixedfx.design.spec import ModelSpec
from mixedfx.design.stream.levels import LevelEncoder
from mixedfx.design.stream.request import ColumnRequest, CompleteRows, complete_rows
from mixedfx.design.stream.strata import Strata, weighted_by_stratum
from mixedfx.errors import SourceChangedError
from mixedfx.families.support import check_support
from mixedfx.formula.response import response_code

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]


# Sums of squares between these are of finite numbers that can be squared.
_PLAIN = (1e-100, 1e100)


@dataclass(frozen=True)
class ChunkDesign:
    """A specification and the columns that it reads; makes the rows of any chunk."""

    request: ColumnRequest
    spec: ModelSpec
    response_info: DesignInfo | None = field(repr=False)  # of a response that is an expression
    strata: Strata | None = None  # of equal residual variance, where there are several

    @cached_property
    def encoders(self) -> Mapping[tuple[str, ...], LevelEncoder]:
        """Look-up tables of the levels of each grouping factor."""
        return {
            term.formula_term.group: LevelEncoder(term.levels) for term in self.spec.random_terms
        }

    def rows(
        self, frame: pd.DataFrame, found: CompleteRows | None = None
    ) -> tuple[ModelRows, CompleteRows]:
        """
        Rows of a chunk, with all fixed columns, also the linearly dependent ones.

        The complete rows that a first pass has found are those of a model without categories.
        """
        spec = self.spec
        if found is None or spec.categories:
            found = complete_rows(self.request, frame, spec.categories)
        infos = [spec.fixed_info]
        infos += [t.info for t in spec.random_terms if t.info is not None]
        infos += [] if self.response_info is None else [self.response_info]
        matrices = build_matrices(infos, found.variables, found.n, order="F")
        built = matrices.pop() if self.response_info is not None else None
        X, of_next = matrices[0], iter(matrices[1:])
        codes = self._codes(found)
        terms = tuple(
            RandomTermRows(
                term.group,
                len(term.levels),
                codes[term.formula_term.group],
                column_of_ones(found.n) if term.info is None else next(of_next),
            )
            for term in spec.random_terms
        )
        observed = self._observed(found, built)
        strata = self.strata
        rows = ModelRows(
            y=observed.y,
            X=X,
            random_terms=terms,
            weights=observed.weights,
            residual=strata.rows(found.variables, found.index) if strata else ResidualRows(),
            offset=self._offset(found),
            index=found.index,
            n_dropped=found.n_dropped,
            missing=found.missing,
            variables=found.variables,
        )
        if strata is not None and strata.weights is not None:
            rows = weighted_by_stratum(rows, strata.weights)
        _check(spec, rows)
        return rows, found

    def kept_rows(self, frame: pd.DataFrame) -> ModelRows:
        """Rows of a chunk, with the linearly independent fixed columns alone."""
        rows, _ = self.rows(frame)
        return replace(rows, X=np.ascontiguousarray(rows.X[:, self.spec.kept_columns]))

    def _observed(self, found: CompleteRows, built: Matrix | None) -> Observed:
        """Response on the scale of the mean, and weights; it may have one value in a chunk."""
        spec, weights, index = self.spec, found.vectors.get("weights"), found.index
        name, parts = spec.formula.response, self._response(found, built)
        observed = observe_values(name, parts, spec.response, spec.family, weights, index)
        check_support(spec.family, name, observed.y, observed.weights, index)
        return observed

    def _response(self, found: CompleteRows, built: Matrix | None) -> Sequence[Any]:
        """Values that the response is written with."""
        if self.response_info is not None and built is not None:
            return (built_response(self.response_info, built, found.variables),)
        codes = response_code(self.spec.formula.response).parts
        return tuple(count_values(c, found.variables, self.spec.env, found.n) for c in codes)

    def _offset(self, found: CompleteRows) -> Vector | None:
        """Offset of the formula and of the argument."""
        given, code = found.vectors.get("offset"), self.spec.formula.offset
        if not code:
            return given
        own = offset_values(code, found.variables, self.spec.env, found.n)
        return own if given is None else own + given

    def _codes(self, found: CompleteRows) -> dict[tuple[str, ...], Codes]:
        """Level of each row in each grouping factor."""
        result = {}
        for group, encoder in self.encoders.items():
            values = [group_values(f, found.variables, self.spec.env, found.n) for f in group]
            codes = encoder.encode(values)
            if (codes < 0).any():
                at = int(np.argmax(codes < 0))
                level = ":".join(str(column.iloc[at]) for column in values)
                raise SourceChangedError(
                    f"level '{level}' of grouping factor '{decode(':'.join(group))}' in row "
                    f"{found.index[at]} was not there in the first pass over the rows. A source "
                    "gives the same rows at each pass."
                )
            result[group] = codes
        return result

    def __getstate__(self) -> dict[str, Any]:
        """Specifications alone, which pickle with what patsy learned."""
        spec, info = self.spec, self.response_info
        # That of the response stands where a specification has that of the fixed part.
        of_response = None if info is None else replace(spec, fixed_info=info, random_terms=())
        names, arguments = self.request.names, dict(self.request.arguments)
        return {
            "spec": spec,
            "response": of_response,
            "names": names,
            "arguments": arguments,
            "dispersion": self.request.dispersion,
            "strata": self.strata,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Put the parts together again."""
        spec, of_response = state["spec"], state["response"]
        request = ColumnRequest(
            spec.formula,
            spec.env,
            state["names"],
            state["arguments"],
            state["dispersion"],
            spec.family,
        )
        info = None if of_response is None else of_response.fixed_info
        parts = {"request": request, "spec": spec, "response_info": info, "strata": state["strata"]}
        for name, value in parts.items():
            object.__setattr__(self, name, value)


def _check_columns(names: Sequence[str], matrix: Matrix, index: pd.Index) -> None:
    """The check of each column, where their squares are not plainly in order."""
    with np.errstate(all="ignore"):
        squares = np.array([column @ column for column in matrix.T])
    for j in np.flatnonzero(~((squares > _PLAIN[0]) & (squares < _PLAIN[1]))).tolist():
        check_finite(names[j], np.ascontiguousarray(matrix[:, j]), index)


def _check(spec: ModelSpec, rows: ModelRows) -> None:
    """The checks of values that a design in memory makes, but those of the response."""
    if not rows.n:
        return
    _check_columns([f"fixed column '{name}'" for name in spec.column_names], rows.X, rows.index)
    for term, own in zip(spec.random_terms, rows.random_terms, strict=True):
        if term.info is not None:
            names = [f"column '{name}' of {term.formula_term}" for name in term.effect_names]
            _check_columns(names, own.model_matrix, rows.index)
    if not spec.family.takes_trials:
        check_positive("weights", rows.weights, rows.index)
    if rows.offset is not None:
        check_finite("offset", rows.offset, rows.index)
        check_offset_range(rows.offset, spec.family.mean, rows.index)
