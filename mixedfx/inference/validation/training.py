"""Fits of some of the rows of a fit, their specification learned from these rows alone.

The columns of the formula are built anew from the rows that are kept, as a fit of a table without
the others builds them: knots, means and scales of transforms, levels and dependent columns are
those of the kept rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx._cached import cached_property
from mixedfx._names import decode
from mixedfx.design.build import Design, build
from mixedfx.design.dispersion import DispersionSpec
from mixedfx.design.family_residual import FamilyResidual
from mixedfx.design.new_data import offset_beside_formula
from mixedfx.design.residual import ResidualRequest, ResidualSpec, WrittenResidual
from mixedfx.design.spec import ModelSpec
from mixedfx.errors import ArgumentError
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.estimation.optimizer_result import Control
from mixedfx.fit import fit_design
from mixedfx.formula.terms import Formula
from mixedfx.residuals.registry import residual_request

Vector = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

# Names of columns of values that were given as arrays.
_WEIGHTS, _OFFSET, _SDS = "weights of the rows", "offset of the rows", "residual sds of the rows"


def learns_from_rows(spec: ModelSpec) -> bool:
    """Whether columns depend on other rows: by a transform that learns, or otherwise."""
    infos = [spec.fixed_info, *(term.info for term in spec.random_terms)]
    states = [i.state for info in infos if info is not None for i in info.factor_infos.values()]
    of_terms = any(term.row_dependent for term in spec.random_terms)
    return any(state["transforms"] for state in states) or bool(spec.row_dependent) or of_terms


@dataclass(frozen=True)
class TrainingRows:
    """Rows of a fit as a table, with what was given beside it as columns."""

    fit: FittedModel

    @property
    def _knows_sds(self) -> bool:
        residual = self.fit.spec.residual
        return residual.linear and not residual.estimates_sigma

    @cached_property
    def weights(self) -> Vector | None:
        """Prior weights, or numbers of trials, (n,); None with known standard deviations."""
        return None if self._knows_sds else self.fit.prior_weights

    @cached_property
    def arguments(self) -> dict[str, str]:
        """Columns of the arguments of each row."""
        response, spec = self.fit.spec.response, self.fit.spec
        found = {}
        if self._knows_sds:
            found["residual_sd"] = _SDS
        elif self.weights is not None and response.n_parts == 1:
            found["weights"] = _WEIGHTS
        if spec.offset_is_argument:
            found["offset"] = _OFFSET
        return found

    @cached_property
    def frame(self) -> pd.DataFrame:
        """Columns that the model reads."""
        fit, rows = self.fit, self.fit.rows
        columns = dict(rows.columns)
        further = {**getattr(rows.residual, "variables", {}), **fit.residual.structure_columns}
        columns |= {decode(name): column for name, column in further.items()}
        index = pd.RangeIndex(rows.n)
        frame = pd.DataFrame({n: pd.Series(c.array, index=index) for n, c in columns.items()})
        values: dict[str, Vector | None] = {}
        if _WEIGHTS in self.arguments.values():
            values[_WEIGHTS] = self.weights
        if self._knows_sds and rows.weights is not None:
            values[_SDS] = 1.0 / np.sqrt(rows.weights)
        if fit.spec.offset_is_argument and rows.offset is not None:
            values[_OFFSET] = offset_beside_formula(fit.spec, rows.offset, frame)
        return frame.assign(**values)

    def design(self, train: Codes) -> Design:
        """Design of some of the rows."""
        spec = self.fit.spec
        design = build(
            spec.formula,
            self.frame.iloc[train],
            residual=_request(spec.residual),
            family=spec.family,
            env=spec.env,
            relmat=spec.relationships or None,
            **self.arguments,
        )
        if isinstance(spec.residual, FamilyResidual):
            residual = replace(spec.residual, family=design.spec.family)
            design = replace(design, spec=replace(design.spec, residual=residual))
        return design

    def refitted(self, train: Codes) -> FittedModel:
        """The fit of some of the rows, from the parameters of all."""
        fit = self.fit
        design = self.design(train)
        return fit_design(
            design,
            engine="profiled",
            reml=fit.reml,
            control=Control(),
            start=self._start(design),
            priors=fit.priors,
        )

    def _start(self, design: Design) -> Vector | None:
        """Theta of all rows, where it is all that is searched for or is a start of all."""
        plain = self.fit.residual.model.estimator in ("engine", "marginal")
        names = [[t.effect_names for t in s.random_terms] for s in (design.spec, self.fit.spec)]
        if not plain or self.fit.priors.specified or names[0] != names[1]:
            return None
        return self.fit.solution.theta if len(self.fit.solution.theta) else None

    def check_response(self, train: Codes) -> None:
        """Refuse a response whose values depend on other rows."""
        fit = self.fit
        if fit.formula.response in self.frame.columns:
            return
        y = self.design(train).rows.y
        if not np.allclose(y, fit.rows.y[train], rtol=1e-8, atol=1e-12):
            raise ArgumentError(
                f"the response '{fit.formula.response}' is computed from all rows, and those that "
                "are predicted must not be among them: compute it before, as a column."
            )


def _request(spec: ResidualSpec) -> ResidualRequest | Formula | None:
    """What ``lmer`` was asked for."""
    if isinstance(spec, DispersionSpec):
        return spec.formula
    if isinstance(spec, WrittenResidual):
        dispersion = getattr(spec, "dispersion", None)
        return residual_request(spec.text, None if dispersion is None else dispersion.formula)
    return None
