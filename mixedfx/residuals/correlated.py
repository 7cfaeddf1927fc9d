"""Correlated residuals: a covariance structure over the positions of a subject's rows.

The residuals of a subject have the covariance ``sigma^2 R[positions, positions]``; subjects are
independent. R is a structure of :mod:`mixedfx.covariance` over all positions, with the scale fixed:
``R_11 = 1`` in the first stratum, so that sigma is the standard deviation at the first position, or
at all of them where the structure has one. Standard deviations are searched as logarithms.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from scipy import sparse

from mixedfx._arrays import set_readonly
from mixedfx._cached import cached_property
from mixedfx.covariance.components import Component
from mixedfx.covariance.special_cases import is_special_case
from mixedfx.design.build import Design
from mixedfx.design.residual import ResidualRows
from mixedfx.design.rows import ModelRows
from mixedfx.design.source import as_frame
from mixedfx.likelihood.correlated import CorrelatedSums, Derivatives
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.patterns import Patterns
from mixedfx.likelihood.pls import Solution
from mixedfx.linalg.differences import jacobian, relative_steps
from mixedfx.residuals.blocks import CovarianceBlock, SubjectRows
from mixedfx.residuals.correlated_components import (
    Reordered,
    component_names,
    params_near,
    reordered,
    reported_component,
    varcorr_rows,
)
from mixedfx.residuals.correlated_ends import (
    ParameterAtEnd,
    pairs_within_subjects,
    parameters_at_ends,
    starting_points,
)
from mixedfx.residuals.correlated_nesting import is_nested_structure
from mixedfx.residuals.correlated_new import (
    CovariancesOfPositions,
    NewSubjectRows,
    WholeCovariances,
    new_subject_rows,
)
from mixedfx.residuals.correlated_spec import CorrelatedSpec
from mixedfx.residuals.curvature import curvature_of_logs
from mixedfx.residuals.identified import check_identified_residuals
from mixedfx.residuals.model import ResidualModel, ResidualParameter, VarcorrRow
from mixedfx.residuals.moments import typical_params
from mixedfx.residuals.reported import Reported

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]

# Where Wald limits are symmetric, by the kind of a component; of all others their logarithm.
_SCALES: dict[str, Literal["identity", "atanh"]] = {"corr": "atanh", "log sd": "identity"}
# Share of its variance that a row has beside the rows before it, below which it has none.
_SINGULAR = 1e-9
_LARGEST = 60.0  # logarithm of a standard deviation, or other parameter of a search
_NEARLY_SINGULAR = 1e-6
_STEP = 1e-6


@dataclass(frozen=True)
class Correlated(ResidualModel):
    """Correlated residuals on the rows of a design."""

    spec: CorrelatedSpec
    subjects: Codes = field(repr=False)  # (n,)
    positions: Codes = field(repr=False)  # (n,)
    strata: Codes = field(repr=False)  # (n,)

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(self.subjects, self.positions, self.strata)

    def subset(self, spec: Any, keep: Mask | Codes) -> tuple[Any, Self]:
        """Select rows."""
        kept = replace(
            self,
            subjects=self.subjects[keep],
            positions=self.positions[keep],
            strata=self.strata[keep],
        )
        return spec, kept

    @cached_property
    def position_patterns(self) -> Patterns:
        """Patterns of the subjects' positions."""
        markov = self.spec.covariance.markov
        return Patterns.of(self.subjects, self.positions, self.strata, markov=markov)

    @property
    def patterns(self) -> Patterns:
        """Patterns whose rows and columns are those of :meth:`covariances`."""
        return self.position_patterns

    # ------------------------------------------------------------ the covariances

    @cached_property
    def is_positive(self) -> Mask:
        """Parameters of one covariance that are standard deviations."""
        structure, at = self.spec.covariance, self.spec.at
        return structure.coordinates(at).is_sd

    @cached_property
    def is_free(self) -> Mask:
        """Parameters of all strata that are searched: not the first standard deviation."""
        free = np.ones(self.spec.n_strata * len(self.is_positive), dtype=bool)
        free[np.argmax(self.is_positive)] = False
        return free

    def structure_params(self, params: Vector) -> Matrix:
        """Parameters of each stratum's structure, (strata, m), at those of the search."""
        every = np.zeros(len(self.is_free))
        every[self.is_free] = params
        full = every.reshape(self.spec.n_strata, -1)
        return np.where(self.is_positive, np.exp(full), full)

    def covariances(self, params: Vector) -> Array:
        """R of all positions, (strata, k, k)."""
        structure, at = self.spec.covariance, self.spec.at
        return np.array([structure.covariance(x, at) for x in self.structure_params(params)])

    def covariances_of_points(self, params: Vector, points: Matrix) -> CovariancesOfPositions:
        """Of the positions, and of further points where the structure goes on."""
        if not len(points):
            return WholeCovariances(self.covariances(params))
        structure, at = self.spec.covariance, self.spec.at
        both = at.followed_by(points)
        elsewhere = [structure.params_elsewhere(x, at, both) for x in self.structure_params(params)]
        return WholeCovariances(np.array([structure.covariance(x, both) for x in elsewhere]))

    def covariance_jacobian(self, params: Vector) -> Array:
        """Derivatives of R by the parameters, (params, strata, k, k)."""
        structure, at, S = self.spec.covariance, self.spec.at, self.spec.n_strata
        m, k = len(self.is_positive), at.k
        by = np.zeros((S, m, S, k, k))
        for s, x in enumerate(self.structure_params(params)):
            own = structure.covariance_jacobian(x, at)
            by[s, :, s] = own * np.where(self.is_positive, x, 1.0)[:, None, None]
        return by.reshape(S * m, S, k, k)[self.is_free]

    def covariance_curvature(self, params: Vector, by_R: Array) -> Matrix:
        """Second derivatives by the parameters of ``tr(by_R R)``, (params, params)."""
        structure, at, S = self.spec.covariance, self.spec.at, self.spec.n_strata
        m, positive = len(self.is_positive), self.is_positive
        H = np.zeros((S, m, S, m))
        for s, (x, B) in enumerate(zip(self.structure_params(params), by_R, strict=True)):
            H[s, :, s] = curvature_of_logs(structure, at, x, positive, B)
        return H.reshape(S * m, S * m)[np.ix_(self.is_free, self.is_free)]

    # ------------------------------------------------------------ the search

    @property
    def neutral(self) -> Vector:
        """Of a process the shortest of its typical ranges: smooth long ones are singular."""
        points = typical_params(self.spec)
        return points[0] if points else np.zeros(self.n_params)

    def check(self, design: Design, *, reml: bool) -> None:
        """Refuse rows that do not identify the parameters."""
        check_identified_residuals(self.spec, self.position_patterns, design, reml=reml)

    def contains(self, params: Vector) -> bool:
        """Whether the subjects' covariances have inverses in double precision."""
        return np.abs(params).max(initial=0.0) <= _LARGEST and self.least_share(params) > _SINGULAR

    def nearly_singular(self, params: Vector) -> bool:
        """Whether a row is nearly a combination of those before it."""
        return self.least_share(params) < _NEARLY_SINGULAR

    def least_share(self, params: Vector) -> float:
        """Least share of a row's variance that those before it leave; 0: none."""
        try:
            return self.patterns.least_share(self.covariances(params))
        except (np.linalg.LinAlgError, ValueError):
            return 0.0

    def reduce(self, design: Design) -> CorrelatedSums:
        """Sum the rows by pattern."""
        return CorrelatedSums.of(design, self.patterns)

    def reweight(self, sums: CorrelatedSums, params: Vector) -> CrossProducts:
        """Cross-products at the parameters."""
        return sums.reweight(self.covariances(params))

    def score(
        self, sums: CorrelatedSums, rows: ModelRows, params: Vector, solution: Solution
    ) -> Vector:
        """Chain rule from the covariances."""
        by_R = sums.score(self.covariances(params), solution)
        return np.asarray(
            np.tensordot(self.covariance_jacobian(params), by_R, axes=([1, 2, 3], [0, 1, 2]))
        )

    def starts(self, residuals: Callable[[float], Vector], rows: ModelRows) -> list[Vector]:
        """Structures nearest to the covariances of residuals, and over the range of a process."""
        return [self.params_near(residuals(1.0), rows.weights), *typical_params(self.spec)]

    def starting_points(self, params: Vector) -> list[list[Vector]]:
        """Other correlations, at the same standard deviations."""
        return starting_points(self, params)

    def at_ends(self, params: Vector) -> list[ParameterAtEnd]:
        """Parameters that hardly move the covariances."""
        return parameters_at_ends(self, params, self._pairs_in_rows)

    @property
    def _pairs_in_rows(self) -> Mask | None:
        """Entries of the covariances that subjects have, (k, k)."""
        return pairs_within_subjects(self.position_patterns, self.spec.at.k)

    def weighted_design(self, design: Design, params: Vector) -> Design:
        """The design itself: the cross-products have the covariances."""
        return design

    def expected_hessian(self, params: Vector) -> Matrix:
        """``sum tr(Q dR_i Q dR_j) - t_i t_j / n``: that without random effects."""
        R, by_x = self.covariances(params), self.covariance_jacobian(params)
        products, traces = self.patterns.information(R, by_x)
        H = products - np.outer(traces, traces) / len(self.subjects)
        values, vectors = np.linalg.eigh(H)
        values = np.maximum(values, 1e-3 * max(values.max(initial=0.0), 1e-8))
        return np.asarray((vectors * values) @ vectors.T)

    def exact_derivatives(
        self, sums: CorrelatedSums, params: Vector, solution: Solution
    ) -> Derivatives | None:
        """Without random effects: by the covariances' first and second derivatives."""
        if sums.products is None:
            return None
        R, by_x = self.covariances(params), self.covariance_jacobian(params)
        return sums.derivatives(
            R, by_x, lambda by_R: self.covariance_curvature(params, by_R), solution
        )

    def params_near(self, residuals: Vector, weights: Vector | None) -> Vector:
        """Structure nearest to the mean products of residuals at each two positions."""
        return params_near(self, residuals, weights)

    def covariance_blocks(
        self, params: Vector, weights: Vector | None
    ) -> tuple[CovarianceBlock, ...]:
        """One for each stratum."""
        structure, at = self.spec.covariance, self.spec.at
        return tuple(
            CovarianceBlock(structure, at, R, SubjectRows(self.patterns, s, at.k, weights))
            for s, R in enumerate(self.covariances(params))
        )

    def random_intercept(self, params: Vector) -> tuple[str, Codes, float] | str:
        """Of the subjects, where residuals have compound symmetry."""
        if self.spec.structure != "cs" or self.spec.strata:
            return "fits residuals of compound symmetry, 'cs(visit | id)', and no other structure"
        return self.spec.subject, self.subjects, float(self.covariances(params)[0, 0, -1])

    def row_precision(self, params: Vector, weights: Vector | None) -> Any:
        """Block-diagonal over subjects."""
        first, second, entry = self.patterns.pairs()
        q, _ = self.patterns.precisions(self.covariances(params))
        values = q[entry]
        if weights is not None:
            values = values * np.sqrt(weights[first] * weights[second])
        n = len(self.subjects)
        return sparse.csr_array((values, (first, second)), shape=(n, n))

    def equally_correlated(self) -> Codes | None:
        """The subjects, of a structure that has compound symmetry among its covariances."""
        return self.subjects if is_special_case("cs", self.spec.structure) else None

    # ------------------------------------------------------------ what is reported

    def log_sds(self, params: Vector) -> Vector:
        """Log standard deviations of the rows, relative to sigma."""
        R = self.covariances(params)
        return np.asarray(0.5 * np.log(R[self.strata, self.positions, self.positions]))

    @property
    def coefficient_matrix(self) -> Matrix:
        """``(log sigma, params)`` themselves."""
        return np.eye(1 + self.n_params)

    def components(self, coefficients: Vector, cov: Matrix) -> tuple[ResidualParameter, ...]:
        """Standard deviations, correlations, ranges and rates, with errors by the delta method."""
        J = self.reported_jacobian(coefficients)
        errors = np.sqrt(np.maximum(np.einsum("im,mn,in->i", J, cov, J), 0.0))
        named = zip(
            self.component_names,
            self.component_kinds,
            self.reported(coefficients),
            errors,
            strict=True,
        )
        return tuple(
            ResidualParameter(
                self.short_name(name), name, float(v), float(e), _SCALES.get(kind, "log")
            )
            for name, kind, v, e in named
        )

    def short_name(self, name: str) -> str:
        """Row of a component in tables of its own kind."""
        return name

    def structure_components(self, coefficients: Vector) -> list[tuple[Component, ...]]:
        """Components of each stratum's structure, standard deviations over sigma."""
        of, at = self.spec.covariance.components_at, self.spec.at
        return [of(x, at) for x in self.structure_params(coefficients[1:])]

    def reported(self, coefficients: Vector) -> Vector:
        """Values of the components at log sigma and the parameters."""
        sigma = np.exp(coefficients[0])
        return np.array(
            [
                sigma * c.value if c.kind == "sd" else c.value
                for components in self.structure_components(coefficients)
                for c in components
            ]
        )

    def reported_jacobian(self, coefficients: Vector) -> Matrix:
        """Derivatives of the reported values by log sigma and the parameters, (r, 1 + k)."""
        steps = relative_steps(coefficients, _STEP)
        return np.asarray(jacobian(self.reported, coefficients, steps, order=2).T)

    def reported_parameter(self, index: int) -> Reported:
        """A standard deviation over sigma, or a component of one stratum's structure."""
        return reported_component(self, index)

    def reordered(self, params: Vector, stratum: int, first: tuple[int, ...]) -> Reordered:
        """The same with some positions, and one stratum, before the others."""
        return reordered(self, params, stratum, first)

    @cached_property
    def component_kinds(self) -> tuple[str, ...]:
        """Kind of each component."""
        found = self.structure_components(np.zeros(1 + self.n_params))
        return tuple(c.kind for components in found for c in components)

    @cached_property
    def component_names(self) -> tuple[str, ...]:
        """``sd(v1 | patient)``, ``corr(v1, v2 | patient)``, with the stratum's value."""
        return component_names(self)

    def varcorr_rows(self, params: Vector, sigma: float) -> list[VarcorrRow]:
        """Rows of the table of variances, as those of a random term of the structure."""
        return varcorr_rows(self, params, sigma)

    def first_covariances(self, params: Vector) -> Array:
        """Covariances over ``sigma**2`` of the positions that components name, (strata, k, k)."""
        return self.covariances(params)

    def is_special_case_of(self, other: ResidualRows) -> bool:
        """With the same subjects and positions, a more special structure and no more strata."""
        of = getattr(other, "plain", other)  # of a dispersion formula whose coefficients are zero
        return isinstance(of, Correlated) and is_nested_structure(self, of)

    @property
    def pattern_strata(self) -> Codes:
        """Which of the covariances each row has, (n,)."""
        return self.strata

    @property
    def pattern_positions(self) -> Codes:
        """Row and column of each row in the covariances, (n,)."""
        return self.positions

    def root_weights(self, params: Vector, weights: Vector | None) -> Vector | None:
        """Factor of each row's residual that leaves the covariance R, (n,); None: one."""
        return None if weights is None else np.sqrt(weights)

    def reported_covariances(self, params: Vector) -> Array:
        """Covariances over ``sigma**2`` that are reported, (strata, k, k)."""
        return self.covariances(params)

    def new_rows(self, data: Any, params: Vector) -> NewSubjectRows:
        """Subjects and positions of new rows, with their covariances."""
        return new_subject_rows(self, as_frame(data), params)

    def new_variances(self, data: Any, sigma: float, params: Vector) -> Any:
        """By the position of each row."""
        return sigma**2 * self.new_rows(data, params).variances()

    def without_rows(self) -> Self | None:
        """The covariances, without the rows."""
        none = np.zeros(0, dtype=np.intp)
        return replace(self, subjects=none, positions=none, strata=none)
