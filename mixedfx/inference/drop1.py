"""Tests of each term of the fixed part that can be left out, as R's ``drop1``.

A term can be left out where no other term contains all of its factors (Nelder 1977, J. R. Stat.
Soc. A 140:48). The hypothesis is ``L beta = 0`` such that ``X beta`` is in the span of the columns
of the formula without the term; the F test is of L, the likelihood-ratio test refits.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import linalg, special

from mixedfx.design.contrasts import FixedTerm
from mixedfx.design.submodels import without_fixed_term
from mixedfx.errors import ArgumentError, check_choice
from mixedfx.estimation.fitted_model import FittedModel, check_no_priors
from mixedfx.estimation.optimizer_result import Control
from mixedfx.fit import fit_design
from mixedfx.inference.comparison import ml_deviance
from mixedfx.inference.constraints import Constraints
from mixedfx.inference.denominator_df import DenominatorDf
from mixedfx.inference.hypothesis_basis import echelon_hypotheses
from mixedfx.inference.recoding import Recoding, recoded
from mixedfx.inference.wald import f_test

Matrix = npt.NDArray[np.float64]

TESTS = ("auto", "F", "chisq")
NOTHING = "<none>"


def resolve_test(fit: FittedModel, test: str) -> str:
    """F tests of REML fits and of least squares, likelihood ratios of all others, by default."""
    check_choice("test", test, TESTS)
    linear = fit.spec.residual.linear
    if test == "F" and not linear:
        raise ArgumentError(
            "test='F' is of linear models; terms of a generalised model are tested by likelihood "
            "ratios, test='chisq', or by Wald's tests of fit.anova(type=2)."
        )
    by_f = linear and (fit.reml or fit.spec.is_least_squares)
    return ("F" if by_f else "chisq") if test == "auto" else test


def droppable_terms(fit: FittedModel) -> list[FixedTerm]:
    """Terms of the fixed part that no other term contains."""
    terms = recoded(fit).terms
    return [t for t in terms if not any(t.factors < other.factors for other in terms)]


def drop1(fit: FittedModel, ddf: DenominatorDf, test: str) -> pd.DataFrame:
    """Test each term that can be left out, by ``"F"`` or ``"chisq"``."""
    return _f_tests(fit, ddf) if test == "F" else _likelihood_ratios(fit)


def without_term(fit: FittedModel, name: str, *, reml: bool) -> FittedModel:
    """Fit of the model without one term of its fixed part."""
    design = without_fixed_term(fit.original_design, name)
    return fit_design(design, engine="profiled", reml=reml, control=Control())


def _f_tests(fit: FittedModel, ddf: DenominatorDf) -> pd.DataFrame:
    """F test of each term, with the columns of an analysis of variance."""
    coding = recoded(fit)
    rows, terms = [], droppable_terms(fit)
    for term in terms:
        L = _rows(fit, coding, term)
        test = {"F": np.nan, "num_df": 0.0, "den_df": np.nan, "p_value": np.nan}
        if len(L):  # else it is aliased with the other terms
            found = f_test(fit, ddf, Constraints(L, np.zeros(len(L)), (term.name,) * len(L)))
            test = {str(k): v for k, v in found.items()}
        rows.append(fit.residual.test_row(test, fit.solution.sigma))
    index = pd.Index([term.name for term in terms], name="term")
    return pd.DataFrame(rows, index=index, columns=list(fit.residual.test_columns), dtype=float)


def _rows(fit: FittedModel, coding: Recoding, term: FixedTerm) -> Matrix:
    """Rows L of the hypothesis, over the coefficients of the fit."""
    if coding.columns.get("Intercept") or len(coding.terms) == 1:
        return np.asarray(coding.to_coding[coding.columns[term.name]])
    # Without an intercept the next factor has a column for each of its levels.
    X0 = without_fixed_term(fit.original_design, term.name).rows.sample.X
    span = np.linalg.lstsq(fit.rows.sample.X, X0, rcond=None)[0]
    L = linalg.null_space(span.T).T
    if not len(L):
        return L
    hypotheses = Constraints(L, np.zeros(len(L)), (term.name,) * len(L))
    return np.asarray(echelon_hypotheses(fit, hypotheses).rows)


def _likelihood_ratios(fit: FittedModel) -> pd.DataFrame:
    """Likelihood-ratio test of each term, by maximum likelihood."""
    check_no_priors(fit, "drop1()")
    deviance, npar = ml_deviance(fit) if fit.reml else fit.deviance, fit.n_params
    rows = [{"npar": npar, "llf": -0.5 * deviance}]
    terms = droppable_terms(fit)
    for term in terms:
        other = without_term(fit, term.name, reml=False)
        df = npar - other.n_params
        chisq = max(other.deviance - deviance, 0.0)
        p_value = float(special.chdtrc(df, chisq)) if df else np.nan
        row = {"npar": other.n_params, "llf": -0.5 * other.deviance}
        rows.append({**row, "chisq": chisq, "df": df, "p_value": p_value})
    index = pd.Index([NOTHING, *(term.name for term in terms)], name="term")
    columns = ["npar", "llf", "chisq", "df", "p_value"]
    table = pd.DataFrame(rows, index=index, columns=columns)
    table.insert(2, "aic", 2.0 * table["npar"] - 2.0 * table["llf"])
    return table
