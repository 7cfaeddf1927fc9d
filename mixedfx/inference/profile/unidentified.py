"""Deviance of the models in which a correlation has no effect: an effect does not vary.

A correlation is defined where two effects vary. With a standard deviation of zero the deviance is
the same at every value of it, so its profile is

    D(rho) = min( min_x d(rho, x),  D_1(0),  D_2(0) )

with ``D_i(0)`` the profile of the effects' standard deviations at zero. A search with rho fixed
moves on both sides of this boundary's ridge, and finds the first of the three only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference.parameters import Parameter, parameters
from mixedfx.inference.profile.dispatch import Optimum, profile_parameter
from mixedfx.inference.profile.root import ProfileBranch


class UnidentifiedDeviance:
    """
    The lowest deviance of a fit with a parameter not identified.

    Each standard deviation is profiled at zero once, for all correlations of its effect.
    """

    def __init__(self, fit: FittedModel, optimum: Optimum) -> None:
        self.fit, self.optimum = fit, optimum
        self._at_zero: dict[str, float] = {}

    def of(self, parameter: Parameter) -> float:
        """Compute it for one parameter; infinite for those that are identified everywhere."""
        if parameter.kind in ("sd", "sigma", "fixed", "dispersion"):
            return math.inf
        return min(map(self._without, self._sds(parameter)), default=math.inf)

    def _sds(self, correlation: Parameter) -> Sequence[Parameter]:
        """Standard deviations that leave fewer than two of the correlated effects where zero."""
        assert correlation.term is not None
        n_effects = len(self.fit.spec.random_terms[correlation.term].effect_names)
        correlated = _effects(correlation, n_effects)
        return [
            p
            for p in parameters(self.fit)
            if p.term == correlation.term
            and p.kind == "sd"
            and len(correlated - _effects(p, n_effects)) < 2
        ]

    def _without(self, sd: Parameter) -> float:
        """Deviance with a standard deviation of zero."""
        if sd.name not in self._at_zero:
            profiled = profile_parameter(self.fit, self.optimum, sd)
            assert profiled is not None
            self._at_zero[sd.name] = ProfileBranch(profiled, -1.0).at_bound().deviance
        return self._at_zero[sd.name]


def _effects(parameter: Parameter, n_effects: int) -> set[int]:
    """Effects that a standard deviation or correlation belongs to."""
    if parameter.first is None:
        return set(range(n_effects))
    return {parameter.first} if parameter.second is None else {parameter.first, parameter.second}
