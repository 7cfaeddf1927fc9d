"""Residual models of the built-in arguments of ``lmer``, and those known by name.

``residual="name(columns)"`` asks for a model that :func:`register_residual` has made known. The
built-in ones are asked for by arguments of their own, ``residual_sd=`` and ``dispersion=``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import pandas as pd

from mixedfx.covariance.elsewhere import nearest_structure
from mixedfx.covariance.registry import STRUCTURES
from mixedfx.design.build import Design
from mixedfx.design.dispersion import DispersionRows, DispersionSpec
from mixedfx.design.family_residual import FamilyResidual
from mixedfx.design.predictors import SeveralFormulas
from mixedfx.design.residual import (
    EqualVariances,
    KnownStandardDeviations,
    ResidualRequest,
    ResidualRows,
    ResidualSpec,
)
from mixedfx.errors import ArgumentError, brief, did_you_mean
from mixedfx.formula import residual as residual_formula
from mixedfx.formula.terms import Formula
from mixedfx.residuals import correlated_dispersion, correlated_request, log_linear
from mixedfx.residuals.model import (
    FamilyModel,
    Homoscedastic,
    KnownVariances,
    ResidualModel,
    SeveralModel,
)

if TYPE_CHECKING:
    from mixedfx.residuals.correlated import Correlated


def _log_linear(spec: DispersionSpec, rows: DispersionRows) -> ResidualModel:
    model = log_linear.LocationScale if spec.has_random_effects else log_linear.LogLinear
    return model(spec, rows)


_BUILT_IN: dict[type[ResidualSpec], Callable[..., ResidualModel]] = {
    EqualVariances: lambda spec, _: Homoscedastic(spec),
    KnownStandardDeviations: lambda spec, _: KnownVariances(spec),
    DispersionSpec: _log_linear,
    FamilyResidual: lambda spec, _: FamilyModel(spec),
    SeveralFormulas: lambda spec, _: SeveralModel(spec),
}


# Makes a model from the text in its parentheses, and the columns of the data named there, in the
# rows that are used.
Factory = Callable[[str, Mapping[str, pd.Series]], ResidualModel]

_REGISTERED: dict[str, Factory] = {}


def register_residual(name: str, factory: Factory) -> None:
    """Make ``residual="name(columns)"`` an argument of ``lmer``."""
    if not isinstance(name, str) or not name.isidentifier():
        raise ArgumentError(f"name={brief(name)} must be a name, such as 'ar1'.")
    if not callable(factory):
        raise ArgumentError(f"factory={brief(factory)} must be a function of text and columns.")
    _REGISTERED[name] = factory


def _with_dispersion(
    model: Correlated, spec: DispersionSpec, rows: DispersionRows
) -> tuple[ResidualSpec, ResidualRows]:
    combined = correlated_dispersion.CorrelatedDispersion.of(model, spec, rows)
    return combined.spec, combined


def residual_request(text: str, dispersion: Formula | None = None) -> ResidualRequest:
    """Look up the residual model of ``residual=``, with the formula of ``dispersion=``."""
    name, inside, formula = residual_formula.parse_residual(text)
    if dispersion is not None:
        _check_scale(text, name, dispersion)
    if name in STRUCTURES and name not in _REGISTERED:

        def build_correlated(columns: Mapping[str, pd.Series]) -> tuple[ResidualSpec, ResidualRows]:
            model = correlated_request.correlated_residuals(text, name, formula, columns)
            return model.spec, model

        return ResidualRequest(formula, build_correlated, dispersion, _with_dispersion)
    if name not in _REGISTERED:
        known = [*STRUCTURES, *_REGISTERED]
        near = nearest_structure(name) or did_you_mean(name, known)
        raise ArgumentError(
            f"residual={text!r} asks for '{name}', which is no covariance structure and no "
            f"registered residual model; there are {', '.join(map(repr, known))}.{near}"
        )
    factory = _REGISTERED[name]

    def build(columns: Mapping[str, pd.Series]) -> tuple[ResidualSpec, ResidualRows]:
        model = factory(inside, columns)
        return model.spec, model

    return ResidualRequest(formula, build)


def _check_scale(text: str, name: str, dispersion: Formula) -> None:
    """Refuse a dispersion formula beside a model that has no structure, and random terms in it."""
    if name not in STRUCTURES or name in _REGISTERED:
        raise ArgumentError(
            f"residual={text!r} and dispersion= both say what the residual variances are; give one "
            "of them."
        )
    if dispersion.random:
        raise ArgumentError(
            f"dispersion='{dispersion}' has random effects of the scale, which are not fitted "
            f"beside residual={text!r}: leave {' and '.join(map(str, dispersion.random))} out, or "
            "residual=."
        )


def residual_model(design: Design) -> ResidualModel:
    """Residual model on the rows of a design."""
    spec, rows = design.spec.residual, design.rows.residual
    return rows if isinstance(rows, ResidualModel) else _BUILT_IN[type(spec)](spec, rows)
