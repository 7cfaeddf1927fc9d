"""Which terms of the fixed part matter: an F test each.

The three types differ in what a term is tested beside. Type I takes the terms in the order
in which they are written, type II each after all those that do not contain it, type III each
as the last, in coding that sums to zero, so that a main effect is the average over the levels
of what it interacts with. Each is a set of rows of coefficients; the test is then the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import linalg

from mixedfx.design.build import fixed_matrix
from mixedfx.design.contrasts import FixedTerm, columns_of_term, fixed_terms, recoding
from mixedfx.errors import ArgumentError
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.formula.expansion import terms_of
from mixedfx.inference.constraints import Constraints
from mixedfx.inference.denominator_df import DenominatorDf
from mixedfx.inference.wald import f_test

Matrix = npt.NDArray[np.float64]


def anova(fit: FittedModel, how: DenominatorDf, kind: Any) -> pd.DataFrame:
    """
    Test every term of the fixed part.

    References
    ----------
    .. [1] Kuznetsova, Brockhoff and Christensen (2017), J. Stat. Softw. 82(13), sections 2.2
       and 3.
    """
    made = {1: _sequential, 2: _marginal, 3: _last}
    number = {"I": 1, "II": 2, "III": 3}.get(kind, kind) if isinstance(kind, str) else kind
    if not isinstance(number, int | np.integer) or isinstance(number, bool) or number not in made:
        raise ArgumentError(f"type={kind!r} is not one of the choices 1, 2, 3.")
    rows: list[dict[str, float]] = []
    names: list[str] = []
    for term in _written_order(fit):
        L = made[int(number)](fit, term)
        names.append(term.name)
        if not len(L):  # the other terms take all that it could explain
            rows.append({"num_df": 0.0})
            continue
        zero = Constraints(L, np.zeros(len(L)), (term.name,) * len(L))
        test = f_test(fit, how, zero)
        mean_sq = test["F"] * fit.solution.sigma**2
        rows.append({"sum_sq": mean_sq * test["num_df"], "mean_sq": mean_sq, **test})
    columns = ["sum_sq", "mean_sq", "num_df", "den_df", "F", "p_value"]
    return pd.DataFrame(rows, index=pd.Index(names, name="term"), columns=columns, dtype=float)


def _written_order(fit: FittedModel) -> list[FixedTerm]:
    """Terms that the fit kept, but the intercept: main effects first, then as written."""
    by_name = {term.name: term for term in fixed_terms(fit.design.spec.fixed)}
    written = [t.name() for t in terms_of(fit.design.formula.fixed)]
    terms = [by_name[name] for name in written if by_name[name].factors]
    terms = [term for term in terms if columns_of_term(fit.design, term)]
    return sorted(terms, key=lambda term: len(term.factors))


def _sequential(fit: FittedModel, term: FixedTerm) -> Matrix:
    order = _written_order(fit)
    before = [i for t in order[: order.index(term)] for i in columns_of_term(fit.design, t)]
    return _adjusted(fit, columns_of_term(fit.design, term), before)


def _marginal(fit: FittedModel, term: FixedTerm) -> Matrix:
    order = _written_order(fit)
    others = [t for t in order if t != term and not t.contains(term)]
    mine = columns_of_term(fit.design, term)
    rows = _adjusted(fit, mine, [i for t in others for i in columns_of_term(fit.design, t)])
    if len(order) == 1 or len(others) + 1 < len(order):
        return rows
    return np.asarray(np.linalg.solve(rows[:, mine], rows))  # its coefficients, as they are


def _adjusted(fit: FittedModel, mine: list[int], before: list[int]) -> Matrix:
    """
    Rows that test columns after some, and before all that are left.

    They are those of the Cholesky factor of ``X'WX`` in that order, with a diagonal of ones:
    what the columns add to the ones before, and what those after would take over from them.
    """
    p = fit.crossprod.p
    terms = fixed_terms(fit.design.spec.fixed)
    intercept = [i for t in terms if not t.factors for i in columns_of_term(fit.design, t)]
    first = [*intercept, *before, *mine]
    order = [*first, *(i for i in range(p) if i not in first)]
    ZtZ = fit.crossprod.XytXy[:p, :p]
    if fit.crossprod.qr_R is not None:
        ZtZ = fit.crossprod.qr_R.T @ ZtZ @ fit.crossprod.qr_R
    size = np.sqrt(np.diag(ZtZ))
    root = linalg.cholesky((ZtZ / np.outer(size, size))[np.ix_(order, order)])
    rows = np.zeros((len(mine), p))
    rows[:, order] = root[len(first) - len(mine) : len(first)]
    rows = rows * size
    return rows / rows[np.arange(len(mine)), mine][:, None]


def _last(fit: FittedModel, term: FixedTerm) -> Matrix:
    """
    Rows that are zero where the other sum-to-zero columns suffice.

    With columns left out for cells without data, the hypothesis is that of the model without
    the term in that coding, of as many rows as the data can test.
    """
    design = fit.design
    if len(_written_order(fit)) == 1:  # all types are one; the degrees of freedom are to be, too
        return _sequential(fit, term)
    info = design.spec.fixed
    coding, treatment = recoding(info, "sum"), recoding(info, "treatment")
    if design.dropped_names:
        aliases = np.linalg.lstsq(design.X, fixed_matrix(design), rcond=None)[0]
        coding, treatment = aliases @ coding, aliases @ treatment
    gone = [t for t in fixed_terms(info) if t == term or not columns_of_term(fit.design, t)]
    others = np.delete(coding, np.r_[tuple(t.columns for t in gone)], axis=1)
    size = np.abs(others).max(axis=0, initial=0.0)
    others = others[:, size > 0.0] / size[size > 0.0]
    rows = np.asarray(linalg.null_space(others.T).T) if others.size else np.eye(fit.crossprod.p)
    # Of the rows that say the same, those about differences from the first level: whatever
    # the coding, the degrees of freedom, which depend on the rows, are then the same.
    own = (rows @ treatment)[:, term.columns]
    return np.linalg.solve(own, rows) if own.shape == (len(rows),) * 2 else rows
