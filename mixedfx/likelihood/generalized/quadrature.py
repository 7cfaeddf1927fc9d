"""Adaptive Gauss-Hermite quadrature over the effects of one grouping factor, and its gradient.

At each level, with modes u, ``H = L L'`` and ``C = L^-T``, the nodes are ``u + C x_k`` and

    -2 log-likelihood = sum_levels  log|H| - 2 log sum_k v_k,
    v_k = omega_k exp(x_k'x_k / 2 + sum l(eta_k) - u_k'u_k / 2)

(Pinheiro and Bates 1995, J. Comput. Graph. Stat. 4:12, section 2.4). One node is Laplace's
approximation. The gradient follows u and C: with ``pi_k = v_k / sum v`` and
``r_k = Lambda'Z'g_k - u_k``, the derivatives by u and C are ``-2 sum pi_k r_k`` and
``-2 sum pi_k r_k x_k'``; that by C becomes one by H by the derivative of the Cholesky factor
(Murray 2016, arXiv:1602.07527), and both go on as those of the log-determinant in
:mod:`~mixedfx.likelihood.generalized.laplace`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mixedfx._cached import cached_property
from mixedfx.likelihood.generalized.laplace import MarginalGradient
from mixedfx.likelihood.generalized.node_sums import Nodes, NodeSums
from mixedfx.likelihood.generalized.pirls import Modes
from mixedfx.linalg.cholesky.batched import matmul, matmul_left, matmul_right
from mixedfx.linalg.cholesky.inverse_blocks import LogDetDerivatives
from mixedfx.linalg.gauss_hermite import normal_quadrature

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]

# Nodes per dimension of vector-valued terms are a product rule: up to so many columns.
MAX_COLUMNS = 3


@dataclass(frozen=True)
class Quadrature:
    """Sums over the nodes at one set of parameters."""

    modes: Modes = field(repr=False)
    k: int  # nodes per dimension
    with_gradient: bool

    @cached_property
    def cholesky(self) -> Array:
        """L of each level's ``H = Lambda'Z'WZ Lambda + I``, (K, K, L)."""
        modes = self.modes
        lam, A = modes.lambdas[0], modes.numeric.assembled.diagonal[0]
        H = matmul_left(lam.T, matmul_right(A, lam))
        K = len(lam)
        for a in range(K):
            H[a, a] += 1.0
        return cholesky_levels(H)

    @cached_property
    def inverse(self) -> Array:
        """``L^-1`` of each level, lower triangular, (K, K, L)."""
        return invert_lower(self.cholesky)

    @cached_property
    def sums(self) -> NodeSums:
        """Sums of ``v_k`` and of what the gradient averages by them."""
        modes, C = self.modes, self.inverse.transpose(1, 0, 2)  # L^-T
        x, omega = normal_quadrature(self.k, len(modes.lambdas[0]))
        nodes = Nodes(modes.lambdas[0], modes.u[0], C, np.asarray(x), np.asarray(omega))
        found: NodeSums = modes.at.over_nodes(nodes, with_gradient=self.with_gradient)
        return found

    @property
    def deviance(self) -> float:
        """-2 log-likelihood."""
        log_v = np.log(self.sums.total)
        return laplace_part(self.modes) - 2.0 * float(log_v.sum())

    def gradient(self) -> MarginalGradient:
        """Gradient of the deviance."""
        modes, sums, Ci = self.modes, self.sums, self.inverse
        lam, u, Ztg = modes.lambdas[0], modes.u[0], modes.Ztg[0]
        C = Ci.transpose(1, 0, 2)  # L^-T
        by_C, by_u = -2.0 * sums.r_x, -2.0 * sums.r
        # C = L^-T, so dL is -C by_C' C; then the Cholesky derivative in reverse.
        by_L = -matmul(matmul(C, by_C.transpose(1, 0, 2)), C)
        inner = _lower_half(matmul(self.cholesky.transpose(1, 0, 2), by_L))
        by_H = matmul(matmul(C, inner), Ci)
        by_H = 0.5 * (by_H + by_H.transpose(1, 0, 2)) + matmul(C, Ci)
        by_A = matmul_right(matmul_left(lam, by_H), lam.T)
        A = modes.numeric.assembled.diagonal[0]
        of_rows = modes.at.by_log_det(LogDetDerivatives((), (by_A,), {}, {}))
        total_by_u = by_u + lam.T @ of_rows.Ztc[0]
        s = matmul(C, matmul(Ci, total_by_u[:, None]))[:, 0]
        through = of_rows.through([lam @ s])
        by_lambda = 2.0 * np.einsum("acl,cd,dbl->ab", A, lam, by_H, optimize=True)
        by_lambda += through.Zt[0] @ u.T + Ztg @ s.T - 2.0 * sums.Ztg_u
        # Those at the modes give way to the averages over the nodes.
        return MarginalGradient(
            (by_lambda,),
            through.Xt + 2.0 * sums.Xt_change,
            through.by_params + 2.0 * sums.by_params_change,
            through.by_eta + 2.0 * sums.first_change,
        )


def laplace_part(modes: Modes) -> float:
    """Laplace's deviance, which the nodes' sum corrects."""
    return modes.numeric.log_det - 2.0 * modes.penalized_loglik


def cholesky_levels(H: Array) -> Array:
    """Lower Cholesky factor of each level's matrix, (K, K, L)."""
    L, K = np.zeros_like(H), len(H)
    for j in range(K):
        column = H[j:, j] - sum((L[j:, c] * L[j, c] for c in range(j)), np.zeros_like(H[j:, j]))
        L[j, j] = np.sqrt(column[0])
        L[j + 1 :, j] = column[1:] / L[j, j]
    return L


def invert_lower(L: Array) -> Array:
    """Inverse of each level's lower triangular matrix, (K, K, L)."""
    inverse, K = np.zeros_like(L), len(L)
    for i in range(K):
        inverse[i, i] = 1.0 / L[i, i]
        for j in range(i):
            total = sum(L[i, c] * inverse[c, j] for c in range(j, i))
            inverse[i, j] = -total * inverse[i, i]
    return inverse


def _lower_half(M: Array) -> Array:
    """Lower triangle of each level's matrix, its diagonal halved."""
    out, K = np.zeros_like(M), len(M)
    for i in range(K):
        out[i, :i] = M[i, :i]
        out[i, i] = 0.5 * M[i, i]
    return out
