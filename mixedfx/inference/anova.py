"""F or chi-squared tests of the terms of the fixed part, of types I, II and III.

Type I adjusts each term for those before it, main effects preceding interactions and terms of one
order standing as in the formula, as in R; type II for all that do not contain it; type III for all
others, so that a main effect is averaged over the levels of the factors that it interacts with.
Each type gives a term rows ``L`` of coefficients; the test is that of ``L beta = 0``. All rows are
written in treatment coding, as lmerTest writes them, whatever the coding of the fit:
Satterthwaite's degrees of freedom depend on how the rows of a hypothesis are taken.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx.design.cells import list_cells
from mixedfx.design.contrasts import FixedTerm
from mixedfx.errors import ArgumentError
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference.constraints import Constraints
from mixedfx.inference.denominator_df import DenominatorDf
from mixedfx.inference.estimability import cells_without_data
from mixedfx.inference.recoding import Recoding, recoded, type3_rows
from mixedfx.inference.wald import f_test

Matrix = npt.NDArray[np.float64]

# Test of a term that is aliased with the others.
_NOTHING_TESTED = {"F": np.nan, "num_df": 0.0, "den_df": np.nan, "p_value": np.nan}


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
    coding = recoded(fit)
    rows: list[dict[str, float]] = []
    for term in coding.terms:
        L = hypotheses[int(number)](fit, coding, term) @ coding.to_coding
        if not len(L):  # aliased with the other terms
            rows.append(fit.residual.test_row(_NOTHING_TESTED, fit.solution.sigma))
            continue
        zero = Constraints(L, np.zeros(len(L)), (term.name,) * len(L))
        test = {str(k): v for k, v in f_test(fit, ddf, zero).items()}
        rows.append(fit.residual.test_row(test, fit.solution.sigma))
    columns = list(fit.residual.test_columns)
    index = pd.Index([term.name for term in coding.terms], name="term")
    table = pd.DataFrame(rows, index=index, columns=columns, dtype=float)
    table.attrs["notes"] = _notes(fit, int(number))
    return table


def _notes(fit: FittedModel, number: int) -> list[str]:
    """What the hypotheses are where cells are without data."""
    cells = cells_without_data(fit)
    if not cells:
        return []
    meaning = {
        1: "each term is tested after those before it, over the cells with data.",
        2: "each term is tested after those that do not contain it, over the cells with data.",
        3: "a term that others contain is tested by the differences that the cells with data "
        "tell, and no longer by averages over all levels of the other factors; the hypothesis "
        "depends on which cells are empty.",
    }
    return [f"No data in these cells: {list_cells(cells)}: {meaning[number]}"]


def _type1_rows(fit: FittedModel, coding: Recoding, term: FixedTerm) -> Matrix:
    """Rows that test a term after those before it."""
    before = list(coding.terms[: coding.terms.index(term)])
    return _adjusted_rows(fit, coding, coding.columns[term.name], coding.columns_of(before))


def _type2_rows(fit: FittedModel, coding: Recoding, term: FixedTerm) -> Matrix:
    """Rows that test a term after those that do not contain it."""
    if len(coding.terms) == 1:  # the types coincide; the rows, and so the df, must, too
        return _type1_rows(fit, coding, term)
    if not coding.containing(term):
        return np.eye(fit.crossprod.p)[coding.columns[term.name]]
    others = [t for t in coding.terms if t != term and not t.contains(term)]
    return _adjusted_rows(fit, coding, coding.columns[term.name], coding.columns_of(others))


def _type3_rows(fit: FittedModel, coding: Recoding, term: FixedTerm) -> Matrix:
    """Rows that test a term after all others, in the sense of the module's docstring."""
    if len(coding.terms) == 1:
        return _type1_rows(fit, coding, term)
    return type3_rows(fit, coding, term)


def _adjusted_rows(
    fit: FittedModel, coding: Recoding, tested: list[int], adjusted_for: list[int]
) -> Matrix:
    """
    Rows that test columns adjusted for some others, and not for the remaining ones.

    With the columns in the order ``adjusted_for, tested, remaining``, they are the tested rows
    of the Cholesky factor ``R`` of ``X'WX = R'R``, divided by its diagonal. Of a generalised
    model ``R'R`` is the inverse of cov(beta): the statistics of type I then add up.
    """
    p = fit.crossprod.p
    leading = [*coding.columns.get("Intercept", []), *adjusted_for, *tested]
    order = [*leading, *(i for i in range(p) if i not in leading)]
    root = fit.residual.hypothesis_root(fit.solution) @ coding.from_coding
    size = np.sqrt(np.square(root).sum(axis=0))
    R = np.linalg.qr((root / size)[:, order], mode="r")
    rows = np.zeros((len(tested), p))
    rows[:, order] = R[len(leading) - len(tested) : len(leading)]
    rows = rows * size
    return np.asarray(rows / rows[np.arange(len(tested)), tested][:, None])
