"""A response of ordered categories, and the fixed columns of a model whose thresholds it has.

An ordered categorical column keeps its order; truth values and numbers are categories in their
own order. Text has no order but that of an ordered categorical. The thresholds take the place of
the intercept: factors are coded as with one, and its column is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from patsy import Term

from mixedfx._names import written
from mixedfx.design.evaluation import EvaluatedFormula
from mixedfx.design.response import (
    Observed,
    ResponseSpec,
    level_text,
    listed_levels,
    observe_response,
    response_specification,
)
from mixedfx.design.variables import factor_of, plain
from mixedfx.errors import DataError, ResponseError
from mixedfx.families.family import Family
from mixedfx.formula.response import response_code
from mixedfx.formula.terms import Formula

Vector = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

# More distinct numbers are measurements.
_MOST_CATEGORIES = 50
_INTERCEPT = Term([])


@dataclass(frozen=True)
class OrderedLevels(ResponseSpec):
    """A response of ordered categories, as 1, ..., K."""

    levels: tuple[Any, ...]
    unused: tuple[Any, ...] = ()  # categories of the column without rows

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the categories."""
        return tuple(
            str(int(v)) if isinstance(v, float) and v.is_integer() else str(v) for v in self.levels
        )

    def observe(self, name: str, parts: Sequence[Any], weights: Vector | None) -> Observed:
        """Position of each row's category, from 1 on."""
        factor = factor_of(parts[0])
        known = factor is not None and tuple(factor.levels.tolist()) == self.levels
        if factor is not None and known and factor.missing() is None:
            return Observed(factor.codes.astype(np.float64) + 1.0, weights)
        values = pd.Series(np.asarray(plain(parts[0]), dtype=object).reshape(-1))
        codes = pd.Index(list(self.levels), dtype=object).get_indexer(values)
        if (codes < 0).any():
            value = values.iloc[int(np.argmax(codes < 0))]
            raise ResponseError(
                f"the response '{name}' is {level_text(value)}, which is none of the categories "
                f"of the fit: {listed_levels(self.levels)}."
            )
        return Observed(codes.astype(float) + 1.0, weights)

    def note(self, name: str) -> str:
        """Categories without rows, and two categories, which are binomial."""
        sentences = []
        if self.unused:
            is_one = len(self.unused) == 1
            sentences.append(
                f"no row has '{name}' {listed_levels(self.unused)}: "
                f"{'it is' if is_one else 'they are'} left out of the categories."
            )
        if len(self.levels) == 2:
            sentences.append(
                f"'{name}' has two categories, {listed_levels(self.levels)}: family='binomial' is "
                "the same model, its intercept minus the threshold."
            )
        return " ".join(sentences)

    def noting_unused(self, read: Callable[[], pd.Series | None]) -> ResponseSpec:
        """With the other categories of a categorical column."""
        column = read()
        if column is None or not isinstance(column.dtype, pd.CategoricalDtype):
            return self
        others = tuple(v for v in column.cat.categories if v not in self.levels)
        return replace(self, unused=others)

    def family(self, family: Family) -> Family:
        """With the names of the categories."""
        return family.of_categories(self.labels)


def response_of_family(
    formula: Formula,
    parts: Sequence[Any],
    family: Family,
    weights: Vector | None,
    index: pd.Index,
) -> tuple[ResponseSpec, Observed]:
    """How a response is written; its values on the scale of the mean, and weights."""
    if family.ordered and not response_code(formula.response).function:
        spec: ResponseSpec = ordered_levels(formula.response, parts[0])
    else:
        spec = response_specification(formula, parts, family)
    name = formula.response
    return spec, observe_response(name, parts, spec, spec.family(family), weights, index)


def ordered_levels(name: str, values: Any) -> OrderedLevels:
    """Find the categories of a response in their order."""
    factor = factor_of(values)
    if factor is not None:
        levels = factor.levels.tolist()
        numeric = all(isinstance(v, int | float | bool) for v in levels)
        if not factor.ordered and not numeric and len(levels) > 1:
            raise _without_order(name, levels)
    else:
        array = np.asarray(values).reshape(-1)
        levels = np.unique(array).tolist()
        if len(levels) > _MOST_CATEGORIES:
            raise ResponseError(
                f"the response '{name}' has {len(levels):,} distinct numbers, and "
                f"family='cumulative' takes up to {_MOST_CATEGORIES} ordered categories: cut it "
                f"into classes, pandas.cut(df['{name}'], 5), or model its mean by mfx.lmer."
            )
    if len(levels) < 2:
        raise ResponseError(
            f"the response '{name}' is {listed_levels(levels)} in every row used: nothing to "
            "explain."
        )
    return OrderedLevels(tuple(levels))


def _without_order(name: str, levels: list[Any]) -> ResponseError:
    column = written(name).strip("`")
    in_code = listed_levels(levels, repr)
    return ResponseError(
        f"the response '{name}' has {len(levels)} levels without an order, "
        f"{listed_levels(levels)}. Say their order: df['{column}'] = "
        f"pd.Categorical(df['{column}'], [{in_code}], ordered=True), "
        "the levels from the lowest to the highest."
    )


def columns_of_family(
    formula: Formula, evaluated: EvaluatedFormula, kept: Codes, family: Family
) -> tuple[EvaluatedFormula, Codes]:
    """Leave out the column of an intercept whose place thresholds take, and its position."""
    info = evaluated.fixed_info
    if family.has_intercept:
        return evaluated, kept
    if _INTERCEPT not in info.terms:
        raise DataError(
            f"'{formula}' leaves the intercept out, but a cumulative model has thresholds in its "
            "place, beside which factors are coded as with an intercept: take '0 +' or '- 1' out "
            "of the formula; none is estimated."
        )
    others = [term for term in info.terms if term != _INTERCEPT]
    fixed = np.ascontiguousarray(evaluated.fixed[:, 1:])
    return replace(evaluated, fixed=fixed, fixed_info=info.subset(others)), kept[kept > 0] - 1
