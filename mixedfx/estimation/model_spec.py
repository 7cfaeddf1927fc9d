"""Specification of a fixed part in patsy's form, which statsmodels evaluates on new data.

``results.predict(data)`` of a model with a formula asks ``model.design_info`` (``model_spec`` from
statsmodels 0.15) for the columns of new rows. Here each term is one factor that evaluates its
columns as predictions of a fit do, so names, levels and transforms are those of the fit, and
dependent columns are left out.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import numpy.typing as npt
from patsy import DesignInfo, Term
from patsy.design_info import FactorInfo, SubtermInfo

from mixedfx.design.new_data import evaluate_new_data
from mixedfx.design.spec import ModelSpec


class FixedPartInfo(DesignInfo):  # type: ignore[misc]
    """Terms and columns of X of a specification, evaluated by it."""

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec
        factors, codings = {}, OrderedDict()
        for term, positions in spec.fixed_info.term_slices.items():
            kept = np.flatnonzero(
                (spec.kept_columns >= positions.start) & (spec.kept_columns < positions.stop)
            )
            if not len(kept):
                continue
            factor = _TermColumns(spec, term.name(), kept)
            factors[factor] = FactorInfo(factor, "numerical", None, num_columns=len(kept))
            codings[Term([factor])] = [SubtermInfo([factor], {}, len(kept))]
        super().__init__(list(spec.X_names), factors, codings)

    def __reduce__(self) -> tuple[type[FixedPartInfo], tuple[ModelSpec]]:
        """Pickle the specification, as patsy's own class cannot be pickled."""
        return FixedPartInfo, (self.spec,)


class _TermColumns:
    """A factor of patsy: all columns of a term that are in X."""

    origin = None

    def __init__(self, spec: ModelSpec, name: str, kept: npt.NDArray[np.intp]) -> None:
        self._spec, self._name, self._kept = spec, name, kept

    def name(self) -> str:
        return self._name

    def eval(self, state: Any, data: Any) -> npt.NDArray[np.float64]:
        X = evaluate_new_data(self._spec, data, groups=()).X
        return np.asarray(X[:, self._kept])


def attach_formula(model: Any, spec: ModelSpec) -> Any:
    """Let a model of statsmodels evaluate the fixed part on new data; returns the model."""
    model.formula = f"{spec.formula.response} ~ {spec.formula.fixed}"
    model.design_info = model.model_spec = FixedPartInfo(spec)
    return model
