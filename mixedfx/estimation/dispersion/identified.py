"""Random terms of the residual standard deviation that the rows cannot tell apart.

The log standard deviations have the columns ``D`` and ``Z_v`` of a mean's model without residual
variance: their covariances are identified where those of such a mean are
(:mod:`mixedfx.likelihood.identifiability`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mixedfx.design.build import Design
from mixedfx.design.dispersion import DispersionRows, DispersionSpec
from mixedfx.design.residual import EqualVariances, ResidualRows
from mixedfx.errors import DispersionError, GroupingError
from mixedfx.estimation.unidentified import unidentified
from mixedfx.likelihood.accumulate import compute_crossproducts
from mixedfx.likelihood.identifiability import dependences


def check_scale_identified(design: Design, spec: DispersionSpec, rows: DispersionRows) -> None:
    """Refuse random terms that the columns, or other terms, have the place of."""
    if rows.D.shape[1] == 1 and sum(len(t.effect_names) for t in spec.random_terms) == 1:
        return  # an intercept for each level beside a constant
    columns = np.arange(rows.D.shape[1])
    model = replace(
        design.spec,
        column_names=spec.D_names,
        kept_columns=columns,
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
    try:
        crossprod = compute_crossproducts(replace(design, spec=model, rows=of_rows))
    except GroupingError as error:
        raise DispersionError(f"in {spec.argument}, {error}") from None
    found = dependences(replace(crossprod, sigma=1.0), reml=False)
    if statements := unidentified(model, found):
        raise DispersionError(
            f"in {spec.argument}, {'; '.join(statements)}: leave a term or a column of it out."
        )
