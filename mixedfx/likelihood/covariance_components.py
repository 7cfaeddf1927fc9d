"""Products of the derivatives of V by variances and covariances in the bases.

For ``V = sigma**2 (W^-1 + sum_i psi_i S_i)``, ``S_i = Z E_i Z'``, with
``J = sigma**2 Z'V^-1 X`` and
``K = sigma**2 Z'V^-1 Z = A - A Lambda M^-1 Lambda' A``, what Kenward and Roger (1997) need is

    X'V^-1 S_i V^-1 X            J'E_i J
    X'V^-1 S_i V^-1 S_j V^-1 X   J'E_i K E_j J
    tr(V^-1 S_i V^-1 S_j)        tr(E_i K E_j K)

all of the size of the random effects. The traces are in :mod:`~.component_traces`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixedfx.covariance.coordinates import EntryCoordinates
from mixedfx.likelihood.pls import Solution
from mixedfx.linalg.cholesky.batched import flatten

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class CovarianceComponent:
    """One variance or covariance of the random effects, an entry of ``psi``."""

    factor: int  # grouping factor
    row: int  # effects of the factor whose covariance it is
    col: int
    psi: float  # in units of the residual variance

    @property
    def unit_entries(self) -> tuple[tuple[int, int], ...]:
        """Entries of ``E_i`` within a level that are one."""
        if self.row == self.col:
            return ((self.row, self.row),)
        return ((self.row, self.col), (self.col, self.row))


def covariance_components(solution: Solution) -> list[CovarianceComponent]:
    """Variances and covariances of the effects in their bases, in the order of theta."""
    components = []
    crossprod = solution.crossprod
    terms = zip(
        crossprod.term_positions,
        solution.factors,
        crossprod.parametrization.coordinates.terms,
        strict=True,
    )
    for position, lam, coordinates in terms:
        assert isinstance(coordinates, EntryCoordinates)
        psi = lam @ lam.T
        components += [
            CovarianceComponent(
                position.group, position.start + b, position.start + a, float(psi[a, b])
            )
            for a, b in zip(coordinates.rows.tolist(), coordinates.cols.tolist(), strict=True)
        ]
    return components


def fixed_effect_products(
    solution: Solution, components: list[CovarianceComponent]
) -> tuple[Matrix, Matrix]:
    """``J'E_i J`` (m, p, p) and ``J'E_i K E_j J`` (m, m, p, p)."""
    symbolic, p, m = solution.crossprod.symbolic, solution.crossprod.p, len(components)
    J = [ZtVXy[:, :p] for ZtVXy in solution.projected_crossproducts()]
    JtEJ = np.zeros((m, p, p))
    EJ = np.zeros((symbolic.size, m, p))
    for i, c in enumerate(components):
        block = np.zeros_like(J[c.factor])
        for a, b in c.unit_entries:
            block[a] += J[c.factor][b]
        JtEJ[i] = np.tensordot(J[c.factor], block, axes=((0, 2), (0, 2)))
        EJ[symbolic.columns(c.factor), i] = flatten(block)
    flat = EJ.reshape(symbolic.size, m * p)
    Q = np.empty((m, p, m, p))
    for j in range(m):
        Q[:, :, j] = (flat.T @ multiply_by_K(solution, EJ[:, j])).reshape(m, p, p)
    return JtEJ, Q.transpose(0, 2, 1, 3)


def multiply_by_K(solution: Solution, columns: Matrix) -> Matrix:
    """``K columns``, with ``K = A - A Lambda M^-1 Lambda' A``."""
    A = solution.crossprod.assembled.sparse_matrix
    product = A @ columns
    return np.asarray(product - A @ solution.schur.numeric.solve(product))
