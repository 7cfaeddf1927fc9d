"""ArviZ's data tree of a posterior, with predictions: imported where draws are made."""

from __future__ import annotations

from typing import Any, Literal

import xarray as xr

from mixedfx.errors import ArgumentError
from mixedfx.inference.posterior_prediction import PosteriorPredictor


class PosteriorTree(xr.DataTree):  # type: ignore[no-untyped-call]
    """
    Posterior draws of a fit: an :class:`xarray.DataTree` with ArviZ's groups, and predictions.

    Returned by :meth:`mixedfx.Results.sample`.
    """

    __slots__ = ("_predictor",)

    @classmethod
    def of(cls, predictor: PosteriorPredictor) -> PosteriorTree:
        """Tree of samples, and what predicts by them."""
        groups = predictor.samples.data_tree
        tree = cls(children=dict(groups.children), name=groups.name)
        tree.attrs.update(groups.attrs)
        tree._predictor = predictor
        return tree

    def predict(
        self,
        data: Any = None,
        *,
        kind: Literal["mean", "response"] = "mean",
        new_levels: Literal["draw", "error", "population"] = "draw",
        rng: Any = None,
    ) -> xr.DataArray:
        """
        Draw the means of rows, or new responses there, from the posterior.

        Parameters
        ----------
        data : DataFrame, optional
            New rows, with the columns of the formula's right side; without it, the fit's own.
        kind : {"mean", "response"}
            The mean of the row given its levels, or a new response, which adds a residual (of
            weight one, unless the rows have the column of the weights).
        new_levels : {"draw", "error", "population"}
            For levels that are not in the fit: draw their effects from their distribution, the
            same in all rows of the level; raise an error; or take them as zero.
        rng : numpy.random.Generator or int, optional
            Source of randomness of new levels and residuals, or its seed.

        Returns
        -------
        xarray.DataArray
            Along ``chain``, ``draw`` and ``row``, whose labels are the rows' index; NaN where a
            needed column is missing.

        Raises
        ------
        NewLevelError
            For unseen levels, with ``new_levels="error"``.
        ArgumentError
            If an argument is invalid, or the tree is a copy or was read from a file, which has
            the draws without the model.

        Examples
        --------
        >>> import mixedfx as mfx
        >>> fit = mfx.lmer("Yield ~ 1 + (1 | Batch)", mfx.datasets.load("Dyestuff"))
        >>> draws = fit.sample(1000, rng=1)
        >>> new = draws.predict({"Batch": ["A", "new"]}, kind="response", rng=2)
        >>> dict(new.sizes)
        {'chain': 4, 'draw': 1000, 'row': 2}
        >>> bool(new.std(("chain", "draw"))[1] > new.std(("chain", "draw"))[0])
        True
        """
        predictor = getattr(self, "_predictor", None)
        if predictor is None:
            raise ArgumentError(
                "this tree is a copy, or was read from a file: it has the draws without their "
                "model. Call predict() on the tree that fit.sample() returned."
            )
        found: xr.DataArray = predictor.predict(data, kind, new_levels, rng)
        return found
