"""F tests of the terms of the fixed part, of types I, II and III.

Type I adjusts each term for those before it, main effects preceding interactions and terms of one
order standing as in the formula, as in R; type II for all that do not contain it,
type III for all others in sum-to-zero coding, so that a main effect is averaged over the levels of
the factors that it interacts with. Each type gives a term rows ``L`` of coefficients; the test is
that of ``L beta = 0``.
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


def anova(fit: FittedModel, ddf: DenominatorDf, type_: Any) -> pd.DataFrame:
    """
    Test every term of the fixed part.

    References
    ----------
    .. [1] Kuznetsova, Brockhoff and Christensen (2017), J. Stat. Softw. 82(13), sections 2.2
       and 3.
    """
    hypotheses = {1: _type1_rows, 2: _type2_rows, 3: _type3_rows}
    number = {"I": 1, "II": 2, "III": 3}.get(type_, type_) if isinstance(type_, str) else type_
    is_integer = isinstance(number, int | np.integer) and not isinstance(number, bool)
    if not is_integer or number not in hypotheses:
        raise ArgumentError(f"type={type_!r} is not one of the choices 1, 2, 3.")
    rows: list[dict[str, float]] = []
    names: list[str] = []
    for term in _ordered_terms(fit):
        L = hypotheses[int(number)](fit, term)
        names.append(term.name)
        if not len(L):  # aliased with the other terms
            rows.append({"num_df": 0.0})
            continue
        zero = Constraints(L, np.zeros(len(L)), (term.name,) * len(L))
        test = f_test(fit, ddf, zero)
        mean_sq = test["F"] * fit.solution.sigma**2
        rows.append({"sum_sq": mean_sq * test["num_df"], "mean_sq": mean_sq, **test})
    columns = ["sum_sq", "mean_sq", "num_df", "den_df", "F", "p_value"]
    return pd.DataFrame(rows, index=pd.Index(names, name="term"), columns=columns, dtype=float)


def _ordered_terms(fit: FittedModel) -> list[FixedTerm]:
    """Terms with columns in the fit, without the intercept: by order, then as written."""
    by_name = {term.name: term for term in fixed_terms(fit.spec.fixed_info)}
    written = [t.name() for t in terms_of(fit.spec.formula.fixed)]
    terms = [by_name[name] for name in written if by_name[name].factors]
    terms = [term for term in terms if columns_of_term(fit.spec, term)]
    return sorted(terms, key=lambda term: len(term.factors))


def _type1_rows(fit: FittedModel, term: FixedTerm) -> Matrix:
    """Rows that test a term after those before it."""
    order = _ordered_terms(fit)
    before = [i for t in order[: order.index(term)] for i in columns_of_term(fit.spec, t)]
    return _adjusted_rows(fit, columns_of_term(fit.spec, term), before)


def _type2_rows(fit: FittedModel, term: FixedTerm) -> Matrix:
    """Rows that test a term after those that do not contain it."""
    order = _ordered_terms(fit)
    others = [t for t in order if t != term and not t.contains(term)]
    tested = columns_of_term(fit.spec, term)
    rows = _adjusted_rows(fit, tested, [i for t in others for i in columns_of_term(fit.spec, t)])
    if len(order) == 1 or len(others) + 1 < len(order):
        return rows
    return np.asarray(np.linalg.solve(rows[:, tested], rows))  # the coefficients themselves


def _adjusted_rows(fit: FittedModel, tested: list[int], adjusted_for: list[int]) -> Matrix:
    """
    Rows that test columns adjusted for some others, and not for the remaining ones.

    With the columns in the order ``adjusted_for, tested, remaining``, they are the tested rows
    of the Cholesky factor ``R`` of ``X'WX = R'R``, divided by its diagonal.
    """
    p = fit.crossprod.p
    terms = fixed_terms(fit.spec.fixed_info)
    intercept = [i for t in terms if not t.factors for i in columns_of_term(fit.spec, t)]
    leading = [*intercept, *adjusted_for, *tested]
    order = [*leading, *(i for i in range(p) if i not in leading)]
    XtX = fit.crossprod.XytXy[:p, :p]
    if fit.crossprod.qr_R is not None:
        XtX = fit.crossprod.qr_R.T @ XtX @ fit.crossprod.qr_R
    size = np.sqrt(np.diag(XtX))
    R = linalg.cholesky((XtX / np.outer(size, size))[np.ix_(order, order)])
    rows = np.zeros((len(tested), p))
    rows[:, order] = R[len(leading) - len(tested) : len(leading)]
    rows = rows * size
    return rows / rows[np.arange(len(tested)), tested][:, None]


def _type3_rows(fit: FittedModel, term: FixedTerm) -> Matrix:
    """
    Rows that are zero where the sum-to-zero columns of the other terms suffice.

    With columns dropped for cells without data, the hypothesis is that of the model without the
    term in that coding, of as many rows as are estimable.
    """
    spec = fit.spec
    if len(_ordered_terms(fit)) == 1:  # types coincide; the rows, and so the df, must, too
        return _type1_rows(fit, term)
    info = spec.fixed_info
    sum_coding, treatment = recoding(info, "sum"), recoding(info, "treatment")
    if spec.dropped_names:
        aliases = np.linalg.lstsq(fit.rows.X, fixed_matrix(fit.design), rcond=None)[0]
        sum_coding, treatment = aliases @ sum_coding, aliases @ treatment
    removed = [t for t in fixed_terms(info) if t == term or not columns_of_term(fit.spec, t)]
    others = np.delete(sum_coding, np.r_[tuple(t.columns for t in removed)], axis=1)
    size = np.abs(others).max(axis=0, initial=0.0)
    others = others[:, size > 0.0] / size[size > 0.0]
    rows = np.asarray(linalg.null_space(others.T).T) if others.size else np.eye(fit.crossprod.p)
    # Degrees of freedom depend on the rows that span a hypothesis: take differences from the
    # first level, whatever the coding of the fit.
    in_treatment = (rows @ treatment)[:, term.columns]
    square = in_treatment.shape == (len(rows),) * 2
    return np.linalg.solve(in_treatment, rows) if square else rows
