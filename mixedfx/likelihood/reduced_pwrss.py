"""Penalised residual sum of squares near one theta: a reduced model of few vectors.

With ``V = W^-1 + Z S Z'`` over sigma**2, S the relative variances s of scalar terms, and P of V,
``pwrss = y'Py``. At other variances s + d, with ``g = Z'Py``, ``K = Z'PZ`` and the d of each
effect's term as the diagonal of D,

    pwrss(s + d)  =  pwrss(s) - g'D (I + K D)^-1 g.

Restricted to a subspace that holds each term's part of g, value, gradient and Hessian at s are
exact; with each term's parts of the ``K E_t g`` too, ``E_t`` selecting a term, so are the third and
the fourth derivatives. It takes as many solutions as there are vectors, and no factorisation
(Benner, Gugercin and Willcox 2015, SIAM Review 57:483, section 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mixedfx.likelihood.pls import Solution
from mixedfx.likelihood.score import projected_response

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

# A vector whose part orthogonal to the others is below this share of them adds rounding alone.
_DEPENDENT = 1e-8


@dataclass(frozen=True)
class ProjectedProducts:
    """``K = Z'PZ`` as an operator: the same for every response."""

    solution: Solution  # of any response
    ZtPX: Matrix  # (q, p), without what X explains

    @staticmethod
    def at(solution: Solution) -> ProjectedProducts:
        """K at the theta of a solution."""
        ZtX = solution.crossprod.ZtX
        return ProjectedProducts(solution, ZtX - _eliminated(solution, ZtX))

    def times(self, columns: Matrix) -> Matrix:
        """``K columns``, (q, m)."""
        product = self.solution.crossprod.assembled.sparse_matrix @ columns
        of_coefficients = self.solution.vcov_in_basis @ (self.ZtPX.T @ columns)
        return np.asarray(
            product - _eliminated(self.solution, product) - self.ZtPX @ of_coefficients
        )


@dataclass(frozen=True)
class ReducedPwrss:
    """Penalised residual sum of squares of one response as a function of variances near ``at``."""

    at: Vector  # (m,) s
    pwrss: float  # there
    K: Matrix = field(repr=False)  # (r, r) in an orthonormal basis
    g: Vector = field(repr=False)  # (r,) likewise
    terms: Codes = field(repr=False)  # (r,) term of each vector of the basis

    @staticmethod
    def of(
        products: ProjectedProducts, solution: Solution, variances: Vector, *, further: bool
    ) -> ReducedPwrss:
        """Reduced model at a solution of scalar terms; with ``further`` of fourth order."""
        columns = columns_of_terms(solution)
        vectors = g = projected_response(solution)[:, None]
        if further:
            own = np.zeros((len(g), len(columns)))
            for t, at in enumerate(columns):
                own[at, t] = g[at, 0]
            vectors = np.concatenate([g, products.times(own)], axis=1)
        basis, terms = _basis(vectors, columns)
        K = basis.T @ products.times(basis)
        return ReducedPwrss(variances, solution.pwrss, 0.5 * (K + K.T), basis.T @ g[:, 0], terms)

    def derivatives(self, variances: Vector) -> tuple[float, Vector, Matrix]:
        """Value, gradient (m,) and Hessian (m, m) by the variances."""
        d = (variances - self.at)[self.terms]
        system = np.eye(len(d)) + self.K * d
        solved = np.linalg.solve(system, np.concatenate([self.g[:, None], self.K], axis=1))
        z, K = solved[:, 0], solved[:, 1:]
        by_term = np.zeros((len(z), len(self.at)))
        by_term[np.arange(len(z)), self.terms] = z
        value = self.pwrss - float(self.g @ (d * z))
        return value, -(by_term.T @ z), 2.0 * by_term.T @ K @ by_term


def columns_of_terms(solution: Solution) -> list[slice]:
    """Each scalar term's columns in the order of elimination."""
    symbolic, found = solution.crossprod.symbolic, []
    for position in solution.crossprod.term_positions:
        L = symbolic.layout.levels(position.group)
        start = symbolic.starts[position.group] + position.start * L
        found.append(slice(start, start + L))
    return found


def _eliminated(solution: Solution, rhs: Matrix) -> Matrix:
    """``Z'WZ Lambda M^-1 Lambda' rhs``."""
    A = solution.crossprod.assembled.sparse_matrix
    return np.asarray(A @ solution.schur.numeric.solve(rhs))


def _basis(vectors: Matrix, columns: Sequence[slice]) -> tuple[Matrix, Codes]:
    """Orthonormal basis of each term's parts of some vectors, and each one's term."""
    parts, terms = [], []
    for t, at in enumerate(columns):
        scale = np.linalg.norm(vectors[at], axis=0)
        some = scale > 0.0
        left, values, _ = np.linalg.svd(vectors[at, some] / scale[some], full_matrices=False)
        kept = left[:, values > _DEPENDENT * values.max(initial=0.0)]
        padded = np.zeros((len(vectors), kept.shape[1]))
        padded[at] = kept
        parts.append(padded)
        terms += [t] * kept.shape[1]
    return np.concatenate(parts, axis=1), np.array(terms, dtype=np.intp)
