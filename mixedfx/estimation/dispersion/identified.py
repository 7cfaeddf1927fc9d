"""Random terms of the residual standard deviation that the rows cannot tell apart.

The log standard deviations have the columns ``D`` and ``Z_v`` of a mean's model without residual
variance: their covariances are identified where those of such a mean are
(:mod:`mixedfx.likelihood.identifiability`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mixedfx.design.build import Design
from mixedfx.design.residual import EqualVariances, ResidualRows
from mixedfx.errors import DispersionError, GroupingError
from mixedfx.estimation.unidentified import unidentified
from mixedfx.likelihood.accumulate import compute_crossproducts
from mixedfx.likelihood.identifiability import dependences
from mixedfx.residuals.log_linear import LocationScale


def scale_design(design: Design, model: LocationScale) -> Design:
    """The log residual standard deviations' columns as those of a mean, of a random response."""
    spec, rows = model.spec, model.rows
    of_spec = replace(
        design.spec,
        column_names=spec.D_names,
        kept_columns=np.arange(rows.D.shape[1]),
        aliases=None,
        random_terms=spec.random_terms,
        residual=EqualVariances(),
    )
    of_rows = replace(
        design.rows,
        y=np.random.default_rng(0).standard_normal(design.rows.n),
        X=rows.D,
        random_terms=rows.random_terms,
        weights=None,
        offset=None,
        residual=ResidualRows(),
    )
    return replace(design, spec=of_spec, rows=of_rows)


def check_scale_identified(design: Design, model: LocationScale) -> None:
    """Refuse random terms that the columns, or other terms, have the place of."""
    spec = model.spec
    if len(spec.D_names) == 1 and sum(len(t.effect_names) for t in spec.random_terms) == 1:
        return  # an intercept for each level beside a constant
    of_scale = scale_design(design, model)
    try:
        crossprod = compute_crossproducts(of_scale)
    except GroupingError as error:
        raise DispersionError(f"in {spec.argument}, {error}") from None
    found = dependences(replace(crossprod, sigma=1.0), reml=False)
    if statements := unidentified(of_scale.spec, found):
        raise DispersionError(
            f"in {spec.argument}, {'; '.join(statements)}: leave a term or a column of it out."
        )
