"""Draws of the mean and of responses of new rows from the posterior.

A draw's mean is ``x'beta + z'b`` with the draw's own effects; a level that the fit has not seen has
effects from the draw's distribution, ``b ~ N(0, Sigma)``, the same in all its rows. A new response
adds a residual with the draw's standard deviation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from mixedfx.bayes.draws import PosteriorSamples
from mixedfx.design.known_levels import check_plain_levels
from mixedfx.design.new_data import NewRows, all_levels, evaluate_combinations
from mixedfx.errors import ArgumentError, NewLevelError, check_choice
from mixedfx.estimation.fitted_model import FittedModel
from mixedfx.inference.new_rows import new_offset, new_weights
from mixedfx.linalg.random_streams import spawn_generators

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

Kind = Literal["mean", "response"]
NewLevels = Literal["draw", "error", "population"]


@dataclass(frozen=True)
class PosteriorPredictor:
    """Predictions by the draws of a fit's posterior."""

    fit: FittedModel = field(repr=False)
    samples: PosteriorSamples = field(repr=False)

    def predict(self, data: Any, kind: Kind, new_levels: NewLevels, rng: Any) -> Any:
        """Draws along chain, draw and row, as an xarray.DataArray."""
        from xarray import DataArray

        check_choice("kind", kind, ("mean", "response"))
        check_choice("new_levels", new_levels, ("draw", "error", "population"))
        of_levels, of_rows = spawn_generators(rng, 1)[0].spawn(2)
        if data is None:
            values, index = self.samples.mean(slice(None)), self.fit.rows.index
            sds = self.samples.residual_sds(slice(None)) if kind == "response" else None
        else:
            values, frame = self._new_means(data, new_levels, of_levels)
            index, sds = frame.index, self._new_sds(frame) if kind == "response" else None
        if sds is not None:
            values += sds * of_rows.standard_normal(values.shape)
        rows = np.arange(len(index)) if index.nlevels > 1 else index.to_numpy()
        chains, draws = self.samples.chains.log_density.shape
        return DataArray(
            values.reshape(chains, draws, len(rows)),
            dims=("chain", "draw", "row"),
            coords={"chain": np.arange(chains), "draw": np.arange(draws), "row": rows},
            name=self.samples.response_name,
        )

    def _new_means(
        self, data: Any, new_levels: NewLevels, rng: np.random.Generator
    ) -> tuple[Matrix, pd.DataFrame]:
        """Means (draws, rows) of new rows, NaN where a value is missing, and the rows."""
        spec, draws = self.fit.spec, self.samples.draws
        check_plain_levels(spec, "predict(data)", " Leave the data out, for the fit's own rows.")
        new, _, unseen = evaluate_combinations(spec, data, groups=spec.formula.groups, effects=True)
        for term, elsewhere in zip(spec.random_terms, unseen, strict=True):
            if elsewhere is not None and len(elsewhere.rows):
                raise ArgumentError(
                    f"predict(data) has the effects of {term.formula_term} at the positions of the "
                    f"fit, and row {new.frame.index[elsewhere.rows[0]]} is at another: leave such "
                    "rows out, or take fit.predict(data)."
                )
        mean = draws.beta @ new.X.T + new_offset(self.fit, new.frame)
        for t, (Z, effects) in enumerate(
            zip(new.model_matrices, draws.random_effects, strict=True)
        ):
            levels = self._levels(new, t, new_levels)
            known = levels < effects.shape[2]
            for j in range(effects.shape[1]):
                mean[:, known] += Z[known, j] * effects[:, j, levels[known]]
            if new_levels == "draw" and not known.all():
                for rows, b in self._new_effects(t, levels, effects.shape[2], rng):
                    mean[:, rows] += b @ Z[rows].T
            mean[:, new.codes[t] == -2] = np.nan
        return mean, new.frame

    def _levels(self, new: NewRows, t: int, new_levels: NewLevels) -> Codes:
        """Levels of the rows in a term, unseen ones numbered behind the fit's."""
        term, codes = self.fit.spec.random_terms[t], new.codes[t]
        unseen = np.flatnonzero(codes == -1)
        if len(unseen) and new_levels == "error":
            raise NewLevelError(
                f"row {new.frame.index[unseen[0]]} has a level of '{term.group}' that the fit has "
                "not seen; new_levels='draw' draws its effects from their distribution, and "
                "new_levels='population' takes them as zero."
            )
        return np.maximum(all_levels(self.fit.spec, new.frame, t, codes)[0], 0)

    def _new_effects(
        self, t: int, levels: Codes, first: int, rng: np.random.Generator
    ) -> Iterator[tuple[Codes, Matrix]]:
        """Rows and effects (draws, k) of each unseen level of a term."""
        factor = self.samples.draws.params.cov_factors[t]
        for level in np.unique(levels[levels >= first]):
            noise = rng.standard_normal((factor.shape[2], factor.shape[1]))
            yield np.flatnonzero(levels == level), np.einsum("acb,bc->ba", factor, noise)

    def _new_sds(self, frame: pd.DataFrame) -> Matrix:
        """Residual standard deviations (draws or 1, rows) of new rows."""
        fit, model, params = self.fit, self.samples.posterior.model, self.samples.draws.params
        if model.n_params:
            sigmas = self.samples.posterior.transform.baseline_sigma(params)
            variances = model.drawn_variances(frame, sigmas, params.residual)
        else:
            own = np.broadcast_to(model.new_variances(frame, 1.0, np.zeros(0)), len(frame))
            variances = params.sigma[:, None] ** 2 * own
        if fit.spec.residual.estimates_sigma and (w := new_weights(fit, frame)) is not None:
            variances = variances / w
        return np.asarray(np.sqrt(variances))
