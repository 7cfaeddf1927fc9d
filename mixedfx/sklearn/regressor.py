"""Linear and generalised mixed models as a regressor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils.validation import column_or_1d

from mixedfx.api import ModelOptions, fit_formula, warned_results
from mixedfx.errors import DataError
from mixedfx.generalized import GeneralizedOptions, fit_generalized_formula
from mixedfx.inference.predictive_rows import predicted_rows
from mixedfx.sklearn.model import ENVIRONMENT, MixedModel, Table, minimum_norm

Vector = npt.NDArray[np.float64]


class MixedModelRegressor(RegressorMixin, MixedModel):  # type: ignore[misc]
    """
    Mixed-effects regression with scikit-learn's methods.

    Parameters
    ----------
    formula : str, optional
        Formula without a response, ``"~ Days + (Days | Subject)"``, of columns of a DataFrame.
        Without it all columns of X are fixed effects, and the ``groups`` given to ``fit`` have a
        random intercept.
    family : str or family of statsmodels, optional
        Of :func:`mixedfx.glmer`, such as ``"poisson"``; by default the response is normal.
    link : str, optional
        Of the family.
    reml : bool
        Restricted maximum likelihood, of a normal response, or maximum likelihood.
    dispersion, residual : str, optional
        As of :func:`mixedfx.lmer`; ``dispersion`` also of :func:`mixedfx.glmer`.
    priors : mapping of str to prior, optional
        Priors of :mod:`mixedfx.priors`.
    engine : str
        Engine of :func:`mixedfx.lmer`.
    control : Control, optional
        Limits of the search.

    Attributes
    ----------
    result_ : Results or None
        The fit, with all that a fit has: ``result_.summary()``. None where a regression without
        groups explains the response exactly or has no rows left for a residual variance.
    coef_, intercept_ : ndarray, float
        Fixed effects of the columns of X, without a formula.
    n_features_in_, feature_names_in_
        Number and names of the columns of X.

    Notes
    -----
    ``fit``, ``predict`` and ``score`` are given ``groups`` where metadata routing is enabled;
    ``set_fit_request(groups=False)`` and others refuse them. With a formula the groups are a column
    of X, or ``groups`` under that name. Predictions of groups that were not fitted are those of the
    population. A formula sees the columns of X and the functions of formulas, and no variables.

    Examples
    --------
    >>> import mixedfx as mfx
    >>> from mixedfx.sklearn import MixedModelRegressor
    >>> from sklearn.model_selection import GroupKFold, cross_val_score
    >>> sleep = mfx.datasets.load("sleepstudy")
    >>> model = MixedModelRegressor("~ Days + (Days | Subject)")
    >>> model.fit(sleep, sleep["Reaction"]).predict(sleep.head(2)).round(1)
    array([253.7, 273.3])
    >>> scores = cross_val_score(
    ...     model, sleep, sleep["Reaction"], groups=sleep["Subject"], cv=GroupKFold(6)
    ... )
    >>> print(scores.round(2))
    [ 0.38  0.49  0.13 -1.26  0.09  0.27]
    """

    def __init__(
        self,
        formula: str | None = None,
        *,
        family: Any = None,
        link: str | None = None,
        reml: bool = True,
        dispersion: str | None = None,
        residual: str | None = None,
        priors: Mapping[str, Any] | None = None,
        engine: str = "profiled",
        control: Any = None,
    ) -> None:
        self.formula = formula
        self.family = family
        self.link = link
        self.reml = reml
        self.dispersion = dispersion
        self.residual = residual
        self.priors = priors
        self.engine = engine
        self.control = control

    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> Self:
        """
        Fit the model.

        Parameters
        ----------
        X : DataFrame or array of shape (n, p)
            A DataFrame where there is a formula.
        y : array of shape (n,)
            Response.
        sample_weight : array of shape (n,), optional
            Precisions: ``weights`` of :func:`mixedfx.lmer`. Rows of weight zero are left out.
        groups : array of shape (n,), optional
            Groups with a random intercept, or the column ``groups`` of a formula.

        Returns
        -------
        MixedModelRegressor
            Itself.
        """
        name = getattr(y, "name", None)
        frame, y = self._validated(X, y, reset=True)
        y = column_or_1d(y, warn=True)
        table = self._table(frame, y, groups, sample_weight, name)
        self.result_ = None
        try:
            self.result_ = warned_results(self._model(table))
        except DataError:
            if self.formula is not None or groups is not None or self.family is not None:
                raise
            self.intercept_, self.coef_ = minimum_norm(*table.arrays())
        else:
            if self.formula is None:
                # NaN are coefficients of columns that depend on others.
                params = np.nan_to_num(self.result_.params.to_numpy(dtype=float))
                self.intercept_, self.coef_ = float(params[0]), params[1:]
        return self

    def _model(self, table: Table) -> Any:
        common = {"weights": table.weights, "priors": self.priors, "control": self.control}
        if self.family is not None:
            options = GeneralizedOptions(
                family=self.family, link=self.link, dispersion=self.dispersion, **common
            )
            return fit_generalized_formula(ENVIRONMENT, table.formula, table.frame, options)
        of_lmer = ModelOptions(
            reml=self.reml,
            dispersion=self.dispersion,
            residual=self.residual,
            engine=self.engine,  # type: ignore[arg-type]
            **common,
        )
        return fit_formula(ENVIRONMENT, table.formula, table.frame, of_lmer)

    def predict(self, X: Any, groups: Any = None, return_std: bool = False) -> Any:
        """
        Predict the mean of the response.

        Parameters
        ----------
        X : DataFrame or array of shape (m, p)
            New rows.
        groups : array of shape (m,), optional
            Their groups; without them, and for groups that were not fitted, the population's.
        return_std : bool
            Whether to return the standard deviation of a new response, too.

        Returns
        -------
        ndarray of shape (m,), or two of them
            Predictions, and standard deviations: of coefficients, effects and residual together.
        """
        predicted = self._predicted(X, groups, "mean")
        if not return_std:
            return predicted
        if self.result_ is None:
            return predicted, np.zeros(len(predicted))
        rows = predicted_rows(self.result_.model, self._new_rows(X, groups), None)
        return predicted, rows.around.moments(rows.eta, rows.variance)[1]

    def score(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> float:
        """
        Compute R squared of the predictions.

        Parameters
        ----------
        X : DataFrame or array of shape (m, p)
            New rows.
        y : array of shape (m,)
            Their responses.
        sample_weight : array of shape (m,), optional
            Weights of the rows.
        groups : array of shape (m,), optional
            Their groups.

        Returns
        -------
        float
            At most one.
        """
        return float(r2_score(y, self.predict(X, groups), sample_weight=sample_weight))
