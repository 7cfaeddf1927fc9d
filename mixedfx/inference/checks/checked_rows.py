"""Which rows a check looks at: those in memory, or a sample of those of a source.

Of equal rows that were merged when a source was read each has a residual of its own.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx.design.rows import ModelRows
from mixedfx.design.stream.sampling import SAMPLE_ROWS, SEED
from mixedfx.design.stream.streamed_rows import StreamedRows
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference.checks.draws import GivenData, RowsGivenData
from mixedfx.inference.checks.summed_draws import SumsGivenData
from mixedfx.inference.equal_rows import EqualRows

Vector = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]


def given_data(fit: FittedModel) -> GivenData:
    """Distribution of the coefficients and effects of a fit given its rows, wherever they are."""
    if isinstance(fit.rows, StreamedRows):
        return SumsGivenData(fit)
    found = RowsGivenData.of(fit)
    if (counts := fit.rows.counts) is None:
        return found
    positions = _sample_of_equal(counts)
    return replace(found, equal=(_single(fit.rows, positions), positions))


def _sample_of_equal(counts: Vector) -> Codes:
    """Positions of rows drawn at random from those that rows stand for; all of few."""
    equal = EqualRows.of(counts)
    n = len(equal)
    if n <= SAMPLE_ROWS:
        return equal.positions(np.arange(n))
    rng = np.random.default_rng(SEED)
    return equal.positions(np.sort(rng.choice(n, SAMPLE_ROWS, replace=False, shuffle=False)))


def _single(rows: ModelRows, positions: Codes) -> ModelRows:
    """Rows of the data, of which those at some positions stand for several."""
    chosen, weights = rows.at(positions), None
    if chosen.multiplicity is not None and chosen.weights is not None:  # trials
        weights = chosen.weights / chosen.multiplicity
    return replace(
        chosen,
        random_terms=tuple(
            replace(term, codes=term.codes[positions], model_matrix=term.model_matrix[positions])
            for term in rows.random_terms
        ),
        weights=weights,
        index=pd.RangeIndex(len(positions)),
        variables={n: column.reset_index(drop=True) for n, column in chosen.variables.items()},
        weights_are_counts=False,
        multiplicity=None,
    )
