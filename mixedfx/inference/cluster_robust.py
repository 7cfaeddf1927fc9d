"""Covariances of the fixed effects that are robust to a wrong covariance within clusters.

With M = (X'V^-1 X)^-1 of the fit, residuals ``e = y - X beta`` and the clusters' matrices A_i,

    cov = f sum_i a_i'e_i e_i'a_i,      a_i = A_i'V_i^-1 X_i M

are the sandwich estimators of Liang and Zeger (1986) and their corrections for few clusters, with
the covariance V of the fit as working model. A_i is the identity (CR0, and CR1, CR1p, CR1S with
factors f above one), ``D_i'B_i^-1/2 D_i`` with ``V_i = D_i'D_i`` and
``B_i = D_i (V_i - X_i M X_i') D_i'`` (CR2: unbiased if V holds), or
``(I - X_i M X_i'V_i^-1)^-1`` (CR3, nearly the jackknife).

Degrees of freedom match the moments that the estimator has if V holds. In coefficients c,
``c'cov c`` is a quadratic form whose terms i and j have under V the covariance

    P_ij = [i = j] c'a_i'V_i a_i c - (X_i'a_i c)'M (X_j'a_j c)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import linalg

from mixedfx._arrays import set_readonly
from mixedfx.errors import ArgumentError, check_choice
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.likelihood.coefficient_covariance import CoefficientCovariance, combinations_in_basis

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

COV_TYPES = ("CR2", "CR0", "CR1", "CR1p", "CR1S", "CR3")
# Eigenvalues of B below this share of the largest are those of combinations that X takes up.
_NULL = 1e-10


@dataclass(frozen=True)
class ClusterRobust:
    """
    A robust covariance, with degrees of freedom by the moments of its estimator.

    References
    ----------
    .. [1] Liang and Zeger (1986), Biometrika 73:13.
    .. [2] Bell and McCaffrey (2002), Survey Methodology 28:169.
    .. [3] Tipton and Pustejovsky (2015), J. Educ. Behav. Stat. 40:604: the F test.
    .. [4] Pustejovsky and Tipton (2018), J. Bus. Econ. Stat. 36:672, section 2.
    """

    name: str  # "CR2"
    covariance: CoefficientCovariance
    n_clusters: int
    _own: Array = field(repr=False)  # (m, p, p) a_i'V_i a_i
    _shared: Array = field(repr=False)  # (m, p, p) X_i'a_i
    _M: Matrix = field(repr=False)  # (p, p), all in the basis of the covariance
    remark: str | None = None

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(self._own, self._shared, self._M)

    @property
    def cov(self) -> Matrix:
        """Covariance of the fixed effects, (p, p)."""
        return self.covariance.matrix

    def t_df(self, row: Vector) -> float:
        """Degrees of freedom ``2 E(v)^2 / var(v)`` of one combination of the fixed effects."""
        own, shared = self._terms(row[None])
        mean = float(np.sum(own) - np.einsum("mps,pq,mqs->", shared, self._M, shared))
        return 2.0 * mean**2 / float(self._variances(own, shared)[0, 0])

    def f_scale_and_df(self, rows: Matrix) -> tuple[float, float]:
        """
        Scale and degrees of freedom of Hotelling's T squared of independent rows.

        With q rows and ``eta = q (q + 1) / sum var(D_st)``, of the covariance D of the rows in
        the units of its expectation, ``(eta - q + 1) / eta F`` has ``eta - q + 1``.
        """
        own, shared = self._terms(rows)
        MS = np.einsum("pq,mqs->mps", self._M, shared)
        expected = own.sum(axis=0) - np.einsum("mps,mpt->st", shared, MS)
        root = linalg.solve_triangular(np.linalg.cholesky(expected), np.eye(len(rows)), lower=True)
        own, shared = root @ own @ root.T, shared @ root.T
        q = len(rows)
        eta = q * (q + 1) / float(self._variances(own, shared).sum())
        df = eta - q + 1.0
        if df <= 0.0:
            raise ArgumentError(
                f"{q} hypotheses together have no F test by {self.name}: the {self.n_clusters} "
                "clusters say too little of the covariance of their estimates. Test fewer "
                "together, or one at a time with t_test()."
            )
        return df / eta, df

    def _terms(self, rows: Matrix) -> tuple[Array, Array]:
        """``a_i'V_i a_i`` (m, q, q) and ``X_i'a_i`` (m, p, q) of combinations (q, p)."""
        C = combinations_in_basis(rows, self.covariance.qr_R)
        return C @ self._own @ C.T, self._shared @ C.T

    def _variances(self, own: Array, shared: Array) -> Matrix:
        """
        Variances of the entries of the estimated covariance under V, (q, q).

        ``var(D_st) = sum_ij P^ss_ij P^tt_ij + P^st_ij P^ts_ij``.
        """
        S = np.einsum("mps,mqt->stpq", shared, shared)  # sums of s_i s_i'
        G = np.einsum("mps,pq,mqt->mst", shared, self._M, shared)
        MS = self._M @ S  # (q, q, p, p)
        q = own.shape[1]
        out = np.empty((q, q))
        for s in range(q):
            for t in range(q):
                out[s, t] = self._product(own, G, MS, (s, s), (t, t))
                out[s, t] += self._product(own, G, MS, (s, t), (t, s))
        return out

    @staticmethod
    def _product(
        own: Array, G: Array, MS: Array, ab: tuple[int, int], cd: tuple[int, int]
    ) -> float:
        """``sum_ij P^ab_ij P^cd_ij``."""
        (a, b), (c, d) = ab, cd
        first, second = own[:, a, b], own[:, c, d]
        both = float(first @ second - first @ G[:, c, d] - second @ G[:, a, b])
        return both + float(np.einsum("pq,qp->", MS[b, d], MS[c, a]))


def cluster_robust(fit: FittedModel, codes: Codes, cov_type: str) -> ClusterRobust:
    """Robust covariance of a linear model with clusters ``codes`` of the rows, (n,)."""
    check_choice("cov_type", cov_type, COV_TYPES)
    cov = fit.solution.coefficient_covariance
    m, p = int(codes.max()) + 1, fit.crossprod.p
    meat, own, shared = np.zeros((p, p)), np.empty((m, p, p)), np.empty((m, p, p))
    X = combinations_in_basis(fit.rows.X, cov.qr_R)
    offset = 0.0 if fit.rows.offset is None else fit.rows.offset
    e = fit.rows.y - offset - fit.rows.X @ fit.solution.beta
    for i, rows, V in _clusters(fit, codes):
        a = _adjusted(cov_type, V, X[rows], cov.in_basis)
        score = e[rows] @ a
        meat += np.outer(score, score)
        own[i], shared[i] = a.T @ V @ a, X[rows].T @ a
    factor = _factor(cov_type, m, p, fit.rows.n)
    robust = CoefficientCovariance(factor * meat, cov.qr_R)
    return ClusterRobust(cov_type, robust, m, own, shared, np.array(cov.in_basis))


def _factor(cov_type: str, m: int, p: int, n: int) -> float:
    """Factor of the sandwich for m clusters, p coefficients and n rows."""
    if cov_type == "CR1p":
        if m <= p:
            raise ArgumentError(
                f"CR1p is m / (m - p) times CR0, and there are m = {m} clusters for p = {p} "
                "coefficients: take cov_type='CR2'."
            )
        return m / (m - p)
    factors = {"CR1": m / (m - 1.0), "CR1S": m * (n - 1.0) / ((m - 1.0) * (n - p))}
    return factors.get(cov_type, 1.0)


def _adjusted(cov_type: str, V: Matrix, X: Matrix, M: Matrix) -> Matrix:
    """``a = A'V^-1 X M`` of one cluster, (n_i, p)."""
    factor = linalg.cho_factor(V)
    a = np.asarray(linalg.cho_solve(factor, X @ M))
    if cov_type == "CR2":
        D = np.triu(factor[0])
        values, vectors = np.linalg.eigh(D @ (V - X @ M @ X.T) @ D.T)
        kept = values > _NULL * max(float(values[-1]), 0.0)
        root = vectors[:, kept] / np.sqrt(np.sqrt(values[kept]))
        return np.asarray(D.T @ (root @ (root.T @ (D @ a))))
    if cov_type == "CR3":
        hat = X @ linalg.cho_solve(factor, X @ M).T
        return np.asarray(np.linalg.solve((np.eye(len(X)) - hat).T, a))
    return a


def _clusters(fit: FittedModel, codes: Codes) -> Iterator[tuple[int, Codes, Matrix]]:
    """Rows of each cluster, and the covariance of their responses."""
    order = np.argsort(codes, kind="stable")
    sigma, lambdas = fit.solution.sigma, fit.solution.lambdas
    terms = [
        (term.codes, term.model_matrix @ (sigma * lam))
        for term, lam in zip(fit.rows.random_terms, lambdas, strict=True)
    ]
    precision = fit.residual.row_precision(fit.rows)
    for i, rows in enumerate(np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)):
        V = sigma**2 * _residual_covariance(precision, rows)
        for levels, Z in terms:
            own = levels[rows]
            V = V + (Z[rows] @ Z[rows].T) * (own[:, None] == own)
        yield i, rows, V


def _residual_covariance(precision: Any, rows: Codes) -> Matrix:
    """Covariance over ``sigma**2`` of the residuals of some rows that correlate with no others."""
    if precision is None:
        return np.eye(len(rows))
    return np.linalg.inv(precision.tocsr()[rows][:, rows].toarray())
