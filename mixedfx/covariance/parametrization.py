"""Covariance parameters theta of all random terms, and the factors that they give.

The effects of term t have covariance ``sigma**2 Lambda_t Lambda_t'``. ``theta`` holds the
parameters of each term's structure, term after term; for unstructured terms these are lme4's,
the lower triangle of Lambda column by column (Bates, Maechler, Bolker and Walker 2015,
section 2.3). The likelihood depends on ``Lambda Lambda'`` alone, so several thetas can be one
covariance: searches are unbounded, and :func:`canonical_signs` makes their result unique.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mixedfx._cached import cached_property
from mixedfx.covariance.components import Positions
from mixedfx.covariance.coordinates import Coordinates, concatenate
from mixedfx.covariance.registry import STRUCTURES
from mixedfx.covariance.structure import CovarianceStructure

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Parametrization:
    """Covariance structure of each term, and its slice of theta."""

    structures: tuple[str, ...]  # names in the registry
    widths: tuple[int, ...]  # effects k of each term
    # Coordinates of each term's effects; empty where no term's have any.
    positions: tuple[Matrix | None, ...] = field(default=(), compare=False)

    @cached_property
    def terms(self) -> tuple[tuple[CovarianceStructure, Positions], ...]:
        """Structure of each term, and the positions of its effects."""
        coordinates = self.positions or (None,) * len(self.widths)
        return tuple(
            (STRUCTURES[name], Positions(k, points))
            for name, k, points in zip(self.structures, self.widths, coordinates, strict=True)
        )

    @cached_property
    def coordinates(self) -> Coordinates:
        """Theta as coordinates of the factors."""
        return Coordinates(tuple(structure.coordinates(at) for structure, at in self.terms))

    @property
    def slices(self) -> tuple[slice, ...]:
        """Part of theta that belongs to each term."""
        return self.coordinates.slices

    @property
    def size(self) -> int:
        """Length of theta."""
        return self.coordinates.size

    def lambdas(self, theta: Vector) -> list[Matrix]:
        """Lambda of each term at theta, (k, k)."""
        return self.coordinates.lambdas(theta)

    def scaled(self, theta: Vector, factor: float) -> Vector:
        """Theta of the covariances times ``factor**2``."""
        return self.to_params([factor * lam for lam in self.lambdas(theta)])

    def to_params(self, lambdas: Sequence[Matrix]) -> Vector:
        """Theta of factors in any form, ``cov = Lambda Lambda'``."""
        parts = [
            structure.params_of_factor(lam, at)
            for (structure, at), lam in zip(self.terms, lambdas, strict=True)
        ]
        return concatenate(parts)


def rank_reduced(
    parametrization: Parametrization, roots: Sequence[Matrix]
) -> tuple[Coordinates, Vector]:
    """
    Coordinates of the covariances with the ranks of the given roots, and their values at the roots.

    A covariance of reduced rank is on the boundary of the parameter space, but an interior point
    in these coordinates, so that first and second derivatives there say whether it is a minimum.
    """
    reduced = [
        structure.rank_reduced(root, at)
        for (structure, at), root in zip(parametrization.terms, roots, strict=True)
    ]
    x = concatenate(part for _, part in reduced)
    coordinates, terms = parametrization.coordinates, tuple(term for term, _ in reduced)
    if all(a is b for a, b in zip(terms, coordinates.terms, strict=True)):
        return coordinates, x
    return Coordinates(terms), x


def identity_params(parametrization: Parametrization) -> Vector:
    """Theta of covariances that are the identity, or nearest to it."""
    parts = [structure.nearest(np.eye(at.k), at) for structure, at in parametrization.terms]
    return concatenate(parts)


def canonical_signs(parametrization: Parametrization, theta: Vector) -> Vector:
    """The theta that is reported among those of one covariance, without negative zeros."""
    parts = [
        structure.canonical(theta[part], at)
        for (structure, at), part in zip(parametrization.terms, parametrization.slices, strict=True)
    ]
    return concatenate(parts) + 0.0
