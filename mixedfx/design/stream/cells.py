"""Which rows of a chunk have combinations of factors' values that no row had before."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from patsy import Term

from mixedfx._names import decode
from mixedfx.design.columns import factor_codes
from mixedfx.design.evaluation import learn_design_infos
from mixedfx.design.known_values import is_box
from mixedfx.design.stream.request import ColumnRequest, CompleteRows
from mixedfx.design.stream.sampling import FirstRows
from mixedfx.design.variables import Numbers, Variable, variable_of
from mixedfx.errors import DataError, TooManyStrata
from mixedfx.families.gaussian import NORMAL
from mixedfx.formula.expansion import names_in, terms_of
from mixedfx.formula.positions import has_positions
from mixedfx.formula.response import response_code

Codes = npt.NDArray[np.intp]

# Distinct values up to which a number's are kept one by one, as in the grid of marginal means.
_FEW = 2


class Cells:
    """Combinations of categorical factors by term, and of all variables with few values."""

    def __init__(self, request: ColumnRequest, head: CompleteRows) -> None:
        formula = request.formula
        random = [t for t in formula.random if t.effects != "1" and not has_positions(t.structure)]
        termlists = [terms_of(text) for text in (formula.fixed, *(t.effects for t in random))]
        self._evaluate: dict[str, Callable[[Mapping[str, Any]], Any]] = {}
        for factor in {
            f.name(): f for terms in termlists for t in terms for f in t.factors
        }.values():
            for own, learned in _learned(factor, head, request).items():
                if learned.type == "categorical":
                    self._evaluate[own.name()] = partial(_values, own, learned.state)
        keys = {
            tuple(f.name() for f in term.factors if f.name() in self._evaluate)
            for terms in termlists
            for term in terms
        }
        of_fixed = [f.name() for term in termlists[0] for f in term.factors]
        # Of the fixed part all factors together: which levels of one occur with which of another.
        keys.add(tuple(dict.fromkeys(name for name in of_fixed if name in self._evaluate)))
        self._rows = {key: FirstRows() for key in sorted(keys) if key}
        read = set().union(*(names_in(name) for name in of_fixed))
        self._strata = FirstRows()
        columns = () if request.dispersion is None else factor_codes(request.dispersion)
        self._of_strata = sorted({n for _, names in columns for n in names} & head.variables.keys())
        self._response = FirstRows()
        codes = response_code(formula.response).parts if request.family != NORMAL else ()
        self._of_response = [c for c in codes if _is_category(head.variables.get(c), request)]
        self._few = {name: _FewValues() for name in sorted(read & head.variables.keys())}

    def find_new(self, found: CompleteRows) -> Codes:
        """Positions of the rows among the complete ones."""
        values = {code: evaluate(found.variables) for code, evaluate in self._evaluate.items()}
        new = [rows.find([values[code] for code in key]) for key, rows in self._rows.items()]
        new.append(self._new_strata(found))
        new.append(self._response.find([np.asarray(found.variables[c]) for c in self._of_response]))
        new += [few.find(variable_of(found.variables, name)) for name, few in self._few.items()]
        return np.unique(np.concatenate([np.zeros(0, dtype=np.intp), *new])).astype(np.intp)

    def _new_strata(self, found: CompleteRows) -> Codes:
        """Positions of rows with new values of what the residual variance depends on."""
        new = self._strata.find([np.asarray(found.variables[name]) for name in self._of_strata])
        if self._strata.too_many:
            raise TooManyStrata(f"{' and '.join(map(decode, self._of_strata))} have many values.")
        return new


def _learned(factor: Any, head: CompleteRows, request: ColumnRequest) -> Mapping[Any, Any]:
    """Type of a factor; none of a transform that some rows are too few for, which is a number."""
    try:
        info = learn_design_infos([[Term([factor])]], head.variables, request.env)[0]
    except DataError:
        return {}
    found: Mapping[Any, Any] = info.factor_infos
    return found


class _FewValues:
    """First rows of the first distinct values of a number, as many as tell few from many."""

    def __init__(self) -> None:
        self._seen: list[Any] = []

    def find(self, column: Variable | None) -> Codes:
        """Positions of rows with further values."""
        found: list[int] = []
        if not isinstance(column, Numbers):
            return np.zeros(0, dtype=np.intp)
        values = column.values
        while len(self._seen) <= _FEW:
            other = np.ones(len(values), dtype=bool)
            for value in self._seen:
                other &= values != value
            at = int(other.argmax())
            if not other[at]:
                break
            self._seen.append(values[at])
            found.append(at)
        return np.array(found, dtype=np.intp)


def _is_category(values: Any, request: ColumnRequest) -> bool:
    """Whether a response is one of some categories, all of which a design has to know."""
    if values is None:
        return False
    return request.family.ordered or np.asarray(values).dtype.kind not in "iufb"


def _values(factor: Any, state: dict[str, Any], variables: Mapping[str, Any]) -> Any:
    column: Any = variables.get(factor.code)
    if isinstance(getattr(column, "dtype", None), pd.CategoricalDtype):
        return column.array  # rows are compared by their codes
    value = factor.eval(state, variables)
    return np.asarray(value.data if is_box(value) else value)
