"""Families that mend what another one gets wrong, and how the response is spread."""

from __future__ import annotations

from dataclasses import replace

from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.formula.terms import RandomTerm
from mixedfx.inference.checks.code import call, with_code

# Of a family whose response varies more than it says, one with another variance.
_WIDER = {"poisson": "nbinom2", "binomial": "betabinomial", "nbinom1": "nbinom2"}
_WIDER |= {"gamma": "inverse_gaussian"}
# Of one that has the variance, but not its tails: the family that normal effects of rows widen.
_WITH_EFFECTS_OF_ROWS = {"nbinom2": "poisson"}


def has_single_trials(fit: FittedModel) -> bool:
    """Whether the response is of trials, one a row."""
    weights = fit.rows.weights
    return fit.spec.family.takes_trials and (weights is None or bool((weights <= 1.0).all()))


def wider_family(fit: FittedModel) -> str:
    """Call with a family of another variance; empty where there is none."""
    family = fit.spec.family
    if fit.spec.residual.linear or has_single_trials(fit) or _has_effects_of_rows(fit):
        return ""
    if family.name in _WITH_EFFECTS_OF_ROWS:
        name = next(n for n in ("row", "each_row", "number_of_row") if n not in fit.spec.variables)
        formula = replace(fit.formula, random=(*fit.formula.random, RandomTerm("1", (name,))))
        code = call(fit, formula, family=_WITH_EFFECTS_OF_ROWS[family.name])
        return code.replace(", data,", f", data.assign({name}=range(len(data))),", 1)
    return call(fit, family=_WIDER[family.name]) if family.name in _WIDER else ""


def advice_on_spread(fit: FittedModel, what: str) -> str:
    """A sentence, and a call with a family of another variance, where there is one."""
    return with_code(what, wider_family(fit))


def _has_effects_of_rows(fit: FittedModel) -> bool:
    """Whether a random term has a level for each row."""
    return any(len(term.levels) == fit.rows.n for term in fit.spec.random_terms)
