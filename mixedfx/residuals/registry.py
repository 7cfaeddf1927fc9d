"""Residual models of the built-in arguments of ``lmer``, and those known by name."""

from __future__ import annotations

from collections.abc import Callable

from mixedfx.design.build import Design
from mixedfx.design.dispersion import DispersionRows, DispersionSpec
from mixedfx.design.residual import EqualVariances, KnownStandardDeviations, ResidualSpec
from mixedfx.residuals.log_linear import LocationScale, LogLinear
from mixedfx.residuals.model import Homoscedastic, KnownVariances, ResidualModel


def _log_linear(spec: DispersionSpec, rows: DispersionRows) -> ResidualModel:
    return LocationScale(spec, rows) if spec.has_random_effects else LogLinear(spec, rows)


_BUILT_IN: dict[type[ResidualSpec], Callable[..., ResidualModel]] = {
    EqualVariances: lambda spec, _: Homoscedastic(spec),
    KnownStandardDeviations: lambda spec, _: KnownVariances(spec),
    DispersionSpec: _log_linear,
}


def residual_model(design: Design) -> ResidualModel:
    """Residual model on the rows of a design."""
    spec, rows = design.spec.residual, design.rows.residual
    return rows if isinstance(rows, ResidualModel) else _BUILT_IN[type(spec)](spec, rows)
