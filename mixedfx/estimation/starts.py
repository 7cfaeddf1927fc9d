"""Starting values where the deviance can have several local minima.

With few levels, several terms or no intercept the deviance can be low both where a term takes a
difference and where another term, or the residuals, take it. It is evaluated on a grid of standard
deviations of the columns, the same for every term, so that the order of the terms does not
matter; each point of the grid that is below its neighbours starts a minimisation, unless an earlier
one has ended beside it. A grid of many points is one batched factorisation
(:mod:`mixedfx.likelihood.dense`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from mixedfx._arrays import set_readonly
from mixedfx.likelihood.dense import DenseCrossProducts
from mixedfx.likelihood.likelihood import GaussianLikelihood
from mixedfx.linalg.grid_minima import minima_on_grid

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]

# Random effects up to which the grid is evaluated: dense factorisations of this size.
_MAX_EFFECTS = 120
# A single term with so many levels has one minimum.
_MANY_LEVELS = 12
# Points of the grid in each direction, by the number of directions.
_POINTS = {1: 13, 2: 12, 3: 10, 4: 7, 5: 5, 6: 4}
# Minimisations that are started from the grid at most.
_MAX_STARTS = 8
# The grid is made finer around points whose deviance is within this of the lowest.
_NEAR = 4.0
# Powers of ten of the least and the greatest standard deviation of the grid.
_LEAST, _GREATEST = -1.5, 3.0


@dataclass(frozen=True)
class GridPoint:
    """A point of the grid: standard deviations along the columns of each term's basis."""

    value: float  # the deviance
    exponents: Vector  # (directions,) log10 of the standard deviations
    vertex: Vector  # the same where parabolas through it are lowest: the start
    step: float  # of the grid, in the exponents
    directions: tuple[Ints, ...]  # of each term's columns
    bases: tuple[Matrix, ...]  # (k, k) orthogonal

    @property
    def factors(self) -> list[Matrix]:
        """Scaled factors of the terms."""
        sds = 10.0**self.vertex
        terms = zip(self.bases, self.directions, strict=True)
        return [basis * sds[directions] for basis, directions in terms]

    def is_beside(self, scaled: Sequence[Matrix]) -> bool:
        """Whether scaled factors are within one step of the point in every direction."""
        squares, counts = np.zeros(len(self.exponents)), np.zeros(len(self.exponents))
        for basis, directions, F in zip(self.bases, self.directions, scaled, strict=True):
            np.add.at(squares, directions, ((basis.T @ F) ** 2).sum(axis=1))
            np.add.at(counts, directions, 1.0)
        with np.errstate(divide="ignore"):
            exponents = np.clip(0.5 * np.log10(squares / counts), _LEAST, _GREATEST)
        return bool((np.abs(exponents - self.exponents) <= self.step * (1.0 + 1e-9)).all())


def grid_minima(likelihood: GaussianLikelihood) -> list[GridPoint]:
    """
    Local minima of the deviance on the grid, lowest first.

    None where one start is enough, or effects are too many.
    """
    if not can_have_several_minima(likelihood):
        return []
    directions = _directions(likelihood)
    count = 1 + max(int(of_term.max()) for of_term in directions)
    if count not in _POINTS:
        return []
    columns, axis = np.concatenate(directions), _axis(_POINTS[count])
    found = []
    for bases in _bases(likelihood):
        dense = likelihood.dense.times(bases)

        def deviances(exponents: Matrix, dense: DenseCrossProducts = dense) -> Vector:
            return dense.deviances(10.0 ** exponents[:, columns], reml=likelihood.reml)

        minima = minima_on_grid(deviances, axis, count, near=_NEAR)
        found += [GridPoint(m.value, m.point, m.vertex, m.step, directions, bases) for m in minima]
    return sorted(found, key=lambda point: point.value)[:_MAX_STARTS]


@lru_cache(maxsize=16)
def _axis(points: int) -> Vector:
    """Powers of ten of the standard deviations of a grid in each direction."""
    axis = np.linspace(_LEAST, _GREATEST, points)
    set_readonly(axis)
    return axis


def _bases(likelihood: GaussianLikelihood) -> list[tuple[Matrix, ...]]:
    """The columns, and for correlated terms combinations of all of them: correlations of one."""
    terms = likelihood.parametrization.terms
    plain = tuple(np.eye(at.k) for _, at in terms)
    if not any(structure.invariance == "linear" and at.k > 1 for structure, at in terms):
        return [plain]
    combined = [
        _cosines(at.k) if structure.invariance == "linear" else np.eye(at.k)
        for structure, at in terms
    ]
    return [plain, tuple(combined)]


def can_have_several_minima(likelihood: GaussianLikelihood) -> bool:
    """Whether there can be several minima, and few enough effects for a grid."""
    if likelihood.crossprod.has_precision:
        return False  # many effects, and no matrix of all of them
    terms, layout = likelihood.crossprod.term_positions, likelihood.crossprod.ZtZ.layout
    levels = [layout.levels(term.group) for term in terms]
    effects = sum(term.width * L for term, L in zip(terms, levels, strict=True))
    # Columns that are not centred are nearly collinear: variances of theirs can change places.
    covariances = likelihood.parametrization.terms
    collinear = any(at.k > 1 and structure.invariance != "linear" for structure, at in covariances)
    few = len(terms) > 1 or min(levels, default=_MANY_LEVELS) < _MANY_LEVELS or collinear
    return few and effects <= _MAX_EFFECTS


def _directions(likelihood: GaussianLikelihood) -> tuple[Ints, ...]:
    """Direction of each term's columns: one a column where there are few, else one a term."""
    terms = likelihood.parametrization.terms
    free = [structure.invariance != "scalar" for structure, _ in terms]
    by_column = sum(at.k if f else 1 for (_, at), f in zip(terms, free, strict=True)) <= max(
        _POINTS
    )
    groups, first = [], 0
    for (_, at), is_free in zip(terms, free, strict=True):
        count = at.k if is_free and by_column else 1
        groups.append(first + (np.arange(at.k) if count > 1 else np.zeros(at.k, dtype=np.intp)))
        first += count
    return tuple(groups)


def _cosines(k: int) -> Matrix:
    """Orthogonal (k, k) matrix of cosines, without zeros but in the middle: of two, 45 degrees."""
    angles = np.pi / k * np.outer(np.arange(k) + 0.5, np.arange(k))
    basis = np.cos(angles)
    return np.asarray(basis / np.sqrt((basis**2).sum(axis=0)))
