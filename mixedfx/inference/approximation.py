"""How good the approximation of a generalised model's likelihood is at its data.

The log-likelihood at the estimates is computed again more exactly: by quadrature with more nodes
where the integrals are over the levels of one factor, else by importance sampling about the modes.
With the gradient g of that at the estimates and the Hessian H of the fit, the estimates would move
by about ``-H^-1 g``.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx._cached import cached_property
from mixedfx._escaping import html_block
from mixedfx.design.known_levels import check_plain_levels
from mixedfx.errors import ArgumentError, ModesNotFound, check_count
from mixedfx.estimation.convergence import ConvergenceDiagnostics
from mixedfx.estimation.fitted_model import FittedModel, check_curvature
from mixedfx.estimation.glmm.estimate import FamilyEstimate
from mixedfx.estimation.glmm.search import free_coordinates
from mixedfx.estimation.glmm.several_predictors import several_rows
from mixedfx.estimation.glmm.working import basis_coefficients, own_coefficients
from mixedfx.inference.parameters import parameters
from mixedfx.likelihood.generalized.importance import (
    can_sample,
    importance_sample,
    marginal_gradient,
)
from mixedfx.likelihood.generalized.likelihood import (
    GeneralizedLikelihood,
    MarginalCoordinates,
    Point,
)
from mixedfx.likelihood.generalized.quadrature import MAX_COLUMNS
from mixedfx.likelihood.generalized.rows import rows_of
from mixedfx.linalg.blas_threads import single_threaded_blas
from mixedfx.linalg.differences import jacobian, relative_steps
from mixedfx.linalg.random_streams import spawn_generators

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

# A coefficient that would move by more standard errors is named.
NOTABLE = 0.1
# Nodes of the quadrature that a fit is compared with, by the effects of a level.
_NODES = {1: 25, 2: 15, 3: 9}
_NEWTON_STEPS = 4
_STEP = 1e-6
# A certificate draws so many values of rows, within limits.
_ROW_DRAWS = 10_000_000


@dataclass(frozen=True, repr=False)
class Approximation:
    """
    Error of the approximation of a fit's likelihood, and what it does to the estimates.

    Parameters
    ----------
    method : str
        How the likelihood was computed again.
    loglik : float
        Log-likelihood at the fit's estimates by that method.
    loglik_change : float
        Its difference from the fit's ``llf``.
    monte_carlo_error : float
        Standard error of ``loglik``; zero by quadrature.
    effective_draws : float
        Effective number of the draws; NaN by quadrature.
    table : pandas.DataFrame
        A row per parameter: ``estimate std_error change change_in_se monte_carlo_error``, the last
        that of ``change_in_se``.
    advice : str
        What to do where estimates would move.

    Examples
    --------
    >>> import mixedfx as mfx
    >>> data = mfx.datasets.load("appcrash").head(200)
    >>> fit = mfx.glmer("y > 1.5 ~ 1 + (1 | app)", data)
    >>> fit.approximation().method
    'quadrature with 25 nodes'
    """

    method: str
    loglik: float
    loglik_change: float
    monte_carlo_error: float
    effective_draws: float
    table: pd.DataFrame
    advice: str

    @property
    def notable(self) -> tuple[str, ...]:
        """Parameters that would move by more than a tenth of their standard error."""
        moved = self.table["change_in_se"].abs()
        clear = moved - 2.0 * self.table["monte_carlo_error"].fillna(0.0)
        return tuple(str(name) for name in self.table.index[clear > NOTABLE])

    @property
    def note(self) -> str:
        """The error of the log-likelihood, and the parameters that would move, in a sentence."""
        error = ""
        if self.monte_carlo_error > 0.0:
            error = f" (Monte Carlo error {self.monte_carlo_error:.2g})"
        text = f"the log-likelihood is {self.loglik_change:+.2g}{error} by {self.method}"
        moved = self.table["change_in_se"].abs()
        if not self.notable:
            largest = float(moved.max()) if moved.notna().any() else 0.0
            return f"{text}; no estimate would move by more than {largest:.2g} standard errors"
        listed = ", ".join(
            f"{name} by {change:+.2f}"
            for name, change in self.table["change_in_se"].loc[list(self.notable)].items()
        )
        return f"{text}; in standard errors would move: {listed}. {self.advice}"

    def __repr__(self) -> str:
        """Summarize in one line."""
        return f"<mixedfx.Approximation: {self.note}>"

    def _repr_html_(self) -> str:
        return html_block(f"<p>{html.escape(self.note)}</p>{self.table.to_html(border=0)}")


def approximation(fit: FittedModel, *, draws: int = 100, rng: Any = 0) -> Approximation:
    """
    Estimate the error of the approximation that a fit of a generalised model rests on.

    References
    ----------
    .. [1] Pinheiro and Bates (1995), J. Comput. Graph. Stat. 4:12.
    .. [2] Geweke (1989), Econometrica 57:1317.
    """
    check_count("draws", draws, 2)
    if not isinstance(fit.residual, FamilyEstimate):
        raise ArgumentError(
            "the likelihood of a linear mixed model is exact: there is no approximation."
        )
    with single_threaded_blas(fit.crossprod.symbolic.dense_size):
        return _Estimates.of(fit).compare(draws, rng)


def certificate(fit: FittedModel) -> ConvergenceDiagnostics:
    """Conditions of an optimum, with the error of the approximation where there is one."""
    if not isinstance(fit.residual, FamilyEstimate):
        return fit.convergence
    draws = int(np.clip(_ROW_DRAWS // fit.crossprod.n, 20, 100))
    note = "not estimated: that needs the rows in memory"
    if fit.rows.has_file:
        note = "not estimated: fit.approximation() reads the file of the rows for it, many times"
    if fit.rows.in_memory:
        try:
            note = approximation(fit, draws=draws).note
        except ArgumentError as error:
            note = f"not estimated: {error}"
    return replace(fit.convergence, approximation=f"{fit.residual.approximation}: {note}")


@dataclass(frozen=True)
class _Estimates:
    """A fit's rows, point and free parameters."""

    fit: FittedModel
    estimate: FamilyEstimate
    likelihood: GeneralizedLikelihood
    coordinates: MarginalCoordinates
    x: Vector

    @staticmethod
    def of(fit: FittedModel) -> _Estimates:
        estimate = fit.residual
        fits: tuple[Any, ...] = fit.predictors
        assert isinstance(estimate, FamilyEstimate)
        factors = tuple(F for one in fits for F in one.optimizer_result.factors or ())
        rows = several_rows(fit.design) if len(fits) > 1 else rows_of(fit.design)
        likelihood = GeneralizedLikelihood(rows, max(estimate.nagq, 1))
        beta = basis_coefficients(rows, np.concatenate([one.residual.beta for one in fits]))
        point = Point(factors, beta, rows.family.coordinates(estimate.params))
        coordinates, x = free_coordinates(likelihood, point)
        return _Estimates(fit, estimate, likelihood, coordinates, x)

    @cached_property
    def hessian(self) -> Matrix:
        """Of the fit's deviance by ``x``."""
        return self.estimate.in_search_order(self.estimate.hessian)

    @property
    def point(self) -> Point:
        return self.coordinates.point(self.x)

    def compare(self, draws: int, rng: Any) -> Approximation:
        """By quadrature where there is one factor, else by importance sampling."""
        rows = self.likelihood.model
        if not rows.groups:
            return self._result("no integral", self.fit.deviance, self.x, None)
        check_curvature(self.fit, "how far its maximum would move is not known")
        check_plain_levels(self.fit.spec, "approximation(), which integrates level by level,")
        if len(rows.groups) == 1 and rows.effect_shapes[0][0] <= MAX_COLUMNS:
            try:
                return self._by_quadrature(rows.effect_shapes[0][0])
            except ModesNotFound as error:
                raise ArgumentError(
                    f"{error}, at the fit's estimates with effects of zero."
                ) from None
        if self.fit.residual.predictors:
            raise ArgumentError(
                f"the error is estimated by quadrature over the levels of one factor with at most "
                f"{MAX_COLUMNS} effects in all linear predictors, and '{self.fit.formula_text}' "
                "has more: fit.bootstrap() shows the bias of the estimates."
            )
        if not can_sample(rows):
            raise ArgumentError(
                f"the error is estimated by quadrature over the levels of a factor with at most "
                f"{MAX_COLUMNS} effects, and the largest factor of '{self.fit.formula}' has more: "
                "fit a model with fewer random slopes to see."
            )
        return self._by_sampling(draws, rng)

    def _by_quadrature(self, width: int) -> Approximation:
        nodes = max(_NODES[width], 2 * self.estimate.nagq + 1)
        exact = self.likelihood.with_nodes(nodes)
        at = exact.at(self.point)
        deviance, x, gradient = at.deviance, self.x, self._gradient(self.x, at.gradient)
        smallest = deviance
        for _ in range(_NEWTON_STEPS):
            moved = x - self._newton(gradient)
            try:
                at = exact.at(self.coordinates.point(moved), at.modes.u)
            except ModesNotFound:
                break
            if not at.deviance < smallest:
                break
            x, smallest, gradient = moved, at.deviance, self._gradient(moved, at.gradient)
        return self._result(f"quadrature with {nodes} nodes", deviance, x, None)

    def _by_sampling(self, draws: int, rng: Any) -> Approximation:
        modes = self.likelihood.at(self.point).modes
        sample = importance_sample(
            modes, self.point.beta, max(draws // 2, 1), spawn_generators(rng, 1)[0]
        )
        rows = self.likelihood.model

        def by_x(flat: Vector) -> Vector:
            return self._gradient(self.x, marginal_gradient(rows, flat))

        to_x = np.array([by_x(unit) for unit in np.eye(len(sample.gradient))]).T
        steps = np.linalg.pinv(self.hessian, hermitian=True) @ to_x
        covariance = steps @ sample.gradient_covariance @ steps.T
        moved = self.x - self._newton(by_x(sample.gradient))
        method = f"importance sampling with {draws} draws"
        return self._result(
            method,
            -2.0 * sample.loglik,
            moved,
            covariance,
            monte_carlo_error=sample.loglik_error,
            effective_draws=sample.effective,
        )

    def _gradient(self, x: Vector, by: Any) -> Vector:
        return self.coordinates.gradient(x, self.likelihood.model, by)

    def _newton(self, gradient: Vector) -> Vector:
        return np.asarray(np.linalg.pinv(self.hessian, hermitian=True) @ gradient)

    def _reported(self, x: Vector) -> Vector:
        """Reported parameters at free parameters: variances, family, coefficients."""
        point, rows = self.coordinates.point(x), self.likelihood.model
        factors, own = list(point.factors), own_coefficients(rows, point.beta)
        values: list[float] = []
        for fit in self.fit.predictors:
            crossprod, widths = fit.crossprod, fit.crossprod.parametrization.widths
            lambdas = crossprod.lambdas(factors[: len(widths)])
            for lam, (structure, at) in zip(lambdas, crossprod.parametrization.terms, strict=True):
                values += [c.value for c in structure.components(lam, at)]
            if fit is self.fit:
                values += rows.family.natural(point.family_coordinates).tolist()
            coefficients = np.full(len(fit.spec.column_names), np.nan)
            coefficients[fit.spec.kept_columns] = own[: crossprod.p]
            values += coefficients.tolist()
            factors, own = factors[len(widths) :], own[crossprod.p :]
        return np.array(values)

    def _names(self) -> Sequence[str]:
        """Of these; those of a further predictor after its argument."""
        parts = self.fit.residual.predictors
        among_parts = {f"{name}({c})" for name, fit in parts.items() for c in fit.spec.X_names}
        found = [
            p.name
            for p in parameters(self.fit)
            if p.kind != "sigma" and not (p.kind == "dispersion" and p.name in among_parts)
        ]
        for name, fit in parts.items():
            found += [f"{name}({p.name})" for p in parameters(fit) if p.kind != "sigma"]
        return found

    def _result(
        self,
        method: str,
        deviance: float,
        moved: Vector,
        covariance: Matrix | None,
        *,
        monte_carlo_error: float = 0.0,
        effective_draws: float = np.nan,
    ) -> Approximation:
        before = self._reported(self.x)
        with np.errstate(invalid="ignore"):
            J = jacobian(self._reported, self.x, relative_steps(self.x, _STEP), order=2).T
        J = np.nan_to_num(J.reshape(len(before), len(self.x)))
        acov = self.estimate.in_search_order(self.estimate.acov)
        errors = np.sqrt(np.maximum(np.einsum("im,mn,in->i", J, acov, J), 0.0))
        errors = np.where(np.isnan(before), np.nan, errors)
        change = self._reported(moved) - before
        with np.errstate(divide="ignore", invalid="ignore"):
            in_se = np.where(errors > 0.0, change / errors, np.nan)
            sampling = np.zeros(len(before))
            if covariance is not None:
                variances = np.maximum(np.einsum("im,mn,in->i", J, covariance, J), 0.0)
                sampling = np.sqrt(variances) / np.where(errors > 0.0, errors, np.nan)
        columns = {
            "estimate": before,
            "std_error": errors,
            "change": change,
            "change_in_se": in_se,
            "monte_carlo_error": sampling,
        }
        return Approximation(
            method,
            -0.5 * deviance,
            0.5 * (self.fit.deviance - deviance),
            monte_carlo_error,
            effective_draws,
            pd.DataFrame(columns, index=pd.Index(self._names(), name="parameter")),
            self._advice(),
        )

    def _advice(self) -> str:
        shapes = self.likelihood.model.effect_shapes
        if len(shapes) == 1:
            width = shapes[0][0]
            return f"Fit with nagq={max(_NODES[width], 2 * self.estimate.nagq + 1)}."
        return (
            "Quadrature is for one grouping factor; fit.bootstrap() shows the bias of the "
            "estimates."
        )
