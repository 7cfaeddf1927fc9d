"""Fits of the rows of a fit with another formula or other arguments, without its data frame."""

from __future__ import annotations

import ast
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from mixedfx._names import decode
from mixedfx.design.build import Design, build
from mixedfx.design.family_residual import FamilyResidual
from mixedfx.errors import MixedfxError
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.estimation.optimizer_result import Control
from mixedfx.families.registry import resolve_family
from mixedfx.fit import fit_design
from mixedfx.formula.parser import parse, parse_dispersion
from mixedfx.formula.terms import Formula
from mixedfx.inference.checks.code import residual_arguments
from mixedfx.residuals.correlated_dispersion import CorrelatedDispersion
from mixedfx.residuals.registry import residual_request

_RESIDUAL = ("dispersion", "residual")
# What a refit of a changed model can end with.
FAILURES = (MixedfxError, np.linalg.LinAlgError, FloatingPointError, NotImplementedError)


def rebuilt(fit: FittedModel, formula: Formula, frame: pd.DataFrame | None = None) -> Design:
    """Design of another formula on the rows of a fit, with its residual model and family."""
    original = fit.original_design
    frame = fit.rows.model_frame if frame is None else frame
    design = _built(fit, formula, frame, {"family": fit.spec.family})
    spec = replace(design.spec, residual=original.spec.residual, formula=formula)
    return Design(spec, replace(design.rows, residual=original.rows.residual))


def refitted(
    fit: FittedModel,
    design: Design,
    *,
    reml: bool | None = None,
    engine: str = "profiled",
    start: Any = None,
) -> FittedModel:
    """Fit of a design by the criterion of a fit."""
    reml = fit.reml if reml is None else reml
    return fit_design(design, engine=engine, reml=reml, control=Control(), start=start)


def fit_of_call(fit: FittedModel, code: str) -> FittedModel | None:
    """
    Fit what ``mfx.lmer("...", data, ...)`` asks for, by maximum likelihood.

    Nothing is evaluated: the text is one of :mod:`mixedfx.inference.checks.code`, whose arguments
    are literals, or names of what the fit has. None where it is no such call.
    """
    found = ast.parse(code, mode="eval").body
    if not isinstance(found, ast.Call) or not isinstance(found.func, ast.Attribute):
        return None
    function, arguments = found.func.attr, found.args
    if function not in ("lmer", "glmer") or len(arguments) != 2:
        return None
    if not (isinstance(arguments[0], ast.Constant) and isinstance(arguments[1], ast.Name)):
        return None
    formula = parse(str(arguments[0].value))
    literals = {
        str(k.arg): k.value.value for k in found.keywords if isinstance(k.value, ast.Constant)
    }
    if function == "lmer":
        design = _linear(fit, formula, literals)
    elif "zero_inflation" in literals or "dispersion" in literals:
        return None
    else:
        family = resolve_family(literals.get("family", "binomial"), literals.get("link"))
        design = _built(fit, formula, fit.rows.model_frame, {"family": family})
        nagq = getattr(fit.spec.residual, "nagq", 1)
        residual = FamilyResidual(design.spec.family, nagq)
        design = replace(design, spec=replace(design.spec, residual=residual))
    return refitted(fit, design, reml=False)


def _linear(fit: FittedModel, formula: Formula, literals: dict[str, Any]) -> Design:
    """
    Design with the residual model that is asked for, where it is not the fit's own.

    The rows of a fit have the variables of its formula and those of ``dispersion=``; of
    ``residual=`` they have the model, which stays.
    """
    spec, rows = fit.spec.residual, fit.original_design.rows.residual
    own = residual_arguments(fit) if spec.argument else {}
    own = {name: ast.literal_eval(own[name]) for name in _RESIDUAL if name in own}
    asked = {name: literals[name] for name in _RESIDUAL if name in literals}
    if not asked or asked == own:
        return rebuilt(fit, formula)
    frame = fit.rows.model_frame
    of_scale = {decode(name): column for name, column in rows.dispersion_variables.items()}
    frame = frame.assign(**{n: of_scale[n].array for n in of_scale if n not in frame})
    text = asked.get("dispersion")
    residual: Any = None if text is None else parse_dispersion(text)
    if "residual" in asked:
        residual = residual_request(asked["residual"], residual)
        if asked["residual"] == own.get("residual"):
            model = rows.plain if isinstance(rows, CorrelatedDispersion) else rows
            nothing = Formula("", "1", ())  # is read: the rows have the model
            residual = replace(residual, formula=nothing, build=lambda _: (spec, model))
    return _built(fit, formula, frame, {"residual": residual})


def _built(
    fit: FittedModel, formula: Formula, frame: pd.DataFrame, arguments: dict[str, Any]
) -> Design:
    """Build a design with the weights, offset and relationships of a fit."""
    original = fit.original_design
    spec, weights = original.spec, fit.prior_weights
    if weights is not None and spec.fixed_sigma is not None and spec.residual.linear:
        arguments["residual_sd"] = weights**-0.5
    elif spec.response.n_parts == 1:
        arguments["weights"] = weights
    relmat = {g: known for g, known in spec.relationships.items() if g in formula.groups}
    plain = replace(formula, offset="")  # the rows have the sum of all offsets
    design = build(
        plain, frame, env=spec.env, relmat=relmat or None, offset=original.rows.offset, **arguments
    )
    return replace(design, spec=replace(design.spec, formula=formula))
