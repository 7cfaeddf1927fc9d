"""Fits that a line of code asks for, of the rows of a fit."""

from __future__ import annotations

import ast
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mixedfx._names import decode
from mixedfx.design.build import Design
from mixedfx.design.family_residual import FamilyResidual
from mixedfx.errors import MixedfxError
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.families.registry import resolve_family
from mixedfx.formula.parser import parse, parse_dispersion
from mixedfx.formula.terms import Formula
from mixedfx.inference.checks.code import residual_arguments
from mixedfx.rebuilding import built, rebuilt, refitted
from mixedfx.residuals.correlated_dispersion import CorrelatedDispersion
from mixedfx.residuals.registry import residual_request

_RESIDUAL = ("dispersion", "residual")
# What a refit of a changed model can end with.
FAILURES = (MixedfxError, np.linalg.LinAlgError, FloatingPointError, NotImplementedError)


@dataclass(frozen=True)
class ParsedCall:
    """Parts of a call that fits a model."""

    function: str  # lmer or glmer
    formula: Formula
    literals: dict[str, Any]  # arguments by keyword; others are names of what a fit has


def parsed_call(code: str) -> ParsedCall | None:
    """
    Parts of ``mfx.lmer("...", data, ...)``; None where code is no such call.

    Nothing is evaluated: the text is one of :mod:`mixedfx.inference.checks.code`, whose arguments
    are literals, or names of what the fit has.
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
    return ParsedCall(function, formula, literals)


def fit_of_call(fit: FittedModel, code: str) -> FittedModel | None:
    """Fit what a call asks for, by maximum likelihood; None where it is no such call."""
    call = parsed_call(code)
    if call is None:
        return None
    formula, literals = call.formula, call.literals
    if call.function == "lmer":
        design = _linear(fit, formula, literals)
    elif "zero_inflation" in literals or "dispersion" in literals:
        return None
    else:
        family = resolve_family(literals.get("family", "binomial"), literals.get("link"))
        design = built(fit, formula, fit.rows.model_frame, {"family": family})
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
    return built(fit, formula, frame, {"residual": residual})
