"""Families that mend what another one gets wrong, and how the response is spread."""

from __future__ import annotations

from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference.checks.code import call, with_code

# Of a family whose response varies more than it says, the one with a parameter for it.
_WIDER = {"poisson": "nbinom2", "binomial": "betabinomial", "nbinom2": "nbinom1"}
_WIDER |= {"nbinom1": "nbinom2", "gamma": "inverse_gaussian"}


def wider_family(fit: FittedModel) -> str:
    """Call with a family of another variance; empty where there is none."""
    family = fit.spec.family
    name = _WIDER.get(family.name)
    weights = fit.rows.weights
    no_trials = family.takes_trials and (weights is None or bool((weights <= 1.0).all()))
    if name is None or fit.spec.residual.linear or no_trials:
        return ""
    return call(fit, family=name)


def advice_on_spread(fit: FittedModel, what: str) -> str:
    """A sentence, and a call with a family of another variance, where there is one."""
    return with_code(what, wider_family(fit))
