"""Binomial mixed models as a classifier."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from scipy import special
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from mixedfx.api import warned_results
from mixedfx.errors import ArgumentError
from mixedfx.generalized import GeneralizedOptions, fit_generalized_formula
from mixedfx.sklearn.model import ENVIRONMENT, MixedModel, Table, has_free_rows, logistic_mode

Vector = npt.NDArray[np.float64]


class MixedModelClassifier(ClassifierMixin, MixedModel):  # type: ignore[misc]
    """
    Mixed-effects classification of two classes with scikit-learn's methods.

    Parameters
    ----------
    formula : str, optional
        Formula without a response, ``"~ x + (1 | group)"``, of columns of a DataFrame. Without it
        all columns of X are fixed effects, and the ``groups`` given to ``fit`` have a random
        intercept.
    link : str, optional
        Link of the binomial family: ``"logit"``, ``"probit"``, ``"cloglog"``, ``"cauchit"``.
    nagq : int
        Nodes of quadrature; 1 is Laplace's approximation.
    priors : mapping of str to prior, optional
        Priors of :mod:`mixedfx.priors`, which keep coefficients finite where classes are separated.
    control : Control, optional
        Limits of the search.

    Attributes
    ----------
    result_ : Results or None
        The fit of :func:`mixedfx.glmer`. None of no more distinct rows than coefficients, without
        groups: the coefficients are then the mode with standard normal priors.
    classes_ : ndarray of shape (2,)
        The classes; the second is the success.
    n_features_in_, feature_names_in_
        Number and names of the columns of X.

    Notes
    -----
    As :class:`MixedModelRegressor`; weights are numbers of equal rows.

    Examples
    --------
    >>> import mixedfx as mfx
    >>> from mixedfx.sklearn import MixedModelClassifier
    >>> answers = mfx.datasets.load("answers").dropna().head(600)
    >>> model = MixedModelClassifier("~ hours + (1 | student)")
    >>> model.fit(answers, answers["correct"]).classes_
    array([0., 1.])
    >>> model.predict_proba(answers.head(1)).round(2)
    array([[0.47, 0.53]])
    """

    __metadata_request__decision_function: ClassVar = {"groups": True}
    __metadata_request__predict_proba: ClassVar = {"groups": True}

    def __init__(
        self,
        formula: str | None = None,
        *,
        link: str | None = None,
        nagq: int = 1,
        priors: Mapping[str, Any] | None = None,
        control: Any = None,
    ) -> None:
        self.formula = formula
        self.link = link
        self.nagq = nagq
        self.priors = priors
        self.control = control

    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> Self:
        """
        Fit the model.

        Parameters
        ----------
        X : DataFrame or array of shape (n, p)
            A DataFrame where there is a formula.
        y : array of shape (n,)
            Classes.
        sample_weight : array of shape (n,), optional
            Numbers of equal rows. Rows of weight zero are left out.
        groups : array of shape (n,), optional
            Groups with a random intercept, or the column ``groups`` of a formula.

        Returns
        -------
        MixedModelClassifier
            Itself.
        """
        name = getattr(y, "name", None)
        frame, y = self._validated(X, y, reset=True)
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        table = self._table(frame, codes.astype(float), groups, sample_weight, name)
        _check_classes(self.classes_, table)
        self.result_ = None
        if self.formula is None and groups is None and not has_free_rows(*table.arrays()[:2]):
            intercept, coef = logistic_mode(*table.arrays())
            self.intercept_, self.coef_ = np.array([intercept]), coef[None]
            return self
        options = GeneralizedOptions(
            family="binomial",
            link=self.link,
            nagq=self.nagq,
            weights=table.weights,
            priors=self.priors,
            control=self.control,
        )
        fit = fit_generalized_formula(ENVIRONMENT, table.formula, table.frame, options)
        self.result_ = warned_results(fit)
        if self.formula is None:
            params = np.nan_to_num(self.result_.params.to_numpy(dtype=float))
            self.intercept_, self.coef_ = params[:1], params[None, 1:]
        return self

    def decision_function(self, X: Any, groups: Any = None) -> Vector:
        """
        Compute the linear predictor.

        Parameters
        ----------
        X : DataFrame or array of shape (m, p)
            New rows.
        groups : array of shape (m,), optional
            Their groups; without them, and for groups that were not fitted, the population's.

        Returns
        -------
        ndarray of shape (m,)
            With the logit link the log odds of the second class.
        """
        return self._predicted(X, groups, "linear")

    def predict_proba(self, X: Any, groups: Any = None) -> Vector:
        """
        Predict the probabilities of the classes.

        Parameters
        ----------
        X : DataFrame or array of shape (m, p)
            New rows.
        groups : array of shape (m,), optional
            Their groups.

        Returns
        -------
        ndarray of shape (m, 2)
            In the order of ``classes_``.
        """
        eta = self.decision_function(X, groups)
        p = special.expit(eta) if self.result_ is None else self.result_.family.mean(eta)
        return np.column_stack([1.0 - p, p])

    def predict(self, X: Any, groups: Any = None) -> Any:
        """
        Predict the more probable class.

        Parameters
        ----------
        X : DataFrame or array of shape (m, p)
            New rows.
        groups : array of shape (m,), optional
            Their groups.

        Returns
        -------
        ndarray of shape (m,)
            Of ``classes_``.
        """
        second = self.predict_proba(X, groups)[:, 1] > 0.5
        return self.classes_[second.astype(np.intp)]

    def score(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> float:
        """
        Compute the share of classes that are predicted.

        Parameters
        ----------
        X : DataFrame or array of shape (m, p)
            New rows.
        y : array of shape (m,)
            Their classes.
        sample_weight : array of shape (m,), optional
            Weights of the rows.
        groups : array of shape (m,), optional
            Their groups.

        Returns
        -------
        float
            At most one.
        """
        return float(accuracy_score(y, self.predict(X, groups), sample_weight=sample_weight))

    def __sklearn_tags__(self) -> Any:
        """Two classes."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags


def _check_classes(classes: Any, table: Table) -> None:
    """Refuse one class, and more than two."""
    if len(classes) > 2:
        raise ArgumentError(
            "Only binary classification is supported. The type of the target is not binary: y has "
            f"{len(classes)} classes. Ordered classes are mfx.glmer(family='cumulative')."
        )
    if table.frame[table.response].min() == table.frame[table.response].max():
        raise ArgumentError(
            "y has one class among the rows with positive weights: there is nothing to classify."
        )
