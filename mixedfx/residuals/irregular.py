"""Correlated residuals at positions that hardly any two subjects share.

With times or points of each subject's own the covariance of all positions is large and mostly not
needed. Here each pattern of positions has its covariance, (patterns, v, v), the structure evaluated
at the distances of the pattern alone: what a stratum's covariance is elsewhere, with the rows of a
subject numbered from zero.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from mixedfx._cached import cached_property
from mixedfx.covariance.curvature import curvature_by_differences
from mixedfx.covariance.spatial import DistanceStructure
from mixedfx.design.rows import ModelRows
from mixedfx.errors import ArgumentError
from mixedfx.likelihood.patterns import Patterns
from mixedfx.residuals.blocks import CovarianceBlock
from mixedfx.residuals.correlated import Correlated
from mixedfx.residuals.moments import typical_params

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

# From so many positions on, patterns have covariances of their own where these are smaller.
MIN_POSITIONS = 300
# Most positions of a covariance that is written out whole.
MAX_WHOLE = 2_000


@dataclass(frozen=True)
class _Distances:
    """Distances within patterns, in the place of positions of a structure."""

    distances: Array  # (patterns, v, v)


@dataclass(frozen=True)
class PointCovariances:
    """Covariances between points, computed where they are asked for."""

    structure: DistanceStructure
    of_strata: Vector  # (strata,) variances
    c: tuple[Vector, ...]  # parameters of the correlations, by stratum
    points: Matrix

    def block(self, stratum: int, rows: Codes, columns: Codes) -> Matrix:
        """Between two lists of points."""
        apart = self.points[rows][:, None] - self.points[columns]
        distances = _Distances(np.sqrt((apart**2).sum(axis=2)))
        R = self.structure.correlation(self.c[stratum], cast(Any, distances))
        return np.asarray(self.of_strata[stratum] * R)

    def variances(self, strata: Codes, positions: Codes) -> Vector:
        """Those of the strata."""
        return self.of_strata[strata]


@dataclass(frozen=True)
class Irregular(Correlated):
    """Correlated residuals of a structure of distances, evaluated pattern by pattern."""

    @staticmethod
    def suits(model: Correlated) -> bool:
        """Whether the covariances of the patterns are smaller than that of all positions."""
        k = model.spec.at.k
        if not isinstance(model.spec.covariance, DistanceStructure) or k < MIN_POSITIONS:
            return False
        patterns = model.patterns
        v = max(size.positions.shape[1] for size in patterns.sizes)
        return bool(sum(size.n_patterns for size in patterns.sizes) * v**2 < k**2)

    @staticmethod
    def of(model: Correlated) -> Irregular:
        """The same residuals."""
        return Irregular(model.spec, model.subjects, model.positions, model.strata)

    @property
    def structure(self) -> DistanceStructure:
        """The structure."""
        return cast(DistanceStructure, self.spec.covariance)

    # ------------------------------------------------------------ patterns

    @cached_property
    def patterns(self) -> Patterns:
        """Those of the positions, each with a number, and its positions numbered from zero."""
        sizes, first = [], 0
        for size in self.position_patterns.sizes:
            P, v = size.positions.shape
            own = np.broadcast_to(np.arange(v), (P, v)).copy()
            sizes.append(replace(size, positions=own, strata=np.arange(first, first + P)))
            first += P
        return Patterns(tuple(sizes), self.position_patterns.n_entries)

    @cached_property
    def _of_rows(self) -> tuple[Codes, Codes]:
        """Pattern of each row, and its position in it."""
        pattern, position = np.empty_like(self.subjects), np.empty_like(self.subjects)
        for size in self.patterns.sizes:
            of_subject = np.repeat(size.strata, np.diff(size.starts))
            pattern[size.rows] = of_subject[:, None]
            position[size.rows] = np.arange(size.rows.shape[1])
        return pattern, position

    @property
    def pattern_positions(self) -> Codes:
        """Number of each row in its subject."""
        return self._of_rows[1]

    @property
    def pattern_strata(self) -> Codes:
        """Pattern of each row."""
        return self._of_rows[0]

    @cached_property
    def _by_stratum(self) -> list[tuple[Codes, _Distances]]:
        """Patterns of each stratum, and their distances; of absent rows zero."""
        sizes = self.position_patterns.sizes
        n, v = sum(s.n_patterns for s in sizes), max(s.positions.shape[1] for s in sizes)
        points, strata = self.spec.at.points, np.concatenate([s.strata for s in sizes])
        distances, first = np.zeros((n, v, v)), 0
        for size in sizes:
            P, w = size.positions.shape
            at = points[size.positions]
            apart = at[:, :, None] - at[:, None]
            distances[first : first + P, :w, :w] = np.sqrt((apart**2).sum(axis=3))
            first += P
        own = [np.flatnonzero(strata == s) for s in range(self.spec.n_strata)]
        return [(at, _Distances(distances[at])) for at in own]

    # ------------------------------------------------------------ the covariances

    def covariances(self, params: Vector) -> Array:
        """R of each pattern, (patterns, v, v)."""
        structure, at = self.structure, self.spec.at
        found = [
            (own, x[0] ** 2 * structure.correlation(structure.bounded(x[1:], at), cast(Any, d)))
            for x, (own, d) in zip(self.structure_params(params), self._by_stratum, strict=True)
        ]
        return self._spread(found)

    def covariance_jacobian(self, params: Vector) -> Array:
        """Derivatives of R by the parameters, (params, patterns, v, v)."""
        structure, at, by = self.structure, self.spec.at, []
        by_stratum = zip(self.structure_params(params), self._by_stratum, strict=True)
        for s, (x, (own, d)) in enumerate(by_stratum):
            c = structure.bounded(x[1:], at)
            if s:  # that of the first is sigma
                R = x[0] ** 2 * structure.correlation(c, cast(Any, d))
                by.append(self._spread([(own, 2.0 * R)]))
            by_c = structure.correlation_jacobian(c, cast(Any, d)).reshape(-1, *d.distances.shape)
            by_x = np.tensordot(structure.bounded_jacobian(x[1:], at).T, by_c, axes=1)
            by += [self._spread([(own, x[0] ** 2 * one)]) for one in by_x]
        return np.array(by)

    def covariance_curvature(self, params: Vector, by_R: Array) -> Matrix:
        """By differences of the first derivatives."""
        return curvature_by_differences(self.covariance_jacobian, params, by_R)

    def _spread(self, found: list[tuple[Codes, Array]]) -> Array:
        """Matrices of all patterns from those of some, zero elsewhere."""
        n = sum(size.n_patterns for size in self.patterns.sizes)
        out = np.zeros((n, *found[0][1].shape[1:]))
        for own, values in found:
            out[own] = values
        return out

    # ------------------------------------------------------------ the search

    def params_near(self, residuals: Vector, weights: Vector | None) -> Vector:
        """A range in the middle of the typical ones: hardly two rows share their positions."""
        points = typical_params(self.spec)
        return points[len(points) // 2]

    def starts(self, residuals: Callable[[float], Vector], rows: ModelRows) -> list[Vector]:
        """Over the range of the process."""
        return typical_params(self.spec)

    @property
    def _pairs_in_rows(self) -> None:
        """All: each pattern has a covariance of its own."""

    def covariance_blocks(
        self, params: Vector, weights: Vector | None
    ) -> tuple[CovarianceBlock, ...]:
        """Those of the covariance of all positions."""
        return self._whole("Kenward and Roger's method").covariance_blocks(params, weights)

    def _whole(self, what: str) -> Correlated:
        """The residuals with the covariance of all positions written out."""
        if (k := self.spec.at.k) > MAX_WHOLE:
            raise ArgumentError(
                f"{what} needs the covariance of all positions, and {self.spec.argument} has "
                f"{k:,} distinct ones, more than {MAX_WHOLE:,}: round the positions, or take "
                "df_method='satterthwaite'."
            )
        return Correlated(self.spec, self.subjects, self.positions, self.strata)

    # ------------------------------------------------------------ what is reported

    def log_sds(self, params: Vector) -> Vector:
        """Log standard deviations of the rows, relative to sigma."""
        return np.asarray(np.log(self.structure_params(params)[self.strata, 0]))

    def first_covariances(self, params: Vector) -> Array:
        """The variance of each stratum, which all positions have."""
        return self.structure_params(params)[:, :1, None] ** 2

    def covariances_of_points(self, params: Vector, points: Matrix) -> PointCovariances:
        """Of the positions, and of further points."""
        structure, at, by_stratum = self.structure, self.spec.at, self.structure_params(params)
        c = tuple(structure.bounded(x[1:], at) for x in by_stratum)
        both = np.concatenate([at.points, points])
        return PointCovariances(structure, by_stratum[:, 0] ** 2, c, both)

    def reported_covariances(self, params: Vector) -> Array:
        """Covariances of all positions, (strata, k, k)."""
        return self._whole("this table").covariances(params)
