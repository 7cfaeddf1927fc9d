"""Estimates of several linear predictors without some of the rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from mixedfx.design.checks import independent_columns
from mixedfx.estimation.glmm.deletion import MarginalDeletion
from mixedfx.estimation.glmm.working import basis_coefficients, own_coefficients
from mixedfx.likelihood.crossproducts import CrossProducts
from mixedfx.likelihood.generalized.likelihood import Point
from mixedfx.likelihood.generalized.rows import GeneralizedRows
from mixedfx.likelihood.generalized.several_predictors import SeveralRows
from mixedfx.likelihood.pls import Solution

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SeveralDeletion(MarginalDeletion):
    """The optimum of all predictors; the estimates of the first predictor stand first."""

    further: Mapping[str, CrossProducts]  # of the working models of the others, by argument

    @staticmethod
    def of_parts(
        rows: SeveralRows,
        solution: Solution,
        parts: Mapping[str, Any],
        *,
        params: Vector,
        hessian: Matrix,
        nagq: int,
    ) -> SeveralDeletion:
        """At the estimates of a fit; the Hessian has the order of the search."""
        solutions = [solution, *(part.solution for part in parts.values())]
        beta = basis_coefficients(rows, np.concatenate([one.beta for one in solutions]))
        factors = tuple(F for one in solutions for F in one.factors)
        point = Point(factors, beta, rows.family.coordinates(params))
        further = {name: part.crossprod for name, part in parts.items()}
        return SeveralDeletion(rows, solution.crossprod, point, hessian, nagq, further)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the estimates, those of further predictors after their argument."""
        found = [*self.crossprod.names]
        for argument, of_part in self.further.items():
            found += [f"{argument}({name})" for name in of_part.names]
        found += self.rows.family.param_names
        found += [f"theta[{i}]" for i in range(self.crossprod.parametrization.size)]
        for argument, of_part in self.further.items():
            size = of_part.parametrization.size
            found += [f"{argument}(theta[{i}])" for i in range(size)]
        return tuple(found)

    def _of_point(self, point: Point) -> Vector:
        rows = cast(SeveralRows, self.rows)
        values = [own_coefficients(rows, point.beta)]
        values.append(rows.family.natural(point.family_coordinates))
        crossproducts = [self.crossprod, *self.further.values()]
        for own, crossprod in zip(rows.term_slices, crossproducts, strict=True):
            values.append(crossprod.theta(point.factors[own]))
        return np.concatenate(values)

    def _has_estimates(self, rows: GeneralizedRows) -> bool:
        parts = cast(SeveralRows, rows).parts
        return all(len(independent_columns(part.X)) == part.p for part in parts)
