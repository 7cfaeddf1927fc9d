"""Errors that name levels, and positions of effects, that a fit has not seen."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mixedfx.design.positions import unknown_positions
from mixedfx.design.spec import RandomTermSpec
from mixedfx.errors import NewLevelError
from mixedfx.estimation.fitted_model import FittedModel


def new_level_error(fit: FittedModel, t: int, rows: pd.DataFrame) -> NewLevelError:
    """Name the new levels, or the rows where a level is computed from columns."""
    random_term = fit.spec.random_terms[t]
    if random_term.positions is not None and (message := _new_position(random_term, rows)):
        return NewLevelError(message)
    factors = random_term.formula_term.group
    if all(factor in rows.columns for factor in factors):
        labels = rows[list(factors)].astype(str).agg(":".join, axis=1).unique()
    else:
        labels = np.array([f"row {i}" for i in rows.index[:5]], dtype=object)
    listed = ", ".join(map(repr, labels[:5])) + (", ..." if len(labels) > 5 else "")
    return NewLevelError(
        f"the fit has not seen these levels of '{random_term.group}': {listed}."
        f"{_differing_types(random_term, rows)} "
        "Predict them with new_levels='population', which takes their random effect as zero."
    )


def _new_position(random_term: RandomTermSpec, rows: pd.DataFrame) -> str:
    """Name positions of known levels that the fit has not; empty if the levels are new."""
    groups = random_term.formula_term.group
    known = [rows[g] for g in groups if g in rows.columns]
    if len(known) == len(groups) and (random_term.levels.encode(known) < 0).any():
        return ""
    labels = unknown_positions(random_term.formula_term, rows)
    listed = ", ".join(labels[:5]) + (", ..." if len(labels) > 5 else "")
    return (
        f"the fit has no effect of {random_term.formula_term} at these positions of "
        f"'{random_term.formula_term.effects_name}': {listed}. A structure that goes on, such as "
        "'ar1' or 'ou', predicts it; new_levels='population' takes the random effect as zero."
    )


def _differing_types(random_term: RandomTermSpec, rows: pd.DataFrame) -> str:
    """Sentence on the factors whose new values are of another type than those of the fit."""
    sentences = []
    for factor, known in zip(
        random_term.formula_term.group, random_term.levels.factor_values, strict=True
    ):
        if factor in rows.columns:
            new = pd.Index(rows[factor].to_numpy(dtype=object))
            of_fit, of_new = _type_name(known), _type_name(new)
            if of_fit != of_new:
                sentences.append(
                    f" '{factor}' holds {of_new} here, such as {new[0]!r}, and {of_fit} in the "
                    f"fit, such as {known.tolist()[0]!r}; they are compared as text."
                )
    return "".join(sentences)


def _type_name(values: pd.Index) -> str:
    kind = pd.api.types.infer_dtype(values.tolist())
    return {"string": "text", "integer": "integers", "floating": "floats"}.get(kind, kind)
