"""Kenward and Roger's test: a covariance that admits that the variances were estimated.

The covariance of all rows is linear in the variances and covariances ``psi``,
``V = psi_0 W^-1 + sum_i psi_i Z E_i Z'``. With ``K = Z'V^-1 Z`` and ``G = Z'V^-1 X``, both of the
size of the random effects, everything that the papers write with matrices of the size of the
rows is

    P_i = -G'E_i G      Q_ij = G'E_i K E_j G      tr(V^-1 S_i V^-1 S_j) = tr(E_i K E_j K)

and what belongs to the residual variance follows from ``V^-1 V V^-1 = V^-1``. ``K`` is never
formed: its columns are made in portions, those of levels that cannot meet together.
All of it is computed in units of the residual variance.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import linalg

from mixedfx.estimation.fitted_model import FittedModel, expect_no_priors, expect_one_variance
from mixedfx.linalg.cholesky.batched import flatten
from mixedfx.linalg.cholesky.selected_inverse import probing_vectors

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Ints = npt.NDArray[np.integer[Any]]


# Below this, numerator and denominator of a ratio that is one in theory are rounding.
_POLE = 1e-6


@dataclass(frozen=True)
class Component:
    """
    One variance or covariance: where it stands.

    Parameters
    ----------
    factor : int
        The grouping factor.
    first, second : int
        The factor's columns whose covariance it is.
    psi : float
        Its value, in units of the residual variance.
    """

    factor: int
    first: int
    second: int
    psi: float

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Entries of ``E_i`` that are one."""
        if self.first == self.second:
            return ((self.first, self.first),)
        return ((self.first, self.second), (self.second, self.first))


@dataclass(frozen=True)
class KenwardRoger:
    """
    Made by :func:`kenward_roger`.

    Parameters
    ----------
    cov : ndarray of shape (p, p)
        Adjusted covariance of the fixed effects.
    W : ndarray of shape (m + 1, m + 1)
        Covariance of the estimated variances, the residual's first, in its units.
    P : ndarray of shape (m + 1, p, p)
        ``-X'V^-1 S_i V^-1 X``.
    name : str
        For ``df_method=``.
    remark : None
        There is nothing to say: on the boundary the formulas hold as they are.
    """

    cov: Matrix
    W: Matrix = field(repr=False)
    P: Matrix = field(repr=False)
    _fit: FittedModel = field(repr=False)
    name: str = "kenward-roger"
    remark: str | None = None

    def t_df(self, row: Vector) -> float:
        """Degrees of freedom of one combination of the fixed effects."""
        return self.f_scale_and_df(row[None])[1]

    def f_scale_and_df(self, rows: Matrix) -> tuple[float, float]:
        """
        Scale and degrees of freedom of an F test of independent rows.

        References
        ----------
        .. [1] Kenward and Roger (1997), Biometrics 53:983, section 3.
        """
        if self._fit.crossprod.qr_R is not None:
            rows = linalg.solve_triangular(self._fit.crossprod.qr_R, rows.T, trans="T").T
        q, Phi = len(rows), self._fit.solution.vcov_in_basis
        Theta = rows.T @ np.linalg.solve(rows @ Phi @ rows.T, rows)
        parts = np.array([Theta @ Phi @ P @ Phi for P in self.P])
        traces = np.einsum("iaa->i", parts)
        A1 = float(traces @ self.W @ traces)
        A2 = float(np.einsum("ij,iab,jba->", self.W, parts, parts))
        return _scale_and_df(q, A1, A2)


def _scale_and_df(q: int, A1: float, A2: float) -> tuple[float, float]:
    """Match the first two moments of the statistic to those of a scaled F distribution."""
    if A2 < 1e-14:  # the variances are known
        return 1.0, np.inf
    if q == 1:  # the formulas below, simplified: A1 is A2
        return 1.0, 2.0 / A2
    B = (A1 + 6.0 * A2) / (2.0 * q)
    g = ((q + 1) * A1 - (q + 4) * A2) / ((q + 2) * A2)
    divisor = 3 * q + 2 * (1 - g)
    c1, c2, c3 = g / divisor, (q - g) / divisor, (q + 2 - g) / divisor
    V0, V1, V2 = 1 + c1 * B, 1 - c2 * B, 1 - c3 * B
    rest = 1 - A2 / q
    # Where both vanish, as with two degrees of freedom, they are the same number.
    ratio = 1.0 if max(abs(rest), abs(V1)) < _POLE else rest / V1
    df = 4 + (q + 2) * V2 / (ratio**2 * V0 - V2)
    factor = 1.0 if abs(df - 2) < 1e-2 else df * rest / (df - 2)
    return float(factor), float(df)


def kenward_roger(fit: FittedModel) -> KenwardRoger:
    """
    Adjust the covariance of the fixed effects, and prepare the degrees of freedom.

    References
    ----------
    .. [1] Kenward and Roger (1997), Small sample inference for fixed effects from restricted
       maximum likelihood, Biometrics 53:983, equations 5 and 6.
    .. [2] Halekoh and Hojsgaard (2014), J. Stat. Softw. 59(9), whose numbers these are.
    """
    expect_no_priors(fit, "Kenward and Roger's method")
    expect_one_variance(fit, "Kenward and Roger's method", "take df_method='satterthwaite'")
    Phi = fit.solution.vcov_in_basis
    items = _components(fit)
    M, Q = _fixed_products(fit, items)
    once, twice = _traces(fit, items)
    P, T = -M, twice
    if fit.crossprod.sigma is None:
        P, Q, T = _with_residual(fit, np.array([c.psi for c in items]), M, Q, once, twice)
    PPhi = P @ Phi
    information = T - 2.0 * np.einsum("ab,ijab->ij", Phi, Q) + np.einsum("iab,jba->ij", PPhi, PPhi)
    W = 2.0 * _inverse(0.5 * (information + information.T))
    bracket = np.einsum("ij,ijab->ab", W, Q) - np.einsum("ij,iab,jbc->ac", W, PPhi, P)
    adjusted = Phi + 2.0 * Phi @ (0.5 * (bracket + bracket.T)) @ Phi
    cov = fit.solution.sigma**2 * fit.crossprod.vcov_of_coefficients(adjusted)
    return KenwardRoger(cov, W, P, fit)


def _components(fit: FittedModel) -> list[Component]:
    items = []
    crossprod = fit.crossprod
    for position, lam, (rows, cols) in zip(
        crossprod.term_positions,
        fit.solution.lambdas,
        crossprod.parametrization.positions,
        strict=True,
    ):
        psi = lam @ lam.T
        items += [
            Component(position.factor, position.start + b, position.start + a, float(psi[a, b]))
            for a, b in zip(rows.tolist(), cols.tolist(), strict=True)
        ]
    return items


def _fixed_products(fit: FittedModel, items: list[Component]) -> tuple[Matrix, Matrix]:
    """``G'E_i G`` (m, p, p) and ``G'E_i K E_j G`` (m, m, p, p)."""
    symbolic, p, m = fit.crossprod.symbolic, fit.crossprod.p, len(items)
    G = [seen[:, :p] for seen in fit.solution.projected_crossproducts()]
    M = np.zeros((m, p, p))
    left = np.zeros((symbolic.size, m, p))
    for i, c in enumerate(items):
        block = np.zeros_like(G[c.factor])
        for a, b in c.pairs:
            block[a] += G[c.factor][b]
        M[i] = np.tensordot(G[c.factor], block, axes=((0, 2), (0, 2)))
        left[symbolic.columns(c.factor), i] = flatten(block)
    flat = left.reshape(symbolic.size, m * p)
    Q = np.empty((m, p, m, p))
    for j in range(m):
        Q[:, :, j] = (flat.T @ _through_inverse(fit, left[:, j])).reshape(m, p, p)
    return M, Q.transpose(0, 2, 1, 3)


def _through_inverse(fit: FittedModel, right: Matrix) -> Matrix:
    """``K right``, with ``K = A - A Lambda M^-1 Lambda' A``."""
    A = fit.crossprod.symbolic.matrix
    seen = A @ right
    return np.asarray(seen - A @ fit.solution.schur.numeric.solve(seen))


def _traces(fit: FittedModel, items: list[Component]) -> tuple[Vector, Matrix]:
    """``tr(E_i K)`` (m,) and ``tr(E_i K E_j K)`` (m, m)."""
    symbolic = fit.crossprod.symbolic
    ZtZ, shared = symbolic.block_matrix, probing_vectors(symbolic)
    widths = [ZtZ.width(f) for f in ZtZ.factors]
    own = [np.zeros((K, K)) for K in widths]
    between = {
        (f, g): np.zeros((widths[f], widths[g]) * 2) for f in ZtZ.factors for g in ZtZ.factors
    }
    for g in ZtZ.factors:
        for first, last in shared.batches(g):
            made = _through_inverse(fit, shared.vectors(g, first, last))
            own[g] += _within(
                made[symbolic.columns(g)], shared.index_in_component[g], first, last, widths[g]
            )
            for f in ZtZ.factors:
                seen = made[symbolic.columns(f)].reshape(widths[f], -1, widths[g])
                part = seen.transpose(0, 2, 1).reshape(widths[f] * widths[g], -1)
                square = part @ part.T
                between[f, g] += square.reshape(widths[f], widths[g], widths[f], widths[g])
    once = np.array([sum(own[c.factor][a, b] for a, b in c.pairs) for c in items])
    twice = np.empty((len(items), len(items)))
    for i, c in enumerate(items):
        for j, d in enumerate(items):
            N = between[c.factor, d.factor]
            twice[i, j] = sum(N[b, u, a, v] for a, b in c.pairs for u, v in d.pairs)
    return once, twice


def _within(made: Matrix, ranks: Ints, first: int, last: int, K: int) -> Matrix:
    """Sum the blocks of the levels whose columns these are, (K, K)."""
    level = np.flatnonzero((ranks >= first) & (ranks < last))
    blocks = made.reshape(K, -1, last - first, K)
    return np.asarray(blocks[:, level, ranks[level] - first].sum(axis=1))


def _with_residual(
    fit: FittedModel, psi: Vector, M: Matrix, Q: Matrix, once: Vector, twice: Matrix
) -> tuple[Matrix, Matrix, Matrix]:
    """Put the residual variance, one in its own units, before the others: ``P, Q, T``."""
    m, p = len(psi), fit.crossprod.p
    precision = np.linalg.inv(fit.solution.vcov_in_basis)
    M0 = precision - np.einsum("i,iab->ab", psi, M)
    Q0 = M - np.einsum("i,ijab->jab", psi, Q)
    full_Q = np.empty((m + 1, m + 1, p, p))
    full_Q[1:, 1:] = Q
    full_Q[0, 1:] = Q0
    full_Q[1:, 0] = Q0.transpose(0, 2, 1)
    full_Q[0, 0] = M0 - np.einsum("i,iab->ab", psi, Q0)
    T = np.empty((m + 1, m + 1))
    T[1:, 1:] = twice
    T[0, 1:] = T[1:, 0] = once - psi @ twice
    T[0, 0] = fit.crossprod.n - psi @ once - psi @ T[0, 1:]
    return -np.concatenate([M0[None], M]), full_Q, T


def _inverse(information: Matrix) -> Matrix:
    """Invert a symmetric matrix of any units; directions that nothing is known of are left out."""
    size = np.sqrt(np.abs(np.diag(information)))
    size[size == 0.0] = 1.0
    scale = np.outer(size, size)
    return np.asarray(np.linalg.pinv(information / scale, rcond=1e-8, hermitian=True) / scale)
