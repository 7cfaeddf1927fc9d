"""Residual bootstrap: responses of resampled conditional modes and residuals.

The modes of a term are centred, and transformed so that their covariance over the levels is the
estimated one (modes are shrunk); residuals in units of their standard deviations likewise

    B* = (sigma Lambda) L^-1 U,    U = (sigma Lambda)^-1 B,    L L' = U U' / levels

with centred modes B (effects, levels), which is ``L_R L_S^-1 B`` with Cholesky factors of the
estimated covariance and of that of the modes, also where the first is singular.
Levels, and rows, are then drawn with replacement (Carpenter, Goldstein and Rasbash 2003, J. R.
Stat. Soc. C 52:431). Given the fit, y* has its mean X beta and its covariance V, exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixedfx._arrays import set_readonly
from mixedfx.design.rows import RandomTermRows
from mixedfx.errors import ArgumentError
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference.given_parameters import parameter_values

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Eigenvalues below this share of the largest are directions that the modes do not have.
_NO_VARIANCE = 1e-10


@dataclass(frozen=True)
class ResampledResponse:
    """Linear predictor without random effects, effects and residuals that are drawn from."""

    predictor: Vector  # (n,) offset included
    random_terms: tuple[RandomTermRows, ...]
    effects: tuple[Matrix, ...]  # (k, levels) of each term
    residuals: Vector  # (n,) of mean zero and mean square one
    sds: Vector  # (n,) residual standard deviations

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(self.predictor, *self.effects, self.residuals, self.sds)

    def draw(self, rng: np.random.Generator) -> Vector:
        """Draw one response, (n,)."""
        y = self.predictor.copy()
        for term, effects in zip(self.random_terms, self.effects, strict=True):
            levels = rng.integers(effects.shape[1], size=effects.shape[1])
            term.add_to_linear_predictor(y, effects[:, levels])
        n = len(y)
        return np.asarray(y + self.sds * self.residuals[rng.integers(n, size=n)])


def resampled_response(fit: FittedModel) -> ResampledResponse:
    """The modes and residuals of a fit, with the variances of the fit."""
    spec, solution = fit.spec, fit.solution
    if not spec.residual.linear:
        raise ArgumentError(
            "kind='residual' is of linear models, whose residuals have one distribution; of a "
            "generalised model take kind='parametric' or 'cases'."
        )
    if spec.residual.dependence or spec.residual.has_random_effects:
        raise ArgumentError("kind='residual' is of independent residuals; take kind='parametric'.")
    if not all(term.is_plain for term in spec.random_terms):
        raise ArgumentError(
            "kind='residual' is of independent levels; with relmat= and mm() take "
            "kind='parametric'."
        )
    rows, factors = fit.rows, parameter_values(fit, None).effect_factors
    modes = solution.conditional_modes()
    effects = []
    for factor, b in zip(factors, modes, strict=True):
        spherical = np.asarray(np.linalg.lstsq(factor, b, rcond=None)[0], dtype=float)
        effects.append(np.asarray(factor @ _whitened(spherical)))
    sds = np.broadcast_to(fit.residual_sds, rows.n)
    fitted = rows.linear_predictor(solution.beta, modes)
    residuals = _whitened(((rows.y - fitted) / sds)[None])[0]
    predictor = rows.fixed_predictor(solution.beta)
    return ResampledResponse(predictor, rows.random_terms, tuple(effects), residuals, sds.copy())


def _whitened(u: Matrix) -> Matrix:
    """Columns of u (k, levels), centred, with the identity as their covariance where they vary."""
    u = u - u.mean(axis=1, keepdims=True)
    cov = u @ u.T / u.shape[1]
    try:
        L = np.linalg.cholesky(cov)
        if np.square(np.diag(L)).min() > _NO_VARIANCE * np.diag(cov).max():
            return np.asarray(np.linalg.solve(L, u))
    except np.linalg.LinAlgError:
        pass
    values, vectors = np.linalg.eigh(cov)
    kept = values > _NO_VARIANCE * max(values[-1], 0.0)
    root = np.where(kept, 1.0 / np.sqrt(np.where(kept, values, 1.0)), 0.0)
    return np.asarray((vectors * root) @ vectors.T @ u)
