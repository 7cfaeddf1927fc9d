"""Fits that a line of code asks for, of the source of a fit, which is read again."""

from __future__ import annotations

from typing import Any, cast

from patsy import EvalEnvironment

from mixedfx.design.build import build
from mixedfx.design.stream.streamed_rows import StreamedRows
from mixedfx.errors import RowsNotInMemory
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.estimation.optimizer_result import Control
from mixedfx.families.registry import resolve_family
from mixedfx.fit import fit_design
from mixedfx.formula.parser import parse_dispersion
from mixedfx.inference.doctor.called_fits import ParsedCall
from mixedfx.residuals.registry import residual_request
from mixedfx.sources.source import DataSource
from mixedfx.streamed import loading
from mixedfx.streamed.family_model import FamilyModel
from mixedfx.streamed.fit import StreamedFit, fit_or_reason
from mixedfx.streamed.updating import check_same_rows, complete_source

# Rows beyond which models that read them at each evaluation take minutes.
_MOST_ROWS = 1_000_000


def fit_of_source(fit: FittedModel, call: ParsedCall, data: Any) -> FittedModel | None:
    """Fit what a call asks for, by maximum likelihood; None where its rows are not comparable."""
    literals = call.literals
    source, n = complete_source(fit, data)
    env: EvalEnvironment = cast(StreamedRows, fit.rows).design.request.env
    if call.function == "lmer":
        found = _linear(call, source, n, env)
    elif "zero_inflation" in literals or "dispersion" in literals:
        return None
    else:
        _check_rows(n)
        family = resolve_family(literals.get("family", "binomial"), literals.get("link"))
        weights, offset = literals.get("weights"), literals.get("offset")
        model = FamilyModel(call.formula, family, env, Control(), weights, offset)
        found = model.fit(source)
    check_same_rows(found, n)
    return found


def _check_rows(n: int) -> None:
    if n > _MOST_ROWS:
        raise RowsNotInMemory(f"its fit reads {n:,} rows at each evaluation, which takes minutes.")


def _linear(call: ParsedCall, source: DataSource, n: int, env: EvalEnvironment) -> FittedModel:
    """Fit from sums where these are enough, else of the columns used, read into memory."""
    formula, literals = call.formula, call.literals
    text, own = literals.get("dispersion"), literals.get("residual")
    dispersion = None if text is None else parse_dispersion(text)
    given = {name: literals.get(name) for name in ("weights", "offset")}
    options = {"engine": "profiled", "residual": own}
    how = StreamedFit("profiled", False, Control(), lambda _: None, dispersion)
    found = fit_or_reason(formula, source, given, options, env, how)
    if isinstance(found, FittedModel):
        return found
    residual: Any = dispersion if own is None else residual_request(own, dispersion)
    read = residual if own is None else residual.read
    formulas = [f for f in (formula, dispersion, read) if f is not None]
    _check_rows(n)
    frame = loading.load_columns(formulas, source, tuple(given.values()), found)
    design = build(
        formula,
        frame,
        residual=residual,
        env=env,
        weights=given["weights"],
        offset=given["offset"],
    )
    return fit_design(design, engine="profiled", reml=False, control=Control())
