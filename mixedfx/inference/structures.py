"""Fits of one model with other structures of its correlated residuals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mixedfx.covariance.registry import STRUCTURES
from mixedfx.errors import ArgumentError, brief, check_choice
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.estimation.optimizer_result import Control
from mixedfx.fit import fit_design
from mixedfx.residuals.registry import residual_request


def structure_fits(fit: FittedModel, structures: Sequence[str]) -> list[FittedModel]:
    """Fit the model with each structure of the residuals of the same subjects and positions."""
    known = [name for name, s in STRUCTURES.items() if "residual" in s.sides]
    is_list = isinstance(structures, Sequence) and not isinstance(structures, str | bytes)
    if not is_list or not structures:
        raise ArgumentError(
            f"structures={brief(structures)} must be a list of names, such as ['us', 'ar1h', 'cs']."
        )
    for name in structures:
        check_choice("structures", name, known)
    return [_with_structure(fit, name) for name in structures]


def _with_structure(fit: FittedModel, name: str) -> FittedModel:
    text = fit.spec.residual.with_structure(name)
    original = fit.original_design
    alone = residual_request(text).build(fit.residual.structure_columns)[1]
    model = original.rows.residual.beside(alone)
    design = replace(
        original,
        spec=replace(original.spec, residual=model.spec),
        rows=replace(original.rows, residual=model),
    )
    return fit_design(design, engine="profiled", reml=fit.reml, control=Control())
