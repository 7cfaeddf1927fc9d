"""Power without simulation: the moments of a test at given parameters.

At the parameters ``cov(beta) = C = (X'V^-1X)^-1`` is known, and a t statistic has approximately
the noncentral t distribution with ``c'beta / sqrt(c'C c)`` and, by Satterthwaite from the expected
information I of the variance parameters, the degrees of freedom

    df = 2 f^2 / (g' I^-1 g),    f = c'C c,    g_i = c'C X'V^-1 V_i V^-1 X C c

with ``I_ij = tr(P V_i P V_j) / 2`` under REML. Balanced tests of cell means have it exactly.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy import special

from mixedfx.design.build import Design
from mixedfx.errors import ArgumentError
from mixedfx.inference.constraints import Constraints
from mixedfx.inference.given_parameters import ParameterValues
from mixedfx.likelihood.accumulate import parametrization_of

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Rows whose covariance is written out.
MOST_ROWS = 4000
_SINGULAR = 1e-10


@dataclass(frozen=True)
class ExpectedTests:
    """Covariance of the coefficients of a design at given parameters, and its uncertainty."""

    beta: Vector  # (p,)
    cov: Matrix = field(repr=False)  # (p, p)
    by_params: Matrix = field(repr=False)  # (m, p, p) derivatives of cov
    params_cov: Matrix = field(repr=False)  # (m, m) of the variance parameters

    @staticmethod
    def of(design: Design, values: ParameterValues, *, reml: bool) -> ExpectedTests:
        """Moments of a design's tests; ``values`` has absolute covariances."""
        n, X = design.rows.n, design.rows.X
        if n > MOST_ROWS:
            raise ArgumentError(
                f"method='exact' writes out the covariance of the rows, of which there are {n:,}; "
                f"at most {MOST_ROWS:,}. Take method='simulation'."
            )
        derivatives = _derivatives(design, values)
        V_inverse = np.linalg.inv(derivatives.pop())
        U = V_inverse @ X
        cov = np.asarray(np.linalg.inv(X.T @ U), dtype=np.float64)
        P = V_inverse - U @ cov @ U.T if reml else V_inverse
        products = [P @ D for D in derivatives]
        information = np.array([[0.5 * np.vdot(A, B.T) for B in products] for A in products])
        by_params = np.array([cov @ (U.T @ D @ U) @ cov for D in derivatives])
        inverse = np.asarray(np.linalg.pinv(information, rcond=_SINGULAR, hermitian=True))
        return ExpectedTests(values.beta, cov, by_params, inverse)

    def power(self, hypotheses: Constraints, alpha: float) -> float:
        """Probability that a test of one or several independent rows rejects."""
        rows, r = hypotheses.rows, len(hypotheses.rows)
        away = rows @ self.beta - hypotheses.values
        cov = rows @ self.cov @ rows.T
        if r == 1:
            df, ncp = self._df(rows[0]), float(away[0] / np.sqrt(cov[0, 0]))
            limit = float(special.stdtrit(df, 1.0 - alpha / 2.0))
            return float(1.0 - special.nctdtr(df, ncp, limit) + special.nctdtr(df, ncp, -limit))
        _, vectors = np.linalg.eigh(cov)
        dfs = np.array([self._df(v @ rows) for v in vectors.T])
        means = float((dfs / (dfs - 2.0)).sum()) if (dfs > 2.0).all() else np.inf
        df = 2.0 * means / (means - r) if np.isfinite(means) else 2.0
        ncp = float(away @ np.linalg.solve(cov, away))
        limit = float(special.fdtri(r, df, 1.0 - alpha))
        return float(1.0 - special.ncfdtr(r, df, ncp, limit))

    def _df(self, row: Vector) -> float:
        f = float(row @ self.cov @ row)
        g = np.einsum("mpq,p,q->m", self.by_params, row, row)
        return 2.0 * f**2 / max(float(g @ self.params_cov @ g), 1e-300)


def _derivatives(design: Design, values: ParameterValues) -> list[Matrix]:
    """Derivatives of V by the variance parameters, and V itself as the last, (n, n)."""
    w = design.rows.weights
    R = np.diag(np.ones(design.rows.n) if w is None else 1.0 / w)
    V, found = values.sigma**2 * R, [R]
    terms = zip(design.rows.random_terms, values.effect_factors, strict=True)
    parametrization = parametrization_of(design.spec)
    for t, (term, factor) in enumerate(terms):
        coordinates = parametrization.coordinates.terms[t]
        structure, at = parametrization.terms[t]
        jacobian = coordinates.jacobian(structure.params_of_factor(factor, at))
        same, Z = term.codes[:, None] == term.codes, term.model_matrix
        for J in jacobian:
            half = J @ factor.T
            found.append((Z @ (half + half.T) @ Z.T) * same)
        V = V + (Z @ factor @ factor.T @ Z.T) * same
    return [*found, V]
