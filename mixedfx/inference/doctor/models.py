"""How other models of the rows of a fit are fitted, wherever the rows are."""

from __future__ import annotations

from typing import Protocol

import pandas as pd

from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.formula.terms import Formula
from mixedfx.inference.doctor.called_fits import fit_of_call
from mixedfx.inference.influence import level_influence
from mixedfx.rebuilding import rebuilt, refitted


class Models(Protocol):
    """Fits of the rows of a fit; RowsNotInMemory where what it has of them is not enough."""

    @property
    def otherwise(self) -> str:
        """How what was not tried is tried, as a sentence."""
        ...

    def with_formula(self, fit: FittedModel, formula: Formula) -> FittedModel:
        """Fit of another formula by the same criterion."""
        ...

    def of_call(self, fit: FittedModel, code: str) -> FittedModel | None:
        """Fit that a call asks for, by maximum likelihood; None where it is no such call."""
        ...

    def influence(self, fit: FittedModel, group: str) -> pd.DataFrame:
        """Change of the estimates without each level of a grouping factor, by one step."""
        ...

    def deletion_size(self, fit: FittedModel) -> int:
        """Size of what the estimates without a level are computed from."""
        ...


class ModelsOfRows:
    """Fits of rows in memory."""

    otherwise = ""

    def with_formula(self, fit: FittedModel, formula: Formula) -> FittedModel:
        """By a design that is built anew."""
        return refitted(fit, rebuilt(fit, formula))

    def of_call(self, fit: FittedModel, code: str) -> FittedModel | None:
        """By a design that is built anew."""
        return fit_of_call(fit, code)

    def influence(self, fit: FittedModel, group: str) -> pd.DataFrame:
        """From the rows of the other levels."""
        return level_influence(fit, group, "one_step")

    def deletion_size(self, fit: FittedModel) -> int:
        """The rows."""
        return fit.rows.n
