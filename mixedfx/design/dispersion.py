"""Design of the residual standard deviation: ``log sd = D gamma + v``.

``D`` are the columns of a formula such as ``~ kind``; ``v`` is a random intercept, where the
formula has a random term. Rows with equal rows of ``D`` are a stratum: apart from ``v`` they have
one standard deviation.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from patsy import EvalEnvironment

from mixedfx.design.checks import check_finite, independent_columns
from mixedfx.design.evaluation import build_matrices, learn_design_infos
from mixedfx.design.random import build_random_terms, subset_random_terms
from mixedfx.design.rows import DispersionRows, RandomTermRows
from mixedfx.design.spec import DispersionSpec, RandomTermSpec
from mixedfx.errors import DispersionError
from mixedfx.formula.expansion import terms_of
from mixedfx.formula.terms import Formula

Matrix = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

# At most so many columns are named in messages.
_MAX_NAMED = 4


def subset_dispersion(
    spec: DispersionSpec, rows: DispersionRows, keep: Mask
) -> tuple[DispersionSpec, DispersionRows]:
    """Select rows, and the levels that occur in them."""
    term_spec, term_rows = spec.random_term, rows.random_term
    if term_spec is not None and term_rows is not None:
        (term_spec,), (term_rows,) = subset_random_terms([term_spec], [term_rows], keep)
    variables = {name: column[keep] for name, column in rows.variables.items()}
    return replace(spec, random_term=term_spec), DispersionRows(rows.D[keep], term_rows, variables)


def build_dispersion(
    formula: Formula, variables: dict[str, Any], env: EvalEnvironment, index: pd.Index
) -> tuple[DispersionSpec, DispersionRows]:
    """Evaluate a formula of the residual standard deviation."""
    info = learn_design_infos([terms_of(formula.fixed)], variables, env)[0]
    D = build_matrices([info], variables, len(index))[0]
    names = tuple(info.column_names)
    for j, name in enumerate(names):
        check_finite(f"column '{name}' of the dispersion", D[:, j], index)
    term_spec, term_rows = _random_intercept(formula, variables, env, index)
    _check_columns(formula, D, names)
    if term_spec is None:
        _check_varies(formula, D)
    spec = DispersionSpec(formula, names, term_spec, info, env)
    return spec, DispersionRows(D, term_rows, variables)


def _random_intercept(
    formula: Formula, variables: dict[str, Any], env: EvalEnvironment, index: pd.Index
) -> tuple[RandomTermSpec, RandomTermRows] | tuple[None, None]:
    if not formula.random:
        return None, None
    if len(formula.random) > 1 or formula.random[0].effects != "1":
        terms = " and ".join(map(str, formula.random))
        raise DispersionError(
            f"the dispersion formula '{formula}' has the random part {terms}; it can have one "
            "random intercept, such as (1 | friend)."
        )
    specs, rows = build_random_terms(formula, variables, env, [None], [None], index)
    return specs[0], rows[0]


def _check_columns(formula: Formula, D: Matrix, names: tuple[str, ...]) -> None:
    n, r = D.shape
    ones = np.ones(n)
    if r == 0 or np.linalg.norm(ones - D @ np.linalg.lstsq(D, ones, rcond=None)[0]) > 1e-6 * n**0.5:
        raise DispersionError(
            f"the dispersion formula '{formula}' has no intercept: the residual standard "
            "deviation would be 1 where its columns are zero. Take the '0 +' or '- 1' away."
        )
    kept = independent_columns(D)
    if len(kept) < r:
        dependent = [repr(names[j]) for j in range(r) if j not in kept.tolist()]
        more = f" and {len(dependent) - _MAX_NAMED} more" if dependent[_MAX_NAMED:] else ""
        raise DispersionError(
            f"columns {', '.join(dependent[:_MAX_NAMED])}{more} of the dispersion formula "
            f"'{formula}' depend on the others; leave them out."
        )


def _check_varies(formula: Formula, D: Matrix) -> None:
    if not np.ptp(D, axis=0).any():
        raise DispersionError(
            f"the dispersion formula '{formula}' varies within nothing: it gives every row the "
            "same residual standard deviation, as lmer() does without it. Name a column that "
            "varies between the rows used, or leave dispersion= out."
        )
