"""Estimates of a generalised model without some of its rows: one Newton step, or a search.

The step is ``-H^-1 g`` with the exact gradient g of the marginal deviance of the other rows and the
Hessian H of all rows (Pregibon 1981, Ann. Stat. 9:705, for generalised linear models). As the other
rows have less information it is too short; the gradient at its end, which is known, corrects it.
Levels that are left without rows keep a mode of zero, which adds nothing to the deviance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixedfx.design.build import Design
from mixedfx.design.checks import independent_columns
from mixedfx.errors import DataError, ModesNotFound
from mixedfx.estimation.glmm.search import (
    MarginalObjective,
    MarginalSearch,
    free_coordinates,
    search,
)
from mixedfx.estimation.glmm.working import basis_coefficients, own_coefficients
from mixedfx.estimation.optimizer_result import Control
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.generalized.likelihood import GeneralizedLikelihood, Point
from mixedfx.likelihood.generalized.rows import GeneralizedRows
from mixedfx.likelihood.generalized.rows_model import RowsModel
from mixedfx.likelihood.pls import Solution

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]

# Step-halvings of the Newton step, at most.
_MAX_HALVINGS = 30


@dataclass(frozen=True)
class RowDeletion:
    """A fit's optimum, and the estimates of some of its rows."""

    rows: RowsModel
    crossprod: CrossProducts  # of the working model: the bases of theta
    point: Point
    hessian: Matrix  # (m, m) of the deviance of all rows
    nagq: int

    @property
    def names(self) -> tuple[str, ...]:
        """Of the estimates."""
        theta = tuple(f"theta[{i}]" for i in range(self.crossprod.parametrization.size))
        return (*self.crossprod.names, *self.rows.family.param_names, *theta)

    @property
    def estimates(self) -> Vector:
        """Coefficients, parameters of the family, and theta."""
        return self._of_point(self.point)

    @property
    def no_estimates(self) -> Vector:
        """NaN for each of them."""
        return np.full(len(self.estimates), np.nan)

    def of_rows(self, rows: RowsModel, method: str) -> Vector:
        """Those of some rows, whose columns are independent; NaN where there is no optimum."""
        likelihood = GeneralizedLikelihood(rows, self.nagq)
        try:
            point = self._searched(likelihood) if method == "refit" else self._step(likelihood)
        except (ModesNotFound, np.linalg.LinAlgError):
            return self.no_estimates
        return self.no_estimates if point is None else self._of_point(point)

    def _of_point(self, point: Point) -> Vector:
        beta, theta = own_coefficients(self.rows, point.beta), self.crossprod.theta(point.factors)
        params = self.rows.family.natural(point.family_coordinates)
        return np.concatenate([beta, params, theta])

    def _step(self, likelihood: GeneralizedLikelihood) -> Point | None:
        """One Newton step, shortened until the deviance falls."""
        coordinates, x = free_coordinates(likelihood, self.point)
        objective = MarginalObjective(likelihood, coordinates)
        before, gradient = objective(x)
        if not np.isfinite(before):
            return None
        step = -np.linalg.pinv(self.hessian, rcond=1e-14, hermitian=True) @ gradient
        after, by = objective(x + step)
        for _ in range(_MAX_HALVINGS):
            if after <= before:
                break
            step = 0.5 * step
            after, by = objective(x + step)
        return coordinates.point(x + step + _correction(self.hessian, step, by - gradient, by))

    def _searched(self, likelihood: GeneralizedLikelihood) -> Point | None:
        """Estimates of the rows alone."""
        found = self._search(likelihood)
        return found.evaluation.point if found.end.converged else None

    def _search(self, likelihood: GeneralizedLikelihood) -> MarginalSearch:
        """Search from the estimates of all rows."""
        theta = self.rows.parametrization.to_params(self.point.factors)
        return search(likelihood, theta, self.point, Control())


@dataclass(frozen=True)
class MarginalDeletion(RowDeletion):
    """Of rows in memory, some of which are left out."""

    rows: GeneralizedRows

    @staticmethod
    def of(
        design: Design, solution: Solution, params: Vector, hessian: Matrix, nagq: int
    ) -> MarginalDeletion:
        """At the estimates of a fit."""
        rows = GeneralizedRows.of(design, merge=False)
        beta = basis_coefficients(rows, solution.beta)
        point = Point(tuple(solution.factors), beta, rows.family.coordinates(params))
        return MarginalDeletion(rows, solution.crossprod, point, hessian, max(nagq, 1))

    def without(self, keep: Mask, method: str) -> Vector:
        """The estimates without some rows; NaN where they do not exist."""
        rows = self.rows.of_mask(keep)
        return self.of_rows(rows, method) if self._can_be_estimated(rows) else self.no_estimates

    def _has_estimates(self, rows: GeneralizedRows) -> bool:
        """Whether the columns of X are independent in some of the rows."""
        return len(independent_columns(rows.X)) == rows.p

    def _can_be_estimated(self, rows: GeneralizedRows) -> bool:
        """Whether no column of a random term is zero, and those of X are independent."""
        columns = (c for factor in rows.factors for c in factor.columns if c is not None)
        return all(c.any() for c in columns) and self._has_estimates(rows)

    def held_out_density(self, rows: Codes) -> tuple[float, bool]:
        """
        Log density of some rows given the others, at the estimates of these.

        Half the difference of two marginal deviances; with whether the search converged.
        """
        keep = np.ones(len(self.rows.y), dtype=bool)
        whole = GeneralizedLikelihood(self.rows.of_mask(keep), self.nagq)
        keep[rows] = False
        others = self.rows.of_mask(keep)
        if not self._can_be_estimated(others):
            raise DataError(
                "the rows left out have levels, or combinations of them, that no other row has: "
                "their density is not determined. Leave the term out, or these rows."
            )
        found = self._search(GeneralizedLikelihood(others, self.nagq))
        change = whole.at(found.evaluation.point).deviance - found.end.value
        w = None if self.rows.weights is None else self.rows.weights[rows]
        constants = self.rows.family.constants(self.rows.y[rows], w)
        return float(constants.sum()) - 0.5 * change, bool(found.end.converged)


def _correction(hessian: Matrix, step: Vector, change: Vector, gradient: Vector) -> Vector:
    """
    Step from the end of another, by the inverse Hessian with the curvature met on it.

    The update of Broyden, Fletcher, Goldfarb and Shanno (Nocedal and Wright 2006, equation 6.17);
    nothing where the deviance is not convex along the step, or the correction exceeds it.
    """
    curvature = float(step @ change)
    if not curvature > 0.0:
        return np.zeros_like(step)
    inverse = np.linalg.pinv(hessian, rcond=1e-14, hermitian=True)
    along = step @ gradient / curvature
    other = inverse @ (gradient - along * change)
    correction = -(other + step * (along - change @ other / curvature))
    longer = correction @ hessian @ correction > step @ hessian @ step
    return np.zeros_like(step) if longer else correction
