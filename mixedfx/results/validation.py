"""Prediction of rows that are left out: cross-validation, and its density by groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from mixedfx._other_programs import METHOD_ARGUMENTS, explains_arguments
from mixedfx.design.source import check_index
from mixedfx.errors import ArgumentError
from mixedfx.inference.validation import cross_validation, leave_out
from mixedfx.results.base import ResultsBase

if TYPE_CHECKING:
    from mixedfx.inference.validation.cross_validation import CrossValidation
    from mixedfx.inference.validation.leave_out import LeaveGroupOut


class ValidationMixin(ResultsBase):
    """Cross-validation."""

    @explains_arguments(METHOD_ARGUMENTS)
    def cross_validate(
        self,
        *,
        by: Any = None,
        folds: Any = 10,
        scores: Any = None,
        conf_level: float = 0.95,
        rng: Any = None,
    ) -> CrossValidation:
        """
        Predict rows, or whole groups, by fits of the model without them.

        Parameters
        ----------
        by : str or array, optional
            Groups that are left out whole, by the name of a grouping factor or of a column that
            the model reads, or a label for each row used: predictions for new groups. Without it
            rows are left out, and most predictions are for new rows of known groups.
        folds : int, "loo", str, array or splitter
            Number of folds of equal size at random; each row or group alone; a column of the
            model, or a label for each row used; or an object with scikit-learn's
            ``split(X, y, groups)``.
        scores : str, list of str or mapping of str to function, optional
            Among ``log_score crps rmse mae r2 coverage``, all by default; or functions of
            responses, predicted means and standard deviations that return a value for each row.
        conf_level : float
            Of the prediction intervals whose coverage is a score.
        rng : numpy.random.Generator or int, optional
            Source of randomness of the folds, or its seed.

        Returns
        -------
        CrossValidation
            ``table``, a row a fold; ``summary``, each score with a standard error; ``predictions``.

        See Also
        --------
        mixedfx.cross_validate : From a formula and a table, with the definitions of the scores.

        Examples
        --------
        >>> import mixedfx as mfx
        >>> fit = mfx.lmer("Yield ~ 1 + (1 | Batch)", mfx.datasets.load("Dyestuff"))
        >>> fit.cross_validate(folds=5, scores="rmse", rng=1).table[["fold", "n_test"]].head(2)
           fold  n_test
        0     1       6
        1     2       6
        """
        labels = self.model.rows.index
        by, folds = _of_rows("by", by, labels), _of_rows("folds", folds, labels)
        units = cross_validation.units_of(self.model, by, labels)
        return cross_validation.cross_validated(
            self.model, units, folds, scores, conf_level=conf_level, rng=rng, labels=labels
        )

    @explains_arguments(METHOD_ARGUMENTS)
    def loo(self, by: str | None = None) -> LeaveGroupOut:
        """
        Compute the log predictive density of each group by a fit without its rows.

        Parameters
        ----------
        by : str, optional
            Grouping factor, or column that the model reads; the grouping factor of the model where
            it has one.

        Returns
        -------
        LeaveGroupOut
            ``table``, a row a group; ``elpd``, their sum, ``se`` and ``looic``; ``compare(other)``.

        Raises
        ------
        ArgumentError
            If the residual variance is modelled, or groups are not named though there are several.

        Notes
        -----
        All parameters are estimated anew without the group, by the exact criterion from those of
        all rows: of linear models by subtracting the group's cross-products, unless a transform
        learns from the rows. The density is that of the group's rows together, given the others.
        Coefficients of a linear model are integrated over, with a flat prior; of a generalised one
        they are at their estimates, and the effects are integrated out as in the fit.

        References
        ----------
        .. [1] Vehtari, Gelman and Gabry (2017), Practical Bayesian model evaluation using
           leave-one-out cross-validation and WAIC, Stat. Comput. 27:1413.

        Examples
        --------
        >>> import mixedfx as mfx
        >>> fit = mfx.lmer("Yield ~ 1 + (1 | Batch)", mfx.datasets.load("Dyestuff"))
        >>> fit.loo().table.round(2).head(2)
          group  n   elpd  converged
        0     A  5 -28.60       True
        1     B  5 -26.09       True
        """
        groups = self.model.formula.groups
        if by is None and len(groups) != 1:
            listed = ", ".join(map(repr, groups)) or "none"
            raise ArgumentError(f"by= names the groups that are left out; there are: {listed}.")
        name = groups[0] if by is None else by
        return leave_out.leave_group_out(
            self.model, cross_validation.units_of(self.model, name, pd.RangeIndex(0))
        )


def _of_rows(name: str, value: Any, labels: pd.Index) -> Any:
    """A Series of rows as one of the rows used, by its index."""
    if not isinstance(value, pd.Series):
        return value
    if value.index.is_unique and labels.isin(value.index).all():
        return value.loc[labels]
    if len(value) == len(labels):
        check_index(value, name, labels)
    return value
