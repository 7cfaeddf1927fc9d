"""Estimates of a location-scale model: random effects of the log residual standard deviation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mixedfx._arrays import set_readonly
from mixedfx.covariance.components import Component, Positions
from mixedfx.covariance.registry import STRUCTURES
from mixedfx.design.new_data import evaluate_new_dispersion
from mixedfx.design.rows import ModelRows, RandomTermRows
from mixedfx.design.spec import RandomTermSpec
from mixedfx.estimation.joint_estimate import JointEstimate
from mixedfx.likelihood.coefficient_covariance import CoefficientCovariance
from mixedfx.likelihood.constrained import add_coefficient_covariance, fix_coefficients
from mixedfx.likelihood.pls import Solution
from mixedfx.residuals.log_linear import LocationScale
from mixedfx.residuals.model import (
    ResidualDistribution,
    ResidualParameter,
    ResponseAroundPredictor,
    row_sds,
)

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]
# Columns (n, k) of each term's effects in some rows, and the rows' levels
ScaleColumns = Sequence[tuple[Matrix, Codes]]


@dataclass(frozen=True)
class ScaleTerm:
    """Estimates of one random term of the log residual standard deviation."""

    factor: Matrix = field(repr=False)  # (k, k) of the covariance of a level's effects
    std_errors: Vector  # of that covariance's components
    effects: Matrix = field(repr=False)  # (k, levels) conditional modes

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        set_readonly(self.factor, self.std_errors, self.effects)

    @property
    def parameters(self) -> Vector:
        """Lower triangle of the factor."""
        return np.asarray(self.factor[np.tril_indices(len(self.factor))])


@dataclass(frozen=True)
class ScaleEffects:
    """Random effects of the log residual standard deviation."""

    terms: tuple[ScaleTerm, ...]
    # (Q, Q) conditional covariance of all effects given data and parameters, by term and level
    cov: Matrix = field(repr=False)

    def __post_init__(self) -> None:
        """Make the array read-only."""
        set_readonly(self.cov)

    @property
    def starts(self) -> list[int]:
        """Position of each term's first effect in ``cov``."""
        return [0, *np.cumsum([term.effects.size for term in self.terms]).tolist()[:-1]]

    def cond_sds(self, t: int) -> Matrix:
        """Conditional standard deviations of the effects of a term, (k, levels)."""
        k, levels = self.terms[t].effects.shape
        start = self.starts[t]
        variances = np.diag(self.cov)[start : start + k * levels]
        return np.sqrt(np.maximum(variances, 0.0)).reshape(levels, k).T

    def log_sds(self, columns: ScaleColumns) -> Vector:
        """Sum of the effects in rows, with zero for new levels (code -1)."""
        return sum_of_effects([term.effects for term in self.terms], columns)

    def variances(self, columns: ScaleColumns) -> Vector:
        """Variances of these sums: given the data, of new levels that of their distribution."""
        index, value = [], []
        new = np.zeros(len(columns[0][1]))
        for term, start, (Z, codes) in zip(self.terms, self.starts, columns, strict=True):
            k = len(term.effects)
            known = codes >= 0
            index.append(start + np.maximum(codes, 0)[:, None] * k + np.arange(k))
            value.append(np.where(known[:, None], Z, 0.0))
            new += np.where(known, 0.0, ((Z @ term.factor) ** 2).sum(axis=1))
        i, z = np.concatenate(index, axis=1), np.concatenate(value, axis=1)
        for s, t in np.ndindex(i.shape[1], i.shape[1]):
            new += z[:, s] * z[:, t] * self.cov[i[:, s], i[:, t]]
        return new


@dataclass(frozen=True)
class RandomScaleDistribution(ResidualDistribution):
    """Normal residuals whose log standard deviation has effects that are drawn anew."""

    terms: tuple[RandomTermRows, ...]
    factors: tuple[Matrix, ...]  # (k, k) of each term

    def draw(self, predictor: Vector, rng: np.random.Generator) -> Vector:
        """Draw the effects, then one residual for each row."""
        log_sd = np.zeros(len(self.residual_sd))
        for term, factor in zip(self.terms, self.factors, strict=True):
            effects = factor @ rng.standard_normal((len(factor), term.n_levels))
            term.add_to_linear_predictor(log_sd, effects)
        residual_sd = self.residual_sd * np.exp(log_sd)
        return predictor + residual_sd * rng.standard_normal(len(residual_sd))


@dataclass(frozen=True)
class LocationScaleEstimate(JointEstimate):
    """
    Estimates of a location-scale model, with the conditional modes of its random effects.

    The derivatives are by the parameters of
    :class:`~mixedfx.estimation.dispersion.laplace.LocationScaleIndices`, then by ``u``,
    with the parameters constant; ``vcov_jacobian`` is of cov(beta) given ``u``.
    """

    model: LocationScale
    random: ScaleEffects = field(kw_only=True)
    integrated_deviance: float = field(kw_only=True)  # over v
    # (p,) where the weights do not imply beta: under ML
    beta: Vector | None = field(kw_only=True)
    # (p, p) what the uncertainty of v adds to cov(beta) given v
    vcov_correction: CoefficientCovariance = field(kw_only=True, repr=False)

    @property
    def components(self) -> tuple[ResidualParameter, ...]:
        """The coefficients, and those of the random effects' covariances."""
        found = list(super().components)
        terms = zip(self.model.spec.random_terms, self.random.terms, strict=True)
        for spec, term in terms:
            of_term = scale_components(spec, term.factor)
            for c, error in zip(of_term, term.std_errors.tolist(), strict=True):
                name, full_name = _names(spec, c)
                scale: Any = {"sd": "log", "corr": "atanh"}.get(c.kind, "identity")
                found.append(ResidualParameter(name, full_name, c.value, error, scale))
        return tuple(found)

    def deviance(self, solution: Solution) -> float:
        """Integrated over the random effects."""
        return self.integrated_deviance

    def at_estimates(self, solution: Solution) -> Solution:
        """Coefficients of the search under ML, and the covariance that ``v`` adds."""
        if self.beta is not None:
            solution = fix_coefficients(solution, self.beta)
        return add_coefficient_covariance(solution, self.vcov_correction)

    @property
    def _columns(self) -> ScaleColumns:
        return [(term.model_matrix, term.codes) for term in self.model.rows.random_terms]

    def relative_log_sds(self, sigma: float) -> Vector:
        """At the modes of the effects."""
        fixed = self.model.rows.D @ self.coefficients
        return np.asarray(fixed + self.random.log_sds(self._columns) - np.log(sigma))

    def conditional_cov(self, cov: CoefficientCovariance) -> CoefficientCovariance:
        """Given the effects."""
        return cov.less(self.vcov_correction)

    def row_variances(self, sds: Vector) -> Vector:
        """``E exp(2 v)`` of the rows, ``v`` normal about its conditional mode."""
        return np.asarray(sds**2 * np.exp(2.0 * self.random.variances(self._columns)))

    def new_variances(self, data: Any, sigma: float) -> Any:
        """``E exp(2 (D gamma + v))`` of new rows, ``v`` normal about its conditional mode."""
        D, columns = evaluate_new_dispersion(self.model.spec, data)
        log_sds = D @ self.coefficients + self.random.log_sds(columns)
        return np.asarray(np.exp(2.0 * (log_sds + self.random.variances(columns))))

    def distribution(
        self, rows: ModelRows, sigma: float, params: Vector, *, new_effects: bool
    ) -> ResponseAroundPredictor:
        """With new effects, or those of the fit."""
        sds = row_sds(rows, sigma)
        if not new_effects:
            return self.model.distribution(sds)
        without_effects = sds / np.exp(self.random.log_sds(self._columns))
        factors = tuple(term.factor for term in self.random.terms)
        return RandomScaleDistribution(without_effects, self.model.rows.random_terms, factors)


def sum_of_effects(by_term: Sequence[Matrix], columns: ScaleColumns) -> Vector:
    """Sum of effects (k, levels) in rows, with zero for new levels (code -1)."""
    total = np.zeros(len(columns[0][1]))
    for effects, (Z, codes) in zip(by_term, columns, strict=True):
        of_rows = effects[:, np.maximum(codes, 0)]
        total += np.where(codes < 0, 0.0, np.einsum("nk,kn->n", Z, of_rows))
    return total


def scale_components(spec: RandomTermSpec, factor: Matrix) -> tuple[Component, ...]:
    """Standard deviations, correlations and other components of a covariance."""
    structure = STRUCTURES[spec.formula_term.structure]
    return structure.components(factor, Positions(len(factor)))


def _names(spec: RandomTermSpec, component: Component) -> tuple[str, str]:
    """Name of a component in the dispersion's table, and one that is unique in the fit."""
    if spec.effect_names == ("Intercept",):
        return f"sd({spec.group})", f"sd(dispersion | {spec.group})"
    name = spec.component_name(component.kind, component.effects, component.label)
    kind, _, rest = name.partition("(")
    return name, f"{kind}(dispersion: {rest}"
