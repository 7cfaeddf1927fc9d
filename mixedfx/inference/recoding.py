"""Coefficients of the fixed part in another coding, and hypotheses of type III.

The columns of a coding that do not depend on those before them, terms by order and then as
written, are ``X B^-1``, whatever the coding of the fit and whichever columns it left out: their
coefficients are ``B beta``. With one parameter for each level and each cell, of which SAS's general
form of estimable functions is made, they are ``B G`` of these parameters. R writes hypotheses in
treatment coding.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from mixedfx._arrays import set_readonly
from mixedfx._names import decode
from mixedfx.design.checks import independent_columns
from mixedfx.design.contrasts import (
    FixedTerm,
    fixed_terms,
    indicators_of_columns,
    recoding_of_columns,
)
from mixedfx.design.slim import summary_of_rows
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.formula.expansion import terms_of

Matrix = npt.NDArray[np.float64]

# Entries of a combination below this share of the largest are rounding.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Recoding:
    """Coefficients under a coding of all factors, and the terms that they belong to."""

    terms: tuple[FixedTerm, ...]  # without the intercept, by order and then as written
    columns: dict[str, list[int]]  # of each term, the intercept's too, among the coefficients
    to_coding: Matrix  # (p, p) B: coefficients are B beta
    from_coding: Matrix  # (p, p) inverse of B
    aliases: Matrix = field(repr=False)  # (p, all columns of the fit): X_all = X aliases

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(self.to_coding, self.from_coding, self.aliases)

    def columns_of(self, terms: list[FixedTerm]) -> list[int]:
        """Positions of the coefficients of some terms."""
        return [i for term in terms for i in self.columns[term.name]]

    def containing(self, term: FixedTerm) -> list[FixedTerm]:
        """Interactions of a term with further factors."""
        return [t for t in self.terms if t.contains(term)]


def recoded(fit: FittedModel, coding: Literal["treatment", "sum"] = "treatment") -> Recoding:
    """Find the coefficients of a coding of all factors."""
    spec = fit.spec
    by_name = {term.name: term for term in fixed_terms(spec.fixed_info)}
    names = [decode(t.name()) for t in terms_of(spec.formula.fixed)]
    written = [by_name[name] for name in names if name in by_name]  # thresholds: no intercept
    ordered = sorted(written, key=lambda term: len(term.factors))  # the intercept first
    n_columns = len(spec.column_names)
    aliases = np.eye(n_columns)[spec.kept_columns]
    if spec.aliases is not None:
        aliases[:, np.setdiff1d(np.arange(n_columns), spec.kept_columns)] = spec.aliases
    from_all = aliases @ recoding_of_columns(spec, coding)
    order = [i for t in ordered for i in range(*t.columns.indices(n_columns))]
    if spec.aliases is not None:
        R = qr_R_of_rows(fit)
        numeric = {i for t in ordered if t.numeric for i in range(*t.columns.indices(n_columns))}
        indicators = np.array([i not in numeric for i in order])
        order = [order[i] for i in independent_columns(R @ from_all[:, order], indicators)]
    from_coding = from_all[:, order]
    columns = {
        term.name: [i for i, j in enumerate(order) if term.columns.start <= j < term.columns.stop]
        for term in ordered
    }
    return Recoding(
        terms=tuple(term for term in ordered if term.factors),
        columns=columns,
        to_coding=np.asarray(np.linalg.inv(from_coding), dtype=float),
        from_coding=from_coding,
        aliases=aliases,
    )


@summary_of_rows("qr R")
def qr_R_of_rows(fit: FittedModel) -> Matrix:
    """R of a QR decomposition of X, (p, p)."""
    return np.asarray(np.linalg.qr(fit.rows.X, mode="r"))


def type3_rows(fit: FittedModel, coding: Recoding, term: FixedTerm) -> Matrix:
    """
    Rows of a term's hypothesis of type III, over the coefficients of the treatment coding.

    They are the term's coefficients less their projection on those of the terms that contain it,
    all as functions of the parameters of levels and cells: a main effect is averaged over the
    levels of the factors that it interacts with, and where cells are empty over what the others
    tell (SAS Institute 1978, The four types of estimable functions; Goodnight 1980).
    """
    has_one = coding.columns.get("Intercept") or not fit.spec.family.has_intercept
    if has_one or len(coding.terms) == 1:
        return _projected_rows(fit, coding, term)
    # Without an intercept a term has a coefficient for each of its levels, at the reference
    # level of the other factors in treatment coding and averaged over them in this one.
    averaged = recoded(fit, "sum")
    rows = _projected_rows(fit, averaged, term) @ averaged.to_coding @ coding.from_coding
    tested = rows[:, coding.columns[term.name]]
    square = tested.shape[0] == tested.shape[1]
    return np.asarray(np.linalg.solve(tested, rows)) if square else rows


def _projected_rows(fit: FittedModel, coding: Recoding, term: FixedTerm) -> Matrix:
    """Coefficients of a term less their projection on those of the terms that contain it."""
    tested = coding.columns[term.name]
    containing = coding.columns_of(coding.containing(term))
    rows = np.eye(len(coding.to_coding))[tested]
    if not (tested and containing):
        return rows
    in_columns = indicators_of_columns(fit.spec)
    functions = coding.to_coding @ (coding.aliases @ in_columns)
    functions = np.where(np.abs(functions) < _ROUNDING, 0.0, functions)
    projection = np.linalg.lstsq(functions[containing].T, functions[tested].T, rcond=_ROUNDING)[0].T
    remaining = functions[tested] - projection @ functions[containing]
    rows[:, containing] = np.where(np.abs(projection) < _ROUNDING, 0.0, -projection)
    size = np.abs(functions[tested]).max(axis=1, initial=0.0)
    nonzero = np.abs(remaining).max(axis=1, initial=0.0) > 1e-8 * size
    rows, remaining = rows[nonzero], remaining[nonzero]
    return np.asarray(rows[independent_columns(remaining.T)])
