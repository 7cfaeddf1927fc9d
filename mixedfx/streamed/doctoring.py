"""Other models of rows that were read in chunks, for ``fit.doctor()``.

A model of fewer random effects has combinations of the same sums; others, and a fit without the
rows of each level, read the source again where it is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from mixedfx.design.stream.streamed_rows import StreamedRows
from mixedfx.design.submodels import ReducedTerm, with_fewer_effects, with_random_terms
from mixedfx.errors import RowsNotInMemory
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.estimation.optimizer_result import Control
from mixedfx.formula.expansion import terms_of
from mixedfx.formula.terms import Formula
from mixedfx.inference import blocked_influence
from mixedfx.inference.checks.code import call
from mixedfx.inference.doctor.called_fits import ParsedCall, parsed_call
from mixedfx.inference.doctor.models import Models, ModelsOfRows
from mixedfx.rebuilding import Criterion, refitted
from mixedfx.streamed.called_fits import fit_of_source
from mixedfx.streamed.family_summaries import completed
from mixedfx.streamed.level_influence import level_influence
from mixedfx.streamed.updating import check_in_chunks, updated_from_source


def models_of(fit: FittedModel, data: Any) -> Models:
    """Models of the rows of a fit, or of the source that it read."""
    check_in_chunks(fit, data)
    return ModelsOfSource(data) if isinstance(fit.rows, StreamedRows) else ModelsOfRows()


@dataclass(frozen=True)
class ModelsOfSource:
    """Fits of the rows of a source; without it (None), those that sums of the rows have."""

    data: Any = None

    @property
    def otherwise(self) -> str:
        """By the source, where it is not given."""
        if self.data is not None:
            return ""
        return "fit.doctor(data=source) reads them again."

    def with_formula(self, fit: FittedModel, formula: Formula) -> FittedModel:
        """From the sums, or from the source."""
        reduced = _reduced_terms(fit, formula)
        if reduced is None:
            return self._read(fit, formula, reml=fit.reml)
        return completed(refitted(fit, with_random_terms(fit.original_design, reduced)))

    def of_call(self, fit: FittedModel, code: str) -> FittedModel | None:
        """From the source, that of the fit's own arguments from sums of it."""
        asked, own = parsed_call(code), parsed_call(call(fit))
        if asked is None or own is None:
            return None
        if _arguments(asked) == _arguments(own):
            return self._read(fit, asked.formula, reml=False)
        if self.data is None:
            raise RowsNotInMemory("a fit with other arguments reads all rows anew.")
        return fit_of_source(fit, asked, self.data)

    def influence(self, fit: FittedModel, group: str) -> pd.DataFrame:
        """From the file of a generalised fit, or the sums by level of a linear one."""
        if fit.rows.has_file:
            return blocked_influence.level_influence(fit, group, "one_step")
        if self.data is None or not fit.spec.residual.linear:
            raise RowsNotInMemory("the influence of levels reads the rows again.")
        return level_influence(fit, group, "one_step", self.data)

    def deletion_size(self, fit: FittedModel) -> int:
        """The rows in a file, or the random effects."""
        return fit.rows.n if fit.rows.has_file else fit.crossprod.symbolic.size

    def _read(self, fit: FittedModel, formula: Formula, *, reml: bool) -> FittedModel:
        if self.data is None:
            raise RowsNotInMemory("another formula reads the rows again.")
        how = Criterion(reml=reml, engine="profiled", control=Control(), env=fit.spec.env)
        return updated_from_source(fit, formula, self.data, how)


def _arguments(call: ParsedCall) -> tuple[str, dict[str, Any]]:
    """Function and arguments but the criterion, which is maximum likelihood."""
    return call.function, {name: v for name, v in call.literals.items() if name != "reml"}


def _reduced_terms(fit: FittedModel, formula: Formula) -> Mapping[int, ReducedTerm | None] | None:
    """The random terms of a formula as parts of those of the fit; None where they are not."""
    own = fit.formula
    if (formula.fixed, formula.response, formula.offset) != (own.fixed, own.response, own.offset):
        return None
    found: dict[int, ReducedTerm | None] = dict.fromkeys(range(len(own.random)))
    for term in formula.random:
        wanted = {t.name() for t in terms_of(term.effects)}
        candidates = [
            (len(have - wanted), t)
            for t, whole in enumerate(own.random)
            for have in [{e.name() for e in terms_of(whole.effects)}]
            if found[t] is None and whole.group == term.group and wanted <= have
        ]
        if not candidates:
            return None
        t = min(candidates)[1]
        whole, k = fit.spec.random_terms[t], len(fit.spec.random_terms[t].effect_names)
        spec, columns = whole, np.arange(k)
        if whole.info is not None and min(candidates)[0]:
            left = [e for e in whole.info.terms if e.name() in wanted]
            spec = with_fewer_effects(whole, left)
            slices = [whole.info.term_slices[e] for e in left]
            columns = np.sort(np.concatenate([np.arange(k)[part] for part in slices]))
        combination = np.eye(k)[:, columns]
        found[t] = ReducedTerm(replace(spec, formula_term=term), combination)
    return found
