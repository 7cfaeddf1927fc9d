"""Models whose random effects reproduce any response: nothing is left to tell the residuals.

Where the columns of X and Z together have the rank n of the rows, ``y = X beta + Z b`` has a
solution whatever y is. The residual variance is then told from the others by the prior of b alone,
and may go to zero: under maximum likelihood without bound, if Z has a lower rank than n.
Asked only where a search has ended so, as lme4 asks before any (``check.nobs.vs.nRE``).
"""

from __future__ import annotations

import numpy as np

from mixedfx.design.build import Design
from mixedfx.errors import EngineDisagreement, MixedfxError, ResponseError
from mixedfx.likelihood.accumulate import sparse_Z
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.pls import Solution

# Share of the response's sum of squares below which the residuals have vanished: a standard
# deviation of a hundredth.
_VANISHED = 1e-4
# Rows up to which a rank is worked out: n^3 multiplications, about a second.
_MOST_ROWS = 1_500
_RANK_TOLERANCE = 1e-9

_ADVICE = (
    "Of one such term lme4 stops with 'number of observations <= number of random effects'. Leave "
    "out a term, or the slopes of one whose levels have no more rows than effects."
)
# What searches and their ends raise where residuals vanish: digits are lost, and with them the
# definiteness of matrices.
_OF_RESIDUALS = (ResponseError, EngineDisagreement)
ERRORS = (*_OF_RESIDUALS, np.linalg.LinAlgError, ValueError)


def vanishing_residuals(design: Design, solution: Solution) -> str | None:
    """Why residuals have vanished, if the columns are the reason, and what to do."""
    crossprod = solution.crossprod
    if not crossprod.profiles_sigma:
        return None
    if solution.pwrss > _VANISHED * float(crossprod.XytXy[-1, -1]):
        return None
    return _statement(design, crossprod)


def explained(error: Exception, design: Design, crossprod: CrossProducts) -> Exception:
    """An error where residuals vanish, with the reason if it is that of the columns."""
    is_of_request = isinstance(error, MixedfxError) and not isinstance(error, _OF_RESIDUALS)
    statement = None if is_of_request else _statement(design, crossprod)
    return error if statement is None else ResponseError(statement)


def _statement(design: Design, crossprod: CrossProducts) -> str | None:
    """That columns of X and Z have the rank of the rows; None if not, or not worked out."""
    rows = design.rows
    q, p = crossprod.symbolic.size, crossprod.p
    if not rows.in_memory or q + p < rows.n or rows.n > _MOST_ROWS or rows.n_merged:
        return None
    columns = np.column_stack([rows.X, sparse_Z(rows, crossprod).toarray()])
    lengths = np.sqrt(np.einsum("ij,ij->j", columns, columns))
    columns = columns[:, lengths > 0.0] / lengths[lengths > 0.0]
    gram = columns @ columns.T
    if np.linalg.matrix_rank(gram, tol=_RANK_TOLERANCE * len(gram), hermitian=True) < rows.n:
        return None
    return (
        f"the random effects can reproduce the response, whatever it is: with the fixed effects "
        f"they have {q + p} columns of rank {rows.n}, the number of rows, and the residual "
        f"variance goes to zero. {_advice(crossprod)}"
    )


def _advice(crossprod: CrossProducts) -> str:
    """What to do: a structure that takes all variance is that of the residuals."""
    structures = [s.name for s, _ in crossprod.parametrization.terms if not s.linear]
    if not structures:
        return _ADVICE
    name = structures[0]
    return (
        f"All the variance is that of '{name}(...)': take it out of the formula, and give it as "
        f"the covariance of the residuals, residual='{name}(...)'."
    )
