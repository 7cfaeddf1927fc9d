"""A density to a mixture of t distributions that resembles it: where to look, how often.

Begun at the mode with the curvature there, and improved by weighted draws: in each round points
are drawn from the mixture, weighed by density over proposal, and the mixture is fitted to them.
Its weights are at once a quadrature and the measure of how good it is.

Cappé, Douc, Guillin, Marin and Robert (2008), Statistics and Computing 18:447.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import linalg, special

from mixedfx._arrays import set_readonly

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Few degrees of freedom: the tails of the mixture must be heavier than those of the density.
_DF = 5.0
_COMPONENTS = 3
_ROUNDS = 12
# A component of less weight than this is not refitted.
_LIGHT = 1e-3
# Rounds end when the effective share grows by less than this.
_ENOUGH = 0.005


@dataclass(frozen=True)
class Mixture:
    """
    A mixture of multivariate t distributions.

    Parameters
    ----------
    weights : ndarray of shape (components,)
        Positive, of sum one.
    centres : ndarray of shape (components, d)
        Where each stands.
    roots : ndarray of shape (components, d, d)
        Lower triangular roots of their scale matrices.
    """

    weights: Vector
    centres: Matrix
    roots: Matrix

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(self.weights, self.centres, self.roots)

    def draw(self, n: int, rng: np.random.Generator) -> Matrix:
        """Draw ``n`` points, (n, d)."""
        d = self.centres.shape[1]
        which = rng.choice(len(self.weights), size=n, p=self.weights)
        noise = rng.standard_normal((n, d)) / np.sqrt(rng.chisquare(_DF, n) / _DF)[:, None]
        return np.asarray(self.centres[which] + np.einsum("nij,nj->ni", self.roots[which], noise))

    def log_densities(self, Z: Matrix) -> Vector:
        """Log density at points (n, d)."""
        return np.asarray(special.logsumexp(self._log_parts(Z)[0], axis=0))

    def _log_parts(self, Z: Matrix) -> tuple[Matrix, Matrix]:
        """Log densities of the components with their weights, and squared distances."""
        d = Z.shape[1]
        constant = special.gammaln(0.5 * (_DF + d)) - special.gammaln(0.5 * _DF)
        constant -= 0.5 * d * np.log(_DF * np.pi)
        logs, squares = [], []
        for weight, centre, root in zip(self.weights, self.centres, self.roots, strict=True):
            scaled = linalg.solve_triangular(root, (Z - centre).T, lower=True)
            square = (scaled**2).sum(axis=0)
            log_det = float(np.log(np.diag(root)).sum())
            tail = 0.5 * (_DF + d) * np.log1p(square / _DF)
            logs.append(np.log(weight) + constant - log_det - tail)
            squares.append(square)
        return np.array(logs), np.array(squares)

    def refitted(self, Z: Matrix, shares: Vector) -> Mixture:
        """Fit the mixture to weighted points: one step of expectation-maximisation."""
        logs, squares = self._log_parts(Z)
        members = np.exp(logs - special.logsumexp(logs, axis=0)) * shares
        total = members.sum(axis=1)
        d = Z.shape[1]
        centres, roots = self.centres.copy(), self.roots.copy()
        for c in np.flatnonzero(total > _LIGHT):
            pull = members[c] * (_DF + d) / (_DF + squares[c])
            centres[c] = pull @ Z / pull.sum()
            away = Z - centres[c]
            spread = (away * pull[:, None]).T @ away / total[c]
            root, failed = linalg.lapack.dpotrf(spread, lower=1, clean=1)
            if not failed and np.isfinite(root).all():
                roots[c] = root
        weights = np.maximum(total, _LIGHT)
        return Mixture(weights / weights.sum(), centres, roots)


@dataclass(frozen=True)
class Adapted:
    """
    A mixture and how good it is.

    Parameters
    ----------
    mixture : Mixture
        The proposal.
    efficiency : float
        Effective draws per draw: one where it is the density itself.
    points : ndarray of shape (n, d)
        Its last draws.
    shares : ndarray of shape (n,)
        Their weights, of sum one.
    """

    mixture: Mixture
    efficiency: float
    points: Matrix
    shares: Vector


def adapt(
    log_densities: Callable[[Matrix], Vector],
    mode: Vector,
    cov: Matrix,
    rng: np.random.Generator,
    *,
    draws: int,
) -> Adapted:
    """Fit a mixture to a density."""
    root = np.linalg.cholesky(cov)
    column_rms = np.linspace(1.0, 1.6, _COMPONENTS)
    centres = np.tile(mode, (_COMPONENTS, 1))
    weights = np.full(_COMPONENTS, 1.0 / _COMPONENTS)
    mixture = Mixture(weights, centres, column_rms[:, None, None] * root)
    best: Adapted | None = None
    stale = 0
    for _ in range(_ROUNDS):
        points = mixture.draw(draws, rng)
        logs = log_densities(points) - mixture.log_densities(points)
        shares = np.exp(logs - special.logsumexp(logs))
        here = Adapted(mixture, 1.0 / float((shares**2).sum()) / draws, points, shares)
        stale = 0 if best is None or here.efficiency > best.efficiency + _ENOUGH else stale + 1
        if best is None or here.efficiency > best.efficiency:
            best = here
        if stale == 2:
            break
        mixture = mixture.refitted(points, shares)
    assert best is not None
    return best
