"""Fits of the rows of a fit with another formula or other arguments, without its data frame.

Weights, offset, relationships, residual model and family are those of the fit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from patsy import EvalEnvironment

from mixedfx.design.build import Design, build
from mixedfx.design.new_data import offset_beside_formula
from mixedfx.errors import ArgumentError, DataError, MissingColumnError, RowsNotInMemory, brief
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.estimation.optimizer_result import Control
from mixedfx.fit import fit_design
from mixedfx.formula.terms import Formula

Vector = npt.NDArray[np.float64]

# What a model knows of the arguments of its fit, by which new rows have weights and an offset.
_GIVEN = ("weights_column", "offset_column", "offset_is_argument")


def rebuilt(
    fit: FittedModel,
    formula: Formula,
    frame: pd.DataFrame | None = None,
    env: EvalEnvironment | None = None,
) -> Design:
    """
    Design of another formula on the rows of a fit, with its residual model and family.

    ``frame`` has a row for each of the fit; where one lacks a value of the formula it is left out.
    """
    original = fit.original_design
    frame = fit.rows.model_frame if frame is None else frame
    numbered = frame.set_axis(np.arange(len(frame)))
    design = built(fit, formula, numbered, {"family": fit.spec.family}, env)
    kept = np.zeros(len(frame), dtype=bool)
    kept[design.rows.index] = True
    spec, rows = original.spec.residual, original.rows.residual
    if not kept.all():
        spec, rows = rows.subset(spec, kept)
    return Design(
        replace(design.spec, residual=spec),
        replace(design.rows, residual=rows, index=frame.index[kept]),
    )


@dataclass(frozen=True)
class Criterion:
    """How a changed formula is fitted."""

    reml: bool
    engine: str
    control: Control
    env: EvalEnvironment  # names that the fit's own does not have

    def check(self, fit: FittedModel) -> None:
        """Raise ArgumentError for a fit with priors, and for REML of a generalised model."""
        if fit.priors.specified:
            raise ArgumentError(
                "update() does not know which priors the parameters of another formula have: call "
                "the function that made the fit anew, with priors=."
            )
        if self.reml and not fit.spec.residual.linear:
            raise ArgumentError("reml=True: a generalised model is fitted by maximum likelihood.")


def updated(
    fit: FittedModel, formula: Formula, data: pd.DataFrame | None, how: Criterion
) -> FittedModel:
    """Fit another formula to the rows of a fit, further columns from ``data``."""
    how.check(fit)
    own = fit.rows.model_frame
    frame = own if data is None else _with_columns(own, data)
    try:
        known = fit.spec.env.with_outer_namespace(how.env.namespace)
        design = rebuilt(fit, formula, frame, known)
    except MissingColumnError as error:
        if data is not None:
            raise
        raise MissingColumnError(
            f"{error} A fit keeps the columns of its own formula: give data= with the others."
        ) from None
    return fit_design(design, engine=how.engine, reml=how.reml, control=how.control)


def _with_columns(own: pd.DataFrame, data: pd.DataFrame) -> pd.DataFrame:
    """Columns of a fit's rows, and those of the data's rows with the same labels."""
    if not isinstance(data, pd.DataFrame):
        raise ArgumentError(f"data={brief(data)} must be a DataFrame with the rows of the fit.")
    if not data.index.is_unique or not own.index.isin(data.index).all():
        raise DataError(
            "the index of data does not hold each row that the fit used, once: an update is of the "
            "same rows. For other rows call lmer() or glmer() anew."
        )
    more = [column for column in data.columns if column not in own.columns]
    return own.join(data.loc[own.index, more]) if more else own


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


def built(
    fit: FittedModel,
    formula: Formula,
    frame: pd.DataFrame,
    arguments: dict[str, Any],
    env: EvalEnvironment | None = None,
) -> Design:
    """Build a design with the weights, offset and relationships of a fit."""
    original = fit.original_design
    spec, weights = original.spec, fit.prior_weights
    if weights is not None and spec.fixed_sigma is not None and spec.residual.linear:
        arguments["residual_sd"] = weights**-0.5
    elif spec.response.n_parts == 1:
        arguments["weights"] = weights
    relmat = {g: known for g, known in spec.relationships.items() if g in formula.groups}
    design = build(
        formula,
        frame,
        env=spec.env if env is None else env,
        relmat=relmat or None,
        offset=_argument_offset(fit, formula, frame),
        **arguments,
    )
    given = {name: getattr(spec, name) for name in _GIVEN}
    own, rows = replace(design.spec, **given), design.rows
    if (counts := original.rows.counts) is not None:
        family = own.family
        if family.takes_trials and not family.mergeable:
            raise RowsNotInMemory(
                f"family='{family.name}' takes rows one by one, and equal ones were merged when "
                "the source was read: call glmer() anew."
            )
        counts = counts[frame.index.get_indexer(rows.index)]
        rows = rows.counting(counts, trials=spec.response.n_parts > 1)
    return Design(own, rows)


def _argument_offset(fit: FittedModel, formula: Formula, frame: pd.DataFrame) -> Vector | None:
    """
    Offset beside that of the formula, of which the rows of the fit have the sum.

    That sum stays where the formula's offset does, also in columns of another scale.
    """
    original = fit.original_design
    spec, offset = original.spec, original.rows.offset
    if offset is None:
        return None
    same = formula.offset == spec.formula.offset
    beside = offset_beside_formula(spec, offset, frame if same else fit.rows.model_frame)
    return beside if beside.any() else None
