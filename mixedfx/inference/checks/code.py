"""Calls that fit a model again with something changed, as text to copy."""

from __future__ import annotations

import ast
from dataclasses import replace

from mixedfx._names import encode, written
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.families.cumulative import Cumulative
from mixedfx.families.thresholds import FLEXIBLE
from mixedfx.formula.terms import Formula


def call(fit: FittedModel, formula: Formula | None = None, **changes: str) -> str:
    """``mfx.lmer("y ~ x + (1 | g)", data, ...)`` of a fit, some arguments changed or added."""
    spec = fit.spec
    linear = spec.residual.linear and "family" not in changes
    arguments: dict[str, str] = {}
    if not linear:
        family, link = spec.family, spec.family.link.name
        arguments["family"] = quoted(family.name)
        if "family" not in changes and link != family.links[0]:
            arguments["link"] = quoted(link)
        if isinstance(family, Cumulative) and family.thresholds != FLEXIBLE:
            arguments["thresholds"] = quoted(family.thresholds.name)
        arguments |= {
            name: quoted(formula_of_predictor)
            for name, formula_of_predictor in spec.residual.further_arguments.items()
            # A formula of the parameter of one family is none of another's.
            if name != "dispersion" or "family" not in changes
        }
    if linear and spec.residual.argument:
        arguments |= residual_arguments(fit)
    elif linear and not fit.reml and not spec.is_least_squares:
        arguments["reml"] = "False"
    if spec.weights_column:
        arguments["weights"] = quoted(spec.weights_column)
    elif _has_array_of_weights(fit):
        arguments["weights"] = "weights"
    if spec.offset_is_argument:
        arguments["offset"] = quoted(spec.offset_column) if spec.offset_column else "offset"
    if spec.relationships:
        arguments["relmat"] = "relmat"
    arguments |= {name: quoted(value) for name, value in changes.items()}
    rest = "".join(f", {name}={value}" for name, value in arguments.items())
    function = "lmer" if linear else "glmer"
    return f"mfx.{function}({quoted(str(formula or fit.formula))}, data{rest})"


def residual_arguments(fit: FittedModel) -> dict[str, str]:
    """Arguments that ask for the residual model, by keyword, as text."""
    spec = fit.spec.residual
    if spec.argument.endswith("="):  # the column of known standard deviations
        column = getattr(spec, "column", None)
        return {spec.keyword: quoted(column) if column else spec.keyword}
    found = ast.parse(f"f({spec.argument})", mode="eval").body
    assert isinstance(found, ast.Call)
    values = ((k.arg, k.value) for k in found.keywords)
    return {str(name): quoted(ast.literal_eval(value)) for name, value in values}


def takes_residual_model(fit: FittedModel) -> bool:
    """Whether a linear model takes ``dispersion=``, ``residual=`` and other families."""
    terms = fit.spec.random_terms
    plain = all(term.is_plain and term.positions is None for term in terms)
    return plain and fit.spec.residual.linear and fit.spec.residual.estimates_sigma


def _has_array_of_weights(fit: FittedModel) -> bool:
    """Whether weights were given as values, and not by trials or known standard deviations."""
    spec = fit.spec
    by_argument = spec.residual.estimates_sigma or not spec.residual.linear
    return spec.response.n_parts == 1 and by_argument and fit.has_prior_weights


def logarithm(fit: FittedModel) -> str:
    """Call with the logarithm of the response, where that is one positive column; else empty."""
    response = fit.formula.response
    if not (fit.rows.y > 0.0).all() or not response.isidentifier():
        return ""
    return call(fit, replace(fit.formula, response=f"log({response})"))


def with_code(text: str, code: str) -> str:
    """A sentence, and code in a line of its own if there is any."""
    return f"{text}\n{code}" if code else text


def quoted(text: str) -> str:
    """Text as a literal of Python, in double quotes where it has none."""
    return f'"{text}"' if '"' not in text and "\\" not in text else repr(text)


def name_of(column: str) -> str:
    """A column as it is written in a formula."""
    return written(encode(column))


def with_fixed(fit: FittedModel, term: str) -> Formula:
    """The formula with one more fixed term."""
    formula = fit.formula
    fixed = f"{formula.fixed} + {term}" if formula.fixed not in ("", "1") else f"1 + {term}"
    return replace(formula, fixed=fixed)


def curve(fit: FittedModel, name: str) -> str:
    """Square of a column, if the formula has none yet; else empty."""
    term = f"I({name} ** 2)"
    return "" if term in str(fit.formula) else term


def with_slope(fit: FittedModel, group: str, slope: str) -> Formula:
    """The formula with a random slope in the first term of a grouping factor."""
    terms = list(fit.formula.random)
    t = next(t for t, term in enumerate(terms) if term.group_name == group)
    effects = slope if terms[t].effects == "1" else f"{terms[t].effects} + {slope}"
    terms[t] = replace(terms[t], effects=effects)
    return replace(fit.formula, random=tuple(terms))


def with_dispersion(fit: FittedModel, term: str) -> str:
    """Call with one more term in the dispersion formula; empty where that cannot be."""
    arguments = residual_arguments(fit) if fit.spec.residual.argument else {}
    text = arguments.get("dispersion", "").strip("\"'")
    random_beside_residual = term.startswith("(") and "residual" in arguments
    if not takes_residual_model(fit) or term in text or random_beside_residual:
        return ""
    return call(fit, dispersion=f"{text} + {term}" if text else f"~ {term}")


def with_student(fit: FittedModel) -> str:
    """Call with Student's distribution of the residuals; empty where that cannot be."""
    plain = takes_residual_model(fit) and not fit.spec.residual.argument
    return call(fit, family="student") if plain else ""
