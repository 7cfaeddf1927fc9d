"""Coordinates with nearly normal marginals: sinh-arcsinh transformations.

    u = sinh(delta arcsinh((x - xi) / eta) - epsilon)

is standard normal where x has the sinh-arcsinh distribution of location xi, scale eta, skewness
epsilon and tail weight delta (Jones and Pewsey 2009, Biometrika 96:761). For epsilon = 0 and
delta = 1 it is affine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize

from mixedfx._arrays import set_readonly

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# Bounds of epsilon and log delta, and a weak penalty: location and skewness are nearly collinear.
_MAX_SKEWNESS, _MAX_LOG_TAIL = 2.0, 1.0
_PENALTY = 0.02


@dataclass(frozen=True)
class MarginalTransform:
    """Sinh-arcsinh transformation of each coordinate; arrays have shape (d,)."""

    location: Vector
    log_scale: Vector
    skewness: Vector
    log_tail: Vector

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(*vars(self).values())

    @staticmethod
    def affine(location: Vector, scale: Vector) -> MarginalTransform:
        """Only shift and scale."""
        zeros = np.zeros(len(location))
        return MarginalTransform(np.array(location), np.log(scale), zeros, zeros)

    def forward(self, x: Matrix) -> Matrix:
        """Transform points (n, d)."""
        standard = (x - self.location) / np.exp(self.log_scale)
        return np.asarray(np.sinh(np.exp(self.log_tail) * np.arcsinh(standard) - self.skewness))

    def inverse(self, u: Matrix) -> Matrix:
        """Transform back."""
        standard = np.sinh((np.arcsinh(u) + self.skewness) / np.exp(self.log_tail))
        return np.asarray(self.location + np.exp(self.log_scale) * standard)

    def log_jacobian(self, x: Matrix, u: Matrix) -> Vector:
        """Logarithm of ``|du/dx|`` at points x and their transforms u, (n,)."""
        standard = (x - self.location) / np.exp(self.log_scale)
        by_coordinate = 0.5 * np.log1p(u**2) - 0.5 * np.log1p(standard**2)
        return np.asarray((self.log_tail - self.log_scale + by_coordinate).sum(axis=1))

    @staticmethod
    def fit(x: Matrix) -> MarginalTransform:
        """Maximum likelihood from draws (n, d), coordinate by coordinate."""
        location, scale = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-12)
        found = np.array([_fit_standard(column) for column in ((x - location) / scale).T])
        shift, log_scale, skewness, log_tail = found.T
        return MarginalTransform(
            location + shift * scale, log_scale + np.log(scale), skewness, log_tail
        )


def _fit_standard(x: Vector) -> Vector:
    """Location, log scale, skewness and log tail weight of draws with mean 0 and sd 1."""
    bounds = [(-3.0, 3.0), (-3.0, 3.0), (-_MAX_SKEWNESS, _MAX_SKEWNESS)]
    bounds.append((-_MAX_LOG_TAIL, _MAX_LOG_TAIL))
    found = optimize.minimize(
        _negative_log_likelihood, np.zeros(4), args=(x,), jac=True, method="L-BFGS-B", bounds=bounds
    )
    return np.asarray(found.x if np.isfinite(found.fun) else np.zeros(4))


def _negative_log_likelihood(parameters: Vector, x: Vector) -> tuple[float, Vector]:
    """
    Mean negative log-likelihood of a sinh-arcsinh distribution, penalised, and its gradient.

    With ``v = (x - xi) / eta``, ``t = delta arcsinh v - epsilon`` and ``u = sinh t`` a log density
    is ``log delta - log eta + log cosh t - log(1 + v**2) / 2 - u**2 / 2``.
    """
    location, log_scale, skewness, log_tail = parameters
    tail, v = np.exp(log_tail), (x - location) / np.exp(log_scale)
    stretched = tail * np.arcsinh(v)
    u, cosh = np.sinh(stretched - skewness), np.cosh(stretched - skewness)
    log_density = np.log(cosh) - 0.5 * np.log1p(v**2) - 0.5 * u**2
    by_t = u / cosh - u * cosh
    by_v = by_t * tail / np.sqrt(1.0 + v**2) - v / (1.0 + v**2)
    by_scale = -1.0 - float((v * by_v).mean())
    gradient = np.array(
        [
            -float(by_v.mean()) / np.exp(log_scale),
            by_scale,
            -float(by_t.mean()) - 2.0 * _PENALTY * skewness,
            1.0 + float((by_t * stretched).mean()) - 2.0 * _PENALTY * log_tail,
        ]
    )
    penalty = _PENALTY * float(skewness**2 + log_tail**2)
    return penalty - float(log_density.mean()) - log_tail + log_scale, -gradient
