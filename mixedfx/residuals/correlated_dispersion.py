"""Correlated residuals whose standard deviations follow a log-linear model besides.

The residuals of two rows of a subject have the covariance ``sigma^2 s_i s_j R[t_i, t_j]``: R is the
structure over the positions t, and ``log s = D gamma`` a dispersion formula without its constant,
which is the scale of R. A cell is a position with one row of D; the covariance of the cells takes
the place of R.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx._cached import cached_property
from mixedfx.covariance.curvature import curvature_by_differences
from mixedfx.design.build import Design
from mixedfx.design.dispersion import DispersionRows, DispersionSpec
from mixedfx.design.residual import ResidualRows
from mixedfx.design.rows import ModelRows
from mixedfx.errors import ArgumentError, DispersionError
from mixedfx.likelihood.patterns import Patterns
from mixedfx.linalg.differences import jacobian, relative_steps
from mixedfx.residuals.blocks import CovarianceBlock, ScaledBlock, SubjectRows
from mixedfx.residuals.correlated import Correlated
from mixedfx.residuals.correlated_components import Reordered
from mixedfx.residuals.correlated_ends import ParameterAtEnd
from mixedfx.residuals.correlated_nesting import is_nested_structure
from mixedfx.residuals.correlated_new import NewSubjectRows
from mixedfx.residuals.correlated_spec import CorrelatedSpec
from mixedfx.residuals.log_linear import LogLinear
from mixedfx.residuals.model import VarcorrRow
from mixedfx.residuals.reported import LinearInParams, OfLogSigma, Reported
from mixedfx.residuals.variance_function import MAX_LOG_RATIO

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]

# Most cells: the covariance of all of them is one dense matrix.
_MAX_CELLS = 2_000
# Most that Kenward and Roger's method sums over, each with each.
_MAX_CELLS_KR = 300
_RANK_TOLERANCE = 1e-7
_STEP = 1e-6


@dataclass(frozen=True)
class CorrelatedDispersionSpec(CorrelatedSpec):
    """Structure of correlated residuals, and a formula of their log standard deviations."""

    dispersion: DispersionSpec = field(kw_only=True)
    scale_names: tuple[str, ...] = field(kw_only=True)  # columns of D without the constant's

    @property
    def argument(self) -> str:
        """The arguments of ``lmer``."""
        return f"{super().argument}, {self.dispersion.argument}"

    @property
    def label(self) -> str:
        """After the formula."""
        return f"{super().label}, {self.dispersion.label}"

    def header(self, *, mixed: bool) -> tuple[tuple[str, str], ...]:
        """Lines of the summary."""
        return super().header(mixed=mixed) + self.dispersion.header(mixed=mixed)

    @property
    def explanation(self) -> str | None:
        """Note of the equations."""
        formula = self.dispersion.formula
        return f"{super().explanation}, and the logarithms of their sds are modelled by '{formula}'"

    def covariance_structure(self) -> None:
        """None: the standard deviations are others'."""
        return

    @property
    def n_params(self) -> int:
        """Parameters of the covariances, and coefficients of the log standard deviations."""
        return super().n_params + len(self.scale_names)

    def is_log_sd(self, full_name: str) -> bool:
        """Whether a parameter is one of the dispersion formula's."""
        return full_name.startswith("dispersion(")

    def check_modelled(self) -> None:
        """There is a formula."""

    def without_evaluation(self) -> Self:
        """Names alone, which can be pickled."""
        return replace(self, dispersion=self.dispersion.without_evaluation())


@dataclass(frozen=True)
class CorrelatedDispersion(Correlated):
    """Correlated residuals with a log-linear scale, on the rows of a design."""

    spec: CorrelatedDispersionSpec
    plain: Correlated  # the structure alone
    scale: LogLinear

    @staticmethod
    def of(plain: Correlated, spec: DispersionSpec, rows: DispersionRows) -> CorrelatedDispersion:
        """Combine the two models; refuses a scale that the structure has already."""
        scale = LogLinear(spec, rows)
        # Its cells index the covariance of all positions.
        plain = Correlated(plain.spec, plain.subjects, plain.positions, plain.strata)
        names = [n for i, n in enumerate(spec.D_names) if i != scale.coordinates.dropped]
        given = {f.name: getattr(plain.spec, f.name) for f in fields(plain.spec)}
        combined = CorrelatedDispersionSpec(**given, dispersion=spec, scale_names=tuple(names))
        model = CorrelatedDispersion(
            combined, plain.subjects, plain.positions, plain.strata, plain, scale
        )
        model.check_scales()
        return model

    @property
    def dispersion_variables(self) -> Mapping[str, pd.Series]:
        """Variables of the dispersion formula."""
        return self.scale.rows.dispersion_variables

    def subset(self, spec: Any, keep: Mask | Codes) -> tuple[Any, Self]:
        """Select rows."""
        spec, kept = super().subset(spec, keep)
        scale_spec, rows = self.scale.rows.subset(spec.dispersion, keep)
        plain = self.plain.subset(self.plain.spec, keep)[1]
        spec = replace(spec, dispersion=scale_spec)
        return spec, replace(kept, spec=spec, plain=plain, scale=LogLinear(scale_spec, rows))

    def check(self, design: Design, *, reml: bool) -> None:
        """Refuse rows that do not identify the structure's parameters."""
        self.plain.check(design, reml=reml)

    # ------------------------------------------------------------ cells

    @cached_property
    def _cells(self) -> tuple[Codes, Codes, Codes]:
        """Cell of each row; position and row of D of each cell, ascending in the position."""
        width = int(self.scale.codes.max()) + 1
        keys, cells = np.unique(self.positions * width + self.scale.codes, return_inverse=True)
        position, of_D = np.divmod(keys, width)
        return cells.ravel(), position, of_D

    @cached_property
    def patterns(self) -> Patterns:
        """Patterns of the subjects' cells."""
        markov = self.spec.covariance.markov
        return Patterns.of(self.subjects, self._cells[0], self.strata, markov=markov)

    def check_scales(self) -> None:
        """Refuse too many cells, and columns of D in the span of the structure's own sds."""
        cells, position, _ = self._cells
        if len(position) > _MAX_CELLS:
            raise DispersionError(
                f"{self.spec.argument}: the rows have {len(position)} pairs of a position and "
                f"values of the dispersion formula, more than {_MAX_CELLS}; round or group the "
                "variables of the formula, such as by pd.cut."
            )
        zero = np.zeros(self.n_params)
        first = np.unique(self.strata * len(position) + cells, return_index=True)[1]

        def log_sds(params: Vector) -> Vector:
            return self.log_sds(params)[first]

        by = jacobian(log_sds, zero, relative_steps(zero, _STEP), order=2)
        n_own = self.plain.n_params
        own = np.column_stack([np.ones(len(first)), by[:n_own].T])
        scale = by[n_own:].T
        left = scale - own @ np.linalg.lstsq(own, scale, rcond=None)[0]
        if np.linalg.matrix_rank(left, tol=_RANK_TOLERANCE * len(first)) < scale.shape[1]:
            names = ", ".join(map(repr, self.spec.scale_names))
            raise DispersionError(
                f"{self.spec.argument}: the structure has standard deviations of its own that the "
                f"columns {names} of the dispersion formula follow, so the data cannot tell them "
                f"apart. Leave dispersion= out, or take a structure of one standard deviation, "
                "such as 'ar1', 'cs' or 'toep'."
            )

    def split(self, params: Vector) -> tuple[Vector, Vector]:
        """Parameters of the structure, and of the scale."""
        n_own = self.plain.n_params
        return params[:n_own], params[n_own:]

    def structure_params(self, params: Vector) -> Matrix:
        """Those of the structure."""
        return self.plain.structure_params(self.split(params)[0])

    def _scales(self, params: Vector) -> Vector:
        """Standard deviation of each cell relative to that of its position."""
        return np.asarray(np.exp(self._columns @ self.split(params)[1]))

    @cached_property
    def _columns(self) -> Matrix:
        """Columns of the log sds of each cell, zero where those of D are zero, (cells, r - 1)."""
        coordinates = self.scale.coordinates
        centred = coordinates.stratum_columns[self._cells[2]]
        return np.asarray(centred - coordinates.to_log_sigma[1:])

    def covariances(self, params: Vector) -> Array:
        """Of all cells, (strata, cells, cells)."""
        s, (_, position, _) = self._scales(params), self._cells
        R = self.plain.covariances(self.split(params)[0])
        return R[:, position[:, None], position] * np.outer(s, s)

    def covariance_jacobian(self, params: Vector) -> Array:
        """Derivatives of the cells' covariances, (params, strata, cells, cells)."""
        s, (_, position, _) = self._scales(params), self._cells
        own = self.plain.covariance_jacobian(self.split(params)[0])
        own = own[:, :, position[:, None], position] * np.outer(s, s)
        C = self._columns.T
        by_scale = (C[:, None, :, None] + C[:, None, None, :]) * self.covariances(params)
        return np.concatenate([own, by_scale])

    def covariance_curvature(self, params: Vector, by_R: Array) -> Matrix:
        """By differences of the first derivatives."""
        return curvature_by_differences(self.covariance_jacobian, params, by_R)

    # ------------------------------------------------------------ the search

    @property
    def neutral(self) -> Vector:
        """That of the structure, and equal scales."""
        return np.append(self.plain.neutral, np.zeros(len(self.spec.scale_names)))

    def contains(self, params: Vector) -> bool:
        """Whether both parts are in double precision."""
        own, scale = self.split(params)
        return self.plain.contains(own) and bool(
            np.abs(self.scale.centred_log_sds(scale)).max(initial=0.0) <= MAX_LOG_RATIO
        )

    def starts(self, residuals: Callable[[float], Vector], rows: ModelRows) -> list[Vector]:
        """Those of the structure, beside the scale of the residuals."""
        e = residuals(1.0)
        scale = self.scale.params_near(e, rows.weights)
        standardised = np.exp(-self.scale.log_sds(scale))
        own = self.plain.starts(lambda size: residuals(size) * standardised, rows)
        return [np.append(x, scale) for x in own]

    def starting_points(self, params: Vector) -> list[list[Vector]]:
        """Those of the structure, at the same scale."""
        own, scale = self.split(params)
        return [[np.append(x, scale) for x in xs] for xs in self.plain.starting_points(own)]

    def at_ends(self, params: Vector) -> list[ParameterAtEnd]:
        """Those of the structure."""
        return self.plain.at_ends(self.split(params)[0])

    def params_near(self, residuals: Vector, weights: Vector | None) -> Vector:
        """The scale of the residuals, and the structure of what it leaves."""
        scale = self.scale.params_near(residuals, weights)
        standardised = residuals * np.exp(-self.scale.log_sds(scale))
        return np.append(self.plain.params_near(standardised, weights), scale)

    def covariance_blocks(
        self, params: Vector, weights: Vector | None
    ) -> tuple[CovarianceBlock, ...]:
        """One for each stratum of the structure, with the coefficients of the scale."""
        _, position, _ = self._cells
        if len(position) > _MAX_CELLS_KR:
            raise ArgumentError(
                f"{self.spec.argument} has {len(position)} pairs of a position and values of the "
                "dispersion formula, too many for Kenward and Roger's method: take "
                "df_method='satterthwaite'."
            )
        # About the mean of the log sds over the rows, whichever the reference level is.
        structure, at, (own, x) = self.spec.covariance, self.spec.at, self.split(params)
        mean = self.scale.coordinates.to_log_sigma[1:]
        return tuple(
            ScaledBlock(
                structure,
                at,
                R * np.exp(-2.0 * mean @ x),
                SubjectRows(self.patterns, s, len(position), weights),
                position=position,
                C=self._columns + mean,
                x=x,
            )
            for s, R in enumerate(self.plain.covariances(own))
        )

    def random_intercept(self, params: Vector) -> str:
        """None: the variances differ."""
        return "knows one residual variance"

    # ------------------------------------------------------------ what is reported

    def log_sds(self, params: Vector) -> Vector:
        """Log standard deviations of the rows, relative to sigma."""
        own, scale = self.split(params)
        return np.asarray(self.plain.log_sds(own) + (self._columns @ scale)[self._cells[0]])

    def reported(self, coefficients: Vector) -> Vector:
        """Components of the structure where the columns of D are zero, and gamma."""
        coordinates = self.scale.coordinates
        own, scale = self.split(coefficients[1:])
        components = self.plain.reported(np.append(coefficients[0], own))
        return np.append(components, coordinates.to_coefficients @ scale)

    def reported_parameter(self, index: int) -> Reported:
        """A component of the structure, or an element of gamma."""
        n_own, n_components = self.plain.n_params, len(self.plain.component_names)
        if index >= n_components:
            of_scale = self.scale.coordinates.to_coefficients[index - n_components]
            return LinearInParams(np.append(np.zeros(n_own), of_scale))
        found = self.plain.reported_parameter(index)
        if not isinstance(found, OfLogSigma):
            return found

        def f(params: Vector) -> tuple[float, Vector]:
            value, by_own = found.f(params[:n_own])
            return value, np.append(by_own, np.zeros(len(params) - n_own))

        return replace(found, f=f)

    def reordered(self, params: Vector, stratum: int, first: tuple[int, ...]) -> Reordered:
        """The structure in another order, with the same scale."""
        own, scale = self.split(params)
        plain = self.plain.reordered(own, stratum, first)
        moved = self.of(plain.model, self.spec.dispersion, self.scale.rows)
        return Reordered(moved, np.append(plain.params, scale), plain.sigma_ratio)

    @cached_property
    def component_names(self) -> tuple[str, ...]:
        """Those of the structure, and ``dispersion(column)``."""
        names = map(self.spec.dispersion.full_name, self.spec.scale_names)
        return (*self.plain.component_names, *names)

    def short_name(self, name: str) -> str:
        """Columns of D by their own names."""
        return name[len("dispersion(") : -1] if self.spec.is_log_sd(name) else name

    @cached_property
    def component_kinds(self) -> tuple[str, ...]:
        """Those of the structure, and coefficients of the log standard deviations."""
        return (*self.plain.component_kinds, *("log sd" for _ in self.spec.scale_names))

    def reported_covariances(self, params: Vector) -> Array:
        """Where the columns of D are zero."""
        return self.plain.covariances(self.split(params)[0])

    def varcorr_rows(self, params: Vector, sigma: float) -> list[VarcorrRow]:
        """Where the columns of D are zero."""
        return self.plain.varcorr_rows(self.split(params)[0], sigma)

    # ------------------------------------------------------------ rows

    @property
    def position_patterns(self) -> Patterns:
        """Of the structure alone."""
        return self.plain.patterns

    @property
    def pattern_positions(self) -> Codes:
        """Cells."""
        return self._cells[0]

    def root_weights(self, params: Vector, weights: Vector | None) -> Vector:
        """Over the scale of each row, which leaves the structure's covariance."""
        root = 1.0 / self._scales(params)[self._cells[0]]
        return root if weights is None else root * np.sqrt(weights)

    def new_rows(self, data: Any, params: Vector) -> NewSubjectRows:
        """Those of the structure, with the scale of each row."""
        own, scale = self.split(params)
        variances = self.scale.new_variances(data, 1.0, scale)
        return replace(self.plain.new_rows(data, own), scales=np.sqrt(variances))

    def beside(self, model: Correlated) -> Correlated:
        """Another structure, with the same formula."""
        return CorrelatedDispersion.of(model, self.scale.spec, self.scale.rows)

    def is_special_case_of(self, other: ResidualRows) -> bool:
        """Of the same formula beside a more general structure."""
        if not isinstance(other, CorrelatedDispersion):
            return False
        own, others = (m.scale.rows.log_sd_columns for m in (self, other))
        return np.array_equal(own, others) and is_nested_structure(self.plain, other.plain)

    def without_rows(self) -> None:
        """The dispersion formula's columns are rows of its own."""
