"""Base of the mixins of ``Results``: the fitted model and its degrees of freedom."""

from __future__ import annotations

from functools import cached_property

from mixedfx.errors import check_choice
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference.denominator_df import DF_METHODS, DenominatorDf, denominator_df


class ResultsBase:
    """Base of the mixins; the dataclass ``Results`` defines the field."""

    model: FittedModel

    def _denominator_df(self, method: str) -> DenominatorDf:
        """Degrees of freedom by a method, computed once."""
        check_choice("df_method", method, DF_METHODS)
        if method not in self._df_by_method:
            self._df_by_method[method] = denominator_df(self.model, method)
        return self._df_by_method[method]

    @cached_property
    def _df_by_method(self) -> dict[str, DenominatorDf]:
        return {}
