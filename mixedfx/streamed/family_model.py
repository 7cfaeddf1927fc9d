"""A generalised model of a source: of rows in memory, equal ones merged, or of rows in a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from patsy import EvalEnvironment

from mixedfx.design.predictors import family_design
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.estimation.optimizer_result import Control
from mixedfx.families.family import Family
from mixedfx.fit import fit_design
from mixedfx.formula.terms import Formula
from mixedfx.sources.source import DataSource
from mixedfx.streamed.generalized import GeneralizedFit, fit_generalized_source
from mixedfx.streamed.loading import reason_for_memory
from mixedfx.streamed.merging import TableRequest, read_table


@dataclass(frozen=True)
class FamilyModel:
    """Formula, family and arguments; weights and offset are names of columns."""

    formula: Formula
    family: Family
    env: EvalEnvironment
    control: Control
    weights: str | None = None
    offset: str | None = None
    nagq: int = 1
    parts: Mapping[str, Formula] = field(default_factory=dict)  # of further predictors
    relmat: Mapping[str, Any] | None = None

    def fit(self, source: DataSource) -> FittedModel:
        """Fit the rows in memory if they are not too many, else in a file."""
        given = {"relmat": self.relmat, **self.parts}
        request = TableRequest(
            source,
            self.formula,
            tuple(self.parts.values()),
            self.family,
            weights=self.weights,
            offset=self.offset,
            is_chunked=False,
            in_memory_for=reason_for_memory(self.formula, self.nagq, given),
        )
        table = read_table(request)
        if table is None:
            in_blocks = GeneralizedFit(self.family, self.control, lambda _: None)
            arguments = {"weights": self.weights, "offset": self.offset}
            return fit_generalized_source(self.formula, source, arguments, self.env, in_blocks)
        design = family_design(
            self.formula,
            table.frame,
            self.parts,
            self.nagq,
            self.relmat,
            {
                "weights": table.weights,
                "offset": self.offset,
                "family": self.family,
                "env": self.env,
            },
        )
        counted = table.counted(design)
        found = fit_design(counted, engine="auto", reml=False, control=self.control)
        return replace(found, notes=(*found.notes, *table.notes))
