"""New rows of a model with correlated residuals: their subjects, positions and covariances.

The residuals of a new row i and of the rows o of its subject have the joint covariance
``sigma**2 [[R_oo, r_o], [r_o', R_ii]]``, so that the best linear prediction of the new one, and
the variance that it leaves, are

    r_o' R_oo^-1 e_o,    sigma**2 (R_ii - r_o' R_oo^-1 r_o).

A structure whose covariance is a function of differences of positions (ar1, ou, distances) has it
at positions that the fit has not seen; one with a parameter for each position has not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from mixedfx._keys import key_text, positions_of_keys
from mixedfx.design.levels import combine, factorize
from mixedfx.design.position_numbers import is_time, position_numbers
from mixedfx.errors import ArgumentError
from mixedfx.residuals.correlated_rows import DrawsOfSubjects

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class KnownResiduals:
    """Predictions of new residuals from those of the rows used: ``weights @ residuals``."""

    weights: Any = field(repr=False)  # sparse (m, n)
    explained: Vector = field(repr=False)  # (m,) variance over sigma**2 that they explain


class CovariancesOfPositions(Protocol):
    """Covariances over ``sigma**2`` between positions, by stratum."""

    def block(self, stratum: int, rows: Codes, columns: Codes) -> Matrix:
        """Between two lists of positions."""
        ...

    def variances(self, strata: Codes, positions: Codes) -> Vector:
        """Of positions, each in its stratum."""
        ...


@dataclass(frozen=True)
class WholeCovariances:
    """The covariances of all positions, (strata, K, K)."""

    R: Array

    def block(self, stratum: int, rows: Codes, columns: Codes) -> Matrix:
        """Select rows and columns."""
        return np.asarray(self.R[stratum][np.ix_(rows, columns)])

    def variances(self, strata: Codes, positions: Codes) -> Vector:
        """Select from the diagonals."""
        return np.asarray(self.R[strata, positions, positions])


@dataclass(frozen=True)
class NewSubjectRows:
    """Subject, stratum and position of each of m new rows; negative where unknown."""

    text: str  # of the structure, for messages
    known: Codes = field(repr=False)  # (m,) subject of the fit
    own: Codes = field(repr=False)  # (m,) subject among the new rows; -1 missing
    strata: Codes = field(repr=False)  # (m,)
    positions: Codes = field(repr=False)  # (m,) among the positions of R; -1 missing, -2 unseen
    R: CovariancesOfPositions = field(repr=False)  # those of the fit and new ones
    unseen: tuple[Any, ...] = ()  # positions at which the structure has no covariance
    scales: Vector | None = field(default=None, repr=False)  # (m,) sds over those of R

    def check_positions(self, rows: Mask) -> None:
        """Refuse positions without a covariance."""
        if (self.positions[rows] == -2).any():
            listed = ", ".join(map(repr, self.unseen[:5]))
            raise ArgumentError(
                f"residual={self.text!r} has a parameter for each position, and the fit has not "
                f"seen {listed}: there is no residual variance at it. Predict the mean alone, "
                "random='none', or fit a structure that goes on, such as 'ar1' or 'ou'."
            )

    def variances(self) -> Vector:
        """``R_ii`` of each row, (m,); NaN where it is missing."""
        self.check_positions(np.ones(len(self.positions), dtype=bool))
        there = (self.positions >= 0) & (self.strata >= 0)
        at = np.maximum(self.positions, 0)
        variances = np.where(there, self.R.variances(np.maximum(self.strata, 0), at), np.nan)
        return variances if self.scales is None else variances * self.scales**2

    def draws(self, sds: Vector) -> DrawsOfSubjects:
        """Distribution of the residuals, rows without a subject independent."""
        subjects, roots = [], []
        for rows in _rows_of_each(self.own):
            at, stratum = self.positions[rows], self.strata[rows[0]]
            if (at < 0).any() or stratum < 0 or len(rows) == 1:
                continue
            C = self.R.block(int(stratum), at, at)
            d = np.sqrt(np.diag(C))
            # Rows at one position have one residual, so that the matrix may be singular.
            values, vectors = np.linalg.eigh(C / np.outer(d, d))
            subjects.append(rows)
            roots.append(vectors * np.sqrt(np.maximum(values, 0.0)))
        return DrawsOfSubjects(sds, tuple(subjects), tuple(roots))

    def known_residuals(
        self, subjects: Codes, positions: Codes, strata: Codes, root_weights: Vector | None
    ) -> KnownResiduals:
        """
        Predict from the rows of the fit, given their subjects, positions and strata.

        Times the root weights their residuals have the covariance R.

        A row where its subject was observed has no prediction: it is of another observation.
        """
        m = len(self.known)
        explained = np.zeros(m)
        entries: list[tuple[Codes, Codes, Vector]] = []
        wanted = set(self.known[self.known >= 0].tolist())
        of_subject = {
            int(subjects[rows[0]]): rows
            for rows in _rows_of_each(np.where(np.isin(subjects, list(wanted)), subjects, -1))
        }
        for new in _rows_of_each(self.known):
            rows = of_subject[int(self.known[new[0]])]
            at, stratum = positions[rows], int(strata[rows[0]])
            self.check_positions(np.isin(np.arange(m), new))
            new = new[(self.positions[new] >= 0) & ~np.isin(self.positions[new], at)]
            if not len(new):
                continue
            r = self.R.block(stratum, at, self.positions[new])  # (v, new)
            C = np.asarray(np.linalg.solve(self.R.block(stratum, at, at), r), dtype=np.float64)
            explained[new] = np.einsum("vi,vi->i", r, C)
            if root_weights is not None:
                C = C * root_weights[rows][:, None]
            if self.scales is not None:
                C, explained[new] = C * self.scales[new], explained[new] * self.scales[new] ** 2
            i, j = np.repeat(new, len(rows)), np.tile(rows, len(new))
            entries.append((i, j, C.T.ravel()))
        i, j, values = (
            (np.concatenate(parts) for parts in zip(*entries, strict=True))
            if entries
            else (np.zeros(0, dtype=np.intp), np.zeros(0, dtype=np.intp), np.zeros(0))
        )
        shape = (m, len(subjects))
        return KnownResiduals(sparse.csr_array((values, (i, j)), shape=shape), explained)


def _rows_of_each(codes: Codes) -> Iterator[Codes]:
    """Rows of each code that is not negative."""
    order = np.argsort(codes, kind="stable")
    order = order[codes[order] >= 0]
    if len(order):
        yield from np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)


def new_subject_rows(model: Any, frame: pd.DataFrame, params: Vector) -> NewSubjectRows:
    """Look up the subjects and positions of new rows, and the covariances of all positions."""
    spec, m = model.spec, len(frame)
    known, own = _subjects(spec, frame)
    strata = np.zeros(m, dtype=np.intp)
    if spec.strata:
        strata = np.full(m, -1, dtype=np.intp)
        if spec.stratum in frame:
            strata = positions_of_keys(pd.Index(frame[spec.stratum]), pd.Index(spec.strata))
    positions, points, unseen = _positions(spec, frame)
    R = model.covariances_of_points(params, points)
    return NewSubjectRows(spec.text, known, own, strata, positions, R, unseen)


def _subjects(spec: Any, frame: pd.DataFrame) -> tuple[Codes, Codes]:
    """Subject of the fit of each row, and subject among the new rows; -1 where missing."""
    m = len(frame)
    none = np.full(m, -1, dtype=np.intp)
    if not spec.factors:  # all rows are those of one subject
        return np.zeros_like(none), np.zeros_like(none)
    if any(factor not in frame for factor in spec.factors):
        return none, none
    columns = [frame[factor] for factor in spec.factors]
    there = ~np.any([column.isna().to_numpy() for column in columns], axis=0)
    known, own = none.copy(), none.copy()
    if there.any():
        complete = [column[there] for column in columns]
        known[there] = spec.levels.encode(complete)
        own[there] = combine([factorize(column) for column in complete])[1]
    return known, own


def _positions(spec: Any, frame: pd.DataFrame) -> tuple[Codes, Matrix, tuple[Any, ...]]:
    """Position of each row among those of the fit, then new points, and labels without any."""
    m, d = len(frame), spec.at.points.shape[1]
    none = np.full(m, -1, dtype=np.intp), np.zeros((0, d)), ()
    if any(column not in frame for column in spec.columns):
        return none
    columns = [frame[column] for column in spec.columns]
    there = ~np.any([column.isna().to_numpy() for column in columns], axis=0)
    codes = np.full(m, -1, dtype=np.intp)
    if spec.has_points:
        values = np.full((m, len(columns)), np.nan)
        for j, column in enumerate(columns):
            values[there, j] = _numbers(column[there], spec.labels)
        there &= np.isfinite(values).all(axis=1)
        return _by_points(spec, values, there)
    codes[there] = positions_of_keys(pd.Index(columns[0][there]), pd.Index(spec.labels))
    unknown = there & (codes < 0)
    codes[unknown] = -2
    return codes, np.zeros((0, d)), tuple(map(key_text, columns[0][unknown].unique()))


def _numbers(column: pd.Series, labels: tuple[Any, ...]) -> Vector:
    """Numbers of new positions, NaN where there are none; text of dates is dates."""
    if is_time(list(labels[:1])):
        if position_numbers(column) is None:
            column = pd.to_datetime(column, errors="coerce")
        numbers = position_numbers(column)
        return np.full(len(column), np.nan) if numbers is None else numbers
    return np.asarray(pd.to_numeric(column, errors="coerce").to_numpy(dtype=float))


def _by_points(spec: Any, values: Matrix, there: Mask) -> tuple[Codes, Matrix, tuple[Any, ...]]:
    """Look up points, and add those that are new where the structure goes on."""
    known = spec.at.points
    both = np.concatenate([known, values[there]])
    distinct, index = np.unique(both, axis=0, return_inverse=True)
    index = index.ravel()
    number = np.full(len(distinct), -1, dtype=np.intp)
    number[index[: len(known)]] = np.arange(len(known))
    added = np.flatnonzero(number < 0)
    codes = np.full(len(values), -1, dtype=np.intp)
    if not spec.goes_on or spec.refuses(distinct[added]):
        codes[there] = np.where(number < 0, -2, number)[index[len(known) :]]
        return codes, known[:0], tuple(map(float, distinct[added][:, 0]))
    number[added] = len(known) + np.arange(len(added))
    codes[there] = number[index[len(known) :]]
    return codes, distinct[added], ()
