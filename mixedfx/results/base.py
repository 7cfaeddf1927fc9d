"""Base of the mixins of ``Results``: the fitted model and its degrees of freedom."""

from __future__ import annotations

from mixedfx._cached import cached_property
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference.denominator_df import (
    DenominatorDf,
    denominator_df,
    resolve_df_method,
)


class ResultsBase:
    """Base of the mixins; the dataclass ``Results`` defines the field."""

    model: FittedModel

    def _denominator_df(self, method: str) -> DenominatorDf:
        """Degrees of freedom by a method, computed once."""
        method = resolve_df_method(self.model, method)
        if method not in self._df_by_method:
            self._df_by_method[method] = denominator_df(self.model, method)
        return self._df_by_method[method]

    @cached_property
    def _df_by_method(self) -> dict[str, DenominatorDf]:
        return {}
