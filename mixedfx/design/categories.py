"""Categories of the columns that an expression reads, so that they are the same in new rows.

``o >= "mid"`` and ``f.cat.codes`` depend on the order of all categories, which new rows need not
have: a column of the fit that was categorical is categorical in them, too. Values that the fit does
not have are categories after those of the fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from mixedfx.design.columns import factor_codes
from mixedfx.design.row_dependence import NewVariables
from mixedfx.formula.terms import Formula

Categories = Mapping[str, tuple[pd.Index, bool]]  # with whether they are ordered


def categories_read(formula: Formula, variables: Mapping[str, Any]) -> Categories:
    """Categories of the columns that stand in expressions, not by themselves."""
    found: dict[str, tuple[pd.Index, bool]] = {}
    for code, names in factor_codes(formula):
        for name in names if code not in variables else ():
            dtype = getattr(variables.get(name), "dtype", None)
            if isinstance(dtype, pd.CategoricalDtype):
                found[name] = dtype.categories, bool(dtype.ordered)
    return found


def with_categories(variables: Mapping[str, pd.Series], categories: Categories) -> NewVariables:
    """Columns of new rows, with the categories that they had in the fit."""
    columns = NewVariables(variables)
    for name in columns.keys() & categories.keys():
        known, ordered = categories[name]
        values = pd.Index(np.asarray(columns[name], dtype=object))
        codes = known.get_indexer(values)
        unseen = values[codes < 0].dropna().unique()
        if len(unseen):
            known = known.astype(object).append(unseen)
            codes = known.get_indexer(values)
        columns[name] = pd.Series(pd.Categorical.from_codes(codes, known, ordered=ordered))
    return columns
